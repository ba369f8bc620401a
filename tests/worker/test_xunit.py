from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from worker_agent.results import xunit
from worker_agent.results.cases import MAX_MESSAGE, Case
from worker_agent.results.xunit import parse_xunit, read_xunit

RECORDED = Path(__file__).parent / "recorded"
FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "junit"
HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n<testsuite tests="7">\n'
TAIL = b"</testsuite>\n</testsuites>\n"


def cases(body: bytes) -> tuple[Case, ...]:
    found = parse_xunit("x.xml", HEAD + body + TAIL)
    assert found.problem is None
    return found.cases


@pytest.mark.spec("9")
def test_the_file_of_xctest_is_read_as_swift_writes_it() -> None:
    found = read_xunit(RECORDED / "failing-xunit.xml")
    assert found.problem is None
    assert found.cases == (
        Case("SampleTests.SumTests", "testOfNone", "failed", "failure", 21),
        Case("SampleTests.SumTests", "testOfSome", "passed", "", 15),
        Case("SampleTests.SumTests", "testLater", "passed", "", 15),
    )


@pytest.mark.spec("9")
def test_elements_count_where_the_attributes_of_the_suite_lie() -> None:
    found = read_xunit(RECORDED / "failing-xunit-swift-testing.xml")
    assert found.problem is None
    assert [(one.name, one.outcome) for one in found.cases] == [
        ("none()", "failed"),
        ("some()", "passed"),
        ("odd(_:)", "failed"),
        ("known()", "passed"),
        ("named()", "failed"),
        ("off()", "skipped"),
    ]
    named, off = found.cases[4:]
    assert (named.suite, named.milliseconds) == ("SampleTests.LabSuite.Inner", 1250)
    assert named.message == "Expectation failed: Bool(false) (error)"
    assert off.message == "later"


@pytest.mark.parametrize(
    ("body", "outcome", "message"),
    [
        (b'<testcase name="a"><error message="e"/></testcase>', "failed", "e"),
        (b'<testcase name="a"><skipped>s</skipped><failure message="f"/></testcase>', "failed", "f"),
        (
            b'<testcase name="a"><failure message="f">t</failure><skipped>s</skipped></testcase>',
            "failed",
            "ft",
        ),
        (b'<testcase name="a"><system-out><b>x</b></system-out></testcase>', "passed", ""),
        (b'<testcase name="a"/>', "passed", ""),
    ],
)
def test_a_failure_counts_before_a_skip(body: bytes, outcome: str, message: str) -> None:
    (one,) = cases(body)
    assert (one.outcome, one.message) == (outcome, message)


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    "body",
    [
        b'<testcase name="a"><Failure message="f"/></testcase>',
        b'<testcase name="a"><j:failure xmlns:j="urn:j" message="f"/></testcase>',
        b'<testcase name="a"><rerunFailure message="f"/></testcase>',
        b'<testcase name="a"><flakyFailure message="f"/></testcase>',
        b'<TestCase name="a"/>',
        b'<j:testcase xmlns:j="urn:j" name="a"/>',
        b'<error message="the process died"/>',
        b'<failure/><testcase name="a"/>',
    ],
)
def test_a_result_in_a_form_that_is_not_known_is_a_problem(body: bytes) -> None:
    assert "which is not read" in str(parse_xunit("x.xml", HEAD + body + TAIL).problem)


def test_what_is_no_result_is_passed_over() -> None:
    (one,) = cases(
        b'<properties><property name="a"/></properties><testcase name="a"/>'
        b"<system-out><Failure/>x</system-out><system-err/>"
    )
    assert one.outcome == "passed"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("failed", "failed"), ("", "failed"), ("run", "passed"), ("skipped", "skipped"), ("passed", "passed")],
)
def test_a_case_whose_status_is_no_pass_is_failed(status: str, outcome: str) -> None:
    (one,) = cases(f'<testcase name="a" status="{status}"/>'.encode())
    assert one.outcome == outcome


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [("0.0439", 43), ("2", 2000), ("", 0), ("-1", 0), ("nan", 0), ("1e9", 0), ("9" * 400, 0), ("1.5s", 0)],
)
def test_a_time_that_is_no_number_is_none(seconds: str, milliseconds: int) -> None:
    (one,) = cases(f'<testcase name="a" time="{seconds}"/>'.encode())
    assert one.milliseconds == milliseconds


