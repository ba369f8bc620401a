"""Thousands of queued runs: they come back in their order, quickly, and none's fate touches the rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.playbook import T0, accepted, report

from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.edges.core_rows import decode_run, rows_of
from rchd.edges.store import SqliteStore

ORIGINS = 5
START_SECONDS = 2.0  # of the processor: the clock on the wall counts the neighbours too
EVENT_SECONDS = 0.005
TURNS = 100


def commit(store: SqliteStore, core: Core, effects: list[fx.Effect]) -> int:
    """What the driver commits of a batch; how many rows."""
    dirty = core.take_dirty()
    store.commit(rows_of(dirty, effects))
    for run in dirty:
        if is_terminal(run.state):
            core.forget(run.run_id)
    return len(dirty)


def fill(store: SqliteStore, many: int) -> list[str]:
    """Accept them, `ORIGINS` origins with unequal shares; their ids in the order of turns."""
    core = Core("/artifacts")
    effects: list[fx.Effect] = []
    for number in range(many):
        run = accepted(f"run-{number:08d}", ("build", "test"))
        run = msgspec.structs.replace(run, origin=f"origin-{number % 11 % ORIGINS}")
        effects += core.handle(ev.RunAccepted(at=T0, accepted=run))
    commit(store, core, effects)
    return [run.run_id for run in core._queue.order()]


def one_turn(core: Core, probe: fx.Probe, seconds: list[float]) -> list[fx.Effect]:
    """The run that looks gets its worker, is cancelled and ends; what came of it all."""
    run = core.runs[probe.run_id]
    granted: dict[str, Any] = {"worker": "mac", "lease_id": f"lease-{run.run_id}", "fence": 1}
    effects: list[fx.Effect] = []

    def feed(event: ev.Event) -> None:
        nonlocal effects
        began = time.process_time()
        effects += core.handle(event)
        seconds.append(time.process_time() - began)

    base: dict[str, Any] = {"at": T0, "run_id": run.run_id}
    feed(ev.Probed(**base, op=run.op, reports=(report(),), embedded=False))
    feed(ev.Reserved(**base, op=run.op, **granted, ttl_seconds=90))
    feed(ev.CancelAsked(**base, reason="USER"))
    feed(ev.Released(**base, op=run.op))
    return effects


@pytest.mark.spec("4")
@pytest.mark.fault("H2")
@pytest.mark.fault("H15")
@pytest.mark.parametrize("many", [2_000, pytest.param(10_000, marks=pytest.mark.faults_long)])
def test_a_long_queue_comes_back_in_its_order_and_goes_on_at_its_pace(tmp_path: Path, many: int) -> None:
    store = SqliteStore.open(tmp_path / "state" / "rchd.db")
    try:
        order = fill(store, many)
        began = time.process_time()
        loaded = store.load(active_only=True)
        core = Core("/artifacts", map(decode_run, (row.doc for row in loaded.runs)), loaded.last_event_seq)
        effects = core.handle(ev.Started(at=T0))
        assert commit(store, core, effects) <= 1, "who waits on has nothing new to commit"
        assert time.process_time() - began < START_SECONDS
        assert [run.run_id for run in core._queue.order()] == order

        seconds: list[float] = []
        probes = [effect for effect in effects if isinstance(effect, fx.Probe)]
        for expected in order[:TURNS]:
            assert [probe.run_id for probe in probes] == [expected]
            effects = one_turn(core, probes[0], seconds)
            probes = [effect for effect in effects if isinstance(effect, fx.Probe)]
            assert commit(store, core, effects) <= 3, "itself, who looks next, who is next of its origin"
        assert sorted(seconds)[len(seconds) * 99 // 100] < EVENT_SECONDS
        assert "in the queue" in (core.view(core.runs[order[-1]]).waiting or "")
    finally:
        store.close()
