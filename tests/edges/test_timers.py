"""Timers fire once, are replaced by name, and end with their run."""

from __future__ import annotations

import anyio

from rchd.core.events import Event, TimerFired
from rchd.edges.timers import Timers


async def test_a_timer_fires_once_unless_it_is_replaced_or_stopped() -> None:
    fired: list[tuple[str, str, int]] = []
    last = anyio.Event()

    def post(event: Event) -> None:
        assert isinstance(event, TimerFired)
        fired.append((event.run_id, event.name, event.op))
        if event.name == "last":
            last.set()

    timers = Timers(post)
    timers.start("run-a", "retry", 0.0, 1)
    timers.start("run-a", "retry", 0.001, 2)
    timers.start("run-a", "renew", 0.002, 3)
    timers.start("run-b", "retry", 0.001, 4)
    timers.stop_run("run-b")
    timers.stop_run("run-never")
    timers.start("run-c", "last", 0.02, 5)
    with anyio.fail_after(60):
        await last.wait()
    assert fired == [("run-a", "retry", 2), ("run-a", "renew", 3), ("run-c", "last", 5)]
    timers.start("run-a", "again", 60.0, 6)
    timers.stop()
