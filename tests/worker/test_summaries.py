from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from msgspec import UNSET
from support import jobs

from rch.contract.records import Summary, TestFailure
from worker_agent.model import EndedByUs, PhaseExit
from worker_agent.results import summaries
from worker_agent.results.buildlog import LogReader
from worker_agent.results.cases import Case
from worker_agent.results.junit import junit_xml
from worker_agent.results.logfacts import LogFacts
from worker_agent.results.places import Places
from worker_agent.results.summaries import failures, narrowing, one_line
from worker_agent.results.verdict import Facts, decide
from worker_agent.results.xunit import XunitFile, read_xunit

RECORDED = Path(__file__).parent / "recorded"
GREEN = (PhaseExit("build", 0, None, 900), PhaseExit("test", 0, None, 80))
RED = (PhaseExit("build", 0, None, 900), PhaseExit("test", 1, None, 80))


def log_of(name: str, tree: Path, phase: str = "test") -> LogFacts:
    reader = LogReader(tree)
    reader.begin(phase)
    reader.feed((RECORDED / name).read_text().replace("/job/tree", str(tree)).encode())
    reader.end()
    return reader.facts()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("Tests/SampleTests/SumTests.swift", "Tests/SampleTests/SumSuite.swift", "A/Suite.swift"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "B").mkdir()
    (tmp_path / "B/Suite.swift").touch()
    return tmp_path


@pytest.fixture
def red(tree: Path) -> Facts:
    files = (
        read_xunit(RECORDED / "failing-xunit.xml"),
        read_xunit(RECORDED / "failing-xunit-swift-testing.xml"),
    )
    return Facts(action="test", phases=RED, xunit=files, log=log_of("failing.txt", tree))


def summary_of(facts: Facts, *argv: str, failed: tuple[TestFailure, ...] = ()) -> Summary:
    return summaries.summary(
        jobs.job(*(argv or (facts.action,))),
        facts,
        decide(facts),
        created_at=jobs.NOW,
        attempts=1,
        duration_ms=1000,
        failed=failed,
        log_truncated=False,
        simulated=False,
    )


@pytest.mark.spec("9")
def test_failed_tests_have_the_consoles_message_and_a_place_in_the_repository(
    red: Facts, tree: Path
) -> None:
    found = [(one.suite, one.name, one.message, one.path, one.line) for one in failures(red, Places(tree))]
    assert found == [
        (
            "SampleTests.SumTests",
            "testOfNone",
            'XCTAssertEqual failed: ("1") is not equal to ("0")',
            "Tests/SampleTests/SumTests.swift",
            11,
        ),
        (
            "SampleTests.SumSuite",
            "none()",
            "Expectation failed: (sum([]) → 1) == 0",
            "Tests/SampleTests/SumSuite.swift",
            11,
        ),
        ("SampleTests.LabSuite", "odd(_:)", "Expectation failed: (n % 2 → 0) == 1", "Suite.swift", 7),
        ("SampleTests.LabSuite.Inner", "named()", "Expectation failed: Bool(false)", "Suite.swift", 12),
    ]


def test_an_issue_in_a_function_of_the_same_name_is_not_taken_for_ours(tree: Path) -> None:
    log = log_of("failing.txt", tree)
    cases = (Case("M.Other", "none()", "failed", "Expectation failed: something else (error)"),)
    facts = Facts(action="test", phases=RED, log=log, xunit=(XunitFile("b.xml", cases),))
    (one,) = failures(facts, Places(tree))
    assert (one.message, one.path) == ("Expectation failed: something else (error)", None)


def test_a_test_that_crashed_says_what_the_trap_said(tree: Path) -> None:
    cases = (
        Case("SampleTests.SumTests", "testOfNone", "failed", "failure"),
        Case("M.A", "testX", "failed"),
    )
    log = log_of("crashing.txt", tree)
    facts = Facts(action="test", phases=RED, log=log, xunit=(XunitFile("a.xml", cases),))
    crashed, other = failures(facts, Places(tree))
    assert crashed.message == "Sample/Sum.swift:3: Fatal error: nothing to sum"
    assert other.message == "failed"


