"""What goes on beside a run's phases: its lease, its timers, and answers that no phase awaits."""

from __future__ import annotations

import msgspec

from rch.contract.errors import Kind
from rch.contract.worker_rpc import PROTOCOL_MAX, Code
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core import step as steps
from rchd.core.ask import UNAWAITED, ask, cancel_effect, is_renewed, renew
from rchd.core.ends import end, leave
from rchd.core.holds import leased
from rchd.core.mirror import fell
from rchd.core.select import unreached
from rchd.core.trouble import next_step, out_of_patience

Effects = list[fx.Effect]

TIMEOUT_GRACE_SECONDS = 60.0
RELEASE_SECONDS = 5.0
AGAIN_SECONDS = 2.0
MAX_OVERDUE = 5
MAX_TTL_SECONDS = 86_400
"""A lease that is to live longer is renewed as if it lived so long."""
# A start forgets less than one slice of what was waited; each slice is one more write of the row.
SLICE_SECONDS = 600.0


def wait_timer(run: m.Run) -> fx.StartTimer:
    """The next slice of what it may wait in the queue: counted by timers, so that no clock decides."""
    return fx.StartTimer(run_id=run.run_id, name="max_wait", seconds=_slice(run))


def _slice(run: m.Run) -> float:
    return max(0.0, min(SLICE_SECONDS, run.accepted.options.max_wait_seconds - run.queued_seconds))


def renewal_timer(run: m.Run, ttl: int) -> fx.StartTimer:
    """The next renewal: at a third of the lease's life."""
    return fx.StartTimer(run_id=run.run_id, name="renew", seconds=min(ttl, MAX_TTL_SECONDS) / 3)


def job_timers(run: m.Run, index: int) -> list[fx.StartTimer]:
    """The host's own watch over a job; the worker has one of its own and comes first."""
    seconds = run.accepted.options.overall_seconds + TIMEOUT_GRACE_SECONDS
    overall = fx.StartTimer(run_id=run.run_id, name="overall", seconds=seconds, op=index)
    return [overall, idle_timer(run, index)]


def idle_timer(run: m.Run, index: int) -> fx.StartTimer:
    """How long a job may be silent; each piece of news starts it again."""
    seconds = run.accepted.options.idle_log_seconds + TIMEOUT_GRACE_SECONDS
    return fx.StartTimer(run_id=run.run_id, name="idle", seconds=seconds, op=index)


def timer(run: m.Run, event: ev.TimerFired, now: str) -> Effects:
    """A timer is over."""
    match event.name:
        case "retry" if event.op == run.op:
            return ask(run)
        case "busy" if event.op == run.op and isinstance(run.phase, m.Waiting):
            run.phase = m.Waiting(reason=run.phase.reason)
            return []
        case "max_wait":
            return _waited(run, event, now)
        case "verdict" if event.op == run.op and isinstance(run.phase, m.Releasing):
            return end(run, now)
        case "renew" if run.choice is not None and (lease := _wanted_lease(run)) and is_renewed(run):
            return [renew(run), renewal_timer(run, lease.ttl_seconds)]
        case "overall" | "idle" if isinstance(run.phase, m.Following) and run.phase.step == event.op:
            return _out_of_time(run, run.phase.step, event.name, now)
        case "fetch" if event.op == run.op and isinstance(run.phase, m.Fetching) and run.cancel is not None:
            steps.end_here(run, run.phase.step, steps.cancelled(run), now)
            return [fx.Abort(run_id=run.run_id), *leave(run, now)]
        case "cancel" if isinstance(run.phase, m.Following) and run.cancel is not None:
            return [] if run.cancel_told else [cancel_effect(run, run.phase.step)]
        case _:
            return []


def _wanted_lease(run: m.Run) -> m.Lease | None:
    """The lease that it has, unless that is on its way back or the run is over."""
    return None if isinstance(run.phase, m.Releasing | m.Ended) else run.lease


