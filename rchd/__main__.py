"""`rchd run`: the daemon in the foreground."""

from __future__ import annotations

import argparse
import os
import sys

import rch
from rch.contract.errors import Failure
from rch.files.paths import host_paths

EPILOG = """examples:
  rchd run                    run the daemon in the foreground; logs go to stderr
  RCH_HOME=/tmp/rch rchd run  everything below one folder

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
    commands.add_parser("run", help="run in the foreground until SIGTERM")
    parser.parse_args()
    sys.exit(_run())


def _run() -> int:
    import anyio

    from rchd.app import configure_log, serve

    configure_log()
    try:
        anyio.run(serve, host_paths(os.environ), lambda: None)
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
