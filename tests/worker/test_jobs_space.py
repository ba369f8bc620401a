"""Jobs on a disk that is full: told by its name, and room for the next one (fault W9)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.small_disk import fill, small_disk
from support.worker_pipe import MANIFEST, Bench, a_bench, follow, is_running, submit, tail_until, tar, until

from rch.contract.records import Summary, decode_record


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench, small_disk(bench.data, 2048):
        yield bench


def end_of(bench: Bench, job_id: str) -> tuple[str | None, object, int]:
    path = bench.data / "jobs" / job_id / "attempt-1" / "artifacts" / "summary.json"
    told = decode_record(path.read_bytes(), Summary)
    return told.failure_kind, told.failure_subkind, told.exit_code


@pytest.mark.spec("11")
@pytest.mark.fault("W9")
def test_a_source_that_cannot_be_unpacked(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.job(
            pipe, bench.upload(pipe, tar({"Package.swift": MANIFEST, "zeros": bytes(1_300_000)}))
        )
        submit(pipe, job)
        assert follow(pipe, job.job_id)[2] == "FAILED"
        assert end_of(bench, job.job_id) == ("EXECUTOR", "NO_SPACE", 40)
        assert not (bench.data / "runs" / job.run_id / "tree").exists()
        pipe.fetch(job.job_id)
        small = bench.script(pipe, "echo fine\n")
        submit(pipe, small)
        assert follow(pipe, small.job_id)[2] == "SUCCEEDED"


@pytest.mark.spec("11")
@pytest.mark.fault("W9")
def test_a_build_that_fills_the_disk(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(
            pipe, "echo filling; cat /dev/zero >$TMPDIR/zeros 2>/dev/null; echo full; exit 1\n"
        )
        submit(pipe, job)
        _, _, state = follow(pipe, job.job_id)
        assert state == "FAILED"
        assert pipe.ask("status", job_id=job.job_id)["artifacts_available"] is True
        assert end_of(bench, job.job_id) == ("EXECUTOR", "NO_SPACE", 40)
        assert not (bench.data / "jobs" / job.job_id / "attempt-1" / "tmp").exists()
        pipe.fetch(job.job_id)
        small = bench.script(pipe, "echo fine\n")
        submit(pipe, small)
        assert follow(pipe, small.job_id)[2] == "SUCCEEDED"


@pytest.mark.spec("4")
@pytest.mark.fault("W9")
def test_a_job_is_followed_and_cancelled_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1024) as disk, a_bench(tmp_path) as bench:
        bench.move(disk)
        with bench.pipe() as pipe:
            job = bench.script(pipe, "echo up $$; exec sleep 60\n")
            submit(pipe, job)
            cursor = tail_until(pipe, job.job_id, "up")
            log = pipe.ask("tail", job_id=job.job_id)["log_chunk"]
            ballast = fill(disk)
            assert pipe.ask("status", job_id=job.job_id)["state"] == "RUNNING"
            assert pipe.ask("cancel", job_id=job.job_id, reason="USER") == {"state": "CANCEL_REQUESTED"}
            pid = int(log.split()[1])
            until(lambda: not is_running(pid))
            assert pipe.ask("status", job_id=job.job_id)["state"] in {"RUNNING", "CANCEL_REQUESTED"}
            ballast.unlink()
            assert follow(pipe, job.job_id, cursor)[2] == "CANCELLED"
            small = bench.script(pipe, "echo fine\n")
            submit(pipe, small)
            assert follow(pipe, small.job_id)[2] == "SUCCEEDED"
