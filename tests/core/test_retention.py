"""Which ended runs may go from this machine: by age, number and size, never what is held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rch.config.daemon_config import Gc
from rchd.core.retention import DAY, Choice, Kept, choose

NOW = 1_700_000_000.0
pytestmark = pytest.mark.spec("11")


def kept(name: str, *, days: float = 0, root: str = "/a", size: int = 10, **more: int | bool) -> Kept:
    return Kept(run_id=name, root=root, ended=NOW - days * DAY, bytes=size, **more)  # type: ignore[arg-type]


def names(choice: Choice) -> list[str]:
    return [run.run_id for run, _ in choice.runs]


def test_what_ended_long_ago_goes_oldest_first_with_its_reason() -> None:
    runs = [kept("c", days=1), kept("b", days=40), kept("a", days=50)]
    choice = choose(runs, Gc(keep_runs=1, keep_days=30), NOW)
    assert names(choice) == ["a", "b"]
    assert choice.runs[0][1] == "ended over 30 days ago"
    assert choice.held == {}


def test_the_newest_of_each_project_stay_however_old_they_are() -> None:
    runs = [kept("d", days=90), kept("c", days=91, root="/b"), kept("b", days=92), kept("a", days=93)]
    choice = choose(runs, Gc(keep_runs=1, keep_days=30), NOW)
    assert names(choice) == ["a", "b"]
    assert choice.held == {"newest": 2}


def test_what_is_pinned_or_used_stays() -> None:
    runs = [
        kept("c"),
        kept("b", days=40, pinned=True, rejected=5),
        kept("a", days=50, used=True, rejected=5),
    ]
    choice = choose(runs, Gc(keep_runs=1), NOW)
    assert (names(choice), choice.rejected) == ([], [])
    assert choice.held == {"pinned": 1, "used": 1}


def test_over_the_size_the_oldest_go_until_the_rest_fits() -> None:
    runs = [kept(name, size=10) for name in "edcba"]
    assert names(choose(runs, Gc(keep_runs=1, keep_bytes=30), NOW)) == ["a", "b"]
    assert names(choose(runs, Gc(keep_runs=1, keep_bytes=50), NOW)) == []
    assert names(choose(runs, Gc(keep_runs=3, keep_bytes=1), NOW)) == ["a", "b"]


def test_over_the_number_the_oldest_go() -> None:
    runs = [kept(name) for name in "edcba"]
    choice = choose(runs, Gc(keep_runs=1, max_runs=2), NOW)
    assert names(choice) == ["a", "b", "c"]
    assert choice.runs[0][1] == "over 2 runs are kept"


def test_nought_is_no_bound() -> None:
    runs = [kept(f"run-{number}", days=9999, size=1 << 50) for number in range(50)]
    assert names(choose(runs, Gc(keep_runs=1, keep_days=0, keep_bytes=0, max_runs=0), NOW)) == []


def test_a_clock_that_was_set_back_makes_no_run_old() -> None:
    runs = [kept("b"), kept("a", days=-400)]
    assert names(choose(runs, Gc(keep_runs=1), NOW)) == []


def test_sets_without_standing_go_after_a_week_also_of_runs_that_stay() -> None:
    runs = [kept("c", days=6, rejected=5), kept("b", days=8, rejected=5), kept("a", days=40, rejected=5)]
    choice = choose(runs, Gc(keep_runs=2, keep_days=30), NOW)
    assert names(choice) == ["a"]
    assert [run.run_id for run, _ in choice.rejected] == ["b"]


_RUNS = st.lists(
    st.builds(
        Kept,
        run_id=st.uuids().map(str),
        root=st.sampled_from(["/a", "/b", "/c"]),
        ended=st.floats(min_value=NOW - 100 * DAY, max_value=NOW + DAY),
        bytes=st.integers(0, 100),
        rejected=st.integers(0, 5),
        pinned=st.booleans(),
        used=st.booleans(),
    ),
    max_size=40,
    unique_by=lambda run: run.run_id,
)
_SETTINGS = st.builds(
    Gc,
    keep_runs=st.integers(1, 5),
    keep_days=st.integers(0, 60),
    keep_bytes=st.integers(0, 1000),
    max_runs=st.integers(0, 20),
)


@given(runs=_RUNS, settings=_SETTINGS)
def test_whatever_there_is_what_is_held_stays_and_what_stays_is_held_or_within_the_bounds(
    runs: list[Kept], settings: Gc
) -> None:
    choice = choose(runs, settings, NOW)
    gone = set(names(choice))
    assert len(gone) == len(choice.runs)
    for root in {run.root for run in runs}:
        newest = [run for run in runs if run.root == root][: settings.keep_runs]
        assert not gone & {run.run_id for run in newest}
    assert not gone & {run.run_id for run in runs if run.pinned or run.used}
    left = [run for run in runs if run.run_id not in gone]
    free = [
        run
        for run in left
        if not run.pinned
        and not run.used
        and run not in [each for each in runs if each.root == run.root][: settings.keep_runs]
    ]
    if free:  # something could still go, so no bound is over
        assert not settings.max_runs or len(left) <= settings.max_runs
        assert not settings.keep_bytes or sum(run.bytes for run in left) <= settings.keep_bytes
        assert not settings.keep_days or all(NOW - run.ended <= settings.keep_days * DAY for run in free)
    again = choose(left, settings, NOW)
    assert again.runs == []
