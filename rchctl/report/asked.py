"""Which runs `history` and `flaky` speak of, from their flags."""

from __future__ import annotations

from pathlib import Path

from rch.contract.errors import Failure, Kind
from rchctl.context import Context
from rchctl.parser import UsageError, VerbParser
from rchctl.report.past import past_runs
from rchctl.report.trends import PastRun

_MOST = 5000


def add_flags(parser: VerbParser, *, limit: int) -> None:
    """What both take."""
    parser.add_argument(
        "--project", metavar="NAME", help="by its name or root, instead of the project of this folder"
    )
    parser.add_argument(
        "--limit", metavar="N", default=str(limit), help=f"the newest N runs (default {limit})"
    )
    parser.add_argument(
        "--simulate", action="store_true", help="the runs on stand-in tools, which else are left out"
    )
    parser.hide("--no-autostart")


def project_name(context: Context) -> str:
    """The project asked for, in words; `Failure` CONFIG outside of one."""
    return str(context.args.project or _root(context))


def asked_runs(context: Context) -> list[PastRun]:
    """The ended runs asked for, newest first."""
    verb, limit = context.verb, context.args.limit
    if not limit.isdecimal() or not 0 < int(limit) <= _MOST:
        raise UsageError(f"{verb}: --limit {limit!r} is no number from 1 to {_MOST}")
    project, simulated = context.args.project, bool(context.args.simulate)
    root = None if project else str(_root(context))

    def is_asked(name: str, where: str) -> bool:
        return where == root if root is not None else project in {name, where}

    found = []
    for each in past_runs(context.paths.artifacts, is_asked, _MOST):
        if each.simulated == simulated:
            found.append(each)
        if len(found) == int(limit):
            break
    return found


def _root(context: Context) -> Path:
    from rch.config.root import find_root

    try:
        return find_root(Path.cwd()).path
    except Failure as failure:
        raise Failure(
            Kind.CONFIG,
            failure.message,
            subkind=failure.subkind,
            hint=f"rchctl {context.verb} --project NAME, by the name that rchctl list shows",
        ) from failure
