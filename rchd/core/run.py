"""The run machine: phase x event -> next phase and effects.

    Waiting -> Selecting -> Reserving -> CheckingSource -> Uploading -> Submitting
            -> Following -> Fetching -> Publishing -> (next step's Submitting) -> Releasing -> Ended

`_MOVES` is the table. Every phase that awaits an answer is left on that answer, on a
refusal, on a cut line (retried, or given up) and on cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rch.contract.errors import Kind
from rch.contract.ids import parse_timestamp, timestamp
from rch.contract.records import CancelIntent
from rch.contract.states import JobState, can_mirror, is_terminal
from rch.contract.worker_rpc import PROTOCOL_MAX
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core import step as steps
from rchd.core.ask import ask, go, log_path, renew, retry
from rchd.core.ends import begin, end, fail
from rchd.core.select import nobody, select
from rchd.core.trouble import line_cut, next_step, pause, refused

Effects = list[fx.Effect]

CONNECT_TRIES = 3
OVERALL_GRACE_SECONDS = 60.0
RELEASE_SECONDS = 5.0


def accept(run: m.Run) -> Effects:
    """Effects of a run's acceptance: a rejected one ends at once."""
    rejected = [index for index, step in enumerate(run.accepted.steps) if step.sanitized_argv is None]
    if not rejected:
        wait = run.accepted.options.max_wait_seconds
        return [fx.StartTimer(run_id=run.run_id, name="max_wait", seconds=float(wait))]
    for index in rejected:
        steps.reject(run, index)
    return end(run, run.created_at)


def take_turn(run: m.Run) -> Effects:
    """The queue lets this run try to get a worker."""
    return go(run, m.Selecting())


def resume(run: m.Run, at: float) -> Effects:
    """Go on where the persisted phase stands; every effect is idempotent."""
    effects: Effects = []
    if isinstance(run.phase, m.Waiting | m.Selecting | m.Reserving):
        run.phase = m.Waiting(reason="the daemon was started again")
        waited = at - parse_timestamp(run.created_at)
        left = max(0.0, run.accepted.options.max_wait_seconds - waited)
        effects.append(fx.StartTimer(run_id=run.run_id, name="max_wait", seconds=left))
    else:
        run.resumed_at = timestamp(at)
    if run.lease is not None:
        effects.append(_renewal_timer(run, run.lease.ttl_seconds))
    if isinstance(run.phase, m.Following):
        # How much of the log lies here is the edge's own memory: it is read anew, over the same bytes.
        run.phase = m.Following(step=run.phase.step)
    if run.cancel is not None:
        return effects + _carry_out_cancel(run, timestamp(at))
    run.tries = 0
    run.op += 1
    return effects + ask(run)


def on_event(run: m.Run, event: ev.RunEvent) -> Effects:
    """What `event` makes of `run`; an answer to an older effect does nothing but give back a lease."""
    now = timestamp(event.at)
    match event:
        case ev.CancelAsked():
            return _cancel(run, event, now)
        case ev.TimerFired():
            return _timer(run, event, now)
        case ev.Reserved() if event.renewal or event.op != run.op:
            return _late_reserved(run, event)
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
            move = _MOVES.get((type(run.phase), type(event)))
            return [] if move is None else move(run, run.phase, event, now)


# --- towards a worker -----------------------------------------------------------------


def _probed(run: m.Run, _phase: m.Selecting, event: ev.Probed, now: str) -> Effects:
    run.embedded = event.embedded
    run.selection = select(run.accepted.options, event.reports)
    if not run.selection.choices:
        return _nobody(run, run.selection, event, now)
    return go(run, m.Reserving())


def _nobody(run: m.Run, selection: m.Selection, event: ev.Probed, now: str) -> Effects:
    """Nobody can serve; where it is the line alone, ask again a little later."""
    failure = nobody(selection, event.reports)
    run.tries += 1
    if failure.subkind == "UNREACHABLE" and run.tries < CONNECT_TRIES:
        run.waiting = f"{failure.message}; asking again"
        return retry(run, pause(run.tries))
    return fail(run, now, failure)


def _reserved(run: m.Run, phase: m.Reserving, event: ev.Reserved, now: str) -> Effects:
    run.chosen = phase.index
    run.lease = m.Lease(lease_id=event.lease_id, fence=event.fence, ttl_seconds=event.ttl_seconds)
    if run.choice is not None and run.choice.warning:
        run.warnings.append(run.choice.warning)
    begin(run, now)
    return [
        fx.StopTimers(run_id=run.run_id),
        _renewal_timer(run, event.ttl_seconds),
        *go(run, m.CheckingSource()),
    ]


