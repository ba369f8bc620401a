"""Timers of the core, as events; and whether this machine slept between two of them.

They count on the monotonic clock, which stands still while a machine sleeps and knows nothing of
what the wall clock is set to. How far the clock that does count sleep has run ahead of it is what
was slept.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import structlog

from rchd.core.events import Event, TimerFired

log = structlog.get_logger("rchd.timers")

SLEEP_SECONDS = 30.0


def slept_seconds() -> float:
    """How long this machine has slept since it was started."""
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(time.CLOCK_UPTIME_RAW)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Timers:
    """One timer a run and name; a later one of the same name replaces it."""

    def __init__(self, post: Callable[[Event], None], slept: Callable[[], float] = slept_seconds) -> None:
        self._post = post
        self._slept = slept
        self._told = slept()
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
        self._post(TimerFired(at=time.time(), run_id=run_id, name=name, op=op, slept=self._sleep()))

    def _sleep(self) -> int:
        """Seconds slept that no timer has told of yet; 0 for less than half a minute."""
        asleep = self._slept() - self._told
        if asleep < SLEEP_SECONDS:
            return 0
        self._told += asleep
        log.warning("machine.slept", seconds=round(asleep))
        return round(asleep)

    def stop_run(self, run_id: str) -> None:
        """No timer of `run_id` fires any more."""
        for handle in self._runs.pop(run_id, {}).values():
            handle.cancel()

    def stop(self) -> None:
        """No timer fires any more."""
        for run_id in list(self._runs):
            self.stop_run(run_id)
