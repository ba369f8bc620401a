"""What a refusal or a cut line makes of a run, and which step comes next."""

from __future__ import annotations

import msgspec

from rch.contract.errors import Kind
from rch.contract.worker_rpc import Code
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core import step as steps
from rchd.core.ask import ask, cancel_effect, go, retry
from rchd.core.ends import end, leave
from rchd.core.holds import candidate
from rchd.core.jobs import job_of

Effects = list[fx.Effect]

RESERVE_TRIES = 3
UPLOAD_TRIES = 3
MAX_HANDOVERS = 4
FIRST_RETRY_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 30.0
# A worker keeps a free slot for whoever asked first: it idles until that one asks again.
LONGEST_BUSY_SECONDS = 10.0
DOUBLINGS = 5
RELEASE_TRIES = 1


def next_step(run: m.Run, now: str) -> Effects:
    """Hand over the next step that is due, or give the lease back."""
    index = steps.next_index(run)
    if run.cancel is not None or index is None:
        return leave(run, now)
    choice = run.choice
    if choice is None:
        raise AssertionError("a step without a worker")
    step = run.steps[index]
    if step.job is None:
        step.job, step.invocation = job_of(run, index, choice, now)
        steps.queue(run, index, now)
    return _hand_over(run, index)


def _hand_over(run: m.Run, index: int) -> Effects:
    """To the worker as it was planned with: the first time after a start it is asked whether it is."""
    return go(run, m.Rechecking(step=index) if run.unchecked else m.Submitting(step=index))


def refused(run: m.Run, event: ev.WorkerRefused, now: str) -> Effects:
    """The worker said no to what the phase awaits."""
    phase, code = run.phase, event.code
    trouble = m.Trouble(
        kind=event.kind,
        subkind=event.subkind,
        message=event.message,
        hint=event.hint,
        reasons=event.reasons,
    )
    if code == Code.UNSUPPORTED_PROTOCOL:
        # What was agreed on with the probe holds no longer.
        trouble = msgspec.structs.replace(trouble, subkind="PROTOCOL_DRIFT", hint=None)
    match phase:
        case m.Reserving():
            return _not_reserved(run, phase, event, now, trouble)
        case m.Submitting() | m.Rereserving():
            return _not_submitted(run, phase, event, now, trouble)
        case m.Cancelling() if code == Code.LEASE_EXPIRED and run.lease and not run.cancel_bare:
            run.cancel_bare = True
            run.op += 1
            return ask(run)
        case m.Cancelling() | m.Following() if run.cancel is not None and code == Code.JOB_NOT_FOUND:
            steps.end_here(run, phase.step, steps.cancelled(run), now)
            return leave(run, now)
        case m.Following(unsure=True) if code == Code.JOB_NOT_FOUND:
            run.steps[phase.step].over = None
            return _hand_over(run, phase.step)
        case m.Following() if code == Code.JOB_NOT_FOUND:
            return _hand_over_again(run, phase.step, now)
        case m.Following() | m.Cancelling() | m.Fetching():
            return _end_step(run, trouble, now)
        case m.Releasing():
            return end(run, now)
        case _:
            run.trouble = trouble
            return leave(run, now)


def _not_submitted(
    run: m.Run, phase: m.Submitting | m.Rereserving, event: ev.WorkerRefused, now: str, trouble: m.Trouble
) -> Effects:
    step, code = run.steps[phase.step], event.code
    if run.cancel is not None:
        # The worker has not taken the job, so there is nothing of it to end there.
        steps.end_here(run, phase.step, steps.cancelled(run), now)
        return leave(run, now)
    if code == Code.BUSY and run.hold is m.UNLEASED:
        return _wait_unleased(run, event, now)
    if code == Code.BUSY and (isinstance(phase, m.Submitting) or run.accepted.options.queue):
        return _wait_for_slot(run, event, trouble, now)
    if code == Code.SOURCE_MISSING and not step.resubmitted:
        step.resubmitted = True
        return go(run, m.Uploading())
    if (
        code == Code.LEASE_EXPIRED
        and run.lease
        and isinstance(phase, m.Submitting)
        and not step.lease_renewed
    ):
        return go(run, m.Rereserving(step=phase.step))
    return _stale(run.worker, code) + _end_step(run, trouble, now)


def _stale(worker: str | None, code: str) -> Effects:
    """A worker that is another one than its snapshot says is asked anew by the next run."""
    drift = code in {Code.TOOLCHAIN_CHANGED, Code.UNSUPPORTED_PROTOCOL}
    return [fx.Forget(worker=worker)] if drift and worker else []


def _wait_for_slot(run: m.Run, event: ev.WorkerRefused, trouble: m.Trouble, now: str) -> Effects:
    """The lease's slot is still held by what came before: as long as a queued run may wait."""
    run.tries += 1
    run.waiting = f"the worker is busy: {event.message}"
    again = _wait(run, event, max(event.retry_after or 1.0, pause(run.tries)))
    return _end_step(run, trouble, now) if again is None else again


