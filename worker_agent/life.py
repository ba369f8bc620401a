"""A job's durable states, as its owner writes them (spec sections 3.3, 4)."""

from __future__ import annotations

import traceback
from contextlib import suppress
from functools import cached_property

import msgspec

from rch.contract.records import JobStateRecord
from rch.contract.states import JobState, move_job
from rch.contract.worker_rpc import SubmitRequest
from rch.files.durable import is_no_space
from worker_agent.clock import boot_id, now
from worker_agent.jobs import MAX_ATTEMPTS, Attempt, Jobs, Loss
from worker_agent.model import EndedByUs


def note_trace() -> None:
    """Leave the trace of the exception at hand in `supervisor.log`, if the disk has room for it."""
    with suppress(OSError):
        traceback.print_exc()


class Life:
    """One transition after the other; `seq` rises by one with each. The caller owns the job's lock."""

    def __init__(self, jobs: Jobs, request: SubmitRequest) -> None:
        self.request = request
        self.attempt = 0
        self.over: EndedByUs | None = None
        self.lost: tuple[Loss, ...] = ()
        self._jobs = jobs

    def begin(self) -> None:
        """Make RUNNING durable and count the execution; `over` if it is only to be sealed.

        An earlier execution that did not come to its end is put on record as lost, once.
        """
        job_id = self.request.job.job_id
        self._jobs.tidy(job_id)
        earlier, intent = self._jobs.attempt(job_id), self._jobs.cancel_intent(job_id)
        self.attempt = earlier.number + 1 if earlier else 1
        if intent is not None:
            self.over = EndedByUs(intent.reason)
        elif self.attempt > MAX_ATTEMPTS:
            self.over = EndedByUs("WORKER_LOST")
        if earlier and self.over is not None:
            self.attempt = earlier.number  # nothing more is executed, and its log is kept
        self.lost = _losses(earlier)
        attempt = Attempt(
            number=self.attempt, lease_id=self.request.lease_id, boot=boot_id(), lost=self.lost
        )
        self._jobs.write_attempt(job_id, attempt)
        self.state = self._jobs.state(job_id) or self.first
        self._jobs.write_state(self.state)
        if intent is not None:
            self.request_cancel()

    def request_cancel(self) -> None:
        """CANCEL_REQUESTED, unless the job stands there already.

        A full disk does not keep a job from being ended: its states then do without this one.
        """
        if self.state.state == JobState.RUNNING:
            try:
                self.end_with(self.moved(JobState.CANCEL_REQUESTED))
            except OSError as error:
                if not is_no_space(error):
                    raise

    def end_with(self, state: JobStateRecord) -> None:
        """Make a following state durable."""
        self._jobs.write_state(state)
        self.state = state

    def moved(self, to: JobState) -> JobStateRecord:
        """The record after a transition, not written yet."""
        return following(self.state, to)

    @cached_property
    def first(self) -> JobStateRecord:
        """The record with which a job begins that was never begun: RUNNING."""
        job, at = self.request.job, now()
        state, seq = move_job(JobState.QUEUED, self.request.job_state_seq, JobState.RUNNING)
        return JobStateRecord(
            created_at=at,
            run_id=job.run_id,
            job_id=job.job_id,
            job_key=job.job_key,
            state=str(state),
            seq=seq,
            updated_at=at,
        )


def following(record: JobStateRecord, to: JobState) -> JobStateRecord:
    """The record after the transition from `record` to `to`."""
    state, seq = move_job(JobState(record.state), record.seq, to)
    return msgspec.structs.replace(record, state=str(state), seq=seq, updated_at=now())


def _losses(earlier: Attempt | None) -> tuple[Loss, ...]:
    """Every execution that was lost up to now; one that is only sealed again is no further one."""
    if earlier is None or any(loss.number == earlier.number for loss in earlier.lost):
        return earlier.lost if earlier else ()
    rebooted = earlier.boot not in {None, boot_id()}
    return (*earlier.lost, Loss(number=earlier.number, found=now(), rebooted=rebooted))