@pytest.mark.spec("8")
def test_the_line_for_people_names_the_failed_tests(red: Facts, tree: Path) -> None:
    summary = summary_of(red, failed=failures(red, Places(tree)))
    assert summary.human_summary == (
        "4 of 9 tests failed: SumTests.testOfNone, SumSuite.none(), LabSuite.odd(_:), Inner.named()"
    )
    assert (summary.status, summary.exit_code, summary.backend_exit_code) == ("failed", 50, 1)
    assert (summary.failure_kind, summary.failure_subkind) == ("SWIFTPM", "TESTS_FAILED")
    assert summary.backend_term_signal is UNSET
    assert summary.verdict is not UNSET
    assert summary.verdict.outcome == "TESTS_FAILED"


def test_the_line_for_people_names_the_first_error_with_its_place(tree: Path) -> None:
    log = log_of("broken.txt", tree, "build")
    summary = summary_of(Facts(action="build", phases=(PhaseExit("build", 1, None, 5),), log=log))
    assert summary.human_summary == (
        "build failed: Sources/Sample/Sum.swift:3:22: error:"
        " cannot convert value of type 'String' to specified type 'Int'"
    )


def many(failed: int, passed: int = 0, skipped: int = 0) -> tuple[XunitFile, XunitFile]:
    cases = [Case("M.A", f"test{n}", "failed") for n in range(failed)]
    cases += [Case("M.A", f"testP{n}", "passed") for n in range(passed)]
    cases += [Case("M.A", f"testS{n}", "skipped") for n in range(skipped)]
    return XunitFile("xunit.xml", tuple(cases)), XunitFile("xunit-swift-testing.xml")


def green_run(failed: int, passed: int = 0, skipped: int = 0) -> Facts:
    """Tests that swift ended with 0, each as its console told it."""
    files = many(failed, passed, skipped)
    told = tuple(f"A.{one.name}" for one in files[0].cases if one.outcome != "failed")
    return Facts(action="test", phases=GREEN, xunit=files, log=LogFacts(vouched=told))


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (green_run(0, 14), "14 tests passed"),
        (green_run(0, 1), "1 test passed"),
        (green_run(0, 3, 2), "3 tests passed, 2 skipped"),
        (Facts(action="build", phases=GREEN[:1]), "build succeeded"),
        (
            Facts(action="build", phases=GREEN[:1], log=LogFacts(warning_count=1)),
            "build succeeded, 1 warning",
        ),
        (Facts(action="test", phases=GREEN, xunit=many(0)), "no test ran"),
        (Facts(action="test", phases=(), ended=EndedByUs("USER")), "cancelled by the user"),
        (
            Facts(action="test", phases=(), ended=EndedByUs("TIMEOUT_IDLE")),
            "said nothing for timeouts.idle_log_seconds",
        ),
        (
            Facts(
                action="test",
                phases=(GREEN[0], PhaseExit("test", None, 15, 80)),
                ended=EndedByUs("TIMEOUT_IDLE"),
            ),
            (
                "said nothing for timeouts.idle_log_seconds; swift test holds the output of an XCTest back"
                " until it ends: if one takes longer than idle_log_seconds, raise timeouts.idle_log_seconds"
            ),
        ),
        (
            Facts(
                action="test",
                phases=(PhaseExit("build", None, 15, 80),),
                ended=EndedByUs("TIMEOUT_IDLE"),
            ),
            "said nothing for timeouts.idle_log_seconds",
        ),
        (
            Facts(action="build", phases=(PhaseExit("build", None, None, 0, "No such file"),)),
            "build could not start: No such file",
        ),
        (
            Facts(action="test", phases=GREEN, xunit=many(1)),
            "the results disagree: swift test said 0 with 1 failed tests (failed: A.test0)",
        ),
        (
            Facts(action="test", phases=RED, xunit=many(7, 1)),
            "7 of 8 tests failed: A.test0, A.test1, A.test2, A.test3, A.test4 and 2 more",
        ),
    ],
)
def test_the_line_for_people(facts: Facts, line: str, tmp_path: Path) -> None:
    assert summary_of(facts, failed=failures(facts, Places(tmp_path))).human_summary == line


