"""Tails, uploads and sets between the host and a worker: each on a channel of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import anyio
import pytest
from support import fake_worker
from support.worker_clients import fake, refused, upload_of

from rch.contract.errors import Kind
from rch.contract.worker_rpc import (
    Code,
    JobRequest,
    RpcError,
    TailRequest,
)
from rchd.edges.worker_client import MAX_IDLE_TAILS, Deadlines

JOB = "job-00000001"
STATUS = JobRequest(job_id=JOB)


@pytest.mark.spec("3.3")
async def test_a_tail_keeps_one_channel_until_its_last_news(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        cursor, chunks = None, []
        while True:
            news = await it.client.tail(TailRequest(job_id=JOB, cursor=cursor))
            chunks.append(news.log_chunk)
            cursor = news.next_cursor
            if cursor is None:
                break
        assert chunks == ["line 0\n", "line 1\n", "line 2\n", "line 3\n"]
        assert len(it.pids) == 2
        assert it.living == it.pids[1:], "it waits for whoever needs a channel next"


async def test_a_held_tail_delays_no_control_call(tmp_path: Path) -> None:
    async with fake(tmp_path, "held") as it:
        await it.client.probe()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.client.tail, TailRequest(job_id=JOB, wait_seconds=60))
            assert (await it.client.status(STATUS)).seq == 2
            tasks.cancel_scope.cancel()
        assert len(it.living) == 1


async def test_a_tail_is_waited_for_as_long_as_it_asked_and_a_grace(tmp_path: Path) -> None:
    async with fake(tmp_path, "held", deadlines=Deadlines(tail_grace=0.2)) as it:
        failure = await refused(it.client.tail(TailRequest(job_id=JOB, wait_seconds=0.1)))
        assert failure.message == "worker mini did not answer tail within 0.3 s"


async def test_idle_tails_are_few(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        for n in range(MAX_IDLE_TAILS + 3):
            await it.client.tail(TailRequest(job_id=f"job-{n:08d}"))
        assert len(it.living) == MAX_IDLE_TAILS
        await it.client.forget_tail(f"job-{MAX_IDLE_TAILS:08d}")
        assert len(it.living) == MAX_IDLE_TAILS - 1


# --- upload -------------------------------------------------------------------------------


@pytest.mark.spec("3.2")
async def test_an_upload_arrives_whole_and_tells_its_progress(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        request = upload_of(tmp_path / "spool", 3_000_001)
        steps: list[tuple[int, int]] = []
        result = await it.client.upload(request, tmp_path / "spool", lambda *step: steps.append(step))
        assert result.stored
        assert steps[-1] == (3_000_001, 3_000_001)
        assert [done for done, _ in steps] == sorted({done for done, _ in steps})
        assert it.living == it.pids[1:]


@pytest.mark.parametrize("scenario", ["too_large", "too_large_open"])
async def test_an_early_refusal_is_heard_before_all_is_sent(tmp_path: Path, scenario: str) -> None:
    async with fake(tmp_path, scenario) as it:
        request = upload_of(tmp_path / "spool", 16 << 20)
        sent: list[int] = []
        with pytest.raises(RpcError) as caught:
            await it.client.upload(request, tmp_path / "spool", lambda done, _: sent.append(done))
        assert caught.value.code is Code.PAYLOAD_TOO_LARGE
        assert caught.value.data == {"max_bytes": 10}
        assert max(sent, default=0) < 16 << 20
        assert it.living == []


@pytest.mark.fault("S1")
async def test_a_worker_that_dies_in_mid_upload_is_a_cut_line(tmp_path: Path) -> None:
    async with fake(tmp_path, "dies_reading") as it:
        failure = await refused(
            it.client.upload(upload_of(tmp_path / "spool", 8 << 20), tmp_path / "spool")
        )
    assert failure.label == "SSH / UNREACHABLE"


@pytest.mark.fault("S12")
async def test_an_upload_that_makes_no_progress_ends_at_the_deadline(tmp_path: Path) -> None:
    async with fake(tmp_path, "stops_reading", deadlines=Deadlines(stall=0.3)) as it:
        failure = await refused(
            it.client.upload(upload_of(tmp_path / "spool", 8 << 20), tmp_path / "spool")
        )
        assert "stalled for 0.3 s" in failure.message
        assert it.living == []


async def test_a_spool_that_is_not_as_announced_is_not_sent(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        request = upload_of(tmp_path / "spool")
        (tmp_path / "spool").write_bytes(b"short")
        failure = await refused(it.client.upload(request, tmp_path / "spool"))
        assert failure.kind is Kind.TRANSFER
        assert "5 bytes, not 1048576" in failure.message
        missing = await refused(it.client.upload(request, tmp_path / "gone"))
        assert (missing.kind, "gone" in missing.message) == (Kind.TRANSFER, True)


# --- fetch --------------------------------------------------------------------------------


@pytest.mark.spec("3.2")
async def test_a_fetched_set_lies_in_the_file_and_is_checked(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        steps: list[tuple[int, int]] = []
        header = await it.client.fetch(JOB, tmp_path / "set", lambda *step: steps.append(step))
        assert header.job_id == JOB
        assert (tmp_path / "set").read_bytes() == fake_worker.ARTIFACTS
        assert steps[-1] == (len(fake_worker.ARTIFACTS),) * 2
        assert it.living == it.pids[1:]


@pytest.mark.fault("S12")
@pytest.mark.parametrize(
    ("scenario", "label", "said"),
    [
        ("short", "TRANSFER", "ended at 524288 of 1048576 bytes"),
        ("long", "EXECUTOR / PROTOCOL_ERROR", "more than the 1048576 announced bytes"),
        (
            "wrong_digest",
            "ARTIFACTS / INTEGRITY_MISMATCH",
            hashlib.sha256(fake_worker.ARTIFACTS).hexdigest(),
        ),
        ("other_job", "EXECUTOR / PROTOCOL_ERROR", "job-of-another"),
        ("stalls", "SSH / UNREACHABLE", "stalled for 0.5 s"),
    ],
)
async def test_a_bad_body_is_refused_and_removed(
    tmp_path: Path, scenario: str, label: str, said: str
) -> None:
    async with fake(tmp_path, scenario, deadlines=Deadlines(stall=0.5)) as it:
        failure = await refused(it.client.fetch(JOB, tmp_path / "set"))
        assert failure.label == label
        assert said in failure.message
        assert not (tmp_path / "set").exists()
        assert it.living == []


@pytest.mark.fault("S12")
@pytest.mark.fault("W7")
async def test_a_set_has_a_limited_time_to_come_however_steadily_it_does(tmp_path: Path) -> None:
    async with fake(tmp_path, "trickles", deadlines=Deadlines(stall=60)) as it:
        failure = await refused(it.client.fetch(JOB, tmp_path / "set", seconds=0.5))
        assert failure.label == "SSH / UNREACHABLE"
        assert "did not come within 0.5 s" in failure.message
        assert it.living == []
    async with fake(tmp_path) as it:
        assert (await it.client.fetch(JOB, tmp_path / "set", seconds=60)).job_id == JOB


async def test_a_set_over_the_limit_is_refused_by_its_header(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        size = len(fake_worker.ARTIFACTS)
        failure = await refused(it.client.fetch(JOB, tmp_path / "set", max_bytes=size - 1))
        assert failure.label == "ARTIFACTS / SIZE_EXCEEDED"
        await it.client.fetch(JOB, tmp_path / "set", max_bytes=size)


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        failure = await refused(it.client.fetch(JOB, tmp_path / "no" / "set"))
    assert failure.kind is Kind.ARTIFACTS
    assert "no/set" in failure.message
