"""Which runs that are over need not be kept on this machine any more (spec section 11)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rch.config.daemon_config import Gc

DAY = 86_400.0
REJECTED_DAYS = 7
"""How long a set without standing is kept as evidence."""


class Kept(NamedTuple):
    """A run that is over, as it lies on the disk.

    `ended` is in seconds since the epoch, as the run's row has it: no file's time has a say. `rejected`
    are the bytes of sets without standing in it, `used` whether somebody holds its lock.
    """

    run_id: str
    root: str
    ended: float
    bytes: int
    rejected: int = 0
    pinned: bool = False
    used: bool = False


class Choice(NamedTuple):
    """What is to go: whole runs with their reasons, oldest first, and the rejected sets of others.

    `held` counts what a bound would have let go, by what holds it.
    """

    runs: list[tuple[Kept, str]]
    rejected: list[tuple[Kept, str]]
    held: dict[str, int]


def choose(runs: Iterable[Kept], settings: Gc, now: float) -> Choice:
    """`runs` come newest first, in the order of their acceptance; `now` is in seconds since the epoch.

    A clock that was set back makes runs young, not old; one that ran ahead is held by `keep_runs`.
    """
    ordered = list(runs)
    holds = _holds(ordered, settings.keep_runs)
    going: dict[str, str] = {}
    held: dict[str, int] = {}

    def let_go(run: Kept, reason: str) -> bool:
        if (hold := holds.get(run.run_id)) is None:
            going.setdefault(run.run_id, reason)
            return True
        held[hold] = held.get(hold, 0) + 1
        return False

    oldest_first = ordered[::-1]
    over_age = {
        run.run_id
        for run in oldest_first
        if settings.keep_days and now - run.ended > settings.keep_days * DAY
    }
    count, size = len(ordered), sum(run.bytes for run in ordered)
    for run in oldest_first:
        if run.run_id in over_age:
            gone = let_go(run, f"ended over {settings.keep_days} days ago")
        elif settings.max_runs and count > settings.max_runs:
            gone = let_go(run, f"over {settings.max_runs} runs are kept")
        elif settings.keep_bytes and size > settings.keep_bytes:
            gone = let_go(run, f"over {settings.keep_bytes} bytes are kept")
        else:
            continue
        if gone:
            count, size = count - 1, size - run.bytes
    rejected = [
        (run, f"failed its checks over {REJECTED_DAYS} days ago")
        for run in oldest_first
        if run.rejected
        and run.run_id not in going
        and not (run.pinned or run.used)
        and now - run.ended > REJECTED_DAYS * DAY
    ]
    return Choice([(run, going[run.run_id]) for run in oldest_first if run.run_id in going], rejected, held)


def _holds(ordered: list[Kept], newest: int) -> dict[str, str]:
    """What keeps each run that may not go."""
    holds: dict[str, str] = {}
    seen: dict[str, int] = {}
    for run in ordered:
        seen[run.root] = seen.get(run.root, 0) + 1
        if run.used:
            holds[run.run_id] = "used"
        elif run.pinned:
            holds[run.run_id] = "pinned"
        elif seen[run.root] <= newest:
            holds[run.run_id] = "newest"
    return holds
