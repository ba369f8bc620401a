from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from rch.contract.errors import Kind, lookup
from rch.contract.records import Diagnostic
from worker_agent.model import EndedByUs, PhaseExit
from worker_agent.results.cases import Case
from worker_agent.results.logfacts import LogFacts
from worker_agent.results.verdict import Facts, OwnFailure, decide
from worker_agent.results.xunit import XunitFile


def phase(
    name: str, code: int | None = 0, *, signal: int | None = None, error: str | None = None
) -> PhaseExit:
    return PhaseExit(name, code, signal, 5, error)


def case(name: str, outcome: str = "passed", suite: str = "M.A") -> Case:
    return Case(suite, name, outcome)


def files(*cases: Case, problem: str | None = None) -> tuple[XunitFile, XunitFile]:
    return XunitFile("xunit.xml", cases), XunitFile("xunit-swift-testing.xml", (), problem)


BUILD = (phase("build"),)
TEST = (phase("build"), phase("test"))
RED = (phase("build"), phase("test", 1))
ERROR = Diagnostic(path="Sources/A.swift", line=3, column=9, severity="error", message="no such thing")
BARE = Diagnostic(path=None, line=None, column=None, severity="error", message="link command failed")
ABROAD = Diagnostic(path="/usr/x.h", line=1, column=1, severity="error", message="x")
OK_TESTS = files(case("testX"), case("testY"))
CRASH = LogFacts(
    signal=4, crashes=("signal 4",), trap="A.swift:3: Fatal error: boom", unfinished=("A.testX",)
)


def build(*phases: PhaseExit, log: LogFacts | None = None) -> Facts:
    return Facts(action="build", phases=phases, log=log or LogFacts())


def after_tests(
    phases: tuple[PhaseExit, ...],
    xunit: tuple[XunitFile, ...] = OK_TESTS,
    log: LogFacts | None = None,
    *,
    allow_no_tests: bool = False,
) -> Facts:
    return Facts(
        action="test",
        phases=phases,
        xunit=xunit,
        log=replace(log or LogFacts(), vouched=vouched(xunit)),
        allow_no_tests=allow_no_tests,
    )


def vouched(xunit: tuple[XunitFile, ...]) -> tuple[str, ...]:
    """What a console says whose tests all ran: the names of those of XCTest that did not fail."""
    cases = xunit[0].cases if xunit else ()
    return tuple(f"A.{one.name}" for one in cases if one.outcome != "failed")


@dataclass(frozen=True)
class Row:
    """What happened, and the verdict that must come of it."""

    about: str
    facts: Facts
    status: str
    kind: Kind | None
    outcome: str
    exit_code: int


def passed(about: str, facts: Facts) -> Row:
    return Row(about, facts, "success", None, "PASSED", 0)


def swift(about: str, facts: Facts, subkind: str) -> Row:
    return Row(about, facts, "failed", Kind.SWIFTPM, subkind, 50)


def own(about: str, facts: Facts, subkind: str) -> Row:
    return Row(about, facts, "failed", Kind.EXECUTOR, subkind, 40)


ERRORS = LogFacts(diagnostics=(ERROR,), error_count=1)
NO_TESTS = LogFacts(no_tests_found=True)
TOLD = LogFacts(passed=frozenset({"A.testX"}))
SKIPPED = files(case("testX", "skipped"))
FAILED = files(case("testX", "failed"), case("testY"))
CUT = files(case("testX"), problem="is cut short")
MISSING = (XunitFile("xunit.xml", problem="was not written"), XunitFile("b.xml", problem="was not written"))

