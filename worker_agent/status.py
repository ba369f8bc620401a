"""`status` and `cancel`: where a job stands, and the wish that it ends (spec section 3.3).

A lost job is neither running nor at its end. It is answered JOB_NOT_FOUND with `lost` in the
data, so that every host does what helps: it submits the job again, which runs it once more or
seals it as lost. Nothing is RUNNING for ever.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from rch.contract.records import JobStateRecord
from rch.contract.worker_rpc import (
    CANCEL_REASONS,
    CancelRequest,
    CancelResult,
    Code,
    RpcError,
    StatusResult,
)
from worker_agent.clock import now
from worker_agent.jobs import Jobs
from worker_agent.worker import Worker


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is owned or at its end, and its execution's number."""

    state: JobStateRecord
    attempt: int
    terminal: bool


def require_known(jobs: Jobs, job_id: str) -> Known:
    """What stands of a job; `RpcError` JOB_NOT_FOUND for an unknown and for a lost one."""
    standing = jobs.standing(job_id)
    state = standing.state
    if state is None:
        raise RpcError(Code.JOB_NOT_FOUND, f"job {job_id} is not known")
    if standing.lost:
        raise RpcError(
            Code.JOB_NOT_FOUND,
            f"job {job_id} was lost in execution {standing.attempt}: submit it again",
            {"lost": True, "state": state.state, "seq": state.seq, "attempts": standing.attempt},
        )
    return Known(state=state, attempt=standing.attempt, terminal=standing.terminal)


def status(jobs: Jobs, job_id: str) -> StatusResult:
    """Where a job stands."""
    known = require_known(jobs, job_id)
    state = known.state
    summary = jobs.summary(job_id) if known.terminal else None
    return StatusResult(
        state=state.state,
        seq=state.seq,
        job_key=state.job_key,
        created_at=state.created_at,
        updated_at=state.updated_at,
        log_bytes=jobs.log_bytes(job_id, known.attempt),
        artifacts_available=summary is not None,
        exit_code=summary.exit_code if summary else None,
    )


def cancel(worker: Worker, request: CancelRequest) -> CancelResult:
    """Note the wish durably and say where the job stands. Its owner does the rest.

    An unknown job is as good as cancelled: a late `submit` of it ends so. A lost one is sealed
    as cancelled by an owner that is started for it.
    """
    if request.reason not in CANCEL_REASONS:
        raise RpcError(Code.INVALID_REQUEST, f"reason {request.reason[:40]!r} is not known")
    worker.leases.require(request.lease_id, request.fence)
    jobs, job_id = worker.jobs, request.job_id
    standing = jobs.standing(job_id)
    if standing.terminal and standing.state is not None:
        return CancelResult(state=standing.state.state)
    jobs.request_cancel(job_id, request.reason, now())
    if standing.state is None and not jobs.alive(job_id):
        return CancelResult(state="CANCELLED")
    if standing.lost:
        _seal_lost(worker, job_id)
    return CancelResult(state="CANCEL_REQUESTED")


def _seal_lost(worker: Worker, job_id: str) -> None:
    from worker_agent.launch import Stillborn, launch

    lock = worker.jobs.lock(job_id)
    if not lock.try_acquire():
        return
    try:
        if worker.jobs.settle(job_id).lost and worker.jobs.request(job_id) is not None:
            with suppress(Stillborn):  # the wish stands: whoever asks next starts another one
                launch(worker, job_id, lock)
    finally:
        lock.release()