@pytest.mark.spec("9")
def test_a_narrowed_run_says_so() -> None:
    facts = green_run(0, 2)
    argv = ("test", "--configuration", "debug", "--filter", "A|B", "--skip", "Slow", "--parallel")
    summary = summary_of(facts, *argv)
    assert summary.scope == ("--filter=A|B", "--skip=Slow")
    assert summary.human_summary == "2 tests passed (narrowed: --filter=A|B, --skip=Slow)"
    assert narrowing(("build", "--product", "P", "--jobs", "2")) == ("--product=P",)
    assert summary_of(facts).scope is UNSET


def test_a_signal_is_told_in_place_of_an_exit_code() -> None:
    summary = summary_of(Facts(action="build", phases=(PhaseExit("build", None, 9, 5),)))
    assert summary.backend_exit_code is UNSET
    assert (summary.backend_term_signal, summary.exit_code) == (9, 50)


def test_a_line_is_one_line_without_control_characters() -> None:
    assert one_line("a\nb\t\x1b[31mc\x00  d") == "a b [31mc d"
    long = one_line("é" * 1000)
    assert (len(long), long[-1]) == (300, "…")


def test_summaries_count_elements(red: Facts, tree: Path) -> None:
    told = summaries.test_summary(jobs.job(), red, failures(red, Places(tree)), created_at=jobs.NOW)
    assert (told.total, told.passed, told.failed, told.skipped) == (9, 4, 4, 1)
    assert told.duration_ms == 80
    assert len(told.failures) == 4
    built = summaries.build_summary(jobs.job(), red, created_at=jobs.NOW)
    assert (built.succeeded, built.error_count, built.first_error) == (True, 0, None)


def test_junit_holds_each_case_once_with_its_failure_and_place(red: Facts, tree: Path) -> None:
    document = ET.fromstring(junit_xml(red.cases, failures(red, Places(tree))))  # noqa: S314  (as above)
    assert document.tag == "testsuites"
    assert (document.get("tests"), document.get("failures"), document.get("skipped")) == ("9", "4", "1")
    assert len(document.findall("testsuite")) == 4
    assert len(document.findall(".//testcase")) == 9
    failed = document.find(".//testcase[@name='testOfNone']/failure")
    assert failed is not None
    assert failed.get("message") == 'XCTAssertEqual failed: ("1") is not equal to ("0")'
    assert str(failed.text).startswith("Tests/SampleTests/SumTests.swift:11: ")
    assert document.find(".//testcase[@name='off()']/skipped") is not None


def test_junit_survives_names_that_xml_cannot_hold() -> None:
    cases = [
        Case("M.\x00<A>&\"'", "test\x01\ud800\ufffe]]>", "failed", "m\x1b\x00"),
        Case("", "", "passed"),
        Case("\x02", "b", "skipped", "\x03"),
    ]
    failed = [
        TestFailure(
            name=cases[0].name, suite=cases[0].suite, message="bad\x07", path="A\x08.swift", line=None
        )
    ]
    document = ET.fromstring(junit_xml(cases, failed))  # noqa: S314  (as above)
    names = [(one.get("classname"), one.get("name")) for one in document.findall(".//testcase")]
    assert names[0] == ("M.?<A>&\"'", "test???]]>")
    failure = document.find(".//failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("bad?", "A?.swift: bad?")


def test_junit_of_many_classes_is_made_quickly() -> None:
    cases = [Case(f"M.C{n % 2000}", f"test{n}", "passed") for n in range(20_000)]
    document = ET.fromstring(junit_xml(cases, []))  # noqa: S314  (as above)
    assert document.get("tests") == "20000"


def test_a_source_file_is_named_by_its_folder_only_where_there_is_one(tree: Path) -> None:
    (tree / ".build/checkouts/SumTests.swift").parent.mkdir(parents=True)
    (tree / ".build/checkouts/SumTests.swift").touch()
    places = Places(tree)
    assert places.named("SumTests.swift") == "Tests/SampleTests/SumTests.swift"
    assert places.named("Suite.swift") is None
    assert places.named("Nowhere.swift") is None
