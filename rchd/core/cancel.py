"""A cancel, from the intent to the worker's own word about the end (spec section 4).

The intent is durable before anything is done about it, and a run that has one is never handed
over again: whatever was on its way is undone when its answer comes.
"""

from __future__ import annotations

from rch.contract.records import CancelIntent
from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import ask, cancel_effect, go, last_fetch_timer
from rchd.core.ends import end, leave

Effects = list[fx.Effect]


def cancel(run: m.Run, event: ev.CancelAsked, now: str) -> Effects:
    """Note the intent and act on it; a second one changes nothing."""
    if is_terminal(run.state) or run.cancel is not None:
        return []
    run.cancel = CancelIntent(reason=event.reason, requested_at=now)
    return carry_out_cancel(run, now, resumed=False)


def carry_out_cancel(run: m.Run, now: str, *, resumed: bool) -> Effects:
    """Take a cancelled run towards its end, from whatever phase it is in."""
    phase = run.phase
    match phase:
        case m.Waiting() | m.Selecting() | m.Coalescing():
            return [fx.Abort(run_id=run.run_id), *end(run, now)]
        case m.CheckingSource() | m.Uploading() | m.Rechecking():
            return [fx.Abort(run_id=run.run_id), *leave(run, now)]
        case m.Submitting() | m.Rereserving() if resumed or run.waiting is not None:
            # Nobody knows whether it arrived: the worker is told before anything else.
            return go(run, m.Cancelling(step=phase.step))
        case m.Following(unsure=True):
            return [fx.Abort(run_id=run.run_id), *go(run, m.Cancelling(step=phase.step))]
        case m.Ended():
            return []
        case _ if resumed:
            run.op += 1
            return ask(run)
        case m.Following():
            return [cancel_effect(run, phase.step)]
        case m.Fetching():
            return [last_fetch_timer(run)]
        case _:
            # The answer is on its way and says what there is to undo.
            return []
