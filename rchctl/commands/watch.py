"""`rchctl watch`: stay, and tell what happens to one run or to all, and what they find, as it comes."""

from __future__ import annotations

from pathlib import Path

from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser, one_of
from rchctl.render import exit_code, is_over
from rchctl.tellers import BEGIN, END, ErrorTeller, JsonTeller, Teller, TextTeller
from rchctl.watching import ALL, Wanted, Watcher

FORMATS = ("text", "errorfmt", "json")


def configure(parser: VerbParser) -> None:
    """Which runs, and in which form."""
    parser.hide("--json")
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="an id, a beginning of one, or latest; without one: all runs"
    )
    parser.add_argument("--all", action="store_true", help="every run, now and later; never ends by itself")
    parser.add_argument("--latest", action="store_true", help="the newest run")
    parser.add_argument(
        "--project",
        metavar="NAME",
        help="of all runs those of this project, by name or root; . is this folder's",
    )
    parser.add_argument(
        "--format", metavar="|".join(FORMATS), default="text", help="the form (default text)"
    )
    for flag, text, default in (("--begin-marker", "begins", BEGIN), ("--end-marker", "ends", END)):
        parser.add_argument(
            flag,
            metavar="LINE",
            help=f"errorfmt: the line that says that a run {text} (default '{default}')",
        )
    parser.examples(
        "rchctl watch                                     every run, a line a transition",
        "rchctl watch latest --format errorfmt            path:line:column: error: message, as they come",
        "rchctl watch --all --project . --format errorfmt for an editor's list of errors",
        "rchctl watch --all --format json | jq -c .type",
    )


def run(context: Context) -> Outcome:
    """Exits with the run's code at its end; of all runs, never."""
    args = context.args
    if context.json:
        raise UsageError(
            "watch: it has no end to be told in one object: type --format json, for JSON lines"
        )
    form = one_of("watch", "format", args.format, FORMATS)
    if (args.all or args.latest) + (args.run is not None) + (args.all and args.latest) > 1:
        raise UsageError("watch: RUN, --all and --latest exclude one another: type one of them")
    word = args.run or ("latest" if args.latest else ALL)
    if args.project is not None and word != ALL:
        raise UsageError("watch: --project is about all runs: type 'rchctl watch --all --project .'")
    marks = (
        _mark("--begin-marker", args.begin_marker, form, BEGIN),
        _mark("--end-marker", args.end_marker, form, END),
    )
    wanted = _wanted(args.project)
    client = context.connect()
    run_id = ALL if word == ALL else str(client.call("runs.get", {"run": word})["run_id"])
    teller: Teller
    if form == "json":
        teller = JsonTeller(context.console)
    elif form == "errorfmt":
        teller = ErrorTeller(context.console, *marks)
    else:
        teller = TextTeller(context.console, named=run_id == ALL)
    ended = Watcher(context, client, run_id, teller, wanted).follow()
    return Outcome(ended, exit_code(ended) if is_over(ended) else 0)


def _mark(flag: str, line: str | None, form: str, usual: str) -> str:
    if line is None:
        return usual
    if form != "errorfmt":
        raise UsageError(f"watch: {flag} is about --format errorfmt: type both")
    if not line.isprintable():
        raise UsageError(f"watch: {flag} is no printable line: type {flag} '{usual}'")
    return line


def _wanted(project: str | None) -> Wanted:
    if project is None:
        return lambda _run: True
    if project == ".":
        from rch.config.root import find_root

        project = str(find_root(Path.cwd()).path)
    names = {project, project.rstrip("/")}
    return lambda run: run.get("project") in names or run.get("root") in names
