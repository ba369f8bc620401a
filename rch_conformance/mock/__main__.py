"""`rch-mock-worker`: a worker for those who test a host, an editor or a script. It builds nothing."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import rch
from rch.contract.errors import Failure
from rch_conformance.pipes import left_alone

_ABOUT = """\
A worker that speaks the whole worker protocol on stdin and stdout and runs no toolchain: it follows a
scenario. What it makes says `simulated: true`, so that it is never taken for a verdict.
"""
_EXAMPLES = """\
examples:
  rch-mock-worker --list                                  the built-in scenarios
  rch-mock-worker --show tests-failed                     one of them, as a file to begin with
  rch-mock-worker --scenario slow-log --state /tmp/mock   serve one channel
  echo '{"protocol_version":0,"op":"probe","request_id":"request-0001"}' | rch-mock-worker

in workers.toml, for `rchctl verify --simulate`:
  [[worker]]
  name = "mock"
  transport = "local"
  command = ["rch-mock-worker", "--scenario", "tests-failed", "--state", "/tmp/mock"]
"""


def parser() -> argparse.ArgumentParser:
    """What may be written after `rch-mock-worker`."""
    whole = argparse.ArgumentParser(
        prog="rch-mock-worker",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"rch-mock-worker {rch.__version__}")
    whole.add_argument("--scenario", default="success", metavar="NAME|FILE", help="default: success")
    whole.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="where what one channel must know of another lies, and transcript.jsonl; default: a folder"
        " of the system's temporary files, one a scenario",
    )
    whole.add_argument(
        "--frozen",
        action="store_true",
        help="the same time in all that it says, so that a set is the same to the byte everywhere",
    )
    whole.add_argument(
        "--pretend-real",
        action="store_true",
        help="do NOT say that it is simulated, so that real runs are served: for tests of a host in a"
        " throw-away home alone. A green of it is a lie",
    )
    whole.add_argument("--list", action="store_true", help="name the built-in scenarios and end")
    whole.add_argument("--show", metavar="NAME|FILE", help="check a scenario, print its file and end")
    whole.add_argument("words", nargs="*", metavar="WORD", help="`xcode rpc` and the like: not read")
    return whole


def main(argv: list[str] | None = None) -> int:
    """The command; exit 3 for a scenario that is none."""
    args = parser().parse_args(argv)
    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        return left_alone()
    except Failure as failure:
        print(f"rch-mock-worker: {failure.message}", file=sys.stderr)  # noqa: T201  (a program's word)
        return failure.exit_code
    return code


def _run(args: argparse.Namespace) -> int:
    from rch_conformance.mock import scenario

    if args.list:
        for name, each in scenario.all_built_in():
            sys.stdout.write(f"{name:18} {each.about}\n")
        return 0
    if args.show is not None:
        sys.stdout.write(scenario.text_of(args.show).decode("utf-8"))
        return 0
    return _serve(args)


def _serve(args: argparse.Namespace) -> int:
    """One channel. Descriptor 1 means standard error meanwhile: no stray print breaks a line."""
    from rch_conformance.mock.channel import Channel
    from rch_conformance.mock.scenario import identity, load
    from rch_conformance.mock.state import Folder
    from rch_conformance.mock.worker import MockWorker, default_state

    followed, known_as = load(args.scenario), identity(args.scenario)
    folder = Folder(args.state or default_state(known_as))
    folder.claim(known_as)
    worker = MockWorker(
        scenario=followed,
        folder=folder,
        frozen=args.frozen,
        simulated=not args.pretend_real,
    )
    reading, writing = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    Channel(worker, reading, writing).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
