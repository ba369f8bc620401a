"""Runs at workers without leases, in a playbook: to their first submit, turned away, taken up again."""

from __future__ import annotations

from typing import Any

from support.playbook import Playbook, accepted, unleased

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.edges.core_rows import decode_run, encode_run

FIRST, SECOND = "run-00000001", "run-00000002"
UNMISTAKABLE = fx.Reserve | fx.Release
"""What no worker without leases is ever asked."""


def at_worker(play: Playbook, run_id: str = FIRST, *, slots: int = 1, **options: Any) -> m.Run:
    """A run up to its first submit, at a worker without leases."""
    run = play.accept(accepted(run_id, **options))
    play.answer(run, ev.Probed, reports=(unleased(slots=slots),), embedded=False)
    play.answer(run, ev.SourceKnown, exists=True)
    return run


def busy(play: Playbook, run: m.Run, after: float | None = 1.0, message: str = "no slot is free") -> None:
    """The submit finds no free slot."""
    refused(play, run, "BUSY", "submit", kind="WORKER_BUSY", message=message, retry_after=after)


def refused(play: Playbook, run: m.Run, code: str, operation: str, /, **members: Any) -> None:
    base: dict[str, Any] = {"kind": "EXECUTOR", "subkind": None, "message": code}
    play.answer(run, ev.WorkerRefused, code=code, operation=operation, **{**base, **members})


def fire(play: Playbook, timer: fx.StartTimer) -> None:
    play.feed(ev.TimerFired(at=play.at, run_id=timer.run_id, name=timer.name, op=timer.op))


def started_again(play: Playbook, run: m.Run) -> tuple[Playbook, m.Run]:
    """As after kill -9: the row is left."""
    kept = decode_run(encode_run(run))
    again = Playbook(kept)
    again.feed(ev.Started(at=play.at))
    return again, kept
