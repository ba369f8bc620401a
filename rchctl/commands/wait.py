"""`rchctl wait`: stay until runs are over, exit with their code."""

from __future__ import annotations

from typing import Any

from rchctl.board import shown
from rchctl.client import Client
from rchctl.console import SIMULATED
from rchctl.context import Context, Outcome
from rchctl.ending import AtEnd, add_end_options, at_end
from rchctl.findings import closing
from rchctl.follow import Follower
from rchctl.parser import UsageError, VerbParser
from rchctl.progress import Progress
from rchctl.render import exit_code, run_error


def configure(parser: VerbParser) -> None:
    """Runs, and for which of them to wait."""
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="an id, an unambiguous beginning of one, or latest"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="for all of them; exit with the first code that is not 0, in the order given (default)",
    )
    parser.add_argument("--any", action="store_true", help="for the first that is over; exit with its code")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress: the verdict alone")
    add_end_options(parser)
    parser.examples(
        "rchctl wait latest",
        "rchctl wait latest --junit junit.xml",
        "rchctl wait 0198c2 --json | jq .exit_code",
        'rchctl wait --all "$ios" "$mac"       both; 0 where both succeeded',
        'rchctl wait --any "$ios" "$mac"       whichever is over first',
    )


def run(context: Context) -> Outcome:
    """Ctrl-C leaves the runs alone: they are the daemon's."""
    args = context.args
    if args.all and args.any:
        raise UsageError("wait: --all and --any are two things: leave one out")
    act = at_end(context)
    if act is not None and len(args.runs) > 1 and not args.any:
        raise UsageError("wait: --junit and --format are for one run: type it once a run, or with --any")
    client = context.connect()
    views = [client.call("runs.get", {"run": word}) for word in args.runs]  # each is known, or none
    ids = list(dict.fromkeys(str(view["run_id"]) for view in views))
    _mark(context, views[0])
    show = not args.quiet and (not context.json or context.console.live)
    progress = shown(context.console, enabled=show)
    if args.any and len(ids) > 1:
        from rchctl.first import FirstFollower

        first = FirstFollower(context, client, ids, progress=progress).follow()
        return _told(context, progress, first, act)
    if len(ids) == 1:
        return _told(context, progress, _follow(context, client, ids[0], progress), act)
    return _all(context, client, ids)


def _follow(context: Context, client: Client, run_id: str, progress: Progress) -> dict[str, Any]:
    follower = Follower(context, client, run_id, progress=progress)
    try:
        return follower.follow()
    finally:
        follower.drop()


def _all(context: Context, client: Client, ids: list[str]) -> Outcome:
    """One after another: whoever is over meanwhile is told of when its turn comes."""
    client.close()
    outcomes: list[Outcome] = []
    for run_id in ids:
        connection = context.connect()
        _mark(context, connection.call("runs.get", {"run": run_id}))
        show = not context.args.quiet and (not context.json or context.console.live)
        progress = shown(context.console, enabled=show)
        if show:
            context.console.note(f"run {run_id}")
        outcomes.append(_told(context, progress, _follow(context, connection, run_id, progress)))
    worst = next((each for each in outcomes if each.exit_code), outcomes[0])
    return Outcome({"runs": [each.data for each in outcomes]}, worst.exit_code, worst.error)


def _told(context: Context, progress: Progress, ended: dict[str, Any], act: AtEnd | None = None) -> Outcome:
    progress.end()
    _mark(context, ended)
    context.say(closing(ended, context, quiet=context.args.quiet))
    if act is not None:
        act(ended)
    return Outcome(ended, exit_code(ended), run_error(ended))


def _mark(context: Context, view: dict[str, Any]) -> None:
    """Lines about this run, and of several no other, say whether it is simulated."""
    context.console.mark = SIMULATED if view.get("simulated") else ""
