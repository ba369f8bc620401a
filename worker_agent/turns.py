"""Whose turn a free slot is: the refused are served in the order in which they asked (section 3.4).

A host that has just given a slot back is the first to ask again, within milliseconds, while
others ask now and then. So whoever is refused is noted, and a free slot is kept from a
newcomer while a run of another host waits that asked before. One that does not ask again is
forgotten after `PATIENCE_SECONDS`: a slot stands idle for no longer than that.
"""

from __future__ import annotations

import msgspec

PATIENCE_SECONDS = 45.0
"""Longer than a host's longest pause between two questions: 30 s, and 0.3 of it at random."""

MOST_WAITING = 256


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was refused. `since` and `asked`: its first and last question, in boot seconds."""

    run_id: str
    host_id: str
    since: float
    asked: float
    boot: str


Waiting = tuple[Asker, ...]


def alive(waiting: Waiting, now: float, boot: str) -> Waiting:
    """Those who may still come back, the longest waiting first."""
    return tuple(one for one in waiting if one.boot == boot and now - one.asked < PATIENCE_SECONDS)


def before(waiting: Waiting, run_id: str, host_id: str) -> int:
    """How many runs of other hosts asked before this run did."""
    place = next((n for n, one in enumerate(waiting) if one.run_id == run_id), len(waiting))
    return sum(one.host_id != host_id for one in waiting[:place])


def noted(waiting: Waiting, run_id: str, host_id: str, now: float, boot: str) -> Waiting:
    """With the run, which keeps the place of its first question; a list that is full takes no more."""
    fresh = Asker(run_id=run_id, host_id=host_id, since=now, asked=now, boot=boot)
    if all(one.run_id != run_id for one in waiting):
        return (*waiting, fresh)[:MOST_WAITING]
    return tuple(
        msgspec.structs.replace(fresh, since=one.since) if one.run_id == run_id else one for one in waiting
    )


def without(waiting: Waiting, run_id: str) -> Waiting:
    """Without a run that has what it asked for."""
    return tuple(one for one in waiting if one.run_id != run_id)
