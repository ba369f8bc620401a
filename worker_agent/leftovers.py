"""What runs leave on a worker, and how much of it is kept (spec sections 5, 11).

Age and number only choose; whether a thing is in use is asked of the lock or the lease table
that its users take, which is held while it is removed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from rch.contract.ids import is_id
from rch.files.durable import is_temp_name, remove_tree, temp_name
from worker_agent.sources_parts import partials_of
from worker_agent.worker import Worker

KEEP_SOURCES = 2
KEEP_JOBS = 200
KEEP_SECONDS = 7 * 86_400.0

YOUNG_SECONDS = 3600.0
"""A job at its end stays so long however many followed it: its host may not have fetched it yet."""


def runs_that_live(worker: Worker) -> frozenset[str]:
    """The runs whose lease lives, or may be revived."""
    leases = worker.leases.read().leases
    return frozenset(one.run_id for one in leases if not worker.leases.is_over(one.lease_id))


def sweep_sources(worker: Worker, now: float) -> None:
    """Remove what uploads that were cut left, and sources that nothing uses beyond what is kept."""
    worker.sources.sweep_incoming()
    partials_of(worker).sweep(now)
    bound, total = worker.config.keep_sources_bytes, 0
    beyond = []
    for place, one in enumerate(worker.sources.stored()):
        total += one.size
        if place >= KEEP_SOURCES and bound and total > bound:
            beyond.append(one.source_sha256)
    if not beyond:
        return
    with worker.leases.held_still() as table:
        used = {use.source_sha256 for use in table.uses}
        if None in used:  # let in before uses named their source: it may be any
            return
        used.update(pin for lease in table.leases for pin in lease.pins)
        for source_sha256 in beyond:
            if source_sha256 not in used:
                worker.sources.remove(source_sha256)


def sweep_jobs(worker: Worker, now: float) -> None:
    """Remove jobs at their end that are old, or not among the newest."""
    folders = list(worker.paths.jobs.iterdir()) if worker.paths.jobs.is_dir() else []
    aged = [(now - changed, one.name) for one in folders if (changed := _changed(one)) is not None]
    for place, (age, job_id) in enumerate(sorted(aged)):
        if age > KEEP_SECONDS or (place >= KEEP_JOBS and age > YOUNG_SECONDS):
            _remove_job(worker, job_id)
    for one in folders:
        if is_temp_name(one.name):  # a removal that was cut short
            remove_tree(one)


def _changed(folder: Path) -> float | None:
    """When a job's state was last written; None for what has none."""
    if not is_id(folder.name):
        return None
    with suppress(OSError):
        return (folder / "state.json").stat().st_mtime
    return None


def _remove_job(worker: Worker, job_id: str) -> None:
    lock = worker.jobs.lock(job_id)
    if not lock.try_acquire():
        return
    try:
        standing = worker.jobs.settle(job_id)
        used = any(use.job_id == job_id for use in worker.leases.read().uses)
        if standing.state is None or not standing.terminal or used:
            return
        if standing.state.run_id in runs_that_live(worker):
            return
        # Renamed first: a job is whole or not there, also if we are cut short.
        doomed = temp_name(worker.jobs.folder(job_id))
        worker.jobs.folder(job_id).rename(doomed)
        remove_tree(doomed)
    finally:
        lock.release()


def sweep_notes(worker: Worker, now: float) -> None:
    """Remove old wishes to end jobs that are at their end, or never came."""
    folder = worker.paths.state_dir / "cancels"
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if is_id(entry.name) and now - entry.stat(follow_symlinks=False).st_mtime > KEEP_SECONDS:
            _remove_note(worker, Path(entry.path))


def _remove_note(worker: Worker, note: Path) -> None:
    lock = worker.jobs.lock(note.name)
    if not lock.try_acquire():
        return
    try:
        state = worker.jobs.settle(note.name)
        if state.state is None or state.terminal:
            note.unlink(missing_ok=True)
    finally:
        lock.release()
