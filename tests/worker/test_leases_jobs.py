"""Leases over the wire, with jobs that really run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.worker_pipe import Bench, Pipe, Refused, a_bench, follow, is_running, submit, tail_until, until

SLEEP = "echo up; exec sleep 60\n"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


def reserve(pipe: Pipe, run_id: str, **more: Any) -> dict[str, Any]:
    return pipe.ask("reserve", run_id=run_id, host_id="host-1", **more)


def under(lease: dict[str, Any]) -> dict[str, Any]:
    return {"lease_id": lease["lease_id"], "fence": lease["fence"]}


@pytest.mark.spec("3.4")
def test_a_lease_is_reserved_renewed_and_released(bench: Bench) -> None:
    with bench.pipe() as pipe, bench.pipe() as other:
        lease = reserve(pipe, "run-0000000001")
        assert (lease["ttl_seconds"], lease["slots_total"], lease["slots_free"]) == (90, 1, 0)
        assert lease["expires_at"].endswith("Z")
        renewed = reserve(other, "run-0000000001", ttl_seconds=30, **under(lease))
        assert (renewed["ttl_seconds"], renewed["fence"]) == (30, lease["fence"])
        with pytest.raises(Refused) as busy:
            reserve(other, "run-0000000002")
        assert busy.value.code == "BUSY"
        assert busy.value.data["retry_after_seconds"] > 0
        with pytest.raises(Refused, match="INVALID_REQUEST"):
            reserve(other, "run-0000000001", lease_id=lease["lease_id"])
        for _ in range(2):
            assert pipe.ask("release", **under(lease)) == {}
        assert reserve(other, "run-0000000002")["fence"] == lease["fence"] + 1


@pytest.mark.spec("3.4")
def test_a_job_does_not_run_under_the_lease_of_another_run(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, SLEEP)
        lease = reserve(pipe, "run-of-another-one")
        with pytest.raises(Refused, match="LEASE_EXPIRED"):
            submit(pipe, job, **under(lease))
        with pytest.raises(Refused, match="JOB_NOT_FOUND"):
            pipe.ask("status", job_id=job.job_id)


@pytest.mark.spec("3.4")
@pytest.mark.fault("W5")
def test_a_stale_fence_changes_nothing(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, SLEEP)
        lease = reserve(pipe, job.run_id)
        stale = {**under(lease), "fence": lease["fence"] - 1}
        with pytest.raises(Refused, match="LEASE_EXPIRED"):
            submit(pipe, job, **stale)
        with pytest.raises(Refused, match="JOB_NOT_FOUND"):
            pipe.ask("status", job_id=job.job_id)
        submit(pipe, job, **under(lease))
        tail_until(pipe, job.job_id, "up")
        with pytest.raises(Refused, match="LEASE_EXPIRED"):
            pipe.ask("cancel", job_id=job.job_id, reason="USER", **stale)
        assert pipe.ask("release", **stale) == {}
        assert pipe.ask("status", job_id=job.job_id)["state"] == "RUNNING"
        pipe.ask("cancel", job_id=job.job_id, reason="USER", **under(lease))
        assert follow(pipe, job.job_id)[2] == "CANCELLED"


@pytest.mark.spec("3.3")
def test_a_release_cancels_what_runs_under_it_and_the_slot_is_free_when_that_is_gone(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, "echo pid $$; exec sleep 60\n")
        lease = reserve(pipe, job.run_id)
        submit(pipe, job, **under(lease))
        tail_until(pipe, job.job_id, "pid")
        pipe.ask("release", **under(lease))
        log, _, state = follow(pipe, job.job_id)
        assert state == "CANCELLED"
        assert not is_running(int(log.split()[1]))
        assert reserve(pipe, "run-0000000002")["slots_free"] == 0


@pytest.mark.spec("3.4")
@pytest.mark.fault("W4")
def test_a_job_outlives_its_lease_by_the_grace_and_is_then_ended_by_the_worker_itself(bench: Bench) -> None:
    bench.configure("orphan_grace_seconds = 1\n")
    with bench.pipe() as pipe:
        job = bench.script(pipe, SLEEP)
        lease = reserve(pipe, job.run_id, ttl_seconds=1)
        submit(pipe, job, **under(lease))
        tail_until(pipe, job.job_id, "up")
        until(lambda: _is_expired(pipe, lease))
        assert pipe.ask("status", job_id=job.job_id)["state"] == "RUNNING"
        with pytest.raises(Refused, match="BUSY"):
            reserve(pipe, "run-0000000002")
        assert follow(pipe, job.job_id)[2] == "CANCELLED"
        assert reserve(pipe, "run-0000000002")["fence"] > lease["fence"]


def _is_expired(pipe: Pipe, lease: dict[str, Any]) -> bool:
    """Whether a mutating call under the lease is refused; this one would change nothing."""
    try:
        pipe.ask("cancel", job_id="job-of-nobody", reason="USER", **under(lease))
    except Refused as refused:
        return bool(refused.code == "LEASE_EXPIRED")
    return False


@pytest.mark.spec("3.4")
@pytest.mark.fault("W4")
def test_a_run_that_comes_back_within_the_grace_keeps_its_job(bench: Bench) -> None:
    bench.configure("orphan_grace_seconds = 60\n")
    with bench.pipe() as pipe:
        job = bench.script(pipe, SLEEP)
        lease = reserve(pipe, job.run_id, ttl_seconds=1)
        submit(pipe, job, **under(lease))
        tail_until(pipe, job.job_id, "up")
        until(lambda: _is_expired(pipe, lease))
        revived = reserve(pipe, job.run_id)
        assert revived["fence"] > lease["fence"]
        assert pipe.ask("status", job_id=job.job_id)["state"] == "RUNNING"
        pipe.ask("cancel", job_id=job.job_id, reason="USER", **under(revived))
        assert follow(pipe, job.job_id)[2] == "CANCELLED"


@pytest.mark.spec("3.3")
def test_one_step_after_the_other_uses_the_leases_slot_and_the_runs_tree(bench: Bench) -> None:
    with bench.pipe() as pipe:
        first = bench.script(pipe, 'cd "$(dirname "$0")"; echo made >product; ls\n')
        lease = reserve(pipe, first.run_id)
        for number in range(3):
            source = first.job_key_inputs.source_sha256
            job = first if number == 0 else bench.job(pipe, source, run_id=first.run_id)
            assert submit(pipe, job, **under(lease)) == {"state": "RUNNING", "seq": 2}
            log, _, state = follow(pipe, job.job_id)
            assert state == "SUCCEEDED"
            assert "product" in log
        tree = bench.data / "runs" / first.run_id / "tree"
        inode = (tree / "build.sh").stat().st_ino
        job = bench.job(pipe, first.job_key_inputs.source_sha256, run_id=first.run_id)
        submit(pipe, job, **under(lease))
        follow(pipe, job.job_id)
        assert (tree / "build.sh").stat().st_ino == inode  # it was not unpacked anew


@pytest.mark.spec("3.4")
def test_the_worker_counts_slots_across_hosts_and_jobs_without_a_lease(bench: Bench) -> None:
    bench.configure("max_concurrent_jobs = 2\n")
    with bench.pipe() as pipe:
        jobs = [bench.script(pipe, SLEEP) for _ in range(3)]
        for job in jobs[:2]:
            submit(pipe, job)
        with pytest.raises(Refused, match="BUSY"):
            submit(pipe, jobs[2])
        with pytest.raises(Refused, match="BUSY"):
            reserve(pipe, "run-0000000009")
        assert pipe.ask("probe")["capabilities"]["capacity"]["slots_free"] == 0
        for job in jobs[:2]:
            pipe.ask("cancel", job_id=job.job_id, reason="USER")
            follow(pipe, job.job_id)
        submit(pipe, jobs[2])
        pipe.ask("cancel", job_id=jobs[2].job_id, reason="USER")
        follow(pipe, jobs[2].job_id)


@pytest.mark.spec("3.1")
def test_a_held_tail_leaves_the_control_channel_free(bench: Bench) -> None:
    with bench.pipe() as pipe, bench.pipe() as tailing:
        job = bench.script(pipe, SLEEP)
        lease = reserve(pipe, job.run_id)
        submit(pipe, job, **under(lease))
        cursor = tail_until(tailing, job.job_id, "up")
        began = time.monotonic()
        tailing.send(_tail_line(job.job_id, cursor))
        reserve(pipe, job.run_id, **under(lease))
        pipe.ask("cancel", job_id=job.job_id, reason="USER", **under(lease))
        news = tailing.answer()["payload"]  # the held answer comes with the news, not with the time
        assert time.monotonic() - began < 20
        assert news["state"] in {"RUNNING", "CANCEL_REQUESTED", "CANCELLED"}
        assert follow(pipe, job.job_id)[2] == "CANCELLED"


def _tail_line(job_id: str, cursor: str) -> bytes:
    payload = {"job_id": job_id, "cursor": cursor, "wait_seconds": 30}
    line = {"protocol_version": 1, "op": "tail", "request_id": "request-tail", "payload": payload}
    return json.dumps(line).encode() + b"\n"
