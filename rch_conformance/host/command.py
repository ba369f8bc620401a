"""`rch-conformance host`: every check of a host, ours or the one that `--rchctl` starts."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Iterable
from typing import Any

from rch_conformance.host.calling import ended_by_sigterm
from rch_conformance.host.cases import CASES
from rch_conformance.host.home import Home, program_of, rchctl_of
from rch_conformance.host.rig import Rig
from rch_conformance.host.suite import NEEDED, SUITE
from rch_conformance.running import Running, UsageError, add_options, say

_CHECKS = ("identity", "protocol", "life", "selection", "artifacts")
_EPILOG = """The host is run in a throw-away home: RCH_HOME and RCH_SOCKET lie there, workers.toml names
mock workers with transport = "local", and `CMD verify --json --set selection.tags=NAME` is called in a copy
of a fixture project. RCH_RCHD is passed on, so that a daemon of yours can be tried with our client.

examples:
  rch-conformance host
  rch-conformance host --rchctl '/opt/mine/bin/rchctl' --junit host.xml
  rch-conformance host --section 8 --json
  rch-conformance host --only killed-daemon-goes-on
"""


def add_parser(subparsers: Any) -> None:
    """The sub-command `host`."""
    parser = subparsers.add_parser(
        "host",
        help="check a host: rchctl and rchd, against mock workers",
        description="Checks a host against sections 2, 3, 4, 7, 8, 9 and 10 of the contract.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--rchctl", metavar="CMD", help="the host's client, a command line; default: the rchctl beside this"
    )
    parser.add_argument(
        "--rchd",
        metavar="CMD",
        help="the daemon that the client starts (RCH_RCHD); default: the client's own",
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the home to be looked at, and say where it is"
    )
    add_options(parser)
    parser.set_defaults(run=run)


def load_checks() -> None:
    """Add every check to the suite."""
    for name in _CHECKS:
        importlib.import_module(f"rch_conformance.host.checks_{name}")


def run(args: argparse.Namespace) -> int:
    """Run the checks that are asked for; 0 all pass, 1 one failed."""
    import os

    if args.command:
        raise UsageError("host takes no command behind --; name the client with --rchctl")
    load_checks()
    running = Running(args, SUITE.checks)
    if args.list:
        say(running.listing())
        return 0
    daemon = args.rchd or os.environ.get("RCH_RCHD")
    client = rchctl_of(args.rchctl)
    env = {} if daemon is None else {"RCH_RCHD": shlex.join(program_of("--rchd", daemon))}
    with ended_by_sigterm(), Home(client, args.timeout, env, keep=args.keep) as home:
        if args.keep:
            sys.stderr.write(f"rch-conformance: the host's home is {home.root}\n")
        with Rig(home, CASES) as rig:
            rig.ahead(needed(check.id for check in running.checks))
            return running.run(shlex.join(client), rig)


def needed(ids: Iterable[str]) -> list[str]:
    """The cases of these checks, each once, in the order in which they are looked at."""
    return list(dict.fromkeys(case for check in ids for case in NEEDED.get(check, ())))
