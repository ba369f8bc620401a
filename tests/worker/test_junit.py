from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from junitparser import JUnitXml
from junitparser.xunit2 import TestCase as XunitCase

from rch.contract.records import TestFailure
from worker_agent.results.cases import Attempt, Case, Text
from worker_agent.results.junit import junit_xml

LOST = Attempt("First Run", "failed", 5, (Text("no luck", "SumTests.swift", 3),))
AGAIN = Attempt("Retry 1", "failed", 5, (Text("no luck again", "SumTests.swift", 3),))
WON = Attempt("Retry 1", "passed", 5)
FLAKY = Case("App.SumTests", "a()", "passed", "", 10, "SumTests/a()", attempts=(LOST, WON))
FAILED = Case("App.SumTests", "b()", "failed", "no luck", 10, "SumTests/b()", attempts=(LOST, AGAIN))


def tree(
    *cases: Case, failed: Sequence[TestFailure] = (), session: tuple[str, str] | None = None
) -> ET.Element:
    return ET.fromstring(junit_xml(cases, failed, tool="xcodebuild", session=session))  # noqa: S314  (our own)


def counts(document: ET.Element) -> tuple[str | None, ...]:
    return tuple(document.get(name) for name in ("tests", "failures", "errors", "skipped"))


@pytest.mark.spec("9")
def test_a_flaky_test_is_one_case_with_its_flaky_failures() -> None:
    document = tree(FLAKY)
    assert counts(document) == ("1", "0", "0", "0")
    (only,) = document.findall(".//testcase")
    assert [child.tag for child in only] == ["flakyFailure"]
    assert only[0].get("message") == "no luck"
    assert only.findtext("flakyFailure/stackTrace") == "SumTests.swift:3: no luck"


def test_a_test_that_failed_each_time_is_one_case_with_its_reruns() -> None:
    document = tree(FAILED)
    assert counts(document) == ("1", "1", "0", "0")
    (only,) = document.findall(".//testcase")
    assert [child.tag for child in only] == ["failure", "rerunFailure"]
    assert only[1].get("message") == "no luck again"


def test_the_repetitions_of_arguments_count_too() -> None:
    argument = Attempt("1", "passed", attempts=(LOST, WON))
    document = tree(Case("S", "a(_:)", "passed", arguments=(argument,)))
    assert len(document.findall(".//flakyFailure")) == 1


@pytest.mark.spec("8")
@pytest.mark.parametrize("outcome", ["BUILD_FAILED", "TESTS_CRASHED", "INFRASTRUCTURE", "NO_TESTS_RAN"])
def test_what_failed_beside_any_test_is_a_case_of_its_own(outcome: str) -> None:
    document = tree(FLAKY, session=(outcome, "said \x1b[31mwhy"))
    assert counts(document) == ("2", "0", "1", "0")
    (own,) = document.findall("testsuite[@name='session']/testcase")
    assert (own.get("classname"), own.get("name")) == ("session", outcome)
    error = own.find("error")
    assert error is not None
    assert (error.get("message"), error.get("type")) == ("said ?[31mwhy", outcome)


def test_devices_and_other_outcomes_are_told() -> None:
    document = tree(
        Case("S", "a()", "passed", device="iPhone 16 (18.2)"),
        Case("S", "a()", "failed", "no", device="iPhone 16 (17.5)"),
        Case("S", "b()", "expected_failure", "known"),
        Case("S", "c()", "unknown"),
        Case("S", "d()", "skipped", "not here"),
        failed=[
            TestFailure(
                name="a()", suite="S", message="no", path="A.swift", line=3, device="iPhone 16 (17.5)"
            )
        ],
    )
    assert counts(document) == ("5", "1", "1", "1")
    names = [one.get("name") for one in document.findall(".//testcase")]
    assert names[:2] == ["a() [iPhone 16 (18.2)]", "a() [iPhone 16 (17.5)]"]
    assert document.findtext(".//failure") == "A.swift:3: no"
    assert document.findtext(".//system-out") == "failed as expected: known"


HOSTILE = "a</testcase><failure/>\x00\x1b[2J\x9b31m\u202e\u2066\ud800\ufffe]]>&amp;\"'"


def test_marks_and_control_characters_do_no_harm() -> None:
    attempts = (Attempt(HOSTILE, "failed", texts=(Text(HOSTILE, HOSTILE, 1),)), WON)
    document = tree(
        Case(HOSTILE, HOSTILE, "passed", attempts=attempts),
        Case("S", "s", "skipped", HOSTILE),
        session=(HOSTILE, HOSTILE),
    )
    assert len(document.findall(".//testcase")) == 3
    text = ET.tostring(document, encoding="unicode")
    assert not any(char in text for char in "\x00\x1b\x9b\u202e\u2066\ud800\ufffe")
    assert "a&lt;/testcase&gt;" in text


def test_the_usual_reader_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_bytes(junit_xml((FLAKY, FAILED), (), session=("TESTS_CRASHED", "died")))
    document = JUnitXml.fromfile(str(path))
    assert (document.tests, document.failures, document.errors) == (3, 1, 1)
    read: Any = XunitCase  # its methods carry no types
    first = read.fromelem(next(iter(next(iter(document)))))
    assert first.is_flaky
    assert first.is_passed
