"""`rchctl explain`: what the gate says of a command line; no daemon and no worker are asked."""

from __future__ import annotations

from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser


def configure(parser: VerbParser) -> None:
    """The command line, after `--`."""
    parser.command("WORD", "the command to judge, after --")
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl explain -- swift test",
        "rchctl explain -- xcodebuild test -scheme App     in an Xcode project",
        "rchctl explain --json -- swift build | jq .data.reasons",
    )


def run(context: Context) -> Outcome:
    """Exit 0 when the project's config lets the command run, 10 when it does not."""
    words = list(context.args.words)
    if not words:
        raise UsageError("explain: a command is missing: type 'rchctl explain -- xcodebuild build'")
    from rchctl import gate

    judged = gate.judge(context, words)
    context.say(gate.text(judged, context))
    return Outcome(judged.data) if judged.rejected is None else gate.refusal(judged, judged.rejected)