def test_what_xml_cannot_hold_does_not_hide_the_results() -> None:
    body = b'<testcase name="a\x01&#1;&#xFFFE;&#xD800;\xff"><failure message="&#8594;"/></testcase>'
    (one,) = cases(body)
    assert (one.name, one.outcome, one.message) == ("a????\ufffd", "failed", "→")


def test_a_file_that_is_cut_short_anywhere_is_never_whole() -> None:
    data = HEAD + b'<testcase classname="S" name="a"/>\n' * 3 + TAIL.rstrip()
    assert parse_xunit("x.xml", data).problem is None
    for end in range(len(data)):
        assert "cut short" in str(parse_xunit("x.xml", data[:end]).problem)


def test_what_was_read_before_the_cut_is_kept() -> None:
    found = parse_xunit("x.xml", HEAD + b'<testcase name="a"><failure/></testcase><testcase name="b">')
    assert [(one.name, one.outcome) for one in found.cases] == [("a", "failed")]
    assert found.problem is not None


BOMB = b"".join(
    b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10 if level else b"lol") for level in range(10)
)


@pytest.mark.fault("Z1")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<!DOCTYPE x [" + BOMB + b']><testsuites><testcase name="&l9;"/></testsuites>', "document type"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuites/>', "document type"),
        (b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://localhost/x"> %p;]><testsuites/>', "document type"),
        (b"<testsuites>&nope;</testsuites>", "undefined entity"),
        (b"<testsuite>" * 100 + b"</testsuite>" * 100, "nests deeper"),
        (b"<testsuites>" + b"<testsuite>" * 40, "nests deeper"),
        (b"<testsuites>" + b"<a>" * 40, "which is not read"),
        (b"<testsuites><testcase><testcase/></testcase></testsuites>", "within a testcase"),
        (b"<html><testcase name='a'/></html>", "no xunit file"),
        (b"<testsuites/><testsuites/>", "junk after document element"),
        (b"not xml at all", "no XML"),
        (b"", "no XML"),
        (b"\x00\x01\x02", "no XML"),
        ('<?xml version="1.0" encoding="UTF-16"?><testsuites/>'.encode("utf-16"), "no XML"),
    ],
)
def test_hostile_xml_is_refused_at_once(data: bytes, why: str) -> None:
    began = time.process_time()
    found = parse_xunit("x.xml", data)
    assert why in str(found.problem)
    assert time.process_time() - began < 1


@pytest.mark.fault("Z1")
def test_size_and_number_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xunit, "MAX_CASES", 10)
    found = parse_xunit("x.xml", HEAD + b'<testcase name="a"/>' * 11 + TAIL)
    assert (len(found.cases), found.problem) == (10, "holds more than 10 test cases")
    monkeypatch.setattr(xunit, "MAX_BYTES", 100)
    big = tmp_path / "big.xml"
    big.write_bytes(HEAD + b" " * 100 + TAIL)
    assert read_xunit(big).problem == "is over 100 bytes"


def test_long_texts_are_cut() -> None:
    body = b'<testcase name="' + b"n" * 5000 + b'"><failure>' + b"m" * 100_000 + b"</failure></testcase>"
    (one,) = cases(body)
    assert (len(one.name), len(one.message)) == (1000, MAX_MESSAGE)


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    assert read_xunit(tmp_path / "xunit.xml").problem == "was not written"


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_something_else_in_the_place_of_the_file_does_not_hold_us_up(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "xunit.xml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "other.xml").write_bytes(HEAD + TAIL)
        path.symlink_to("other.xml")
    assert read_xunit(path).problem is not None


@pytest.mark.parametrize(
    ("name", "count", "failed"),
    [("swift_xunit_dorny.xml", 3, 1), ("xcresultparser_junit.xml", 7, 1)],
)
def test_recorded_files_are_counted(name: str, count: int, failed: int) -> None:
    file = FIXTURES / name
    if not file.is_file():
        pytest.skip(f"the recorded outputs are not at {FIXTURES}")
    found = read_xunit(file)
    assert found.problem is None
    assert len(found.cases) == count
    assert sum(one.outcome == "failed" for one in found.cases) == failed