def _renewal_timer(run: m.Run, ttl: int) -> fx.StartTimer:
    return fx.StartTimer(run_id=run.run_id, name="renew", seconds=ttl / 3)


def _late_reserved(run: m.Run, event: ev.Reserved) -> Effects:
    """A renewal came through, or a grant that nobody waits for any more."""
    if isinstance(run.phase, m.Ended) or (run.lease is None and not event.renewal):
        return [
            fx.Release(
                run_id=run.run_id,
                op=-1,
                target=fx.Target(worker=event.worker, protocol=PROTOCOL_MAX, deadline=RELEASE_SECONDS),
                lease_id=event.lease_id,
                fence=event.fence,
            )
        ]
    if event.renewal and run.lease is not None:
        run.lease = m.Lease(lease_id=event.lease_id, fence=event.fence, ttl_seconds=event.ttl_seconds)
        return [_renewal_timer(run, event.ttl_seconds)]
    return []


def _source_known(run: m.Run, _phase: m.CheckingSource, event: ev.SourceKnown, now: str) -> Effects:
    return next_step(run, now) if event.exists else go(run, m.Uploading())


def _uploaded(run: m.Run, _phase: m.Uploading, _event: ev.Uploaded, now: str) -> Effects:
    return next_step(run, now)


# --- a step ---------------------------------------------------------------------------


def _submitted(run: m.Run, phase: m.Submitting, event: ev.Submitted, now: str) -> Effects:
    _mirror(run, phase.step, event.state, event.seq, now)
    overall = run.accepted.options.overall_seconds + OVERALL_GRACE_SECONDS
    effects = go(run, m.Following(step=phase.step))
    return [fx.StartTimer(run_id=run.run_id, name="overall", seconds=overall, op=phase.step), *effects]


def _mirror(run: m.Run, index: int, state: str, seq: int | None, now: str) -> bool:
    """Follow the worker's word, but not to an end: that waits until the artifacts are verified."""
    step = run.steps[index]
    if seq is None or is_terminal(state) or state not in set(JobState) or step.state is None:
        return False
    if seq == step.seq or not can_mirror(step.state, step.seq, JobState(state), seq):
        return False
    step.state, step.seq, step.updated_at = JobState(state), seq, now
    return True


def _tail_news(run: m.Run, phase: m.Following, event: ev.TailNews, now: str) -> Effects:
    _mirror(run, phase.step, event.state, event.seq, now)
    news: Effects = []
    step_id = run.accepted.steps[phase.step].job_id
    if event.log_bytes:
        run.steps[phase.step].followed = True
        data: dict[str, Any] = {
            "job_id": step_id,
            "path": log_path(run, phase.step),
            "offset": event.log_offset,
            "length": event.log_bytes,
        }
        news.append(fx.Announce(type="log", run_id=run.run_id, seq=0, at=now, data=data))
    for each in event.events:
        told = {"job_id": step_id, **msgspec.to_builtins(each)}
        news.append(fx.Announce(type="job", run_id=run.run_id, seq=0, at=now, data=told))
    if event.next_cursor is None:
        return [*news, *go(run, m.Fetching(step=phase.step))]
    # Not a transition: the cursor is worth nothing after a restart that reads the log anew.
    run.phase = m.Following(step=phase.step, cursor=event.next_cursor)
    run.tries = 0
    run.waiting = run.waiting_since = None
    return [*news, *ask(run, tail_only=True)]


def _fetched(run: m.Run, phase: m.Fetching, event: ev.Fetched, now: str) -> Effects:
    steps.finish(run, phase.step, event, now)
    return go(run, m.Publishing(step=phase.step))


def _fetch_refused(run: m.Run, phase: m.Fetching, event: ev.FetchRefused, now: str) -> Effects:
    if not phase.again:
        return go(run, m.Fetching(step=phase.step, again=True))
    kind, subkind = (Kind.ATTESTATION, None) if event.trust else (Kind.ARTIFACTS, "INTEGRITY_MISMATCH")
    named = "; ".join(event.errors[:3])
    trouble = m.Trouble(kind=kind, subkind=subkind, message=f"the fetched artifacts are refused: {named}")
    steps.end_here(run, phase.step, trouble, now, integrity_errors=event.errors)
    return next_step(run, now)


def _published(run: m.Run, phase: m.Publishing, event: ev.Published, now: str) -> Effects:
    if not event.found:
        return go(run, m.Fetching(step=phase.step))
    return next_step(run, now)


