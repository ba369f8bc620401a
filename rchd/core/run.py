"""The run machine: phase x event -> next phase and effects.

    Waiting -> Selecting -> Reserving -> CheckingSource -> Uploading -> Submitting
            -> Following -> Fetching -> Publishing -> (next step's Submitting) -> Releasing -> Ended

At a worker that gives no leases neither Reserving nor Releasing lasts (`rchd.core.placing`).
After a start `Rechecking` stands before what is still to be handed over (`rchd.core.resume`).
`MOVES` is the table. Every phase that awaits an answer is left on that answer, on a
refusal, on a cut line (retried, or given up) and on cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rch.contract.states import JobState, is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core import step as steps
from rchd.core.ask import UNAWAITED, ask, go, is_renewed, log_path, retry
from rchd.core.cancel import cancel
from rchd.core.ends import begin, end, fail
from rchd.core.fit import SIMULATED
from rchd.core.holds import candidate, leased, offered, whole_seconds
from rchd.core.mirror import end_trouble, fell, log_trouble, mirror
from rchd.core.resume import rechecked
from rchd.core.select import all_drained, is_out_of_reach, is_settled, nobody, select, warnings_of
from rchd.core.trouble import DOUBLINGS, LONGEST_BUSY_SECONDS, broken, line_cut, next_step, pause, refused
from rchd.core.upkeep import (
    idle_timer,
    job_timers,
    lease_news,
    renewal_timer,
    timer,
    unawaited,
    wait_timer,
)

Effects = list[fx.Effect]

CONNECT_TRIES = 3
MAX_EMPTY = 20
QUICK_MS = 500
MOST_NAMED = 1000
"""Characters of what is wrong with a set, in its summary's sentence; `integrity_errors` has the lines."""

_LEFT = "left to the runs before it in the queue"


def accept(run: m.Run) -> Effects:
    """Effects of a run's acceptance: a rejected one ends at once."""
    rejected = [index for index, step in enumerate(run.accepted.steps) if step.sanitized_argv is None]
    if not rejected:
        return [wait_timer(run)]
    for index in rejected:
        steps.reject(run, index)
    return end(run, run.created_at)


def take_turn(run: m.Run, spared: Iterable[str] = ()) -> Effects:
    """The queue lets this run try to get a worker, but none of those `spared`."""
    return go(run, m.Selecting(spared=tuple(sorted(spared))))


def on_event(run: m.Run, event: ev.RunEvent) -> Effects:
    """What `event` makes of `run`; an answer to an older effect does nothing but give back a lease."""
    now = timestamp(event.at)
    match event:
        case ev.CancelAsked():
            return cancel(run, event, now)
        case ev.TimerFired():
            return timer(run, event, now)
        case ev.Reserved() if event.op != run.op:
            return lease_news(run, event)
        case ev.Answer() if event.op == UNAWAITED:
            return unawaited(run, event)
        case ev.Answer() if event.op != run.op:
            return []
        case ev.Answer():
            _clock(run, event)
            return _answer(run, event, now)
        case _:
            return []


def _clock(run: m.Run, event: ev.Answer) -> None:
    """How long each stage took at the edge; a tail lasts as long as its job and is no stage."""
    if isinstance(event, ev.TailNews):
        return
    index = getattr(run.phase, "step", None)
    timings = run.timings if index is None else run.steps[index].timings
    stage = type(run.phase).__name__.lower()
    timings[stage] = timings.get(stage, 0) + event.ms


def _answer(run: m.Run, event: ev.Answer, now: str) -> Effects:
    match event:
        case ev.LineCut():
            return line_cut(run, event, now)
        case ev.WorkerRefused():
            return refused(run, event, now)
        case _:
            move = MOVES.get((type(run.phase), type(event)))
            return [] if move is None else move(run, run.phase, event, now)


# --- towards a worker -----------------------------------------------------------------


def _probed(run: m.Run, phase: m.Selecting, event: ev.Probed, now: str) -> Effects:
    run.embedded = event.embedded
    run.selection, run.passed = select(run.accepted.options, event.reports), {}
    if run.selection.choices:
        return _choose(run, run.selection, phase.spared)
    if run.selection.drained:
        return _behind_drained(run, all_drained(run.selection), now)
    if not phase.fresh and not is_settled(event.reports):
        # What a worker could a while ago proves nothing: it is asked anew before the run fails.
        return go(run, m.Selecting(fresh=True, spared=phase.spared))
    return _nobody(run, run.selection, event, now)


def _choose(run: m.Run, selection: m.Selection, spared: Iterable[str]) -> Effects:
    """Ask the first one that no run before this one waits for; where none is left, wait behind them."""
    left = {choice.worker: _LEFT for choice in selection.choices if choice.worker in spared}
    choices = tuple(choice for choice in selection.choices if choice.worker not in left)
    if choices:
        refused = {**selection.refused, **left}
        run.selection = msgspec.structs.replace(selection, choices=choices, refused=refused)
        return go(run, m.Reserving())
    return stand_back(run, f"{', '.join(left)}: {_LEFT}")


