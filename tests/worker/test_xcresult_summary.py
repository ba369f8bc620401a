from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.xcresults import build_of, case, data, report_of, summary_of

from worker_agent.results.places import Places
from worker_agent.results.xcresult_summary import parse_build, parse_summary

PLACES = Places(Path("/job/tree"))


def issue(message: str, url: str | None = None, **members: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"issueType": "Swift Compiler Error", "message": message, **members}
    return told if url is None else {**told, "sourceURL": url}


def test_the_summary_s_own_counts_are_read() -> None:
    told = summary_of(report_of(case("a()"), case("b()", "failed"), case("c()", "skipped")))
    told["testFailures"] = [{"testName": "b()", "failureText": "no", "targetName": "T", "new": 1}]
    found = parse_summary(data({**told, "topInsights": [], "statistics": [{}]}))
    assert found.problem is None
    assert (found.total, found.passed, found.failed, found.skipped, found.expected) == (3, 1, 1, 1, 0)
    assert (found.result, found.failures) == ("Failed", ("b(): no",))


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    "change",
    [
        {"failedTests": "1"},
        {"failedTests": -1},
        {"totalTestCount": None},
        {"result": 1},
        {"schemaVersion": "2.1.0"},
        {"testFailures": {}},
    ],
)
def test_a_summary_of_another_shape_is_a_problem(change: dict[str, Any]) -> None:
    whole = summary_of(report_of(case("a()")))
    assert parse_summary(data({**whole, **change})).problem is not None
    short = {key: value for key, value in whole.items() if key not in change}
    missing = parse_summary(data(short)).problem
    assert (missing is None) == (not change.keys() & whole.keys() - {"testFailures"})
    assert parse_summary(data(whole)[:-20]).problem is not None


@pytest.mark.spec("9")
def test_a_member_that_is_told_twice_is_a_problem() -> None:
    whole = data(summary_of(report_of(case("a()"))))
    twice = whole.replace(b'"failedTests": 0', b'"failedTests": 1, "failedTests": 0')
    assert "'failedTests' is told twice" in str(parse_summary(twice).problem)
    build = b'{"errors": [], "warnings": [], "errorCount": 1, "errorCount": 0}'
    assert "'errorCount' is told twice" in str(parse_build(build, PLACES).problem)


@pytest.mark.spec("9")
def test_issues_become_diagnostics_of_the_repository() -> None:
    places = "EndingLineNumber=8&StartingColumnNumber=3&StartingLineNumber=6"
    told = build_of(
        [issue("no such thing", f"file:///job/tree/Sources/A%20b.swift#{places}", targetName="App")],
        [issue("unused", "file:///usr/x.h#StartingLineNumber=0", targetName="Kit"), issue("bare")],
        analyzerWarnings=[issue("null", "file:///job/tree/a.m")],
        errorCount=1,
        status="failed",
    )
    found = parse_build(data(told), PLACES)
    assert [(one.severity, one.path, one.line, one.column, one.message) for one in found.diagnostics] == [
        ("error", "Sources/A b.swift", 7, 4, "no such thing"),
        ("warning", "/usr/x.h", 1, None, "unused"),
        ("warning", None, None, None, "bare"),
        ("warning", "a.m", None, None, "null"),
    ]
    assert (found.error_count, found.warning_count) == (1, 3)
    assert (found.targets, found.status) == (("App", "Kit"), "failed")


@pytest.mark.parametrize(
    "url",
    [
        "https://x/a.swift",
        "file:",
        "a.swift",
        "file:///a.swift#StartingLineNumber=x&StartingLineNumber=9",
        "file:///a.swift#StartingLineNumber=99999999999",
        "file:///a.swift#StartingLineNumber=٣",
        "file:///a.swift#" + "a=1&" * 100,
        "file://[::1/a.swift",
        "file:///%ff%fe.swift",
    ],
)
def test_a_place_that_is_none_costs_no_message(url: str) -> None:
    (one,) = parse_build(data(build_of([issue("m", url)])), PLACES).diagnostics
    assert (one.message, one.line) == ("m", None)


def test_lists_are_cut_and_counts_are_not() -> None:
    found = parse_build(data(build_of([issue(f"m{n}") for n in range(500)], errorCount=700)), PLACES)
    assert (len(found.diagnostics), found.error_count) == (200, 700)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1]", b'{"errors": 1, "warnings": []}', b"\xff"])
def test_a_build_of_another_shape_is_a_problem(raw: bytes) -> None:
    assert parse_build(raw, PLACES).problem is not None
