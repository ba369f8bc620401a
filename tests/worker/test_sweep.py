"""The trees of runs that are over are removed, and no others."""

from __future__ import annotations

from pathlib import Path

from rch.files.locks import FileLock
from worker_agent.sweep import start, sweep
from worker_agent.worker import Worker

OVER, LEASED, BUSY = "run-over-000001", "run-leased-0001", "run-busy-000001"


def a_worker(root: Path) -> Worker:
    worker = Worker({"RCH_WORKER_HOME": str(root / "worker"), "PATH": "/usr/bin:/bin", "HOME": str(root)})
    for run_id in (OVER, LEASED, BUSY):
        tree = worker.paths.runs / run_id / "tree"
        tree.mkdir(parents=True)
        (tree / "file").write_text("x")
    (worker.paths.runs / "not an id").mkdir()
    worker.leases.reserve(LEASED, "host-00000001", None)
    return worker


def test_a_sweep_takes_what_is_over_and_leaves_what_is_leased_or_locked(tmp_path: Path) -> None:
    worker = a_worker(tmp_path)
    held = FileLock(worker.paths.locks / f"run-{BUSY}.lock", "a job")
    assert held.try_acquire()
    assert sweep(worker) == (OVER,)
    assert sorted(each.name for each in worker.paths.runs.iterdir()) == ["not an id", BUSY, LEASED]
    held.release()
    assert sweep(worker) == (BUSY,)


def test_two_sweeps_do_not_meet(tmp_path: Path) -> None:
    worker = a_worker(tmp_path)
    other = FileLock(worker.paths.locks / "sweep.lock", "another sweep")
    assert other.try_acquire()
    assert sweep(worker) == ()
    other.release()


def test_a_sweep_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    worker = a_worker(tmp_path)
    process = start(worker)
    assert process.wait(30) == 0
    assert not (worker.paths.runs / OVER).exists()
    assert (worker.paths.runs / LEASED).exists()


def test_a_worker_that_never_ran_anything_has_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep(Worker({"RCH_WORKER_HOME": str(tmp_path / "none"), "HOME": str(tmp_path)})) == ()
