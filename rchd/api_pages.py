"""Lists of runs that keep to the limit of one message, however many runs there are (spec section 12)."""

from __future__ import annotations

import msgspec

from rch.contract.local_api import MAX_MESSAGE, RunView

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
