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
        self._runs: dict[str, dict[str, asyncio.TimerHandle]] = {}

    def start(self, run_id: str, name: str, seconds: float, op: int) -> None:
        """Fire `name` for `run_id` after `seconds`."""
        timers = self._runs.setdefault(run_id, {})
        if name in timers:
            timers[name].cancel()
        loop = asyncio.get_running_loop()
        timers[name] = loop.call_later(seconds, self._fire, run_id, name, op)

    def _fire(self, run_id: str, name: str, op: int) -> None:
        timers = self._runs[run_id]
        del timers[name]
        if not timers:
            del self._runs[run_id]
        self._post(TimerFired(at=time.time(), run_id=run_id, name=name, op=op))

    def stop_run(self, run_id: str) -> None:
        """No timer of `run_id` fires any more."""
        for handle in self._runs.pop(run_id, {}).values():
            handle.cancel()

    def stop(self) -> None:
        """No timer fires any more."""
        for run_id in list(self._runs):
            self.stop_run(run_id)
