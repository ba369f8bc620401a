"""Who may sign after an edit of the inventory, when a refusal is final, how a failed test is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.playbook import accepted, report, unreachable

from rch.contract.records import TestFailure, TestSummary, encode_record
from rchd.core import model as m
from rchd.core.rerun import narrowing_to
from rchd.core.restore import restore
from rchd.core.select import NOBODY, is_out_of_reach, is_settled, nobody, select, still_pinned

A, B, C = "SHA256:a", "SHA256:b", "SHA256:c"


@pytest.mark.spec("10")
@pytest.mark.parametrize(
    ("selected", "now", "may_sign"),
    [
        ((), None, ()),
        ((), (), ()),
        ((A,), None, (A,)),
        ((A,), (), (A,)),
        ((), (A,), (A,)),
        ((A, B), (B, C), (B,)),
        ((A,), (B,), (NOBODY,)),
    ],
)
def test_no_edit_gives_a_key_a_right_and_any_takes_it(
    selected: tuple[str, ...], now: tuple[str, ...] | None, may_sign: tuple[str, ...]
) -> None:
    assert still_pinned(selected, now) == may_sign


@pytest.mark.spec("7")
def test_what_a_cached_answer_lacks_may_come_and_what_a_fresh_one_lacks_will_not() -> None:
    assert is_settled([report(), unreachable()])
    assert not is_settled([report(), report("b", fresh=False)])
    assert is_settled([])


@pytest.mark.spec("7")
def test_a_worker_out_of_reach_may_serve_later_and_one_with_a_wrong_key_will_not() -> None:
    options = accepted().options
    for reports, reach in (
        ((unreachable(),), True),
        ((report(), unreachable("b")), True),
        ((msgspec.structs.replace(unreachable(), error_subkind="HOST_KEY"),), False),
        ((report(),), False),
    ):
        assert is_out_of_reach(select(options, reports), reports) is reach


@pytest.mark.spec("7")
@pytest.mark.spec("8")
def test_nobody_to_ask_is_the_line_and_one_that_lacks_something_is_the_worker() -> None:
    options = accepted(toolchain={"swift_version": "9.9"}).options
    both = (report(), unreachable("b"))
    failure = nobody(select(options, both), both)
    assert (failure.kind, failure.exit_code) == ("WORKER_INCOMPATIBLE", 91)
    assert "mac: " in str(failure)
    assert "b: " in str(failure)
    alone = (unreachable("a"), unreachable("b"))
    assert nobody(select(options, alone), alone).exit_code == 20


# --- the tests that failed, run again -----------------------------------------------------


def selectors(backend: str, *failures: TestFailure, failed: int | None = None) -> tuple[str, ...]:
    run = _run(backend)
    summary = msgspec.convert(
        {
            "created_at": "",
            "run_id": run.run_id,
            "job_id": "j",
            "job_key": None,
            "duration_ms": 0,
            "skipped": 0,
            "passed": 0,
            "total": len(failures),
            "failed": len(failures) if failed is None else failed,
            "failures": failures,
        },
        TestSummary,
    )
    return narrowing_to(run, {1: summary}).by_step[0]


def _run(backend: str) -> m.Run:
    request = accepted(backend=backend)
    return restore(request.run_id, {"accepted.json": encode_record(request)}).run


def failure(suite: str, name: str) -> TestFailure:
    members: dict[str, Any] = {"suite": suite, "name": name, "message": "", "file": None, "line": None}
    known = TestFailure.__struct_fields__
    return msgspec.convert({key: value for key, value in members.items() if key in known}, TestFailure)


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("suite", "name", "told"),
    [
        ("App.Suite", "testOne", r"^App\.Suite/testOne(/|$)"),
        ("Suite", "testOne", r"(^|\.)Suite/testOne(/|$)"),
        ("", "free()", r"(^|\.)free\(\)(/|$)"),
        ("App.Suite", "a\tb", r"^App\.Suite/a.b(/|$)"),
    ],
)
def test_an_expression_fits_the_failed_test_from_its_beginning_to_its_end(
    suite: str, name: str, told: str
) -> None:
    assert selectors("swiftpm", failure(suite, name)) == (told,)


@pytest.mark.spec("6")
def test_an_expression_that_would_be_too_long_is_cut_behind_a_whole_sign_and_fits_more() -> None:
    (told,) = selectors("swiftpm", failure("App.Suite", "(" * 200))
    assert len(told) in {249, 250}
    assert told.endswith("\\(")
    assert told.startswith(r"^App\.Suite/\(")
    fits = "^App\\.Suite/" + "a" * (250 - len("^App\\.Suite/(/|$)"))
    (told,) = selectors("swiftpm", failure("App.Suite", "a" * (250 - len("^App\\.Suite/(/|$)"))))
    assert told == f"{fits}(/|$)"


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("suite", "name", "told"),
    [
        ("AppTests.Suite", "testOne()", ("AppTests/Suite/testOne", "AppTests/Suite/testOne()")),
        ("AppTests.Suite", "one()", ("AppTests/Suite/one()",)),
        ("AppTests.Suite", "testOne", ("AppTests/Suite/testOne",)),
        ("AppTests.Suite.Inner", "one()", ("AppTests/Suite",)),
        ("AppTests", "in plain words", ("AppTests",)),
    ],
)
def test_a_failed_test_is_named_to_xcodebuild_or_by_what_holds_it(
    suite: str, name: str, told: tuple[str, ...]
) -> None:
    assert selectors("xcodebuild", failure(suite, name)) == told


@pytest.mark.spec("6")
def test_a_test_that_failed_twice_is_named_once() -> None:
    assert len(selectors("swiftpm", failure("S", "t"), failure("S", "t"))) == 1
