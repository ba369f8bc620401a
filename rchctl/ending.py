"""What a run leaves for CI at its end, beside the verdict: `--junit PATH` and `--format FORM`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure
from rchctl.context import Context
from rchctl.parser import UsageError, VerbParser, one_of

AtEnd = Callable[[dict[str, Any]], None]


def add_end_options(parser: VerbParser) -> None:
    """The flags of every verb that stays until a run is over."""
    parser.add_argument(
        "--junit",
        metavar="PATH",
        help="write the tests of all steps there as one junit.xml, whatever the verdict",
    )
    parser.add_argument(
        "--format", metavar="github|errorfmt", help="what it found, a line each, after the verdict"
    )


def at_end(context: Context) -> AtEnd | None:
    """What is done with a run that is over, as the flags say; refuses what makes no sense."""
    args, verb = context.args, context.verb
    if args.junit is None and args.format is None:
        return None
    if args.format is not None:
        one_of(verb, "format", args.format, ("github", "errorfmt"))
        if context.json:
            raise UsageError(f"{verb}: --format {args.format} prints lines: type it without --json")
    if getattr(args, "detach", False):
        raise UsageError(
            f"{verb}: --detach does not stay until there is anything to write: type it without"
        )
    place = None if args.junit is None else Path.cwd() / args.junit
    if place is not None and (place.is_dir() or not place.parent.is_dir()):
        raise UsageError(f"{verb}: --junit {args.junit!r} is no place for a file: type --junit junit.xml")

    def act(run: dict[str, Any]) -> None:
        if place is not None:
            _write_junit(context, run, place)
        if args.format is not None:
            _annotate(context, run, args.format)

    return act


def _write_junit(context: Context, run: dict[str, Any], place: Path) -> None:
    """The verdict stands where the file cannot be written: that is said, and no more."""
    from rch.files.durable import write_atomic
    from rchctl.diagnose.merge import merged_junit

    try:
        data, notes = merged_junit(run)
        write_atomic(place, data)
    except OSError as error:
        context.console.note(f"warning: --junit {place}: {error.strerror or error}")
        return
    for note in notes:
        context.console.note(f"warning: --junit: {note}")


def _annotate(context: Context, run: dict[str, Any], form: str) -> None:
    """What reads them wants them at the beginning of a line, so these bear no mark; their messages do."""
    from rchctl.diagnose.gather import found_in
    from rchctl.diagnose.lines import errorfmt, github

    try:
        found = found_in(Path(str(run.get("run_dir", ""))))
    except Failure as failure:
        context.console.note(f"warning: --format {form}: {failure.message}")
        return
    mark, context.console.mark = context.console.mark, ""
    context.console.out((github if form == "github" else errorfmt)(found))
    context.console.mark = mark
