"""What is to be removed, as a list (spec section 11): a sweep carries it out, the operation `gc` shows it.

A planner only looks; age, number and size choose. Whether a thing is in use is asked once more of
the lock or the table that its users take, which is held while `remove` removes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker_agent.worker import Worker


@dataclass(frozen=True, slots=True)
class Doomed:
    """One thing that may go. `age_seconds`: since it was last used, by the wall clock.

    `size` counts its bytes, which may take a while; `remove` is False for what came into use meanwhile.
    """

    kind: str
    name: str
    age_seconds: float
    reason: str
    size: Callable[[], int]
    remove: Callable[[], bool]


Planner = Callable[[Worker, float], Iterable[Doomed]]
"""Gives what is to go, in the order in which it may, at a time of the wall clock."""


def carry_out(planner: Planner, worker: Worker, now: float) -> tuple[Doomed, ...]:
    """Remove what a planner names; what went."""
    return tuple(doomed for doomed in planner(worker, now) if removed(doomed))


def removed(doomed: Doomed) -> bool:
    """Remove one thing; False where it stays. One that stays keeps none of the others."""
    with suppress(OSError):
        return doomed.remove()
    return False


def size_of(path: Path) -> int:
    """The bytes of the files at or below `path`, links not followed; what vanishes meanwhile is nothing."""
    total, folders = 0, [os.fspath(path)]
    with suppress(OSError):
        if not path.is_dir():
            return path.lstat().st_size
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
