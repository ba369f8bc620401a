"""`rchctl open`: a run's report, log, folder or results, with the desktop's own programs."""

from __future__ import annotations

from pathlib import Path

from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome
from rchctl.parser import VerbParser, one_of

WHAT = ("report", "log", "folder", "junit", "xcresult")
_FILES = {"log": ("build_log", "live_log"), "junit": ("junit",), "xcresult": ("result_xcresult",)}


def configure(parser: VerbParser) -> None:
    """A run, and which part of it."""
    parser.add_argument(
        "run", metavar="RUN", help="an id, a beginning of one, latest, or the folder of a run"
    )
    parser.add_argument(
        "what", metavar="WHAT", nargs="?", default="report", help=f"{', '.join(WHAT)} (report)"
    )
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl open latest                      its report, made anew",
        "rchctl open latest log",
        "RCH_OPENER=less rchctl open latest log",
    )


def run(context: Context) -> Outcome:
    """Where nothing can open it, its path is printed, and that is a success as well."""
    from rchctl.report.opener import show

    what = one_of("open", "part", context.args.what, WHAT)
    run_id, path, simulated = _place(context, what)
    opened = show(path, context)
    return Outcome({"run_id": run_id, "path": str(path), "opened": opened, "simulated": simulated})


def _place(context: Context, what: str) -> tuple[str, Path, bool]:
    """The run's id, what is to be opened, and whether stand-in tools made it."""
    if what == "report":
        from rchctl.commands.report import make

        records, path, _ = make(context, context.args.run, None)
        return records.run_id, path, records.simulated
    from rchctl.indices import items, run_index
    from rchctl.report.places import find_run

    run_dir = find_run(context.args.run, context.paths.artifacts, Path.cwd())
    index = run_index(run_dir)
    run_id, simulated = str(index.get("run_id", run_dir.name)), index.get("simulated") is True
    context.mark({"simulated": simulated})
    if what == "folder":
        return run_id, run_dir, simulated
    # The last step that has one: there a run ended.
    found = [item for name in reversed(_FILES[what]) for item in items(run_dir) if item.name == name]
    there = [item.path for item in found if not item.missing]
    if not there:
        raise Failure(Kind.USAGE, f"run {run_id} has no {what}", hint=f"rchctl artifacts {run_id}")
    return run_id, there[-1], simulated
