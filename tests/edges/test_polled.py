"""A worker without `tail`: its status is asked for, and a follower is never left in silence (spec 3.3)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from rch.contract.worker_rpc import JobRequest, StatusResult, TailRequest
from rchd.edges import polled

JOB = "job-00000001"


class Told:
    """A worker that says these states one after another, and the last for ever."""

    def __init__(self, states: Iterable[tuple[str, int]]) -> None:
        self.left = list(states)
        self.asked = 0

    async def status(self, request: JobRequest) -> StatusResult:
        assert request.job_id == JOB
        self.asked += 1
        state, seq = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return StatusResult(
            state=state,
            seq=seq,
            job_key=None,
            created_at="2026-01-01T00:00:00.000Z",
            updated_at="2026-01-01T00:00:00.000Z",
            log_bytes=0,
            artifacts_available=False,
        )


def asks(cursor: str | None, wait: float) -> TailRequest:
    return TailRequest(job_id=JOB, cursor=cursor, wait_seconds=wait)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polled, "PAUSE_SECONDS", 0.001)


@pytest.mark.spec("3.3")
async def test_the_first_answer_comes_at_once_and_says_why_there_is_no_log() -> None:
    worker = Told([("RUNNING", 2)])
    news = await polled.polled(worker.status, asks(None, 600))
    assert (news.log_chunk, news.state, news.seq, news.next_cursor) == (polled.SAID, "RUNNING", 2, "2")
    assert worker.asked == 1


@pytest.mark.spec("3.3")
async def test_an_answer_is_held_until_the_state_changes() -> None:
    worker = Told([("RUNNING", 2), ("RUNNING", 2), ("CANCEL_REQUESTED", 3)])
    news = await polled.polled(worker.status, asks("2", 600))
    assert (news.log_chunk, news.state, news.next_cursor) == ("", "CANCEL_REQUESTED", "3")


@pytest.mark.spec("3.3")
async def test_an_answer_is_not_held_for_longer_than_was_asked() -> None:
    news = await polled.polled(Told([("RUNNING", 2)]).status, asks("2", 0.01))
    assert (news.state, news.next_cursor) == ("RUNNING", "2")


@pytest.mark.spec("3.3")
async def test_the_end_is_the_last_news() -> None:
    news = await polled.polled(Told([("RUNNING", 2), ("SUCCEEDED", 3)]).status, asks("2", 600))
    assert (news.state, news.seq, news.next_cursor) == ("SUCCEEDED", 3, None)
