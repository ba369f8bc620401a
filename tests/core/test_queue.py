"""Whose turn it is."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from support.playbook import accepted

from rch.contract.states import RunState
from rchd.core import model as m
from rchd.core.queue import next_turn, order, reasons


def run(
    run_id: str, phase: m.AnyPhase | None = None, *, at: str = "2026-01-01T00:00:00.000Z", **options: Any
) -> m.Run:
    return m.Run(
        accepted=accepted(run_id, ("build",), **options),
        state=RunState.QUEUED,
        seq=1,
        created_at=at,
        updated_at=at,
        phase=phase or m.Waiting(reason="accepted"),
        steps=[m.StepRun()],
    )


def test_the_order_is_priority_then_acceptance_then_id_whatever_the_store_gives() -> None:
    runs = [
        run("run-c", priority=1, at="2026-01-01T00:00:09.000Z"),
        run("run-b", at="2026-01-01T00:00:01.000Z"),
        run("run-d", at="2026-01-01T00:00:02.000Z"),
        run("run-e", at="2026-01-01T00:00:02.000Z"),
    ]
    for mixed in itertools.permutations(runs):
        assert [each.run_id for each in order(mixed)] == ["run-c", "run-b", "run-d", "run-e"]


def test_the_first_that_waits_has_the_turn() -> None:
    runs = [run("run-b"), run("run-a")]
    turn = next_turn(runs)
    assert turn is not None
    assert turn.run_id == "run-a"
    assert next_turn([]) is None


@pytest.mark.parametrize("looking", [m.Selecting(), m.Reserving(), m.Reserving(index=2)])
def test_one_run_looks_at_a_time(looking: m.AnyPhase) -> None:
    assert next_turn([run("run-a", looking), run("run-b")]) is None


@pytest.mark.spec("3.4")
def test_nobody_overtakes_a_run_that_waits_out_a_busy_worker() -> None:
    sent_back = m.Waiting(reason="mac is busy", timer=True)
    assert next_turn([run("run-a", sent_back), run("run-b")]) is None


def test_a_more_urgent_run_goes_before_one_that_waits_out_a_busy_worker() -> None:
    sent_back = m.Waiting(reason="mac is busy", timer=True)
    turn = next_turn([run("run-a", sent_back), run("run-b", priority=1)])
    assert turn is not None
    assert turn.run_id == "run-b"


@pytest.mark.parametrize(
    "phase",
    [
        m.CheckingSource(),
        m.Uploading(),
        m.Submitting(step=0),
        m.Rereserving(step=0),
        m.Cancelling(step=0),
        m.Following(step=0),
        m.Fetching(step=0),
        m.Releasing(),
        m.Ended(),
    ],
)
def test_a_run_that_has_its_worker_is_in_nobodys_way(phase: m.AnyPhase) -> None:
    turn = next_turn([run("run-a", phase), run("run-b")])
    assert turn is not None
    assert turn.run_id == "run-b"
    assert reasons([run("run-a", phase), run("run-b")]) == {}


@pytest.mark.spec("3.4")
def test_each_run_behind_another_says_so_and_a_busy_workers_words_stay() -> None:
    sent_back = m.Waiting(reason="mac is busy: no free slot", timer=True)
    runs = [run("run-a", m.Selecting()), run("run-b", sent_back), run("run-c"), run("run-d")]
    assert reasons(runs) == {
        "run-c": "behind 2 in the queue, first run-a",
        "run-d": "behind 3 in the queue, first run-a",
    }
    assert reasons([run("run-a")]) == {}
