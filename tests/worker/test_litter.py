"""What killed processes leave on a worker is removed, and nothing of those that live."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.worker_pipe import (
    MANIFEST,
    Bench,
    ProcessPipe,
    a_bench,
    follow,
    is_running,
    submit,
    submit_and_end,
    supervisor_of,
    tail_until,
    tar,
    until,
)

from rch.contract.records import Job
from rch.files.durable import is_temp_name, temp_name
from rch.files.locks import FileLock
from worker_agent.leftovers import KEEP_SECONDS, YOUNG_SECONDS
from worker_agent.litter import sweep_litter
from worker_agent.sweep import sweep
from worker_agent.worker import Worker

# The process of a channel dies before its n-th rename.
_DYING = """
import os, signal, sys
if getattr(sys, "orig_argv", ())[-2:] == ["xcode", "rpc"]:
    import rch.files.durable as durable
    left = int(os.environ["RCH_TEST_DIE_AT"])
    class Dying(durable.System):
        def rename(self, src, dst):
            global left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            super().rename(src, dst)
    whole, durable._sys = durable._sys, Dying()
    # The supervisor that it forks is not meant.
    os.register_at_fork(after_in_child=lambda: setattr(durable, "_sys", whole))
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


def temps_of(bench: Bench) -> list[Path]:
    return [path for path in bench.home.rglob("*") if is_temp_name(path.name)]


def later(seconds: float) -> float:
    return time.time() + seconds


def converse(bench: Bench, job: Job, source: bytes) -> bool:
    """All that a host asks of one run; False if the worker's process dies on the way."""
    pipe = ProcessPipe(bench.env)
    try:
        pipe.ask("probe")
        lease = pipe.ask("reserve", run_id=job.run_id, host_id="host")
        under = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
        bench.upload(pipe, source, **under)
        submit(pipe, job, **under)
        follow(pipe, job.job_id)
        pipe.fetch(job.job_id)
        pipe.ask("release", **under)
    except (AssertionError, BrokenPipeError):
        return False
    finally:
        pipe.close()
    return True


@pytest.mark.faults_long
@pytest.mark.spec("11")
@pytest.mark.fault("W1")
def test_a_channel_may_die_before_any_rename_and_leaves_no_file_for_long(bench: Bench) -> None:
    site = bench.root / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_DYING)
    worker = Worker(bench.env)
    deaths = left = 0
    with bench.pipe() as pipe:
        source = tar({"Package.swift": MANIFEST, "build.sh": "exit 0\n"})
        bench.capabilities(pipe)
        while True:
            for path in bench.home.glob("state/probe/*"):
                path.unlink()
            for path in bench.data.glob("sources/*.*"):
                path.unlink()
            job = bench.job(pipe, bench.upload(pipe, source))
            for path in bench.data.glob("sources/*.*"):
                path.unlink()
            bench.env |= {"PYTHONPATH": str(site), "RCH_TEST_DIE_AT": str(deaths + 1)}
            through = converse(bench, job, source)
            until(lambda job=job: not worker.jobs.alive(job.job_id))  # type: ignore[misc]
            left += len(temps_of(bench))
            worker.leases.reserve(job.run_id, "host", None)
            granted = worker.leases.reserve(job.run_id, "host", None).lease
            worker.leases.release(granted.lease_id, granted.fence)
            sweep(worker)
            sweep_litter(worker, later(YOUNG_SECONDS + 60))
            assert temps_of(bench) == []
            if through:
                break
            deaths += 1
    assert deaths >= 4  # a version, a lease, a source's facts, a request, at the least
    assert left >= deaths - 1


@pytest.mark.spec("11")
def test_a_half_written_file_that_may_be_somebodys_stays(bench: Bench) -> None:
    worker = Worker(bench.env)
    with bench.pipe() as pipe:
        job = bench.script(pipe, "echo up; exec sleep 60\n")
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        mine = temp_name(worker.jobs.folder(job.job_id) / "state.json")
        facts = temp_name(worker.paths.sources / "facts")
        for path in (mine, facts):
            path.write_bytes(b"half")
        sweep_litter(worker, later(0))
        assert mine.exists()
        assert facts.exists()
        pipe.ask("cancel", job_id=job.job_id, reason="USER")
        follow(pipe, job.job_id)
        until(lambda: not worker.jobs.alive(job.job_id))
        sweep_litter(worker, later(0))
        assert not mine.exists()
        assert facts.exists()


def test_what_stands_beside_a_source_that_is_not_there_goes_in_its_time(bench: Bench) -> None:
    worker = Worker(bench.env)
    with bench.pipe() as pipe:
        digest = bench.upload(pipe, tar({"Package.swift": MANIFEST}))
    kept = sorted(path.name for path in worker.paths.sources.glob(f"{digest}.*"))
    other = "0" * 64
    for suffix in ("json", "index", "seen"):
        (worker.paths.sources / f"{other}.{suffix}").touch()
    sweep_litter(worker, time.time())
    assert len(list(worker.paths.sources.glob(f"{other}.*"))) == 3
    sweep_litter(worker, later(YOUNG_SECONDS + 60))
    assert list(worker.paths.sources.glob(f"{other}.*")) == []
    assert sorted(path.name for path in worker.paths.sources.glob(f"{digest}.*")) == kept


