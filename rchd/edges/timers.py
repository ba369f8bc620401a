"""Timers of the core, as events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rchd.core.events import Event, TimerFired


class Timers:
    """One timer a run and name; a later one of the same name replaces it."""

    def __init__(self, post: Callable[[Event], None]) -> None:
        self._post = post
        self._handles: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def start(self, run_id: str, name: str, seconds: float, op: int) -> None:
        """Fire `name` for `run_id` after `seconds`."""
        key = (run_id, name)
        if key in self._handles:
            self._handles[key].cancel()
        loop = asyncio.get_running_loop()
        self._handles[key] = loop.call_later(seconds, self._fire, key, op)

    def _fire(self, key: tuple[str, str], op: int) -> None:
        del self._handles[key]
        self._post(TimerFired(at=time.time(), run_id=key[0], name=key[1], op=op))

    def stop_run(self, run_id: str) -> None:
        """No timer of `run_id` fires any more."""
        for key in [key for key in self._handles if key[0] == run_id]:
            self._handles.pop(key).cancel()

    def stop(self) -> None:
        """No timer fires any more."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