ROWS = [
    passed("a build that said 0", build(*BUILD)),
    passed(
        "a build with warnings and errors of system headers",
        build(*BUILD, log=LogFacts(diagnostics=(ABROAD,))),
    ),
    passed("tests that all passed", after_tests(TEST)),
    passed(
        "a skipped test among passed ones",
        after_tests(TEST, files(case("testX", "skipped"), case("testY"))),
    ),
    passed(
        "another project's log printed by a test",
        after_tests(TEST, log=LogFacts(failed=frozenset({"B.testZ"}))),
    ),
    passed("a crash printed by a passing test", after_tests(TEST, log=LogFacts(signal=4))),
    passed("no test, where that is allowed", after_tests(TEST, files(), allow_no_tests=True)),
    passed("only skipped tests, where no test is allowed", after_tests(TEST, SKIPPED, allow_no_tests=True)),
    passed(
        "no test target, where that is allowed", after_tests(RED, MISSING, NO_TESTS, allow_no_tests=True)
    ),
    own("nothing was run", build(), "START_FAILED"),
    own("swift could not start", build(phase("build", None, error="No such file")), "START_FAILED"),
    own(
        "swift test could not start", after_tests((*BUILD, phase("test", None, error="x"))), "START_FAILED"
    ),
    own("an end that nobody saw", build(phase("build", None)), "WORKER_LOST"),
    own("a full disk and no diagnostic", build(phase("build", 1), log=LogFacts(no_space=True)), "NO_SPACE"),
    swift("a compiler error", build(phase("build", 1), log=ERRORS), "BUILD_FAILED"),
    swift("a compiler error in a test job", after_tests((phase("build", 1),), (), ERRORS), "BUILD_FAILED"),
    swift("a build that failed without a word", build(phase("build", 1)), "BUILD_FAILED"),
    swift("a build that was killed", build(phase("build", None, signal=9)), "BUILD_FAILED"),
    swift(
        "a compiler error beside a full disk",
        build(phase("build", 1), log=replace(ERRORS, no_space=True)),
        "BUILD_FAILED",
    ),
    swift("a crash", after_tests(RED, FAILED, CRASH), "TESTS_CRASHED"),
    swift("a crash that cut the results", after_tests(RED, CUT, CRASH), "TESTS_CRASHED"),
    swift("swift test killed", after_tests((*BUILD, phase("test", None, signal=11)), CUT), "TESTS_CRASHED"),
    swift(
        "a test whose process was killed, of which nobody said a word",
        after_tests(RED, FAILED, LogFacts(unfinished=("A.testX",))),
        "TESTS_CRASHED",
    ),
    swift(
        "a failed test beside another's log",
        after_tests(RED, FAILED, LogFacts(unfinished=("B.testX",))),
        "TESTS_FAILED",
    ),
    swift("a failed test", after_tests(RED, FAILED), "TESTS_FAILED"),
    swift(
        "a failed test and results that are cut", after_tests(RED, (*FAILED[:1], CUT[1])), "TESTS_FAILED"
    ),
    swift("no test", after_tests(TEST, files()), "NO_TESTS_RAN"),
    swift("only skipped tests", after_tests(TEST, SKIPPED), "NO_TESTS_RAN"),
    swift("no test target", after_tests(RED, MISSING, NO_TESTS), "NO_TESTS_RAN"),
    swift("exit 0 with a failed test", after_tests(TEST, FAILED), "INCONSISTENT"),
    swift("exit 1 with none", after_tests(RED), "INCONSISTENT"),
    swift("exit 1 without any test", after_tests(RED, files()), "INCONSISTENT"),
    swift(
        "exit 1 without any test, allowed", after_tests(RED, files(), allow_no_tests=True), "INCONSISTENT"
    ),
    *(
        swift(
            f"{about}, no test allowed: {allowed}", replace(facts, allow_no_tests=allowed), "INCONSISTENT"
        )
        for allowed in (False, True)
        for about, facts in (
            ("no test target and results that are cut", after_tests(RED, files(problem="x"), NO_TESTS)),
            ("no test target and a skipped test", after_tests(RED, SKIPPED, NO_TESTS)),
            ("no test target and code 2", after_tests((*BUILD, phase("test", 2)), MISSING, NO_TESTS)),
            ("no test target and no build", after_tests((phase("test", 1),), MISSING, NO_TESTS)),
            (
                "no test target and a build error",
                after_tests(TEST, files(), replace(ERRORS, no_tests_found=True)),
            ),
            ("no results of a test that passed", after_tests(TEST, files(), TOLD)),
            (
                "no test target and a test that passed",
                after_tests(RED, MISSING, replace(TOLD, no_tests_found=True)),
            ),
            ("no results of a test that began", after_tests(TEST, files(), LogFacts(running=("x()",)))),
            ("no results of a process that died", after_tests(TEST, files(), LogFacts(signal=9))),
            (
                "skipped tests and one that began",
                after_tests(TEST, SKIPPED, LogFacts(unfinished=("A.testX",))),
            ),
        )
    ),
    swift("a test that ended the process with 0", after_tests(TEST, CUT), "INCONSISTENT"),
    swift("no results at all", after_tests(TEST, MISSING), "INCONSISTENT"),
    swift("no results at all, allowed", after_tests(TEST, MISSING, allow_no_tests=True), "INCONSISTENT"),
    swift("no results file known", after_tests(TEST, ()), "INCONSISTENT"),
    swift("tests that were never run", after_tests(BUILD), "INCONSISTENT"),
    swift("tests without a build", after_tests((phase("test"),)), "INCONSISTENT"),
    swift("a build that said 0 with an error", build(*BUILD, log=ERRORS), "INCONSISTENT"),
    swift(
        "a test that failed on the console and passed in the results",
        after_tests(TEST, log=LogFacts(failed=frozenset({"A.testX"}))),
        "INCONSISTENT",
    ),
    swift(
        "a test that started and never ended",
        after_tests(TEST, log=LogFacts(unfinished=("A.testX",))),
        "INCONSISTENT",
    ),
]


