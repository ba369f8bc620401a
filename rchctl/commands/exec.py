"""`rchctl exec`: one command line of xcodebuild or swift, run on a worker as it stands."""

from __future__ import annotations

from rchctl.context import Context, Outcome
from rchctl.live import LiveRun
from rchctl.parser import UsageError, VerbParser
from rchctl.plan import dry_run
from rchctl.request import DRY_RUN, add_run_options, submit_params


def configure(parser: VerbParser) -> None:
    """As `run`, with the command line after `--` in the place of the actions."""
    add_run_options(parser, plan=False)
    parser.command("WORD", "the command to run, after --")
    parser.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    parser.add_argument("--detach", action="store_true", help="leave the run to the daemon, print its id")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="no log and no progress: the verdict alone"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="with --json: log and progress too, on stderr"
    )
    parser.examples(
        "rchctl exec -- xcodebuild build -workspace App.xcworkspace -scheme App"
        " -destination 'platform=macOS'",
        "rchctl exec -- swift build -c release",
        "rchctl exec --quiet -- swift test && git push",
    )


def run(context: Context) -> Outcome:
    """Judge it here, where a refusal costs nothing; then submit, follow, and give the verdict."""
    args, console = context.args, context.console
    words = list(args.words)
    if not words:
        raise UsageError("exec: a command is missing: type 'rchctl exec -- xcodebuild build'")
    from rchctl import gate

    judged = gate.judge(context, words)
    if judged.rejected is not None:
        if not context.json:
            console.err(gate.text(judged, context))
            console.note("refused: nothing was run, here or on a worker")
        return gate.refusal(judged, judged.rejected)
    if args.dry_run:
        return dry_run(context, {**submit_params(context, stays=True), "argv": words})
    live = LiveRun(
        context,
        {**submit_params(context, stays=not args.detach), "argv": words},
        show_log=not args.quiet and (not context.json or args.verbose) and not args.detach,
        show_progress=not args.quiet and (not context.json or args.verbose or console.live),
    )
    return live.detach() if args.detach else live.execute()
