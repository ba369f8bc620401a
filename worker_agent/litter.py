"""What processes that were killed leave behind: half-written files, jobs of nobody, unused locks.

Each is removed by whoever holds the lock under which it was written, so that nothing is taken
from a process that lives. Where there is no such lock (the answers of toolchains, the facts of
sources, sets that are packed) a half-written file is one that nobody has written to for an hour.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from rch.contract.ids import is_id
from rch.files.durable import is_temp_name, remove_tree, temp_name
from rch.files.locks import FileLock
from worker_agent.leftovers import KEEP_SECONDS, YOUNG_SECONDS
from worker_agent.worker import Worker

_RECORDS = ("request.json", "attempt.json", "state.json")


def sweep_litter(worker: Worker, now: float) -> None:
    """Remove all of it. `now` is in seconds of the wall clock."""
    for part in (_sweep_leases, _sweep_unlocked, _sweep_jobs, _sweep_locks):
        with suppress(OSError, ValueError):  # one that fails keeps none of the others
            part(worker, now)


def _sweep_leases(worker: Worker, now: float) -> None:
    del now
    if any(_temps(worker.paths.leases)):
        with worker.leases.held_still():
            _remove(_temps(worker.paths.leases))


def _sweep_unlocked(worker: Worker, now: float) -> None:
    packed = _folders(worker.paths.jobs, "*/attempt-*/packed")
    for folder in (worker.probe_cache, worker.paths.sources, *packed):
        _remove(path for path in _temps(folder) if now - path.lstat().st_mtime > YOUNG_SECONDS)
    # An upload writes them a moment before its source has a name.
    _remove(path for path in worker.sources.shelf.stray() if now - path.lstat().st_mtime > YOUNG_SECONDS)


def _sweep_jobs(worker: Worker, now: float) -> None:
    for folder in _folders(worker.paths.jobs):
        if is_id(folder.name):
            with suppress(OSError, ValueError):  # a damaged record is nobody else's trouble
                _tidy_job(worker, folder, now)


def _tidy_job(worker: Worker, folder: Path, now: float) -> None:
    """Remove what an owner that is dead left in a job's folder, or all of a job that nobody wants."""
    job_id = folder.name
    unwanted = now - _touched(folder) > KEEP_SECONDS
    if not unwanted and not worker.jobs.has_litter(job_id):
        return
    lock = worker.jobs.lock(job_id)
    if not lock.try_acquire():
        return
    try:
        worker.jobs.tidy(job_id)
        used = any(use.job_id == job_id for use in worker.leases.read().uses)
        # One at its end goes when its turn comes among those at their end.
        if unwanted and not used and not worker.jobs.settle(job_id).terminal:
            if not worker.jobs.end_leftovers(job_id):
                return
            doomed = temp_name(folder)
            folder.rename(doomed)
            remove_tree(doomed)
    finally:
        lock.release()


def _touched(folder: Path) -> float:
    """When one of a job's records was last written; now-ish for a folder that is on its way."""
    newest = folder.lstat().st_mtime
    for name in _RECORDS:
        with suppress(OSError):
            newest = max(newest, (folder / name).lstat().st_mtime)
    return newest


def _sweep_locks(worker: Worker, now: float) -> None:
    """Remove lock files of jobs and runs that are gone.

    Whoever opened the file before looks again once it has the lock, and finds another in its place.
    """
    guarded: dict[str, Callable[[str], bool]] = {
        "job-": lambda name: (worker.paths.jobs / name).exists() or worker.jobs.is_cancelled(name),
        "run-": lambda name: (worker.paths.runs / name).exists(),
    }
    for path in _folders(worker.paths.locks, "*.lock"):
        is_guarded = guarded.get(path.name[:4])
        name = path.name[4:].removesuffix(".lock")
        if is_guarded is None or now - path.lstat().st_mtime <= KEEP_SECONDS or is_guarded(name):
            continue
        lock = FileLock(path, "a sweep")
        if lock.try_acquire():
            if not is_guarded(name):
                path.unlink()
            lock.release()


def _folders(parent: Path, pattern: str = "*") -> Iterator[Path]:
    return iter(sorted(parent.glob(pattern))) if parent.is_dir() else iter(())


def _temps(folder: Path) -> Iterator[Path]:
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if is_temp_name(entry.name) and not entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)


def _remove(paths: Iterator[Path]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()
