"""`rchctl verify` and `rchctl run`: a run from here to its verdict."""

from __future__ import annotations

from typing import Any

from rchctl.context import Context, Outcome
from rchctl.ending import AtEnd, add_end_options, at_end
from rchctl.live import LiveRun
from rchctl.parser import UsageError, VerbParser
from rchctl.plan import dry_run
from rchctl.request import DRY_RUN, add_run_options, submit_params


def configure(parser: VerbParser) -> None:
    """Flags of both verbs."""
    add_run_options(parser)
    parser.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    parser.add_argument("--detach", action="store_true", help="leave the run to the daemon, print its id")
    parser.add_argument(
        "--no-daemon",
        action="store_true",
        help="for CI: with a daemon of its own, which ends with this call and leaves the artifacts",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="no log and no progress: the verdict alone"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="with --json: log and progress too, on stderr"
    )
    add_end_options(parser)
    if parser.verb == "run":
        parser.examples(
            "rchctl run --action build                    build only",
            "rchctl run --action test --no-queue          test only, now or never",
            "rchctl run --action build --priority 0       before all that waits",
        )
        return
    parser.examples(
        "rchctl verify                              build and test, log here, exit with the verdict",
        "rchctl verify --quiet && git push          a gate in one line",
        "rchctl verify --json > verdict.json        for scripts",
        "rchctl verify --junit out/junit.xml --format github       in CI",
        "rchctl verify --dry-run                    what would run, where, and why there",
        "rchctl verify --only-testing AppTests/SumTests     less than the gate, and said to be",
        "rchctl verify --simulate                   on stand-in tools: no verdict at all",
        "rchctl verify --detach                     go on working; rchctl wait latest",
        "rchctl verify --on-disconnect cancel       no run outlives this terminal",
        "rchctl verify --no-daemon                  in CI: no process is left behind",
        "rchctl verify --set timeouts.overall_seconds=600",
    )


def run(context: Context) -> Outcome:
    """Submit, follow, and give the verdict."""
    args = context.args
    if context.verb == "run" and not args.action:
        raise UsageError("run: an action is missing: type 'rchctl run --action build'")
    if args.dry_run:
        return dry_run(context, submit_params(context, stays=True))
    params, act = submit_params(context, stays=not args.detach), at_end(context)
    if not args.no_daemon:
        return _live(context, params, act)
    if args.detach:
        raise UsageError(
            f"{context.verb}: with --no-daemon nobody is left who could go on: leave out --detach"
        )
    from rchctl.private import own_daemon

    with own_daemon(context) as alone:
        return _live(alone, {**params, "on_disconnect": "cancel"}, act)


def _live(context: Context, params: dict[str, Any], act: AtEnd | None) -> Outcome:
    args, console = context.args, context.console
    live = LiveRun(
        context,
        params,
        show_log=not args.quiet and (not context.json or args.verbose) and not args.detach,
        show_progress=not args.quiet and (not context.json or args.verbose or console.live),
        at_end=act,
    )
    return live.detach() if args.detach else live.execute()
