"""`rchctl cancel`: end a run."""

from __future__ import annotations

from rchctl.context import Context, Outcome
from rchctl.parser import VerbParser
from rchctl.render import is_over, state_word
from rchctl.terminal import one_line


def configure(parser: VerbParser) -> None:
    """One run."""
    parser.add_argument("run", metavar="RUN", help="an id, a beginning of one, or latest")
    parser.examples("rchctl cancel latest", "rchctl cancel 0198c2 && rchctl wait 0198c2")


def run(context: Context) -> Outcome:
    """Exits 0 once the intent is durable; the worker ends the job after that."""
    view = context.call("runs.cancel", {"run": context.args.run, "reason": "USER"})
    context.mark(view)
    name = one_line(view.get("run_id", ""))
    context.say(f"run {name}: {state_word(view) if is_over(view) else 'cancelling'}\n")
    return Outcome(view)
