"""`rchd run`: the daemon in the foreground. `rchd replay`: the core against a transcript."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import rch
from rch.contract.errors import Failure
from rch.files.paths import host_paths

EPILOG = """examples:
  rchd run                    run the daemon in the foreground; logs go to stderr
  RCH_HOME=/tmp/rch rchd run  everything below one folder
  rchd run --record rchd.rec  also record what the core is told and what it decides
  rchd replay rchd.rec        tell the first decision that this version takes otherwise

rchctl starts the daemon by itself: rchctl daemon start | stop | status
"""


def main() -> None:
    """Parse the command line and run; exits with the failure's code."""
    parser = argparse.ArgumentParser(
        prog="rchd",
        description="The host daemon of the RCH Xcode lane.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rchd {rch.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run in the foreground until SIGTERM")
    run.add_argument("--record", metavar="PATH", type=Path, help="write a transcript, up to 256 MiB")
    replay = commands.add_parser("replay", help="replay a transcript: 0 where identical, else 1")
    replay.add_argument("file", metavar="FILE", type=Path)
    args = parser.parse_args()
    sys.exit(_run(args.record) if args.command == "run" else _replay(args.file))


def _replay(path: Path) -> int:
    from rchd.core.transcript import Replay

    try:
        with path.open("rb") as lines:
            replay = Replay(lines)
            difference = next(iter(replay), None)
    except OSError as error:
        sys.stderr.write(f"rchd: {path}: {error.strerror}\n")
        return 1
    if difference is not None:
        sys.stdout.write(f"{path}: {difference}\n")
        return 1
    rest = "" if replay.cut is None else f"; line {replay.cut}, the last, is cut and was left out"
    sys.stdout.write(f"{replay.batches} batches, identical{rest}\n")
    return 0


def _run(transcript: Path | None) -> int:
    import anyio

    from rchd.app import configure_log, serve

    configure_log()
    try:
        anyio.run(serve, host_paths(os.environ), lambda: None, transcript)
    except Failure as failure:
        return _say(failure)
    except BaseExceptionGroup as group:
        return _say(_first(group))
    return 0


def _say(failure: Failure) -> int:
    sys.stderr.write(f"rchd: {failure.message}\n  hint: {failure.hint}\n")
    return failure.exit_code


def _first(group: BaseExceptionGroup[BaseException]) -> Failure:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    if not isinstance(found, Failure):
        raise found
    return found


if __name__ == "__main__":
    main()
