"""Runs as the queue sees them, and what it is asked about them."""

from __future__ import annotations

from typing import Any

import msgspec
from support.playbook import accepted

from rch.contract.states import RunState
from rchd.core import model as m
from rchd.core.queue import Queue

SENT_BACK = m.Waiting(reason="mac is busy: no free slot", timer=True)


def run(
    run_id: str,
    phase: m.AnyPhase | None = None,
    *,
    at: str = "2026-01-01T00:00:00.000Z",
    origin: str = "terminal",
    group: str | None = None,
    **options: Any,
) -> m.Run:
    request = accepted(run_id, ("build",), **options)
    return m.Run(
        accepted=msgspec.structs.replace(request, origin=origin, group=group),
        state=RunState.QUEUED,
        seq=1,
        created_at=at,
        updated_at=at,
        phase=phase or m.Waiting(reason="accepted"),
        steps=[m.StepRun()],
    )


def ids(queue: Queue) -> list[str]:
    return [each.run_id for each in queue.order()]


def head(queue: Queue) -> m.Run | None:
    found = queue.next_turn()
    return None if found is None else found.run


def turn(*runs: m.Run) -> str | None:
    found = head(Queue(runs))
    return None if found is None else found.run_id


def serve(queue: Queue) -> m.Run:
    """The next one looks, and is served."""
    found = head(queue)
    assert found is not None
    for phase in (m.Selecting(), m.Reserving(), m.CheckingSource()):
        found.phase = phase
        queue.update(found)
    return found


def move(queue: Queue, run: m.Run, phase: m.AnyPhase) -> list[m.Run]:
    run.phase = phase
    if isinstance(phase, m.Ended):
        run.state = RunState.CANCELLED
    return queue.update(run)