@pytest.mark.spec("9")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_the_verdict_on(row: Row) -> None:
    decision = decide(row.facts)
    assert (decision.status, decision.kind, decision.outcome) == (row.status, row.kind, row.outcome)
    assert decision.exit_code == row.exit_code
    if row.kind is not None:
        assert decision.exit_code == lookup(row.kind, decision.subkind).exit_code
        assert decision.subkind == row.outcome
        assert decision.outcome == "TESTS_FAILED" or decision.why


@pytest.mark.spec("9")
@pytest.mark.parametrize("told", [(), ("A.testX",), ("A.testY", "B.testX")])
def test_a_test_that_the_console_never_saw_pass_is_no_pass(told: tuple[str, ...]) -> None:
    decision = decide(replace(after_tests(TEST), log=LogFacts(vouched=told)))
    silent = {"A.testX", "A.testY"} - set(told)
    assert decision.outcome == "INCONSISTENT"
    facts = [one.fact for one in decision.evidence if one.source == "comparison"]
    assert facts == [
        f"{name} passed in the results and the console never said so" for name in sorted(silent)
    ]


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("log", "doubt"),
    [
        (LogFacts(failed_functions=frozenset({"f()"})), "f() failed on the console and not in the results"),
        (LogFacts(running=("f()",)), "f() began on the console and never ended"),
        (LogFacts(failed_functions=frozenset({"g()"}), running=("h()",)), None),
    ],
)
def test_a_function_that_failed_or_never_ended_on_the_console_is_no_pass(
    log: LogFacts, doubt: str | None
) -> None:
    ran = (XunitFile("xunit.xml"), XunitFile("b.xml", (case("f()", suite="M"),)))
    decision = decide(after_tests(TEST, ran, log))
    assert (decision.why or None) == doubt
    assert decision.outcome == ("PASSED" if doubt is None else "INCONSISTENT")


def test_tests_of_one_name_are_each_to_be_vouched_for() -> None:
    twice = (XunitFile("xunit.xml", (case("testX"), case("testX", suite="N.A"))), XunitFile("b.xml"))
    once = replace(after_tests(TEST, twice), log=LogFacts(vouched=("A.testX",)))
    assert decide(once).outcome == "INCONSISTENT"
    assert decide(after_tests(TEST, twice)).outcome == "PASSED"


ENDS = [
    ("USER", "cancelled", Kind.CANCELLED, 80),
    ("SIGNAL", "cancelled", Kind.CANCELLED, 80),
    ("SUPERSEDED", "cancelled", Kind.CANCELLED, 80),
    ("LEASE_EXPIRED", "cancelled", Kind.CANCELLED, 80),
    ("TIMEOUT_OVERALL", "failed", Kind.EXECUTOR, 40),
    ("TIMEOUT_IDLE", "failed", Kind.EXECUTOR, 40),
    ("WORKER_LOST", "failed", Kind.EXECUTOR, 40),
]


