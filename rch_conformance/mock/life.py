"""Where a mock job stands at a moment, all of it worked out from its submit. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rch.contract.ids import parse_timestamp, timestamp
from rch.contract.states import is_terminal
from rch.contract.worker_rpc import JobEvent, StatusResult, SubmitRequest
from rch_conformance.mock.scenario import Job as Script
from rch_conformance.mock.state import JobState
from rch_conformance.mock.story import Ended, Ending, cancelled, ending, log_lines, written


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """`log` and `events` are what there is of both by now; `ended_at` is None while it runs."""

    submit: SubmitRequest
    state: str
    seq: int
    log: bytes
    events: tuple[JobEvent, ...]
    ending: Ending
    created_at: str
    ended_at: str | None

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return is_terminal(self.state)

    def status(self, now: str) -> StatusResult:
        """The answer to `status`."""
        over = self.ended_at is not None
        return StatusResult(
            state=self.state,
            seq=self.seq,
            job_key=self.submit.job.job_key,
            created_at=self.created_at,
            updated_at=self.ended_at or now,
            log_bytes=len(self.log),
            exit_code=self.ending.exit_code if over else None,
            artifacts_available=over,
        )

    def ended(self) -> Ended:
        """What its set is made from."""
        return Ended(
            submit=self.submit,
            ending=self.ending,
            seq=self.seq,
            at=self.ended_at or self.created_at,
            log=self.log,
            events=self.events,
        )


def life_of(job: JobState, script: Script, now: float) -> Life:
    """The life of a job that was submitted, at the monotonic time `now`."""
    if job.submit is None:
        raise AssertionError("a job that nobody submitted has no life")
    asked, natural = job.submit.job, ending(job.submit.job, script)
    until = now if job.cancelled_at is None else job.cancelled_at
    spent = max(0.0, until - job.begun)
    over = job.cancelled_at is None and spent >= script.seconds
    share = min(1.0, spent / script.seconds) if script.seconds else float(job.cancelled_at is None)
    first = job.submit.job_state_seq + 1
    end = natural if job.cancelled_at is None else cancelled(job.reason)
    # A cancel that was asked for is a state of its own; a job that was cancelled before it came has none.
    wished = job.cancelled_at is not None and job.cancelled_at > job.begun
    ended = over or job.cancelled_at is not None
    seconds = spent if job.cancelled_at is not None else script.seconds
    return Life(
        submit=job.submit,
        state=end.state if ended else "RUNNING",
        seq=first + ended + (wished and ended),
        log=written(log_lines(asked, script, natural), share),
        events=_events(asked.action, job.created_at, ended=ended),
        ending=end,
        created_at=job.created_at,
        ended_at=timestamp(parse_timestamp(job.created_at) + round(seconds, 3)) if ended else None,
    )


def _events(action: str, at: str, *, ended: bool) -> tuple[JobEvent, ...]:
    states = ("started", "ended") if ended else ("started",)
    return tuple(
        JobEvent(n=number, at=at, type="stage", data={"name": action, "state": state})
        for number, state in enumerate(states, start=1)
    )
