"""The command line of `rch-conformance`: one sub-command a side of the contract."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

from rch import __version__
from rch_conformance.pipes import left_alone, opened
from rch_conformance.running import EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_USAGE, Terminated, UsageError

# Each has `add_parser(subparsers)`, and sets `run`: what takes the arguments and gives the exit code.
_COMMANDS = ("rch_conformance.worker.command", "rch_conformance.host.command")
_EPILOG = """exit codes: 0 every check passed, 1 one failed, 2 usage. What is not offered is no failure,
unless --require FEATURE asks for it. 130 interrupted, 143 ended by SIGTERM: what came of the checks
before it is reported.

examples:
  rch-conformance worker -- rch-worker xcode rpc
  rch-conformance worker --ssh builder@mac-mini.local --junit conformance.xml
  rch-conformance worker --section 3.2 --json -- ./my-worker --stdio
  rch-conformance worker --list
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser; a command line's words behind `--` are cut off before, and stand in `command`."""
    parser = argparse.ArgumentParser(
        prog="rch-conformance",
        description="Holds a worker, or a host, to the contract of the RCH Xcode lane from outside.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rch-conformance {__version__}")
    subparsers = parser.add_subparsers(metavar="SIDE", required=True)
    for name in _COMMANDS:
        if _exists(name):
            import_module(name).add_parser(subparsers)
    return parser


def _exists(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 all pass, 1 something failed, 2 usage, 130 or 143 for a signal."""
    opened()
    words = sys.argv[1:] if argv is None else argv
    at = words.index("--") if "--" in words else len(words)
    args = make_parser().parse_args(words[:at])
    args.command = words[at + 1 :]
    try:
        with _ended_in_order():
            code = int(args.run(args))
            sys.stdout.flush()
    except UsageError as error:
        sys.stderr.write(f"rch-conformance: {error}\n")
        return EXIT_USAGE
    except Terminated:
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return left_alone()
    return code


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM unwinds the run as Ctrl-C does, so that what was started is ended and folders are removed."""

    def end(_number: int, _frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
