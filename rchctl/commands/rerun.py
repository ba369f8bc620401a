"""`rchctl rerun`: the request of an earlier run again, or the tests alone that failed there."""

from __future__ import annotations

from rchctl.context import Context, Outcome
from rchctl.ending import add_end_options, at_end
from rchctl.live import LiveRun
from rchctl.parser import VerbParser


def configure(parser: VerbParser) -> None:
    """An earlier run, and how much of it."""
    parser.add_argument("run", metavar="RUN", help="an id, an unambiguous beginning of one, or latest")
    parser.add_argument(
        "--failed", action="store_true", help="of each test step those tests alone that failed there"
    )
    parser.add_argument("--detach", action="store_true", help="leave the run to the daemon, print its id")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="no log and no progress: the verdict alone"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="with --json: log and progress too, on stderr"
    )
    add_end_options(parser)
    parser.examples(
        "rchctl rerun latest                   the same request, on the tree as it is now",
        "rchctl rerun --failed latest          the tests that failed there; never the full gate",
        "rchctl rerun 0198c2 --json | jq .ok",
    )


def run(context: Context) -> Outcome:
    """Follow it, and give its verdict; the daemon knows what was asked for and what failed."""
    args, console = context.args, context.console
    ending = at_end(context)
    # By its id: a call that is tried again would take the new run for the latest.
    earlier = context.call("runs.get", {"run": args.run})
    context.mark(earlier)
    live = LiveRun(
        context,
        {"run": earlier["run_id"], **({"failed": True} if args.failed else {})},
        show_log=not args.quiet and (not context.json or args.verbose) and not args.detach,
        show_progress=not args.quiet and (not context.json or args.verbose or console.live),
        method="runs.rerun",
        at_end=ending,
    )
    return live.detach() if args.detach else live.execute()
