"""`junit.xml`: one suite a class and one case a test, for tools that know no other form (section 8).

Repetitions have the form that Maven's Surefire writes: `<flakyFailure>` in a test that passed
only on a retry, `<rerunFailure>` beside the `<failure>` of one that failed each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rch.contract.neutral import for_markup
from rch.contract.records import TestFailure
from worker_agent.results.cases import Attempt, Case

_SESSION = "session"


def junit_xml(
    cases: Sequence[Case],
    failed: Sequence[TestFailure],
    *,
    tool: str = "swift test",
    session: tuple[str, str] | None = None,
    simulated: bool = False,
) -> bytes:
    """The cases as JUnit's XML, in UTF-8. Characters that do harm read `?`.

    `session` is outcome and message of what failed beside any test, as a case of its own.
    Of a `simulated` job every suite says so, in its name and as a property.
    """
    # The library comes in when there is a set to close: it takes its time.
    from junitparser import Error, JUnitXml
    from junitparser.xunit2 import TestCase, TestSuite

    details = {(one.suite, one.name, one.device or ""): one for one in failed}
    suites: dict[str, list[Any]] = {}
    for case in cases:
        detail = details.get((case.suite, case.name, case.device))
        suites.setdefault(case.suite, []).append(_case(case, detail))
    if session is not None:
        made = TestCase(for_markup(session[0]), _SESSION, 0)
        made.result = [Error(for_markup(session[1]) or "failed", for_markup(session[0]))]
        suites.setdefault(_SESSION, []).append(made)
    make_suite: Any = TestSuite  # Any: its methods carry no types
    mark = "simulated: " if simulated else ""
    document: Any = JUnitXml(f"{mark}{tool}")
    for name, members in suites.items():
        suite = make_suite(f"{mark}{for_markup(name) or 'tests'}")
        if simulated:
            suite.add_property("simulated", "true")
        suite.add_testcases(members)
        document.append(suite)
    document.update_statistics()
    body: bytes = document.tostring()
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body + b"\n"


def _case(case: Case, detail: TestFailure | None) -> Any:
    from junitparser import Error, Failure, Skipped
    from junitparser.xunit2 import TestCase

    name = f"{case.name} [{case.device}]" if case.device else case.name
    made: Any = TestCase(for_markup(name), for_markup(case.suite), case.milliseconds / 1000)
    if case.outcome == "skipped":
        made.result = [Skipped(for_markup(case.message))]
    elif case.outcome == "failed":
        message = detail.message if detail is not None else case.message
        failure = Failure(for_markup(message) or "failed")
        if detail is not None and detail.path is not None:
            place = detail.path if detail.line is None else f"{detail.path}:{detail.line}"
            failure.text = for_markup(f"{place}: {message}")
        made.result = [failure]
    elif case.outcome == "unknown":
        made.result = [Error("has no result")]
    elif case.outcome == "expected_failure":
        made.system_out = for_markup(f"failed as expected: {case.message}")
    _add_attempts(made, case)
    return made


def _add_attempts(made: Any, case: Case) -> None:
    """The repetitions that failed: the first one of a failed test is its `<failure>` itself."""
    from junitparser.xunit2 import FlakyFailure, RerunFailure

    lost = case.lost_attempts
    if case.outcome not in {"passed", "failed"}:
        return
    kind = FlakyFailure if case.outcome == "passed" else RerunFailure
    for attempt in lost if case.outcome == "passed" else lost[1:]:
        told = kind(for_markup(_message(attempt)) or "failed")
        told.stack_trace = for_markup("\n".join(_placed(attempt)) or "failed")
        made.append(told)


def _message(attempt: Attempt) -> str:
    return attempt.texts[0].message if attempt.texts else f"{attempt.name} failed"


def _placed(attempt: Attempt) -> list[str]:
    return [
        one.message if one.path is None else f"{one.path}:{one.line}: {one.message}"
        for one in attempt.texts
    ]
