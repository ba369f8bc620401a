"""What earlier runs say together, as tables over summaries."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rchctl.moments import since
from rchctl.parser import UsageError
from rchctl.report.past_model import past_page, word
from rchctl.report.trends import PastRun, PastStep, doubtful_groups, flaky, spark, trend


def a_run(number: int = 1, *steps: PastStep, duration_ms: int = 1000, status: str = "success") -> PastRun:
    return PastRun(
        run_id=f"run-{number:04d}",
        run_dir=Path("/artifacts") / f"run-{number:04d}",
        created_at=f"2026-01-{number:02d}T00:00:00.000Z",
        project="Greeter",
        root="/greeter",
        status=status,
        exit_code=0,
        failure_kind=None,
        failure_subkind=None,
        duration_ms=duration_ms,
        simulated=False,
        scope=(),
        worker="mini",
        branch="main",
        commit="c",
        steps=steps,
    )


def a_step(
    *,
    failed: tuple[str, ...] = (),
    passed: tuple[str, ...] = (),
    retried: tuple[str, ...] = (),
    skipped: tuple[str, ...] = (),
    group: str | None = "source",
    cached: bool = False,
    status: str = "success",
) -> PastStep:
    outcomes = {
        **dict.fromkeys(passed, "passed"),
        **dict.fromkeys(skipped, "skipped"),
        **dict.fromkeys(failed, "failed"),
        **dict.fromkeys(retried, "flaky"),
    }
    return PastStep(
        "test", status, group=group, failed=failed, retried=retried, cached=cached, outcomes=outcomes
    )


WAVERING = {
    "nothing": ([], []),
    "always fails": ([a_step(failed=("t",)), a_step(failed=("t",))], []),
    "always passes": ([a_step(passed=("t",)), a_step(passed=("t",))], []),
    "both on one source": ([a_step(failed=("t",)), a_step(passed=("t",))], [("t", 0, 1, 1, 1)]),
    "both, but the source changed": (
        [a_step(failed=("t",), group="one"), a_step(passed=("t",), group="two")],
        [],
    ),
    "the source is not known": (
        [a_step(failed=("t",), group=None), a_step(passed=("t",), group=None)],
        [],
    ),
    "on a retry": ([a_step(retried=("t",))], [("t", 1, 0, 0, 0)]),
    "on a retry, and then not": (
        [a_step(retried=("t",)), a_step(failed=("t",))],
        [("t", 1, 1, 1, 0)],
    ),
    "a skip says nothing": ([a_step(failed=("t",)), a_step(skipped=("t",))], []),
    "a cached pass is none of its own": ([a_step(failed=("t",)), a_step(passed=("t",), cached=True)], []),
    "a cancelled job is no word": (
        [a_step(passed=("t",)), a_step(failed=("t",), status="cancelled")],
        [],
    ),
    "most often first, then by name": (
        [a_step(retried=("b", "a", "c")), a_step(retried=("c",))],
        [("c", 2, 0, 0, 0), ("a", 1, 0, 0, 0), ("b", 1, 0, 0, 0)],
    ),
}


@pytest.mark.parametrize("name", WAVERING)
def test_a_test_wavers(name: str) -> None:
    steps, wanted = WAVERING[name]
    runs = [a_run(9 - at, step) for at, step in enumerate(steps)]
    found = [(each.test, each.retried, each.disagreed, each.failed, each.passed) for each in flaky(runs)]
    if name.startswith("most"):
        assert [each[0] for each in found] == [each[0] for each in wanted]
        assert found[0][1] == 2
    else:
        assert found == wanted


def test_the_runs_stand_behind_it_newest_first() -> None:
    runs = [a_run(3, a_step(failed=("t",))), a_run(2, a_step(passed=("t",)))]
    (found,) = flaky(runs)
    assert found.evidence == [("run-0003", "failed"), ("run-0002", "passed")]
    assert found.last_at == "2026-01-03T00:00:00.000Z"


def test_passes_are_looked_up_only_where_a_test_failed() -> None:
    runs = [a_run(1, a_step(failed=("t",), group="one")), a_run(2, a_step(passed=("t",), group="two"))]
    assert doubtful_groups(runs) == {"one"}


@pytest.mark.parametrize(
    ("lengths", "wanted"),
    [
        ([], None),
        ([100], (1, 100, 1, 100, None)),
        ([100] * 5 + [200], (6, 100, 5, 100, -50)),
        ([300] * 5 + [200, 200], (7, 300, 5, 300, 50)),
        ([100] * 5 + [0], (6, 100, 5, 100, None)),
    ],
)
def test_a_trend_compares_the_newest_with_those_before(
    lengths: list[int], wanted: tuple[int, ...] | None
) -> None:
    found = trend([a_run(9, duration_ms=each) for each in lengths])
    told = None
    if found is not None:
        told = (found.runs, found.median_ms, found.recent, found.recent_ms, found.change_percent)
    assert told == wanted


def test_what_was_not_the_whole_gate_is_no_part_of_a_trend() -> None:
    whole = a_run(1)
    others = [
        replace(whole, scope=("--filter=x",)),
        a_run(1, status="failed"),
        a_run(1, a_step(cached=True)),
    ]
    assert trend(others) is None


def test_runs_of_other_actions_are_no_part_of_a_trend() -> None:
    build = replace(a_step(), action="build")
    runs = [a_run(3, build, duration_ms=1), *[a_run(2, build, a_step(), duration_ms=100)] * 2]
    found = trend(runs)
    assert found is not None
    assert (found.actions, found.runs, found.median_ms) == (("build", "test"), 2, 100)


@pytest.mark.parametrize(("values", "drawn"), [([], ""), ([0, 0], "▁▁"), ([0, 50, 100], "▁▄█"), ([7], "█")])
def test_a_line_of_blocks(values: list[int], drawn: str) -> None:
    assert spark(values) == drawn


NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "moment"),
    [
        ("7d", "2026-03-03T12:00:00.000Z"),
        ("36h", "2026-03-09T00:00:00.000Z"),
        ("2w", "2026-02-24T12:00:00.000Z"),
        ("2026-03-01", "2026-03-01T00:00:00.000Z"),
        ("2026-03-01T10:00:00+02:00", "2026-03-01T08:00:00.000Z"),
    ],
)
def test_since_is_an_age_or_a_date(asked: str, moment: str) -> None:
    assert since("flaky", asked, NOW) == moment


@pytest.mark.parametrize("asked", ["", "soon", "7", "d", "-7d", "99999w", "2026-13-01", "7d "])
def test_since_is_nothing_else(asked: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        since("flaky", asked, NOW)


def test_only_a_whole_executed_real_pass_is_called_one() -> None:
    run = a_run(1)
    assert word(run) == "passed"
    assert word(replace(run, simulated=True)) == "simulated: passed"
    assert word(replace(run, scope=("x",))) == "passed (narrowed)"
    assert word(a_run(1, a_step(cached=True))) == "passed (cached)"
    assert word(a_run(1, status="failed")) == "failed"


def test_the_charts_hold_the_newest_runs_oldest_on_the_left() -> None:
    runs = [a_run(each, a_step(retried=("t",)), duration_ms=each * 100) for each in range(28, 0, -1)]
    page = past_page(runs, "run-0028")
    assert [bar.this for bar in page.bars] == [False] * 27 + [True]
    assert [bar.height for bar in page.bars] == sorted(bar.height for bar in page.bars)
    assert all(bar.y >= 0 and bar.x >= 0 for bar in page.bars)
    assert [cell.letter for cell in page.wavering[0].cells] == ["R"] * 28
    assert past_page([], "x").bars == ()