@pytest.mark.spec("4")
@pytest.mark.parametrize(("reason", "status", "kind", "code"), ENDS)
@pytest.mark.parametrize("row", [ROWS[0], ROWS[2], ROWS[9], ROWS[14], ROWS[22]], ids=lambda row: row.about)
def test_what_we_ended_ourselves_is_decided_first(
    reason: str, status: str, kind: Kind, code: int, row: Row
) -> None:
    decision = decide(replace(row.facts, ended=EndedByUs(reason)))
    assert (decision.status, decision.kind, decision.exit_code) == (status, kind, code)
    assert decision.outcome == decision.subkind == reason
    assert f"ended the job: {reason}" in [one.fact for one in decision.evidence]


def test_a_failure_of_our_own_is_told_with_its_kind() -> None:
    failure = OwnFailure(Kind.EXECUTOR, "NO_SPACE", "no space left to unpack the source")
    decision = decide(Facts(action="test", phases=(), failure=failure))
    assert (decision.kind, decision.subkind, decision.exit_code) == (Kind.EXECUTOR, "NO_SPACE", 40)
    assert decision.why == failure.message


def test_a_cancel_counts_before_a_failure_of_our_own() -> None:
    failure = OwnFailure(Kind.EXECUTOR, None, "x")
    decision = decide(Facts(action="test", phases=(), failure=failure, ended=EndedByUs("USER")))
    assert decision.exit_code == 80


@pytest.mark.spec("9")
def test_the_evidence_states_each_phase_and_each_results_file() -> None:
    decision = decide(after_tests(RED, (*FAILED[:1], CUT[1])))
    assert [(one.source, one.fact) for one in decision.evidence] == [
        ("phase build", "exit code 0"),
        ("phase test", "exit code 1"),
        ("xunit.xml", "2 test cases, 1 failed"),
        ("xunit-swift-testing.xml", "is cut short (0 test cases)"),
    ]


def test_the_reason_of_a_failed_build_is_its_first_error_with_a_place() -> None:
    log = LogFacts(diagnostics=(BARE, ERROR), error_count=2)
    assert decide(build(phase("build", 1), log=log)).why == "Sources/A.swift:3:9: error: no such thing"
    bare = decide(build(phase("build", 1), log=LogFacts(diagnostics=(BARE,), error_count=1)))
    assert bare.why == "error: link command failed"
    assert decide(build(phase("build", None, signal=9))).why == "swift build: ended by signal 9"


def test_the_reason_of_a_crash_is_the_test_and_the_trap() -> None:
    assert decide(after_tests(RED, FAILED, CRASH)).why == "A.testX: A.swift:3: Fatal error: boom"


@pytest.mark.spec("9")
def test_where_the_results_are_cut_short_the_tests_that_ran_last_are_named() -> None:
    why = decide(after_tests(TEST, CUT, LogFacts(running=("mayEnd()",)))).why
    assert why == "the tests ended early while mayEnd() ran: xunit-swift-testing.xml is cut short"
    why = decide(after_tests(TEST, CUT, LogFacts(running=("a()", "b()", "c()", "d()", "e()")))).why
    assert why.startswith("the tests ended early while c(), d(), e() and 2 more ran: ")
    why = decide(after_tests(TEST, CUT)).why
    assert why == "the tests ended early: xunit-swift-testing.xml is cut short"
    assert decide(after_tests(TEST, OK_TESTS, LogFacts(running=("printed()",)))).outcome == "PASSED"


def test_what_disagrees_is_named() -> None:
    log = LogFacts(failed=frozenset({"A.testX"}), unfinished=("A.testY", "B.testZ"))
    why = decide(after_tests(TEST, CUT, log)).why
    assert "xunit-swift-testing.xml is cut short" in why
    assert "A.testX failed on the console and passed in the results" in why
    assert "B.testZ" not in why
    assert decide(after_tests(TEST, FAILED)).why == "swift test said 0 with 1 failed tests"
