"""One step of a run: its turns, and how it ends."""

from __future__ import annotations

from rch.contract.errors import Kind
from rch.contract.records import Reason
from rch.contract.states import JobState, is_terminal, move_job
from rchd.core import model as m
from rchd.core.jobs import host_summary

_STATE_OF_STATUS = {
    "success": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "rejected": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
}


def next_index(run: m.Run) -> int | None:
    """The step that is due: the first without an end, unless an earlier one's failure skips it."""
    for index, step in enumerate(run.steps):
        if step.summary is None:
            return index
        if step.summary.status != "success" and not run.accepted.options.continue_on_failure:
            return None
    return None


def queue(run: m.Run, index: int, now: str) -> None:
    """A step's turn has come: its job exists."""
    step = run.steps[index]
    step.state, step.seq, step.created_at, step.updated_at = JobState.QUEUED, 1, now, now


def finish(run: m.Run, index: int, end: m.WorkersEnd, now: str) -> None:
    """The worker's word, verified and published: its summary, and the `seq` of its last transition."""
    step = run.steps[index]
    step.summary, step.host_made = end.summary, False
    step.state, step.seq, step.updated_at = end.state, end.seq, now


def end_here(
    run: m.Run, index: int, trouble: m.Trouble, now: str, *, integrity_errors: tuple[str, ...] = ()
) -> None:
    """An end that the host makes itself; its `seq` is the last one and one more."""
    step = run.steps[index]
    summary = host_summary(run, index, now, trouble, integrity_errors=integrity_errors)
    step.summary, step.host_made, step.updated_at = summary, True, now
    if step.state is not None and not is_terminal(step.state):
        last = max(step.seq, step.told)
        step.state, step.seq = move_job(step.state, last, _STATE_OF_STATUS[summary.status])


def reject(run: m.Run, index: int) -> None:
    """The gate said no: a summary, and no state of its own."""
    reasons: tuple[Reason, ...] = run.accepted.steps[index].reasons
    first = reasons[0].message if reasons else "rejected"
    trouble = m.Trouble(kind=Kind.CLASSIFIER_REJECTED, message=first)
    run.steps[index].summary = host_summary(run, index, run.created_at, trouble, reasons=reasons)
    run.steps[index].host_made = True


def cancelled(run: m.Run) -> m.Trouble:
    """That the run was cancelled, and why."""
    reason = run.cancel.reason if run.cancel else "USER"
    return m.Trouble(kind=Kind.CANCELLED, message=f"cancelled ({reason})")