@pytest.mark.spec("11")
@pytest.mark.fault("W1")
def test_a_lost_job_that_no_host_comes_back_for_goes_with_its_processes(bench: Bench) -> None:
    worker = Worker(bench.env)
    with bench.pipe() as pipe:
        job = bench.script(pipe, f"echo $$ >{bench.root}/pid; echo up; exec sleep 60\n")
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        sweep_litter(worker, later(KEEP_SECONDS + 60))
        assert worker.jobs.folder(job.job_id).exists()  # it lives, however old
        os.kill(supervisor_of(bench, job.job_id), signal.SIGKILL)
        until(lambda: not worker.jobs.alive(job.job_id))
        sweep_litter(worker, later(60))
        assert worker.jobs.folder(job.job_id).exists()  # its host may come back
        worker.leases.drop(job.job_id)
        sweep_litter(worker, later(KEEP_SECONDS + 60))
        assert not worker.jobs.folder(job.job_id).exists()
        assert not is_running(int((bench.root / "pid").read_text()))
        assert pipe.ask("probe")["capabilities"]["capacity"]["slots_free"] == 1


@pytest.mark.spec("11")
def test_a_job_that_never_began_goes_in_its_time(bench: Bench) -> None:
    worker = Worker(bench.env)
    folder = worker.jobs.folder("job-0000000009")
    folder.mkdir(parents=True)
    (folder / "request.json").write_text("{}")
    sweep_litter(worker, later(60))
    assert folder.exists()
    sweep_litter(worker, later(KEEP_SECONDS + 60))
    assert not folder.exists()


@pytest.mark.spec("11")
def test_what_the_tools_needed_goes_with_the_end_of_a_job_and_its_set_stays(bench: Bench) -> None:
    worker = Worker(bench.env)
    with bench.pipe() as pipe:
        job = bench.script(pipe, "echo done\n")
        assert submit_and_end(pipe, job) == "SUCCEEDED"
        until(lambda: not worker.jobs.alive(job.job_id))
        attempt = worker.jobs.attempt_folder(job.job_id, 1)
        (attempt / "tmp").mkdir()
        (attempt / "scratch").mkdir()
        (attempt / "tmp" / "big").write_bytes(b"x")
        before = pipe.fetch(job.job_id)[1]
        sweep_litter(worker, later(0))
        assert {path.name for path in attempt.iterdir()} == {"artifacts", "packed"}
        assert pipe.fetch(job.job_id)[1] == before


@pytest.mark.spec("11")
def test_lock_files_go_with_what_they_guard_unless_they_are_held(bench: Bench) -> None:
    worker = Worker(bench.env)
    names = ("job-gone-000001", "job-held-000001", "job-here-000001", "run-gone-000001", "run-here-000001")
    locks = {name: FileLock(worker.paths.locks / f"{name}.lock") for name in names}
    for lock in locks.values():
        assert lock.try_acquire()
        lock.release()
    (worker.paths.locks / "leases.lock").touch()
    worker.jobs.request_cancel("here-000001", "USER", "now")  # a tombstone
    (worker.paths.runs / "here-000001").mkdir(parents=True)
    assert locks["job-held-000001"].try_acquire()
    sweep_litter(worker, later(60))
    assert {path.name for path in worker.paths.locks.iterdir()} >= {f"{name}.lock" for name in names}
    sweep_litter(worker, later(KEEP_SECONDS + 60))
    left = {path.name for path in worker.paths.locks.iterdir()}
    assert left == {"job-held-000001.lock", "job-here-000001.lock", "run-here-000001.lock", "leases.lock"}
    locks["job-held-000001"].release()


@pytest.mark.spec("3.3")
def test_a_lock_whose_file_is_swept_away_is_still_one_lock(bench: Bench) -> None:
    """Whoever takes it meanwhile has the file that stands there, and nobody else has it, too."""
    worker = Worker(bench.env)
    worker.paths.locks.mkdir(parents=True)
    taker = (
        "import sys, time; from pathlib import Path; from rch.files.locks import FileLock\n"
        "path = Path(sys.argv[1])\n"
        "for _ in range(300):\n"
        "    lock = FileLock(path)\n"
        "    if lock.try_acquire():\n"
        "        mark = path.with_suffix('.mark'); mark.touch(exist_ok=False); mark.unlink()\n"
        "        lock.release()\n"
    )
    path = worker.paths.locks / "run-gone-000002.lock"
    takers = [subprocess.Popen([sys.executable, "-c", taker, str(path)]) for _ in range(2)]
    while any(each.poll() is None for each in takers):
        sweep_litter(worker, later(KEEP_SECONDS + 60))
    assert [each.returncode for each in takers] == [0, 0]