def _behind_drained(run: m.Run, why: Failure, now: str) -> Effects:
    """Wait until one of them is drained no more: whoever may not wait ends as at a busy worker."""
    return stand_back(run, why.message) if run.accepted.options.queue else fail(run, now, why)


def stand_back(run: m.Run, reason: str) -> Effects:
    """Back to the queue for a while, as if a busy worker had said so."""
    run.phase = m.Waiting(reason=reason, timer=True)
    run.op += 1
    seconds = min(LONGEST_BUSY_SECONDS, 2.0 ** min(run.busy_tries + 1, DOUBLINGS))
    run.busy_tries += 1
    return [fx.StartTimer(run_id=run.run_id, name="busy", seconds=seconds, op=run.op, spread=0.3)]


def _nobody(run: m.Run, selection: m.Selection, event: ev.Probed, now: str) -> Effects:
    """Nobody can serve; while one cannot be reached and might, ask again a little later."""
    failure = nobody(selection, event.reports)
    run.tries += 1
    if is_out_of_reach(selection, event.reports) and run.tries < CONNECT_TRIES:
        run.waiting = f"{failure.message}; asking again"
        return retry(run, pause(run.tries))
    return fail(run, now, failure)


def _reserved(run: m.Run, phase: m.Reserving, event: ev.Reserved, now: str) -> Effects:
    terms = offered(candidate(run, phase).probe)
    lease = leased(event, m.Terms.RENEWED if isinstance(terms, m.Unleased) else terms)
    if run.cancel is not None:
        run.chosen, run.hold = phase.index, lease
        return go(run, m.Releasing())
    return take(run, phase, lease, now)


def take(run: m.Run, phase: m.Reserving, hold: m.Lease | m.Unleased, now: str) -> Effects:
    """The candidate serves the run, which holds `hold` of it from now on."""
    choice = candidate(run, phase)
    run.chosen, run.hold = phase.index, hold
    run.warnings += warnings_of(choice)
    begin(run, now)
    effects: Effects = [fx.StopTimers(run_id=run.run_id)]
    if isinstance(hold, m.Lease) and is_renewed(run):
        effects.append(renewal_timer(run, hold.ttl_seconds))
    elif isinstance(hold, m.Lease) and hold.ttl_seconds < (wanted := whole_seconds(run)):
        granted = f"a lease of {hold.ttl_seconds} s, which it does not renew"
        run.warnings.append(f"worker {choice.worker} gave {granted}; the run may take {wanted} s")
    return [*effects, *go(run, m.CheckingSource())]


def _source_known(run: m.Run, _phase: m.CheckingSource, event: ev.SourceKnown, now: str) -> Effects:
    return next_step(run, now) if event.exists else go(run, m.Uploading())


def _uploaded(run: m.Run, _phase: m.Uploading, _event: ev.Uploaded, now: str) -> Effects:
    return next_step(run, now)


# --- a step ---------------------------------------------------------------------------


def _submitted(run: m.Run, phase: m.Submitting, event: ev.Submitted, now: str) -> Effects:
    if (wrong := mirror(run.steps[phase.step], event.state, event.seq, now)) is not None:
        return broken(run, wrong, now)
    return [*job_timers(run, phase.step), *go(run, m.Following(step=phase.step))]


def _tail_news(run: m.Run, phase: m.Following, event: ev.TailNews, now: str) -> Effects:
    index, step = phase.step, run.steps[phase.step]
    before = step.seq
    wrong = mirror(step, event.state, event.seq, now) or log_trouble(run, step, event)
    if wrong is not None:
        return broken(run, wrong, now)
    step.followed = step.followed or event.log_bytes > 0
    news = _news(run, index, event, now)
    if event.next_cursor is None:
        return [*news, *go(run, m.Fetching(step=index))]
    # Not a transition: the cursor is worth nothing after a restart that reads the log anew.
    run.phase = m.Following(step=index, cursor=event.next_cursor)
    run.tries = 0
    run.waiting, run.waited_seconds = None, 0.0
    if news:
        news.append(idle_timer(run, index))
    if news or step.seq > before or event.ms >= QUICK_MS:
        step.empty = 0
        return [*news, *ask(run, tail_only=run.cancel_told)]
    return _nothing_new(run, index, event, now)


def _news(run: m.Run, index: int, event: ev.TailNews, now: str) -> Effects:
    """What followers hear of: where the log grew on this machine, and what the job told."""
    job_id = run.accepted.steps[index].job_id
    news: Effects = []
    if event.log_bytes:
        data: dict[str, Any] = {
            "job_id": job_id,
            "path": log_path(run, index),
            "offset": event.log_offset,
            "length": event.log_bytes,
        }
        news.append(fx.Announce(type="log", run_id=run.run_id, seq=0, at=now, data=data))
    for each in event.events:
        told = {"job_id": job_id, **msgspec.to_builtins(each)}
        news.append(fx.Announce(type="job", run_id=run.run_id, seq=0, at=now, data=told))
    return news


