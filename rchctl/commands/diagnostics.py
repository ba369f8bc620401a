"""`rchctl diagnostics`: what a run's compilers and tests found, at the places of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome
from rchctl.diagnose import lines, lsp, sarif
from rchctl.diagnose.gather import Found, found_in
from rchctl.parser import VerbParser, one_of

_WRITERS: dict[str, Callable[[Found], str]] = {
    "text": lines.text,
    "sarif": sarif.document,
    "github": lines.github,
    "lsp": lsp.document,
    "errorfmt": lines.errorfmt,
}
FORMATS = ("text", "json", *list(_WRITERS)[1:])


def configure(parser: VerbParser) -> None:
    """A run, a form, and whether the exit code is the run's."""
    parser.add_argument(
        "run", metavar="RUN", help="an id, a beginning of one, latest, or the folder of a run"
    )
    parser.add_argument(
        "--format", metavar="|".join(FORMATS), default="text", help="the form (default text)"
    )
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with the run's own code; else 0, whatever was found"
    )
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl diagnostics latest                      path:line:column: error: message",
        "rchctl diagnostics latest --format sarif > rch.sarif",
        "rchctl diagnostics latest --format lsp | jq keys",
        "rchctl diagnostics latest --format github --exit-code",
    )


def run(context: Context) -> Outcome:
    """From the run's folder alone: no daemon is asked, none is started."""
    from rchctl.report.places import find_run

    form = one_of("diagnostics", "format", context.args.format, FORMATS)
    if form == "json":
        context.args.json = True
    found = found_in(find_run(context.args.run, context.paths.artifacts, Path.cwd()))
    code = 0
    if context.args.exit_code:
        if found.exit_code is None:
            raise Failure(
                Kind.USAGE,
                f"run {found.run_id} has not ended: it has no exit code yet",
                hint=f"rchctl wait {found.run_id}",
            )
        code = found.exit_code
    if not context.json:
        context.console.out(_WRITERS[form](found))
        for note in found.notes:
            context.console.note(f"not read: {note}")
        if form == "text":
            context.console.note(_count(found))
    return Outcome(found.as_json(), code)


def _count(found: Found) -> str:
    """One line for people, beside the data."""
    facts = found.as_json()
    counts = [
        f"{facts[f'{word}s']} {word}{'' if facts[f'{word}s'] == 1 else 's'}"
        for word in ("error", "warning")
    ]
    over = found.state if found.exit_code is not None else f"{found.state}, not over yet"
    mark = "simulated: " if found.simulated else ""
    return f"{mark}{', '.join(counts)} in run {found.run_id} ({over})"
