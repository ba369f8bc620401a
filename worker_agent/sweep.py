"""Removes the working trees of runs that are over, off every hot path (spec section 11).

A run's tree may go whenever its lock is free and no lease of the run can live on: whoever comes
back for it unpacks the source again.
"""

from __future__ import annotations

import os
import subprocess
import sys

from rch.contract.ids import is_id
from rch.files.durable import remove_tree
from rch.files.locks import FileLock
from worker_agent.worker import Worker
from worker_agent.workspaces import RunRoom

NICENESS = 10


def sweep(worker: Worker) -> tuple[str, ...]:
    """Remove what is over; the run ids whose trees are gone. One sweep runs at a time."""
    lock = FileLock(worker.paths.locks / "sweep.lock", "sweep")
    if not worker.paths.runs.is_dir() or not lock.try_acquire():
        return ()
    try:
        leases = worker.leases.read().leases
        kept = {lease.run_id for lease in leases if not worker.leases.is_over(lease.lease_id)}
        found = [each.name for each in worker.paths.runs.iterdir() if is_id(each.name)]
        return tuple(name for name in sorted(found) if name not in kept and _removed(worker, name))
    finally:
        lock.release()


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
