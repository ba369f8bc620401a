"""Removes what is over, off every hot path: trees, sources, jobs, notes (spec sections 5, 11).

A run's tree may go whenever its lock is free and no lease of the run can live on: whoever comes
back for it unpacks the source again. The rest is in `leftovers`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeVar

from rch.contract.ids import is_id
from rch.files.durable import remove_tree
from rch.files.locks import FileLock, is_free
from worker_agent import leftovers
from worker_agent.kept_trees import KeptTrees
from worker_agent.litter import sweep_litter
from worker_agent.nursery import take_a_name
from worker_agent.results.cache import sweep_results
from worker_agent.simulators import sweep_simulators
from worker_agent.sweep_kept import plan_kept, sweep_uses
from worker_agent.sweep_trees import plan_trees
from worker_agent.upkeep import Doomed, Planner, removed, size_of
from worker_agent.worker import Worker
from worker_agent.workspaces import RunRoom

NICENESS = 10
NAME = "rch-sweep"
"""What a sweep is called in lists of processes."""

T = TypeVar("T")


def sweep(worker: Worker) -> tuple[str, ...]:
    """Remove what is over; the run ids whose trees are gone. One sweep runs at a time."""
    lock = FileLock(worker.paths.locks / "sweep.lock", "sweep")
    if not has_anything(worker) or not lock.try_acquire():
        return ()
    try:
        gone = remove_each(worker, lambda doomed: doomed.name)
        if worker.paths.trees.is_dir():
            KeptTrees(worker.paths.trees).make_wanted(worker.sources)
        return tuple(name for doomed, name in gone if doomed.kind == "run")
    finally:
        lock.release()


def has_anything(worker: Worker) -> bool:
    """Whether the worker ever kept something."""
    paths = worker.paths
    kept = (paths.runs, paths.jobs, paths.sources, paths.trees, paths.workspaces, paths.caches)
    return any(folder.is_dir() for folder in kept)


def remove_each(worker: Worker, note: Callable[[Doomed], T]) -> list[tuple[Doomed, T]]:
    """Remove what is over, under the sweep's lock; what went, with what `note` made of it before."""
    gone: list[tuple[Doomed, T]] = []
    for planner in PLANNERS:
        with suppress(OSError):  # one that fails keeps none of the others
            for doomed in planner(worker, time.time()):
                noted = note(doomed)
                if removed(doomed):
                    gone.append((doomed, noted))
    for sweep_some in _BESIDES:
        with suppress(OSError):
            sweep_some(worker, time.time())
    return gone


def plan_all(worker: Worker) -> tuple[Doomed, ...]:
    """What would go now."""
    now = time.time()
    return tuple(doomed for planner in PLANNERS for doomed in planner(worker, now))


def plan_runs(worker: Worker, now: float) -> Iterator[Doomed]:
    """Trees of runs whose lease is over and that no job uses."""
    runs = worker.paths.runs
    kept = leftovers.runs_that_live(worker)
    for name in sorted(each.name for each in runs.iterdir()) if runs.is_dir() else ():
        room = RunRoom(worker.paths, name)
        if is_id(name) and name not in kept and is_free(room.lock.path):
            yield Doomed(
                kind="run",
                name=name,
                age_seconds=now - room.folder.lstat().st_mtime,
                reason="its run has no lease",
                size=partial(size_of, room.folder),
                remove=partial(_removed, room),
            )


def _removed(room: RunRoom) -> bool:
    if not room.lock.try_acquire():
        return False
    try:
        remove_tree(room.folder)
    finally:
        room.lock.release()
    return True


PLANNERS: tuple[Planner, ...] = (
    plan_runs,
    leftovers.plan_uploads,
    leftovers.plan_sources,
    plan_trees,
    leftovers.plan_jobs,
    plan_kept,
)
"""All that is removed by plan, in this order: who keeps more on a worker adds a planner of it."""

_BESIDES = (
    leftovers.sweep_removals,
    leftovers.sweep_notes,
    sweep_uses,
    sweep_litter,
    sweep_results,
    sweep_simulators,
)
"""Small things that processes leave which were killed: nobody need see them before."""


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
    take_a_name(NAME)
    return alone(os.environ)


def alone(env: Mapping[str, str]) -> int:
    """Sweep once in a process that does nothing else, a program or a fork."""
    os.nice(NICENESS)
    sweep(Worker(env))
    return 0
