"""`rch-conformance worker`: a worker behind a command, or at the other end of ssh."""

from __future__ import annotations

import argparse
import shutil
from importlib import import_module
from typing import TYPE_CHECKING

from rch_conformance.running import Running, UsageError, add_options, say, seconds

if TYPE_CHECKING:
    from rch_conformance.checks import Check
    from rch_conformance.worker.rig import Rig

DEFAULT_JOB_SECONDS = 900.0
_DESCRIPTION = """Checks any worker over its channel: sections 2, 3, 4, 5, 8 and 10 of the contract.

The command is started once a channel, exactly as an SSH forced command is: requests on its standard
input, answers on its standard output. With --ssh the channel is OpenSSH's own client, in batch mode; a
command behind -- is then what is asked for there, which a forced command ignores.

The worker should be idle: the checks take every slot for moments. They upload small sources, run one
build and a few tests of a small package (or app), and leave nothing running."""
_EPILOG = """examples:
  rch-conformance worker -- rch-worker xcode rpc
  rch-conformance worker --ssh builder@mac-mini.local
  rch-conformance worker --ssh mini --ssh-option Port=2222 --ssh-option IdentityFile=~/.ssh/ci
  rch-conformance worker --section 3.4 --require lease --junit leases.xml -- ./worker
  rch-conformance worker --only seq-rises-by-one -- ./worker
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "worker",
        usage="rch-conformance worker [options] (-- COMMAND... | --ssh HOST [-- COMMAND...])",
        help="check a worker over its channel",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--ssh", metavar="HOST", help="a worker behind sshd: [user@]host, or an alias of ~/.ssh/config"
    )
    parser.add_argument(
        "--ssh-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="passed on to ssh as -o NAME=VALUE; may be repeated",
    )
    parser.add_argument(
        "--job-timeout",
        type=seconds,
        default=DEFAULT_JOB_SECONDS,
        metavar="SECONDS",
        help="how long one job may take (%(default)g)",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the checks that were asked for; the exit code."""
    running = Running(args, every_check())
    if args.list:
        say(running.listing())
        return 0
    command = command_of(args)
    from rch_conformance.worker.peer import Peer
    from rch_conformance.worker.rig import Rig

    rig = Rig(Peer(command, args.timeout), args.job_timeout)
    try:
        return running.run(f"worker: {' '.join(command)}", rig, rig.need, rig.heard)
    finally:
        rig.close()


def every_check() -> list[Check[Rig]]:
    """All checks of a worker."""
    from rch_conformance.worker.suite import WORKER

    import_module("rch_conformance.worker.checks")  # each module of it adds its own
    return [*WORKER.checks]


def command_of(args: argparse.Namespace) -> list[str]:
    """What is started once a channel; `UsageError` for what cannot be."""
    command = _asked(args)
    if shutil.which(command[0]) is None:
        raise UsageError(
            f"{command[0] or chr(34) * 2}: there is no such command, or it may not be executed"
        )
    return command


def _asked(args: argparse.Namespace) -> list[str]:
    if args.ssh is None:
        if not args.command:
            raise UsageError("no worker is named: end with -- COMMAND..., or give --ssh HOST")
        if args.ssh_option:
            raise UsageError("--ssh-option is for --ssh HOST")
        return list(args.command)
    if not args.ssh.strip() or args.ssh.startswith("-"):
        raise UsageError(f"--ssh {args.ssh!r}: that is no host")
    options = [word for option in args.ssh_option for word in ("-o", option)]
    asked = args.command or ["rch-worker", "xcode", "rpc"]
    return ["ssh", "-T", "-o", "BatchMode=yes", *options, "--", args.ssh, *asked]