def _wait_unleased(run: m.Run, event: ev.WorkerRefused, now: str) -> Effects:
    """Another's job has the slot that nobody can reserve: wait as in the queue, and no longer in all.

    Who may not wait is turned away at once. But a run that had a job there waits for the next one's
    slot as any does: what is left of its own job may have it.
    """
    run.waiting = f"the worker is busy: {event.message}"
    had_one = any(step.told for step in run.steps)
    left = run.accepted.options.max_wait_seconds - run.queued_seconds
    if left <= 0:
        return out_of_patience(run, run.waiting, now)
    if not run.accepted.options.queue and not had_one:
        return _turned_away(run, run.waiting, now)
    run.tries += 1
    seconds = _busy_pause(event.retry_after or 1.0, run.tries - 1)
    run.queued_seconds += min(left, seconds)
    if seconds < left:
        return retry(run, seconds)
    # It wants to be asked again when nobody waits any longer.
    run.op += 1
    return [fx.StartTimer(run_id=run.run_id, name="max_wait", seconds=left, op=run.op)]


def out_of_patience(run: m.Run, reason: str, now: str) -> Effects:
    """No slot was free for as long as a run may wait."""
    seconds = run.accepted.options.max_wait_seconds
    return _turned_away(run, f"{reason}; for {seconds} s (queue.max_wait_seconds)", now)


def _turned_away(run: m.Run, message: str, now: str) -> Effects:
    """The run ends where it would have handed a step over: the worker has nothing of it."""
    run.trouble = m.Trouble(kind=Kind.WORKER_BUSY, message=message)
    if (index := getattr(run.phase, "step", None)) is not None:
        steps.end_here(run, index, run.trouble, now)
    return leave(run, now)


def _wait(run: m.Run, event: ev.Answer, seconds: float) -> Effects | None:
    """Ask again later, or None when the longest wait is over.

    What was waited is summed from pauses and answers: a wall clock that jumps ends nothing.
    """
    if run.waited_seconds >= run.accepted.options.max_wait_seconds:
        return None
    run.waited_seconds += seconds + event.ms / 1000
    return retry(run, seconds)


def _end_step(run: m.Run, trouble: m.Trouble, now: str) -> Effects:
    orphan = _orphan(run) if isinstance(run.phase, m.Following) else []
    index = getattr(run.phase, "step", None)
    if index is not None:
        steps.end_here(run, index, trouble, now)
    return orphan + next_step(run, now)


def _orphan(run: m.Run) -> Effects:
    """The end of a job that is left alone and may go on; under a lease it ends with that."""
    phase = run.phase
    if run.hold is not m.UNLEASED or not isinstance(phase, m.Submitting | m.Following | m.Cancelling):
        return []
    return [cancel_effect(run, phase.step)] if run.steps[phase.step].over is None else []


def _hand_over_again(run: m.Run, index: int, now: str) -> Effects:
    """The worker has lost the job; it counts executions itself, this bounds a worker that does not."""
    step = run.steps[index]
    step.handovers += 1
    step.lease_renewed = False  # what is handed over anew may need a new lease too
    step.over = None
    if step.handovers < MAX_HANDOVERS:
        return _hand_over(run, index)
    message = f"the worker lost the job {step.handovers} times"
    trouble = m.Trouble(kind=Kind.EXECUTOR, subkind="WORKER_LOST", message=message)
    steps.end_here(run, index, trouble, now)
    return next_step(run, now)


def _not_reserved(
    run: m.Run, phase: m.Reserving, event: ev.WorkerRefused, now: str, trouble: m.Trouble
) -> Effects:
    if run.cancel is not None:
        return end(run, now)
    stale = _stale(candidate(run, phase).worker, event.code)
    if event.code == Code.BUSY:
        return busy(run, phase, trouble, event.retry_after or 1.0, now)
    return stale + _next_candidate(run, phase, trouble, now)


def busy(run: m.Run, phase: m.Reserving, trouble: m.Trouble, after: float, now: str) -> Effects:
    """The candidate has no free slot, and wants to be left alone for `after` seconds."""
    worker = candidate(run, phase).worker
    phase = m.Reserving(
        index=phase.index,
        busy=phase.busy or f"{worker} is busy: {trouble.message}",
        after=min(after, phase.after or after),
    )
    if run.accepted.options.on_busy == "wait":
        return _send_back(run, phase, now)
    return _next_candidate(run, phase, trouble, now)


def _next_candidate(run: m.Run, phase: m.Reserving, trouble: m.Trouble, now: str) -> Effects:
    """Ask the next one; who is busy could serve and is waited for, whatever the others say."""
    choices = run.selection.choices if run.selection else ()
    run.passed = {**run.passed, choices[phase.index].worker: trouble.message}
    if phase.index + 1 < len(choices):
        return go(run, m.Reserving(index=phase.index + 1, busy=phase.busy, after=phase.after))
    if phase.busy is not None:
        return _send_back(run, phase, now)
    run.trouble = trouble
    return end(run, now)