def _released(run: m.Run, _phase: m.Releasing, _event: ev.Released, now: str) -> Effects:
    run.lease = None
    return end(run, now)


# --- timers ---------------------------------------------------------------------------


def _timer(run: m.Run, event: ev.TimerFired, now: str) -> Effects:
    match event.name:
        case "retry" if event.op == run.op:
            return ask(run)
        case "busy" if event.op == run.op and isinstance(run.phase, m.Waiting):
            run.phase = m.Waiting(reason=run.phase.reason)
            return []
        case "max_wait" if isinstance(run.phase, m.Waiting | m.Selecting):
            seconds = run.accepted.options.max_wait_seconds
            run.trouble = m.Trouble(
                kind=Kind.WORKER_BUSY,
                message=f"no worker was free for {seconds} s (queue.max_wait_seconds)",
            )
            return end(run, now)
        case "max_wait" if isinstance(run.phase, m.Reserving):
            # The grant may be on its way: look again when it has been answered.
            return [fx.StartTimer(run_id=run.run_id, name="max_wait", seconds=1.0)]
        case "renew" if run.lease is not None and run.choice is not None:
            return [renew(run), _renewal_timer(run, run.lease.ttl_seconds)]
        case "overall" if isinstance(run.phase, m.Following) and run.phase.step == event.op:
            return steps.cancel_job(run, run.phase.step, "TIMEOUT_OVERALL")
        case _:
            return []


# --- cancel ---------------------------------------------------------------------------


def _cancel(run: m.Run, event: ev.CancelAsked, now: str) -> Effects:
    if is_terminal(run.state) or run.cancel is not None:
        return []
    run.cancel = CancelIntent(reason=event.reason, requested_at=now)
    return _carry_out_cancel(run, now, resumed=False)


def _carry_out_cancel(run: m.Run, now: str, *, resumed: bool = True) -> Effects:
    """Take a cancelled run towards its end, from whatever phase it is in."""
    phase = run.phase
    match phase:
        case m.Waiting() | m.Selecting():
            return [fx.Abort(run_id=run.run_id), *end(run, now)]
        case m.CheckingSource() | m.Uploading():
            return [fx.Abort(run_id=run.run_id), *go(run, m.Releasing())]
        case m.Submitting() | m.Rereserving() if resumed or run.waiting is not None:
            return go(run, m.Cancelling(step=phase.step))
        case m.Cancelling() | m.Fetching() | m.Publishing() | m.Releasing() if resumed:
            run.op += 1
            return ask(run)
        case m.Following() if resumed:
            run.op += 1
            return ask(run)
        case m.Following():
            return steps.cancel_job(run, phase.step, run.cancel.reason if run.cancel else "USER")
        case _:
            # Reserving and Submitting: the answer is on its way and says what there is to undo.
            return []


def _cancel_noted(run: m.Run, phase: m.Cancelling, _event: ev.CancelNoted, _now: str) -> Effects:
    return go(run, m.Following(step=phase.step))


def _reserved_again(run: m.Run, phase: m.Rereserving, event: ev.Reserved, _now: str) -> Effects:
    run.lease = m.Lease(lease_id=event.lease_id, fence=event.fence, ttl_seconds=event.ttl_seconds)
    run.lease_renewed = True
    return go(run, m.Submitting(step=phase.step))


def _reserved_or_cancelled(run: m.Run, phase: m.Reserving, event: ev.Reserved, now: str) -> Effects:
    if run.cancel is None:
        return _reserved(run, phase, event, now)
    run.chosen = phase.index
    run.lease = m.Lease(lease_id=event.lease_id, fence=event.fence, ttl_seconds=event.ttl_seconds)
    return go(run, m.Releasing())


Move = Callable[[m.Run, Any, Any, str], Effects]

_MOVES: dict[tuple[type[m.Phase], type[ev.Event]], Move] = {
    (m.Selecting, ev.Probed): _probed,
    (m.Reserving, ev.Reserved): _reserved_or_cancelled,
    (m.Rereserving, ev.Reserved): _reserved_again,
    (m.CheckingSource, ev.SourceKnown): _source_known,
    (m.Uploading, ev.Uploaded): _uploaded,
    (m.Submitting, ev.Submitted): _submitted,
    (m.Cancelling, ev.CancelNoted): _cancel_noted,
    (m.Following, ev.TailNews): _tail_news,
    (m.Fetching, ev.Fetched): _fetched,
    (m.Fetching, ev.FetchRefused): _fetch_refused,
    (m.Publishing, ev.Published): _published,
    (m.Releasing, ev.Released): _released,
}
