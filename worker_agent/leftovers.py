"""What runs leave on a worker, and how much of it is kept (spec sections 5, 11).

Age and number only choose; whether a thing is in use is asked of the lock or the lease table
that its users take, which is held while it is removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from rch.contract.ids import is_id
from rch.files.durable import is_temp_name, remove_tree, temp_name
from worker_agent.leases import Table
from worker_agent.source_words import Stored
from worker_agent.sources_parts import partials_of, remove
from worker_agent.upkeep import Doomed, carry_out, size_of
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


def plan_uploads(worker: Worker, now: float) -> Iterator[Doomed]:
    """What uploads left that were cut, and parts that nobody went on with."""
    for path in worker.sources.shelf.abandoned():
        yield _upload(path, now, "its process is gone", partial(worker.sources.shelf.drop, path))
    for path, reason in partials_of(worker).over(now):
        yield _upload(path, now, reason, partial(remove, path, unless_used=True))


def _upload(path: Path, now: float, reason: str, remove_it: Callable[[], bool]) -> Doomed:
    age = 0.0
    with suppress(OSError):
        age = now - path.lstat().st_mtime
    return Doomed("upload", path.name, age, reason, partial(size_of, path), remove_it)


def plan_sources(worker: Worker, now: float) -> Iterator[Doomed]:
    """Sources that nothing uses beyond what is kept, and those whose base is gone."""
    stored = worker.sources.stored()
    over = beyond(stored, bound=worker.config.keep_sources_bytes, keep=KEEP_SOURCES)
    if not over:
        return
    with worker.leases.held_still() as table:  # so that it is rid of what is over
        used = _used(table)
    for one in spared(over, stored, used):
        yield Doomed(
            kind="source",
            name=one.source_sha256,
            age_seconds=now - one.used,
            reason="over keep_sources_bytes" if one.whole else "its base is gone",
            size=partial(int, one.size),
            remove=partial(_remove_source, worker, one.source_sha256),
        )


def beyond(stored: Sequence[Stored], *, bound: int, keep: int) -> tuple[Stored, ...]:
    """Those that are too many, of sources in the order in which they were last asked for."""
    total, over = 0, []
    for place, one in enumerate(stored):
        total += one.size
        if not one.whole or (place >= keep and bound and total > bound):
            over.append(one)
    return tuple(over)


def spared(
    over: Sequence[Stored], stored: Sequence[Stored], used: frozenset[str] | None
) -> tuple[Stored, ...]:
    """Of those, the ones that nothing uses, by itself or by what is built on it; the built ones first.

    `used` None: it may be any.
    """
    if used is None:
        return ()
    going = {one.source_sha256 for one in over} - used
    needed = {one.base for one in stored if one.whole and one.source_sha256 not in going}
    gone = [one for one in over if one.source_sha256 in going - needed]
    return tuple(sorted(gone, key=lambda one: one.base is None))


def _used(table: Table) -> frozenset[str] | None:
    """The sources that a job or a lease names; None where a use does not tell its own."""
    named = [use.source_sha256 for use in table.uses]
    found = {each for each in named if each is not None}
    if len(found) < len(set(named)):  # let in before uses named their source
        return None
    return frozenset(found.union(*(lease.pins for lease in table.leases)))


def _remove_source(worker: Worker, source_sha256: str) -> bool:
    with worker.leases.held_still() as table:
        used = _used(table)
        return used is not None and source_sha256 not in used and worker.sources.remove(source_sha256)


def sweep_sources(worker: Worker, now: float) -> None:
    """Remove what uploads that were cut left, and sources that nothing uses beyond what is kept."""
    carry_out(plan_uploads, worker, now)
    carry_out(plan_sources, worker, now)


def plan_jobs(worker: Worker, now: float) -> Iterator[Doomed]:
    """Jobs at their end that are old, or not among the newest."""
    folders = list(worker.paths.jobs.iterdir()) if worker.paths.jobs.is_dir() else []
    aged = [(now - changed, one) for one in folders if (changed := _changed(one)) is not None]
    for place, (age, folder) in enumerate(sorted(aged)):
        if age > KEEP_SECONDS or (place >= KEEP_JOBS and age > YOUNG_SECONDS):
            reason = "at its end for long" if age > KEEP_SECONDS else f"not among the {KEEP_JOBS} newest"
            if _is_over(worker, folder.name):
                yield Doomed(
                    kind="job",
                    name=folder.name,
                    age_seconds=age,
                    reason=reason,
                    size=partial(size_of, folder),
                    remove=partial(_remove_job, worker, folder.name),
                )


def sweep_removals(worker: Worker, now: float) -> None:
    """End the removals of jobs that were cut short."""
    del now
    for one in list(worker.paths.jobs.iterdir()) if worker.paths.jobs.is_dir() else ():
        if is_temp_name(one.name):
            remove_tree(one)


def _is_over(worker: Worker, job_id: str) -> bool:
    """Whether a job seems to be at its end, and no run that lives has it: whoever removes it asks again."""
    with suppress(OSError, ValueError):  # a damaged record is for a closer look
        standing = worker.jobs.standing(job_id)
        used = any(use.job_id == job_id for use in worker.leases.read().uses)
        return (
            standing.state is not None
            and standing.terminal
            and not used
            and not worker.jobs.alive(job_id)
            and standing.state.run_id not in runs_that_live(worker)
        )
    return False


def _changed(folder: Path) -> float | None:
    """When a job's state was last written; None for what has none."""
    if not is_id(folder.name):
        return None
    with suppress(OSError):
        return (folder / "state.json").stat().st_mtime
    return None


def _remove_job(worker: Worker, job_id: str) -> bool:
    lock = worker.jobs.lock(job_id)
    if not lock.try_acquire():
        return False
    try:
        standing = worker.jobs.settle(job_id)
        used = any(use.job_id == job_id for use in worker.leases.read().uses)
        if standing.state is None or not standing.terminal or used:
            return False
        if standing.state.run_id in runs_that_live(worker):
            return False
        # Renamed first: a job is whole or not there, also if we are cut short.
        doomed = temp_name(worker.jobs.folder(job_id))
        worker.jobs.folder(job_id).rename(doomed)
        remove_tree(doomed)
    finally:
        lock.release()
    return True


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