def _send_back(run: m.Run, phase: m.Reserving, now: str) -> Effects:
    """Back to the queue until the worker wants to be asked again."""
    reason = phase.busy or "no free slot"
    if not run.accepted.options.queue:
        run.trouble = m.Trouble(kind=Kind.WORKER_BUSY, message=reason)
        return end(run, now)
    # The machine's own count of refusals drives the backoff; the worker's wish is its floor.
    tries = run.busy_tries
    run.busy_tries += 1
    seconds = _busy_pause(phase.after, tries)
    run.phase = m.Waiting(reason=reason, timer=True)
    run.op += 1
    return [fx.StartTimer(run_id=run.run_id, name="busy", seconds=seconds, op=run.op, spread=0.3)]


def _busy_pause(after: float, tries: int) -> float:
    """Seconds until a busy worker is asked again: as long as it wishes at least."""
    return max(after, min(LONGEST_BUSY_SECONDS, 2.0 ** min(tries, DOUBLINGS)))


def line_cut(run: m.Run, event: ev.LineCut, now: str) -> Effects:
    """The worker could not be asked, or broke the protocol."""
    phase = run.phase
    trouble = m.Trouble(kind=event.kind, subkind=event.subkind, message=event.message, hint=event.hint)
    cut = event.kind == Kind.SSH and event.subkind != "HOST_KEY"
    cut = cut or (event.kind == Kind.TRANSFER and isinstance(phase, m.Fetching))
    # An inventory that cannot be read is mended with the next edit.
    cut = cut or (event.kind == Kind.CONFIG and isinstance(phase, m.Rechecking))
    run.tries += 1
    if isinstance(phase, m.Releasing):
        if run.tries > RELEASE_TRIES or not cut:
            return end(run, now)
        return retry(run, 0.2)
    if isinstance(phase, m.Reserving) and cut and run.tries < RESERVE_TRIES:
        # It may have been granted: the same run is given the same lease again, to use or to give back.
        return retry(run, pause(run.tries))
    if isinstance(phase, m.Reserving) and run.cancel is None:
        return _next_candidate(run, phase, trouble, now)
    if isinstance(phase, m.Reserving | m.Selecting):
        run.trouble = trouble
        return end(run, now)
    if isinstance(phase, m.CheckingSource | m.Uploading):
        if run.cancel is None and run.tries < UPLOAD_TRIES and (cut or event.kind == Kind.TRANSFER):
            return retry(run, pause(run.tries))
        run.trouble = trouble
        return leave(run, now)
    if not cut:
        return _broken_step(run, trouble, now)
    if run.cancel is not None and isinstance(phase, m.Submitting | m.Rereserving):
        # Nobody knows whether it arrived, and it must not be handed over again.
        run.phase = m.Cancelling(step=phase.step)
    return _out_of_reach(run, event, trouble, now)


def _broken_step(run: m.Run, trouble: m.Trouble, now: str) -> Effects:
    """The worker breaks the protocol in the middle of a step: the step ends here."""
    phase = run.phase
    if isinstance(phase, m.Fetching) and not phase.again:
        return go(run, m.Fetching(step=phase.step, again=True))
    if isinstance(phase, m.Fetching | m.Publishing):
        # The job is over and its set is what is wrong: the steps after it may still be due.
        steps.end_here(run, phase.step, trouble, now, integrity_errors=(trouble.message,))
        return next_step(run, now)
    return _given_up(run, trouble, now)


def _given_up(run: m.Run, trouble: m.Trouble, now: str) -> Effects:
    """The run leaves in the middle of a step: what of it may still be there is to end."""
    orphan = _orphan(run)
    if (index := getattr(run.phase, "step", None)) is not None:
        steps.end_here(run, index, trouble, now)
    run.trouble = trouble
    return orphan + leave(run, now)


def broken(run: m.Run, message: str, now: str) -> Effects:
    """What the worker said of a step makes no sense: the step ends here, and the run leaves the worker."""
    trouble = m.Trouble(kind=Kind.EXECUTOR, subkind="PROTOCOL_ERROR", message=message)
    return _broken_step(run, trouble, now)


def _out_of_reach(run: m.Run, event: ev.LineCut, trouble: m.Trouble, now: str) -> Effects:
    """A job may be running there: wait for the worker, up to the queue's longest wait."""
    run.waiting = m.UNREACHABLE
    if (again := _wait(run, event, pause(run.tries))) is not None:
        return again
    return _given_up(run, trouble, now)


def pause(tries: int) -> float:
    """Seconds before try `tries` + 1."""
    return min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(tries - 1, DOUBLINGS))
