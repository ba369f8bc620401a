"""Removes what is over, off every hot path: trees, sources, jobs, notes (spec sections 5, 11).

A run's tree may go whenever its lock is free and no lease of the run can live on: whoever comes
back for it unpacks the source again. The rest is in `leftovers`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

from rch.contract.ids import is_id
from rch.files.durable import remove_tree
from rch.files.locks import FileLock
from worker_agent import leftovers
from worker_agent.litter import sweep_litter
from worker_agent.sweep_kept import sweep_kept
from worker_agent.worker import Worker
from worker_agent.workspaces import RunRoom

NICENESS = 10


def sweep(worker: Worker) -> tuple[str, ...]:
    """Remove what is over; the run ids whose trees are gone. One sweep runs at a time."""
    paths, lock = worker.paths, FileLock(worker.paths.locks / "sweep.lock", "sweep")
    if not any(folder.is_dir() for folder in (paths.runs, paths.jobs, paths.sources)):
        return ()
    if not lock.try_acquire():
        return ()
    try:
        gone = _sweep_trees(worker)
        rest = (
            leftovers.sweep_sources,
            leftovers.sweep_jobs,
            leftovers.sweep_notes,
            sweep_kept,
            sweep_litter,
        )
        for sweep_some in rest:
            with suppress(OSError):  # one that fails keeps none of the others
                sweep_some(worker, time.time())
        return gone
    finally:
        lock.release()


def _sweep_trees(worker: Worker) -> tuple[str, ...]:
    runs = worker.paths.runs
    kept = leftovers.runs_that_live(worker)
    found = [each.name for each in runs.iterdir() if is_id(each.name)] if runs.is_dir() else []
    return tuple(name for name in sorted(found) if name not in kept and _removed(worker, name))


def _removed(worker: Worker, run_id: str) -> bool:
    room = RunRoom(worker.paths, run_id)
    if not room.lock.try_acquire():
        return False
    try:
        remove_tree(room.folder)
    finally:
        room.lock.release()
    return True


def start(worker: Worker) -> subprocess.Popen[bytes]:
    """A sweep in a process of its own, so that whoever gives a lease back need not wait."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "worker_agent", "xcode", "sweep"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=dict(worker.env),
        start_new_session=True,
    )


def main() -> int:
    """Internal: sweep once."""
    os.nice(NICENESS)
    sweep(Worker(os.environ))
    return 0
