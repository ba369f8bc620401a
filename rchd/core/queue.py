"""Whose turn it is: a pure decision over the waiting runs."""

from __future__ import annotations

from collections.abc import Iterable

from rchd.core import model as m


def order(runs: Iterable[m.Run]) -> list[m.Run]:
    """Runs by priority (lower first), then by acceptance."""
    return sorted(runs, key=lambda run: (run.accepted.options.priority, run.created_at, run.run_id))


def next_turn(runs: Iterable[m.Run]) -> m.Run | None:
    """The run that may look for a worker now.

    One run looks at a time, and no run overtakes one that a busy worker has sent back:
    so the order of the queue is the order of the leases.
    """
    waiting = order(runs)
    for run in waiting:
        # Who may not wait is not made to: it looks at once, and ends where nobody is free.
        if not run.accepted.options.queue and isinstance(run.phase, m.Waiting):
            return run
    for run in waiting:
        if isinstance(run.phase, m.Selecting | m.Reserving):
            return None
        if isinstance(run.phase, m.Waiting):
            return None if run.phase.timer else run
    return None


def reasons(runs: Iterable[m.Run]) -> dict[str, str]:
    """Why each waiting run waits, by run id; a busy worker's own words are kept."""
    waiting = [run for run in order(runs) if isinstance(run.phase, m.Waiting | m.Selecting | m.Reserving)]
    found: dict[str, str] = {}
    for position, run in enumerate(waiting):
        if isinstance(run.phase, m.Waiting) and position > 0 and not run.phase.timer:
            found[run.run_id] = f"behind {position} in the queue, first {waiting[0].run_id}"
    return found
