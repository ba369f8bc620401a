"""`junit.xml`: one suite a class, for tools that know no other form (spec section 8)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rch.contract.records import TestFailure
from worker_agent.results.xunit import Case

if TYPE_CHECKING:  # it comes in when there is a set to close: it takes its time
    from junitparser import TestCase

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(cases: Sequence[Case], failed: Sequence[TestFailure]) -> bytes:
    """The cases as JUnit's XML, in UTF-8. Characters that XML cannot hold read `?`."""
    from junitparser import JUnitXml, TestSuite

    details = {(one.suite, one.name): one for one in failed}
    suites: dict[str, list[TestCase]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(_case(case, details.get((case.suite, case.name))))
    document: Any = JUnitXml("swift test")  # Any: its methods carry no types
    for name, members in suites.items():
        suite = TestSuite(_legal(name) or "tests")
        suite.add_testcases(members)
        document.append(suite)
    document.update_statistics()
    body: bytes = document.tostring()
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body + b"\n"


def _case(case: Case, detail: TestFailure | None) -> TestCase:
    from junitparser import Failure, Skipped, TestCase

    made = TestCase(_legal(case.name), _legal(case.suite), case.milliseconds / 1000)
    if case.outcome == "skipped":
        made.result = [Skipped(_legal(case.message))]
    elif case.outcome == "failed":
        message = detail.message if detail is not None else case.message
        failure = Failure(_legal(message) or "failed")
        if detail is not None and detail.path is not None:
            place = detail.path if detail.line is None else f"{detail.path}:{detail.line}"
            failure.text = _legal(f"{place}: {message}")
        made.result = [failure]
    return made


def _legal(text: str) -> str:
    return _ILLEGAL.sub("?", text)