def _nothing_new(run: m.Run, index: int, event: ev.TailNews, now: str) -> Effects:
    """A worker that answers at once and says nothing is asked slowly, and not for ever after the end."""
    step = run.steps[index]
    step.empty += 1
    if is_terminal(event.state) and step.empty > MAX_EMPTY:
        return broken(run, f"the log of a job in state {event.state} never ends", now)
    return retry(run, min(QUICK_MS / 1000, 0.02 * step.empty))


def _fetched(run: m.Run, phase: m.Fetching, event: ev.Fetched, now: str) -> Effects:
    step = run.steps[phase.step]
    if (message := end_trouble(run, step, event)) is not None:
        trouble = m.Trouble(kind=Kind.EXECUTOR, subkind="PROTOCOL_ERROR", message=message)
        steps.end_here(run, phase.step, trouble, now)
        return next_step(run, now)
    if event.summary.simulated and not run.accepted.options.simulate:
        # It was no simulation when it was chosen, and its tools are stand-ins now.
        message = "simulated: the worker made this job with stand-in tools, and the run asked for real ones"
        trouble = m.Trouble(kind=Kind.WORKER_INCOMPATIBLE, subkind=SIMULATED, message=message)
        steps.end_here(run, phase.step, trouble, now)
        return next_step(run, now)
    end = m.WorkersEnd(summary=event.summary, state=JobState(event.state), seq=event.seq)
    return go(run, m.Publishing(step=phase.step, end=end, again=phase.again))


def _fetch_refused(run: m.Run, phase: m.Fetching, event: ev.FetchRefused, now: str) -> Effects:
    if not phase.again:
        return go(run, m.Fetching(step=phase.step, again=True))
    kind, subkind = (Kind.ATTESTATION, None) if event.trust else (Kind.ARTIFACTS, "INTEGRITY_MISMATCH")
    named = "; ".join(event.errors[:3])[:MOST_NAMED]
    trouble = m.Trouble(kind=kind, subkind=subkind, message=f"the fetched artifacts are refused: {named}")
    steps.end_here(run, phase.step, trouble, now, integrity_errors=event.errors)
    return next_step(run, now)


def _published(run: m.Run, phase: m.Publishing, event: ev.Published, now: str) -> Effects:
    if not event.found and not phase.again:
        return go(run, m.Fetching(step=phase.step, again=True))
    if not event.found:
        message = "the verified artifacts were gone twice before they could be published"
        trouble = m.Trouble(kind=Kind.ARTIFACTS, subkind="GONE", message=message)
        steps.end_here(run, phase.step, trouble, now)
        return next_step(run, now)
    steps.finish(run, phase.step, phase.end, now)
    return next_step(run, now)


def _released(run: m.Run, _phase: m.Releasing, _event: ev.Released, now: str) -> Effects:
    return end(run, now)


def _cancel_noted(run: m.Run, phase: m.Cancelling, _event: ev.CancelNoted, _now: str) -> Effects:
    run.cancel_told = True
    return go(run, m.Following(step=phase.step))


def _reserved_again(run: m.Run, phase: m.Rereserving, event: ev.Reserved, now: str) -> Effects:
    if run.cancel is None and (wrong := fell(run, event)) is not None:
        return broken(run, wrong, now)
    run.hold = leased(event, m.Terms.RENEWED if run.lease is None else run.lease.terms)
    if run.cancel is not None:
        steps.end_here(run, phase.step, steps.cancelled(run), now)
        return go(run, m.Releasing())
    run.lease_renewed = run.steps[phase.step].lease_renewed = True
    return go(run, m.Submitting(step=phase.step))


Move = Callable[[m.Run, Any, Any, str], Effects]

MOVES: dict[tuple[type[m.Phase], type[ev.Event]], Move] = {
    (m.Selecting, ev.Probed): _probed,
    (m.Reserving, ev.Reserved): _reserved,
    (m.Rereserving, ev.Reserved): _reserved_again,
    (m.CheckingSource, ev.SourceKnown): _source_known,
    (m.Uploading, ev.Uploaded): _uploaded,
    (m.Rechecking, ev.Probed): rechecked,
    (m.Submitting, ev.Submitted): _submitted,
    (m.Cancelling, ev.CancelNoted): _cancel_noted,
    (m.Following, ev.TailNews): _tail_news,
    (m.Fetching, ev.Fetched): _fetched,
    (m.Fetching, ev.FetchRefused): _fetch_refused,
    (m.Publishing, ev.Published): _published,
    (m.Releasing, ev.Released): _released,
}
