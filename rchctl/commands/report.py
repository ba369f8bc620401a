"""`rchctl report`: one run as one HTML page, from its folder alone."""

from __future__ import annotations

from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.files.durable import write_atomic
from rchctl.context import Context, Outcome
from rchctl.parser import VerbParser
from rchctl.report.records import RunRecords


def configure(parser: VerbParser) -> None:
    """A run, and where its page goes."""
    parser.add_argument(
        "run", metavar="RUN", help="an id, a beginning of one, latest, or the folder of a run"
    )
    parser.add_argument("--open", action="store_true", help="open it in the desktop's browser")
    parser.add_argument("--output", metavar="FILE", help="write it there instead of into the run's folder")
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl report latest --open",
        "rchctl report latest --output verdict.html",
        "rchctl report ~/Downloads/0198c2f0-7a11-7c3e-9b52-3f6f5d1e0a01",
    )


def run(context: Context) -> Outcome:
    """Exit 0 whatever the verdict: the page is what was asked for."""
    records, path, size = make(context, context.args.run, context.args.output)
    opened = False
    if context.args.open:
        from rchctl.report.opener import show

        opened = show(path, context)
    else:
        context.say_value(str(path))
    return Outcome(
        {
            "run_id": records.run_id,
            "path": str(path),
            "bytes": size,
            "opened": opened,
            "simulated": records.simulated,
            "notes": list(records.notes),
        }
    )


def make(context: Context, word: str, output: str | None) -> tuple[RunRecords, Path, int]:
    """Write the page of the run that `word` means; its records, its place and its size in bytes."""
    from rchctl.report.make import FILE_NAME, report_html
    from rchctl.report.places import find_run

    run_dir = find_run(word, context.paths.artifacts, Path.cwd())
    records, data = report_html(run_dir)
    context.mark({"simulated": records.simulated})
    path = (Path.cwd() / output) if output else run_dir / FILE_NAME
    try:
        write_atomic(path, data)
    except OSError as error:
        raise Failure(
            Kind.USAGE,
            f"the report cannot be written to {path}: {error.strerror or error}",
            hint="name another place: --output FILE",
        ) from error
    if not context.json:
        for note in records.notes:
            context.console.note(f"not read: {note}")
    return records, path, len(data)
