from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from support import fake_worker
from support.worker_clients import fake, refused, upload_of

from rch.contract.errors import Kind
from rch.contract.worker_rpc import (
    CancelRequest,
    Code,
    Feature,
    HasSourceRequest,
    JobRequest,
    ReleaseRequest,
    ReserveRequest,
    RpcError,
    TailRequest,
)
from rchd.edges.channels import Channel
from rchd.edges.spares import MAX_SPARES
from rchd.edges.worker_client import Deadlines, WorkerClient

JOB = "job-00000001"
STATUS = JobRequest(job_id=JOB)


# --- probe and negotiation ----------------------------------------------------------------


@pytest.mark.spec("3.1")
async def test_a_probe_is_answered_on_a_channel_of_its_own(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        result = await it.client.probe()
        assert result.capabilities.hostname == "fake"
        assert it.client.offers(Feature.SESSION)
        assert not it.client.offers(Feature.FETCH_RESUME)
        assert await it.client.protocol_version() == 1
        assert it.living == []


@pytest.mark.spec("3.1")
async def test_no_common_version_stops_every_later_call(tmp_path: Path) -> None:
    async with fake(tmp_path, "incompatible") as it:
        assert (await it.client.probe()).protocol_min == 7
        failure = await refused(it.client.status(STATUS))
        assert failure.kind is Kind.WORKER_INCOMPATIBLE
        assert "7 to 9" in failure.message


@pytest.mark.fault("S9")
async def test_a_shell_that_talks_first_is_shown_with_the_remedy(tmp_path: Path) -> None:
    async with fake(tmp_path, "noise") as it:
        failure = await refused(it.client.probe())
    assert failure.label == "EXECUTOR / PROTOCOL_ERROR"
    assert "'Welcome to buildbox!'" in failure.message
    assert "rc files" in failure.hint


async def test_a_worker_command_that_is_not_installed_is_told_in_its_own_words(tmp_path: Path) -> None:
    async with fake(tmp_path, "missing") as it:
        failure = await refused(it.client.probe())
    assert failure.label == "EXECUTOR / PROTOCOL_ERROR"
    assert "exit 127" in failure.message
    assert "rch-worker: command not found" in failure.message
    assert "command= of authorized_keys there is wrong" in failure.hint


async def test_a_worker_process_that_was_killed_is_a_cut_line(tmp_path: Path) -> None:
    async with fake(tmp_path, "killed") as it:
        failure = await refused(it.client.probe())
    assert failure.label == "SSH / UNREACHABLE"
    assert "the line to mini was cut" in failure.message


# --- control calls ------------------------------------------------------------------------


@pytest.mark.spec("3.1")
async def test_control_calls_share_one_standing_channel(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        lease = await it.client.reserve(ReserveRequest(run_id="run-00000001", host_id="host-00000001"))
        assert lease.fence == 1
        assert not (await it.client.has_source(HasSourceRequest(source_sha256="0" * 64))).exists
        assert (await it.client.status(STATUS)).seq == 2
        assert (
            await it.client.cancel(CancelRequest(job_id=JOB, reason="USER"))
        ).state == "CANCEL_REQUESTED"
        await it.client.release(ReleaseRequest(lease_id=lease.lease_id, fence=lease.fence))
        probe_and_session = 2
        assert len(it.pids) == probe_and_session


async def test_many_callers_at_once_share_it_too(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        await it.client.probe()
        answers = []

        async def ask() -> None:
            answers.append((await it.client.status(STATUS)).seq)

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(ask)
        assert answers == [2] * 50
        assert len(it.pids) == 2


@pytest.mark.spec("3.1")
async def test_a_worker_without_sessions_is_served_one_shot(tmp_path: Path) -> None:
    async with fake(tmp_path, "no_session") as it:
        await it.client.status(STATUS)
        await it.client.status(STATUS)
        assert it.living == []
        assert len(it.pids) == 3


async def test_a_refusal_leaves_the_channel_in_use(tmp_path: Path) -> None:
    async with fake(tmp_path, "busy") as it:
        for _ in range(2):
            with pytest.raises(RpcError) as caught:
                await it.client.reserve(ReserveRequest(run_id="run-00000001", host_id="host-00000001"))
            assert caught.value.code is Code.BUSY
            assert caught.value.data == {"retry_after_seconds": 7}
        assert len(it.pids) == 2


async def test_a_standing_channel_that_died_is_opened_again(tmp_path: Path) -> None:
    async with fake(tmp_path, "hangs_up") as it:
        for _ in range(3):
            assert (await it.client.status(STATUS)).seq == 2
        assert len(it.pids) == 4


async def test_a_worker_that_always_hangs_up_is_not_asked_for_ever(tmp_path: Path) -> None:
    async with fake(tmp_path, "always_hangs_up") as it:
        failure = await refused(it.client.status(STATUS))
        assert failure.label == "EXECUTOR / PROTOCOL_ERROR"
        assert len(it.pids) == 2


@pytest.mark.fault("W7")
@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("wrong_id", "answered another request"),
        ("garbage", "is not the protocol"),
        ("both", "neither a result nor an error"),
        ("wrong_types", "seq"),
        ("unknown_code", "'COFFEE' is not known"),
        ("huge", "a line is over"),
    ],
)
async def test_an_answer_that_breaks_the_protocol_closes_its_channel(
    tmp_path: Path, scenario: str, said: str
) -> None:
    async with fake(tmp_path, scenario) as it:
        failure = await refused(it.client.status(STATUS))
        assert failure.label == "EXECUTOR / PROTOCOL_ERROR"
        assert said in failure.message
        assert it.living == []
        assert not (await it.client.has_source(HasSourceRequest(source_sha256="0" * 64))).exists


@pytest.mark.fault("S12")
async def test_half_an_answer_is_a_cut_line(tmp_path: Path) -> None:
    async with fake(tmp_path, "half_answer") as it:
        failure = await refused(it.client.status(STATUS))
    assert failure.label == "SSH / UNREACHABLE"
    assert "middle of an answer" in failure.message


@pytest.mark.fault("S12")
async def test_silence_ends_at_the_deadline_and_names_the_question(tmp_path: Path) -> None:
    async with fake(tmp_path, "silent", deadlines=Deadlines(call=0.3)) as it:
        failure = await refused(it.client.status(STATUS))
        assert failure.label == "SSH / UNREACHABLE"
        assert failure.message == "worker mini did not answer status within 0.3 s"
        assert it.living == []


async def test_a_cancelled_call_leaves_no_process_and_no_stray_answer(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with fake(tmp_path, "late", str(gate)) as it:
        await it.client.probe()
        with anyio.move_on_after(0.3) as scope:
            await it.client.status(STATUS)
        assert scope.cancelled_caught
        assert it.living == []
        gate.touch()
        assert not (await it.client.has_source(HasSourceRequest(source_sha256="0" * 64))).exists


class Unopenable:
    """A way that never opens."""

    host = "nowhere"

    async def open(self) -> Channel:
        await anyio.sleep_forever()
        raise AssertionError

    async def close(self) -> None:
        pass


async def test_a_channel_that_does_not_open_ends_at_the_deadline() -> None:
    client = WorkerClient("mini", Unopenable(), deadlines=Deadlines(connect=0.05))
    failure = await refused(client.probe())
    assert failure.label == "SSH / UNREACHABLE"
    assert "mini (nowhere)" in failure.message


# --- spare channels -----------------------------------------------------------------------


async def tail_to_its_end(client: WorkerClient, job_id: str = JOB) -> None:
    cursor: str | None = ""
    while cursor is not None:
        cursor = (await client.tail(TailRequest(job_id=job_id, cursor=cursor or None))).next_cursor


@pytest.mark.spec("3.1")
async def test_what_comes_one_after_the_other_shares_a_side_channel(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        request = upload_of(tmp_path / "spool")
        for _ in range(2):
            assert (await it.client.upload(request, tmp_path / "spool")).stored
            await tail_to_its_end(it.client)
            await it.client.fetch(JOB, tmp_path / "set")
            assert (tmp_path / "set").read_bytes() == fake_worker.ARTIFACTS
        probe_and_side = 2
        assert len(it.pids) == probe_and_side


@pytest.mark.spec("3.1")
async def test_what_goes_on_at_the_same_time_shares_no_channel(tmp_path: Path) -> None:
    async with fake(tmp_path, "held") as it:
        request = upload_of(tmp_path / "spool")
        await it.client.upload(request, tmp_path / "spool")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.client.tail, TailRequest(job_id=JOB, wait_seconds=60))
            await anyio.wait_all_tasks_blocked()
            await it.client.upload(request, tmp_path / "spool")
            await it.client.fetch(JOB, tmp_path / "set")
            tasks.cancel_scope.cancel()
        probe_tail_and_transfers = 3
        assert len(it.pids) == probe_tail_and_transfers


@pytest.mark.fault("S12")
@pytest.mark.parametrize("what", ["upload", "fetch", "tail"])
async def test_a_spare_that_died_costs_a_new_channel_and_nothing_else(tmp_path: Path, what: str) -> None:
    async with fake(tmp_path) as it:
        request = upload_of(tmp_path / "spool")
        await tail_to_its_end(it.client)
        (spare,) = it.living
        os.kill(spare, signal.SIGKILL)
        if what == "upload":
            assert (await it.client.upload(request, tmp_path / "spool")).stored
        elif what == "fetch":
            assert (await it.client.fetch(JOB, tmp_path / "set")).job_id == JOB
        else:
            await tail_to_its_end(it.client)
        assert len(it.pids) == 3
        assert spare not in it.living


async def test_few_spares_are_kept(tmp_path: Path) -> None:
    async with fake(tmp_path) as it:
        await it.client.probe()
        async with anyio.create_task_group() as tasks:
            for number in range(MAX_SPARES + 3):
                tasks.start_soon(it.client.fetch, JOB, tmp_path / f"set-{number}")
        assert len(it.living) == MAX_SPARES


@pytest.mark.spec("3.1")
async def test_a_worker_without_sessions_leaves_no_spare(tmp_path: Path) -> None:
    async with fake(tmp_path, "no_session") as it:
        assert (await it.client.upload(upload_of(tmp_path / "spool"), tmp_path / "spool")).stored
        await it.client.fetch(JOB, tmp_path / "set")
        assert it.living == []
