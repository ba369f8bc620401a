"""What a sweep keeps and removes of sources, jobs and notes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.worker_pipe import (
    MANIFEST,
    Bench,
    Refused,
    a_bench,
    follow,
    submit,
    submit_and_end,
    tail_until,
    tar,
    until,
)

from rch.contract.records import Job
from rch.files.locks import FileLock
from worker_agent import leftovers
from worker_agent.sources import Sources
from worker_agent.sweep import sweep
from worker_agent.worker import Worker

DAY = 86_400.0
RUN = "run-0000000001"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path, "keep_sources_bytes = 1\n") as bench:
        yield bench


def a_source(number: int, script: str = "") -> bytes:
    return tar({"Package.swift": MANIFEST, "build.sh": script, "number": str(number)})


def aged(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at), follow_symlinks=False)


def store(bench: Bench, *sources: bytes) -> list[str]:
    """Upload them, each as if a day after the one before; their digests."""
    with bench.pipe() as pipe:
        digests = [bench.upload(pipe, one) for one in sources]
    for place, digest in enumerate(reversed(digests)):
        aged(bench.data / "sources" / f"{digest}.seen", (place + 1) * DAY)
    return digests


def stored(bench: Bench) -> set[str]:
    return {path.stem for path in (bench.data / "sources").glob("*.*")}


def swept(bench: Bench) -> Worker:
    worker = Worker(bench.env)
    sweep(worker)
    return worker


# --- sources --------------------------------------------------------------------------


def test_of_sources_that_nothing_uses_the_newest_are_kept(bench: Bench) -> None:
    first, second, third, fourth = store(bench, *map(a_source, range(4)))
    swept(bench)
    assert stored(bench) == {third, fourth}
    bench.configure("")  # the default has room for all of them
    store(bench, a_source(0), a_source(1))
    swept(bench)
    assert stored(bench) == {first, second, third, fourth}
    size = (bench.data / "sources" / f"{first}.tar").stat().st_size
    bench.configure(f"keep_sources_bytes = {3 * size}\n")
    swept(bench)
    assert len(stored(bench)) == 3


@pytest.mark.spec("5")
@pytest.mark.fault("W8")
def test_a_source_that_a_lease_pins_stays_and_one_that_goes_is_uploaded_again(bench: Bench) -> None:
    source = a_source(0)
    digest, *_ = store(bench, source, *map(a_source, range(1, 4)))
    with bench.pipe() as pipe:
        lease = pipe.ask("reserve", run_id=RUN, host_id="host-1")
        held = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
        assert pipe.ask("has_source", source_sha256=digest, lease_id=held["lease_id"]) == {"exists": True}
        aged(bench.data / "sources" / f"{digest}.seen", 9 * DAY)
        swept(bench)
        assert digest in stored(bench)
        job = bench.job(pipe, digest, run_id=RUN)
        pipe.ask("release", **held)
        swept(bench)
        until(lambda: digest not in stored(bench))  # also where the release's own sweep was at it
        # The same run comes back: the worker says what it lacks, and is given it.
        lease = pipe.ask("reserve", run_id=RUN, host_id="host-1")
        held = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
        with pytest.raises(Refused, match="SOURCE_MISSING"):
            submit(pipe, job, **held)
        assert pipe.ask("has_source", source_sha256=digest, lease_id=held["lease_id"]) == {"exists": False}
    with bench.pipe() as pipe:
        assert bench.upload(pipe, source, **held) == digest
        aged(bench.data / "sources" / f"{digest}.seen", 9 * DAY)
        swept(bench)
        assert digest in stored(bench)
        submit(pipe, job, **held)
        assert follow(pipe, job.job_id)[2] == "SUCCEEDED"


@pytest.mark.spec("5")
def test_a_source_that_is_pinned_between_the_look_and_the_removal_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, *_ = store(bench, *map(a_source, range(3)))
    worker = Worker(bench.env)
    lease = worker.leases.reserve(RUN, "host-1", None).lease
    look = Sources.stored

    def look_and_pin(sources: Sources) -> object:
        found = look(sources)
        worker.leases.pin(lease.lease_id, digest)
        return found

    monkeypatch.setattr(Sources, "stored", look_and_pin)
    leftovers.sweep_sources(Worker(bench.env), time.time())
    assert digest in stored(bench)


@pytest.mark.spec("5")
def test_a_source_that_a_job_in_progress_uses_stays_also_without_a_lease(bench: Bench) -> None:
    digest, *_ = store(bench, a_source(0, "echo up; exec sleep 60\n"), *map(a_source, range(1, 4)))
    with bench.pipe() as pipe:
        job = bench.job(pipe, digest)
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        swept(bench)
        assert digest in stored(bench)
        pipe.ask("cancel", job_id=job.job_id, reason="USER")
        assert follow(pipe, job.job_id)[2] == "CANCELLED"
    swept(bench)
    assert digest not in stored(bench)


@pytest.mark.spec("5")
def test_a_source_that_goes_just_before_its_job_is_let_in_is_missed_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (digest,) = store(bench, a_source(0))
    from worker_agent.leases import Leases

    take = Leases.take

    def take_late(leases: Leases, *given: str | int | None) -> None:
        Worker(bench.env).sources.remove(digest)
        take(leases, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Leases, "take", take_late)
    with bench.pipe() as pipe:
        job = bench.job(pipe, digest)
        with pytest.raises(Refused, match="SOURCE_MISSING"):
            submit(pipe, job)
        assert Worker(bench.env).leases.slots_free() == 1


def test_what_a_cut_upload_left_goes_and_one_on_its_way_stays(bench: Bench) -> None:
    store(bench, a_source(0))
    incoming = bench.data / "sources" / "incoming"
    left, coming = incoming / ".rch-0123456789abcdef.tmp", incoming / ".rch-fedcba9876543210.tmp"
    left.touch()
    held = FileLock(coming, "an upload")
    assert held.try_acquire()
    swept(bench)
    assert (left.exists(), coming.exists()) == (False, True)
    held.release()


# --- jobs and notes -------------------------------------------------------------------


def ended(bench: Bench, number: int, **more: str) -> Job:
    with bench.pipe() as pipe:
        job = bench.job(pipe, bench.upload(pipe, a_source(number)), **more)
        assert submit_and_end(pipe, job) == "SUCCEEDED"
    until(lambda: not Worker(bench.env).jobs.alive(job.job_id))
    return job


def ages(bench: Bench, job: Job, seconds: float) -> Path:
    folder = bench.data / "jobs" / job.job_id
    aged(folder / "state.json", seconds)
    return folder


def test_a_job_goes_a_week_after_its_end(bench: Bench) -> None:
    old, young = ended(bench, 0), ended(bench, 1)
    gone, stays = ages(bench, old, 7 * DAY + 60), ages(bench, young, 7 * DAY - 60)
    swept(bench)
    assert (gone.exists(), stays.exists()) == (False, True)
    with bench.pipe() as pipe, pytest.raises(Refused, match="JOB_NOT_FOUND"):
        pipe.ask("status", job_id=old.job_id)


def test_an_old_job_stays_that_is_owned_or_of_a_living_run_or_not_at_its_end(bench: Bench) -> None:
    job = ended(bench, 0, run_id=RUN)
    folder = ages(bench, job, 8 * DAY)
    worker = Worker(bench.env)
    owned = worker.jobs.lock(job.job_id)
    assert owned.try_acquire()
    swept(bench)
    assert folder.exists()
    owned.release()
    lease = worker.leases.reserve(RUN, "host-1", None).lease
    swept(bench)
    assert folder.exists()
    worker.leases.release(lease.lease_id, lease.fence)
    whole = (folder / "state.json").read_bytes()
    (folder / "state.json").write_bytes(whole.replace(b"SUCCEEDED", b"RUNNING"))
    index = next(folder.glob("attempt-*/artifacts/job_index.json"))
    index.rename(index.with_suffix(".aside"))
    ages(bench, job, 8 * DAY)
    swept(bench)
    assert folder.exists()
    (folder / "state.json").write_bytes(whole)
    ages(bench, job, 8 * DAY)
    swept(bench)
    assert not folder.exists()


def test_beyond_the_newest_a_job_goes_once_its_host_had_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "KEEP_JOBS", 1)
    jobs = [ended(bench, number) for number in range(3)]
    folders = [ages(bench, job, age) for job, age in zip(jobs, (60, 1800, 7200), strict=True)]
    swept(bench)
    assert [folder.exists() for folder in folders] == [True, True, False]


def test_a_removal_that_was_cut_short_is_ended_by_the_next_sweep(bench: Bench) -> None:
    left = bench.data / "jobs" / ".rch-0123456789abcdef.tmp"
    left.mkdir(parents=True)
    (left / "state.json").touch()
    swept(bench)
    assert not left.exists()


@pytest.mark.spec("3.3")
def test_a_wish_to_end_a_job_that_never_came_is_kept_for_a_week(bench: Bench) -> None:
    worker = Worker(bench.env)
    for job_id, age in (("job-old-00000001", 8 * DAY), ("job-new-00000001", 6 * DAY)):
        worker.jobs.request_cancel(job_id, "USER", "2026-01-02T03:04:05.678Z")
        aged(worker.paths.state_dir / "cancels" / job_id, age)
    (bench.data / "jobs").mkdir(parents=True)
    swept(bench)
    assert not worker.jobs.is_cancelled("job-old-00000001")
    assert worker.jobs.is_cancelled("job-new-00000001")