def _waited(run: m.Run, event: ev.TimerFired, now: str) -> Effects:
    """One more slice of the longest wait is over, or all of it."""
    if isinstance(run.phase, m.Submitting) and run.hold is m.UNLEASED and event.op == run.op:
        return out_of_patience(run, run.waiting or "no free slot", now)
    if not isinstance(run.phase, m.Waiting | m.Selecting | m.Reserving | m.Coalescing):
        return []
    run.queued_seconds += _slice(run)
    if run.queued_seconds < run.accepted.options.max_wait_seconds:
        return [wait_timer(run)]
    if isinstance(run.phase, m.Reserving):
        # The grant may be on its way: look again when it has been answered.
        return [fx.StartTimer(run_id=run.run_id, name="max_wait", seconds=1.0)]
    seconds = run.accepted.options.max_wait_seconds
    what = "no worker was free"
    if isinstance(run.phase, m.Coalescing):
        what = f"the same job ran in run {run.phase.run_id}"
    elif run.selection is not None and (silent := unreached(run.selection)) is not None:
        message = f"{silent.message}; for {seconds} s (queue.max_wait_seconds)"
        run.trouble = m.Trouble(kind=silent.kind, subkind=silent.subkind, message=message)
        return end(run, now)
    message = f"{what} for {seconds} s (queue.max_wait_seconds)"
    run.trouble = m.Trouble(kind=Kind.WORKER_BUSY, message=message)
    return end(run, now)


def _out_of_time(run: m.Run, index: int, name: str, now: str) -> Effects:
    """The worker should have ended it; it is told, and told again, and given up in the end."""
    step = run.steps[index]
    step.overdue += 1
    if step.overdue > MAX_OVERDUE:
        message = f"the worker did not end the job, {MAX_OVERDUE} times told that its time is over"
        trouble = m.Trouble(kind=Kind.EXECUTOR, subkind=f"TIMEOUT_{name.upper()}", message=message)
        steps.end_here(run, index, trouble, now)
        return next_step(run, now)
    again = fx.StartTimer(run_id=run.run_id, name=name, seconds=TIMEOUT_GRACE_SECONDS, op=index)
    return [cancel_effect(run, index, f"TIMEOUT_{name.upper()}"), again]


def lease_news(run: m.Run, event: ev.Reserved) -> Effects:
    """A renewal or a revival came through, or a grant that nobody waits for any more."""
    if _wanted_lease(run) is None or run.lease is None:
        return [give_back(event)]
    if fell(run, event) is not None:
        # The lease is held as it was known; `fleet` counts it against the worker.
        return [renewal_timer(run, run.lease.ttl_seconds)] if is_renewed(run) else []
    run.hold = leased(event, run.lease.terms)
    return [renewal_timer(run, event.ttl_seconds)] if is_renewed(run) else []


def give_back(event: ev.Reserved) -> fx.Release:
    """Return a grant that came too late."""
    return fx.Release(
        run_id=event.run_id,
        op=UNAWAITED,
        target=fx.Target(worker=event.worker, protocol=PROTOCOL_MAX, deadline=RELEASE_SECONDS),
        lease_id=event.lease_id,
        fence=event.fence,
    )


def unawaited(run: m.Run, event: ev.Answer) -> Effects:
    """The answer to a renewal or to a cancel that runs beside the tail."""
    match event:
        case ev.CancelNoted():
            run.cancel_told = run.cancel is not None
            return []
        case ev.WorkerRefused(operation="reserve", code=Code.LEASE_EXPIRED) if (
            _wanted_lease(run) is not None
        ):
            # Within its grace the same run is given its lease again, with a higher fence.
            return [renew(run, revive=True)]
        case ev.WorkerRefused(operation="reserve", code=Code.UNKNOWN_OPERATION | Code.FEATURE_MISSING) if (
            run.lease is not None
        ):
            # It renews none: known here at the latest where the state was made anew from files.
            run.hold = msgspec.structs.replace(run.lease, terms=m.Terms.WHOLE)
            return []
        case ev.WorkerRefused(operation="canceljob", code=Code.LEASE_EXPIRED) if (
            isinstance(run.phase, m.Following) and run.lease is not None and not run.cancel_bare
        ):
            # A cancel needs no lease, it must only not name a dead one.
            run.cancel_bare = True
            again = fx.StartTimer(run_id=run.run_id, name="cancel", seconds=AGAIN_SECONDS)
            return [cancel_effect(run, run.phase.step), again]
        case ev.LineCut(operation="canceljob") | ev.WorkerRefused(operation="canceljob"):
            return [fx.StartTimer(run_id=run.run_id, name="cancel", seconds=AGAIN_SECONDS)]
        case _:
            return []
