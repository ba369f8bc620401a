"""When a run that waits may begin: a pure guess from views of runs."""

from __future__ import annotations

from typing import Any

import pytest

from rchctl.expect import ahead_of, in_line, starts_ms, usual_ms

NOW = "2026-01-02T10:00:00.000Z"


def run(run_id: str, state: str = "QUEUED", **more: Any) -> dict[str, Any]:
    base = {"run_id": run_id, "root": "/app", "state": state, "phase": "waiting", "waiting": None}
    return {**base, "updated_at": NOW, **more}


def ended(*seconds: int, **more: Any) -> list[dict[str, Any]]:
    return [run(f"e{at}", "SUCCEEDED", duration_ms=1000 * each, **more) for at, each in enumerate(seconds)]


def test_the_usual_length_is_the_median_of_the_newest_five() -> None:
    runs = ended(10, 20, 30, 40, 50, 9000, 9000)
    assert usual_ms(runs, run("new")) == 30_000


@pytest.mark.parametrize(
    "other",
    [{"root": "/other"}, {"simulated": True}, {"scope": ["--filter", "x"]}, {"state": "CANCELLED"}],
)
def test_what_is_not_alike_says_nothing(other: dict[str, Any]) -> None:
    assert usual_ms([{**each, **other} for each in ended(10)], run("new")) is None


def test_who_waits_begins_when_those_before_it_have_taken_their_usual_time() -> None:
    first, second = run("a"), run("b", waiting="behind 1 in the queue, first a")
    at_work = run("w", "RUNNING", updated_at="2026-01-02T09:59:40.000Z")
    runs = [second, first, at_work, *ended(60)]
    assert starts_ms(runs, NOW) == {"a": 40_000, "b": 100_000}


def test_as_many_go_on_as_do_now() -> None:
    waiting = [run("b", waiting="behind 1 in the queue, first a"), run("a")]
    two = [run("w1", "RUNNING", updated_at="2026-01-02T09:59:50.000Z"), run("w2", "RUNNING")]
    assert starts_ms([*waiting, *two, *ended(60)], NOW) == {"a": 50_000, "b": 60_000}


def test_after_one_that_nothing_is_known_of_nothing_is_told() -> None:
    stranger = run("a", root="/other")
    behind = run("b", waiting="behind 1 in the queue, first a")
    assert starts_ms([behind, stranger, *ended(60)], NOW) == {"a": 0}
    assert starts_ms([behind, *ended(60)], NOW) == {}, "the one before it is not among the newest"
    assert starts_ms([run("a", servable="no"), *ended(60)], NOW) == {}
    assert starts_ms([behind, run("w", "RUNNING", root="/other"), *ended(60)], NOW) == {}


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    at_work = run("w", "RUNNING", updated_at="2026-01-02T11:00:00.000Z")
    assert starts_ms([run("a"), at_work, *ended(60)], NOW) == {"a": 60_000}
    assert starts_ms([run("a"), {**at_work, "updated_at": "?"}, *ended(60)], NOW) == {"a": 60_000}


def test_who_waits_for_an_equal_run_is_not_in_line() -> None:
    aside = run("c", phase="coalescing", waiting="the same job runs in run w")
    assert ahead_of(aside) is None
    assert ahead_of(run("g", waiting="after run a of group save")) is None
    assert in_line([aside, run("a")]) == [run("a")]
