"""Lists of runs and events that have an end, however many there are (spec section 12)."""

from __future__ import annotations

import time
from functools import partial

import anyio
import msgspec

from rch.contract.decoding import decode_json
from rch.contract.ids import timestamp
from rch.contract.local_api import MAX_MESSAGE, RunEvent, RunView
from rchd.edges.store import StateStore

REPLAY_LIMIT = 1000

# What an answer holds beside its runs: the caller's id, escaped, and a few members.
ENVELOPE_BYTES = 4 << 10


class Page:
    """Views of runs, as many as fit into one message; the first always does."""

    def __init__(self, room: int = MAX_MESSAGE - ENVELOPE_BYTES) -> None:
        self._room = room
        self._views: list[RunView] = []

    def add(self, view: RunView) -> bool:
        """Take `view` in; False where there is no room for it."""
        size = len(msgspec.json.encode(view)) + 1
        if self._views and size > self._room:
            return False
        self._room -= size
        self._views.append(view)
        return True

    @property
    def views(self) -> tuple[RunView, ...]:
        """Those that were taken in."""
        return tuple(self._views)


async def past_events(
    store: StateStore, after: int, until: int, run: str, subscription: int
) -> list[RunEvent]:
    """The durable events from `after` to `until`; a gap where some are gone or they are too many."""
    of = None if run == "all" else run
    rows = await anyio.to_thread.run_sync(
        partial(store.events_after, after, run_id=of, limit=REPLAY_LIMIT + 1)
    )
    found = [
        RunEvent(
            subscription=subscription,
            seq=row.seq,
            type=row.type,
            run_id=row.run_id,
            at=row.at,
            run=decode_json(row.doc, RunView),
        )
        for row in rows[:REPLAY_LIMIT]
        if row.seq <= until
    ]
    at = timestamp(time.time())
    gap = RunEvent(subscription=subscription, seq=until, type="gap", run_id=None, at=at)
    # Asked after they were read: what is let go between the two is told as a gap for nothing.
    if after + 1 < await anyio.to_thread.run_sync(store.first_event_seq):
        found.insert(0, gap)
    if len(rows) > REPLAY_LIMIT:
        found.append(gap)
    return found
