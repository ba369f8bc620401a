"""What a core is made from beside its runs, where another one's history is gone on with."""

from __future__ import annotations

import msgspec

from rchd.core.fleet import FleetState


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a core in the midst of its live runs remembers of them, and the runs do not say.

    `waiting`: who waits, need by need. `written`: of whom the files were written. `next_place`: the
    queue's.
    """

    waiting: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    next_place: int = 1


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a core remembers beside its live runs. `number` is that of the last run that was accepted.

    With `standing` it goes on with its live runs where another one stands; without, it is to be started.
    """

    number: int = 0
    draining: bool = False
    fleet: FleetState = FleetState()
    standing: Standing | None = None
