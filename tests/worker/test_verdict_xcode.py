from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from support.evidence import ERRORS, after_tests, build, bundle_of, case, log_of, phase

from rch.contract.errors import Kind, lookup
from worker_agent.results import signs
from worker_agent.results.cases import Attempt, Case
from worker_agent.results.facts import Facts, OwnFailure
from worker_agent.results.logfacts import LogFacts
from worker_agent.results.verdict import decide
from worker_agent.results.xcresult import Bundle
from worker_agent.results.xcresult_db import DatabaseRead
from worker_agent.results.xcresult_summary import BuildRead, SummaryRead
from worker_agent.results.xcresult_tests import TestsRead
from worker_agent.tries import trouble_in

GREEN = bundle_of(case("a()"), case("b()"))
RED = bundle_of(case("a()", "failed", said="no"), case("b()"))
SKIPS = bundle_of(case("a()", "skipped"))
EMPTY = bundle_of()
EVERY_SIGN = (
    signs.PACKAGE_RESOLUTION,
    signs.DEPENDENCY_GRAPH,
    signs.SCRIPT_PHASE,
    signs.COMPILE,
    signs.LINK,
    signs.SIGNING,
    signs.LICENCE,
    signs.NO_DESTINATION,
    signs.PROJECT_MISSING,
    signs.USAGE,
    signs.LOCKED_DATABASE,
    signs.INFRASTRUCTURE,
    signs.CRASH,
    signs.BUILD_FAILED,
    signs.TESTS_FAILED,
)
RUNNER = "AppUITests-Runner (7) encountered an error ({})"


@dataclass(frozen=True)
class Row:
    """What happened, and the verdict that must come of it."""

    about: str
    facts: Facts
    outcome: str
    kind: Kind | None = Kind.XCODEBUILD


def infra(about: str, facts: Facts) -> Row:
    return Row(about, facts, "INFRASTRUCTURE", Kind.EXECUTOR)


def runner(text: str) -> Bundle:
    said = case("AppUITests", "failed", said=RUNNER.format(text))
    return bundle_of(case("a()"), replace(said, identifier="System Failures/AppUITests"))


ROWS = [
    # 2: codes by which the tool says that it came no further than the command line
    Row("exit 64", after_tests(64, EMPTY), "USAGE"),
    Row("exit 66", after_tests(66), "PROJECT_MISSING"),
    Row("exit 69", build(69), "LICENSE"),
    Row("exit 70", after_tests(70, EMPTY, log_of(signs.INFRASTRUCTURE)), "NO_DESTINATION"),
    Row("exit 74", after_tests(74, None, log_of(signs.PACKAGE_RESOLUTION)), "PACKAGE_RESOLUTION"),
    Row(
        "no such scheme, with 65", after_tests(65, EMPTY, log_of(signs.PROJECT_MISSING)), "PROJECT_MISSING"
    ),
    Row("packages, with 65", build(65, log_of(signs.PACKAGE_RESOLUTION)), "PACKAGE_RESOLUTION"),
    Row(
        "packages in a test's print", after_tests(65, RED, log_of(signs.PACKAGE_RESOLUTION)), "TESTS_FAILED"
    ),
    # 3: the build
    Row("a compiler error", build(65, ERRORS), "BUILD_FAILED"),
    Row("a compiler error in a test job", after_tests(65, EMPTY, ERRORS), "BUILD_FAILED"),
    Row("a compiler error that only the log tells", after_tests(65, None, ERRORS), "BUILD_FAILED"),
    Row(
        "errors that only the bundle tells",
        after_tests(65, replace(EMPTY, build=BuildRead(error_count=1))),
        "BUILD_FAILED",
    ),
    Row("a script phase", build(65, log_of(signs.SCRIPT_PHASE)), "BUILD_FAILED"),
    Row("a build without a word", build(65), "BUILD_FAILED"),
    Row(
        "a build that was killed",
        replace(build(), phases=(phase(None, "build", signal=9),)),
        "BUILD_FAILED",
    ),
    Row(
        "a build failure and a dead runner",
        after_tests(65, EMPTY, log_of(signs.BUILD_FAILED, signs.INFRASTRUCTURE)),
        "BUILD_FAILED",
    ),
    Row("no space", build(65, LogFacts(no_space=True)), "NO_SPACE", Kind.EXECUTOR),
    infra("a build database that another build holds", build(65, log_of(signs.LOCKED_DATABASE))),
    # 4: the place where tests run
    infra(
        "a runner that never started, all tests green", after_tests(65, GREEN, log_of(signs.INFRASTRUCTURE))
    ),
    infra("a runner that never started, no bundle", after_tests(65, None, log_of(signs.INFRASTRUCTURE))),
    infra("a lost connection beside a failed test", after_tests(65, RED, log_of(signs.INFRASTRUCTURE))),
    infra(
        "a lost connection that crashed tests",
        after_tests(65, RED, log_of(signs.CRASH, signs.INFRASTRUCTURE)),
    ),
    infra(
        "a runner's trouble in the bundle alone", after_tests(65, runner("Lost connection to testmanagerd"))
    ),
    # 5: crashes
    Row("a restart after a crash", after_tests(65, RED, log_of(signs.CRASH)), "TESTS_CRASHED"),
    Row(
        "a crash in the bundle",
        after_tests(65, bundle_of(case("a()", "failed", said="Crash: App at f()"))),
        "TESTS_CRASHED",
    ),
    Row(
        "a runner that crashed amid its tests",
        after_tests(65, runner("Test crashed with signal kill")),
        "TESTS_CRASHED",
    ),
    Row("xcodebuild killed", after_tests(None, GREEN, signal=9), "TESTS_CRASHED"),
    Row(
        "a restart after a test that took too long",
        after_tests(
            65, bundle_of(case("a()", "failed", said="exceeded its time allowance")), log_of(signs.CRASH)
        ),
        "TESTS_FAILED",
    ),
    # 6: failed tests
    Row("a failed test", after_tests(65, RED), "TESTS_FAILED"),
    Row("a failed test and a strange code", after_tests(1, RED), "TESTS_FAILED"),
    # 7: nothing ran
    Row("no test", after_tests(0, EMPTY), "NO_TESTS_RAN"),
    Row(
        "no test, and no result of the whole",
        after_tests(0, replace(EMPTY, summary=SummaryRead(result="unknown"))),
        "NO_TESTS_RAN",
    ),
    Row("only skipped tests", after_tests(0, SKIPS), "NO_TESTS_RAN"),
    Row("no test, where that is allowed", after_tests(0, EMPTY, allow_no_tests=True), "PASSED", None),
    Row("no bundle, where no test is allowed", after_tests(0, None, allow_no_tests=True), "INCONSISTENT"),
    # 8: sources that disagree
    Row("exit 0 with a failed test", after_tests(0, RED), "INCONSISTENT"),
    Row("exit 65 with none", after_tests(65, GREEN), "INCONSISTENT"),
    Row("exit 65 without any test", after_tests(65, EMPTY), "INCONSISTENT"),
    Row("exit 65 without any test, allowed", after_tests(65, EMPTY, allow_no_tests=True), "INCONSISTENT"),
    Row("no bundle", after_tests(0, None), "INCONSISTENT"),
    Row("a bundle that was not written", after_tests(0, Bundle(problem="was not written")), "INCONSISTENT"),
    Row(
        "tests that cannot be read",
        after_tests(0, replace(GREEN, tests=TestsRead(problem="is empty"))),
        "INCONSISTENT",
    ),
    Row(
        "a summary that cannot be read",
        after_tests(0, replace(GREEN, summary=SummaryRead(problem="is empty"))),
        "INCONSISTENT",
    ),
    Row("a bundle not asked for tests", after_tests(0, Bundle()), "INCONSISTENT"),
    Row(
        "a summary of another count", after_tests(0, replace(GREEN, summary=EMPTY.summary)), "INCONSISTENT"
    ),
    Row("a summary that says Failed", after_tests(0, replace(GREEN, summary=RED.summary)), "INCONSISTENT"),
    Row(
        "a summary of a strange result",
        after_tests(0, replace(GREEN, summary=replace(GREEN.summary or SummaryRead(), result="unknown"))),
        "INCONSISTENT",
    ),
    Row(
        "a database that tells of a failure",
        after_tests(0, replace(GREEN, database=RED.database)),
        "INCONSISTENT",
    ),
    Row(
        "a database that holds nothing",
        after_tests(0, replace(GREEN, database=DatabaseRead())),
        "INCONSISTENT",
    ),
    Row(
        "a database that is none",
        after_tests(0, replace(GREEN, database=DatabaseRead(problem="is none"))),
        "INCONSISTENT",
    ),
    Row(
        "nodes that contradict",
        after_tests(0, replace(GREEN, tests=TestsRead(cases=GREEN.cases, doubts=("x",)))),
        "INCONSISTENT",
    ),
    Row(
        "a test without a result",
        after_tests(0, bundle_of(case("a()", "unknown"), case("b()"))),
        "INCONSISTENT",
    ),
    Row(
        "a test that failed on the console",
        after_tests(0, GREEN, LogFacts(failed=frozenset({"SumTests.a"}))),
        "INCONSISTENT",
    ),
    Row(
        "a test of the list of failing ones",
        after_tests(0, GREEN, LogFacts(failing=frozenset({"SumTests.a"}))),
        "INCONSISTENT",
    ),
    Row(
        "a test that never ended",
        after_tests(0, GREEN, LogFacts(unfinished=("SumTests.b",))),
        "INCONSISTENT",
    ),
    Row("a build that said 0 with an error", build(0, ERRORS), "INCONSISTENT"),
    Row(
        "a bundle with build errors",
        after_tests(0, replace(GREEN, build=BuildRead(error_count=2))),
        "INCONSISTENT",
    ),
    Row(
        "a build alone in a test job",
        replace(after_tests(0, GREEN), phases=(phase(0, "build"),)),
        "INCONSISTENT",
    ),
    *(
        Row(f"exit 0 beside a sign of {kind}", after_tests(0, GREEN, log_of(kind)), "INCONSISTENT")
        for kind in EVERY_SIGN
    ),
    *(
        Row(f"a build's exit 0 beside a sign of {kind}", build(0, log_of(kind)), "INCONSISTENT")
        for kind in EVERY_SIGN
    ),
    Row(
        "a banner beside a flaky test",
        after_tests(0, bundle_of(case("a()", lost=True)), log_of(signs.TESTS_FAILED)),
        "INCONSISTENT",
    ),
    Row(
        "a test in the list of failing ones that the bundle does not know",
        after_tests(0, GREEN, LogFacts(failing=frozenset({"OtherTests.z"}))),
        "INCONSISTENT",
    ),
    *(
        Row(f"a build report, {about}", facts(0, bundle=replace(GREEN, build=told)), "INCONSISTENT")
        for facts in (after_tests, build)
        for about, told in (
            (f"cannot be read {facts.__name__}", BuildRead(problem="x")),
            (f"failed {facts.__name__}", BuildRead(status="failed")),
            (f"of a strange status {facts.__name__}", BuildRead(status="halted")),
        )
    ),
    # 9: what passes
    Row("tests that all passed", after_tests(0, GREEN), "PASSED", None),
    Row("two phases", replace(after_tests(0, GREEN), phases=(phase(0, "build"), phase())), "PASSED", None),
    Row(
        "a skip and an expected failure",
        after_tests(0, bundle_of(case("a()"), case("b()", "skipped"), case("c()", "expected_failure"))),
        "PASSED",
        None,
    ),
    Row(
        "a flaky test",
        after_tests(0, bundle_of(case("a()", lost=True)), LogFacts(failed=frozenset({"SumTests.a"}))),
        "PASSED",
        None,
    ),
    Row("a bundle without a database", after_tests(0, replace(GREEN, database=None)), "PASSED", None),
    Row(
        "a database of an unknown layout",
        after_tests(0, replace(GREEN, database=DatabaseRead(problem="x", foreign=True))),
        "PASSED",
        None,
    ),
    Row(
        "a restart before a retry that passed",
        after_tests(0, bundle_of(case("a()", lost=True)), log_of(signs.CRASH)),
        "PASSED",
        None,
    ),
    Row(
        "a flaky test in the list of failing ones",
        after_tests(0, bundle_of(case("a()", lost=True)), LogFacts(failing=frozenset({"SumTests.a"}))),
        "PASSED",
        None,
    ),
    Row("a build's report", build(0, bundle=Bundle(build=BuildRead(status="succeeded"))), "PASSED", None),
    Row("a build", build(0), "PASSED", None),
]


@pytest.mark.spec("9")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_the_verdict_on(row: Row) -> None:
    decision = decide(row.facts)
    assert (decision.outcome, decision.kind) == (row.outcome, row.kind), decision.why
    if row.kind is None:
        assert (decision.status, decision.exit_code) == ("success", 0)
    else:
        assert decision.exit_code == lookup(row.kind, row.outcome).exit_code
        assert decision.why or decision.outcome == "TESTS_FAILED"
    assert decision.evidence


def arguments_of(*outcomes: str) -> Case:
    return replace(case("a(_:)"), arguments=tuple(Attempt(str(n), one) for n, one in enumerate(outcomes)))


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("cases", "counts", "outcome"),
    [
        ((arguments_of("passed", "passed"), case("b()")), (2, 0), "PASSED"),
        ((arguments_of("passed", "passed"), case("b()")), (3, 0), "PASSED"),
        ((arguments_of("passed", "passed"), case("b()")), (4, 0), "INCONSISTENT"),
        ((arguments_of("passed", "passed"), case("b()")), (1, 1), "INCONSISTENT"),
        ((case("a()", lost=True), case("b()")), (2, 0), "PASSED"),
        ((case("a()", lost=True), case("b()")), (1, 1), "INCONSISTENT"),
        ((replace(case("a()"), device="A"), replace(case("a()"), device="B")), (2, 0), "PASSED"),
        ((replace(case("a()"), device="A"), replace(case("a()"), device="B")), (1, 0), "PASSED"),
        ((replace(case("a()"), device="A"), replace(case("a()"), device="B")), (1, 1), "INCONSISTENT"),
    ],
)
def test_the_summary_s_counts_are_compared_whatever_they_count(
    cases: tuple[Case, ...], counts: tuple[int, int], outcome: str
) -> None:
    summary = SummaryRead(result="Passed", total=sum(counts), passed=counts[0], skipped=counts[1])
    told = replace(bundle_of(*cases), summary=summary)
    assert decide(after_tests(0, told)).outcome == outcome


INFRA = log_of(signs.INFRASTRUCTURE)
DEAD = "Lost connection to testmanagerd"


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("facts", "again"),
    [
        (after_tests(65, GREEN, INFRA), True),
        (after_tests(65, None, INFRA), True),
        (after_tests(65, runner(DEAD)), True),
        (after_tests(65, RED, INFRA), False),
        (after_tests(65, None, replace(INFRA, failed=frozenset({"A.a"}))), False),
        (after_tests(65, None, replace(INFRA, failing=frozenset({"A.a"}))), False),
        (after_tests(65, RED), False),
        (after_tests(0, GREEN), False),
    ],
)
def test_trouble_beside_a_failed_test_is_not_tried_again(facts: Facts, *, again: bool) -> None:
    assert (trouble_in(facts) is not None) == again


def test_a_failure_beside_trouble_of_the_place_is_on_record() -> None:
    facts = [one.fact for one in decide(after_tests(65, RED, INFRA)).evidence]
    assert "AppTests.SumTests.a() failed beside it" in facts


def test_a_failure_of_our_own_comes_before_what_the_tool_said() -> None:
    own = OwnFailure(Kind.EXECUTOR, "NO_SPACE", "no space left")
    assert decide(replace(after_tests(0, GREEN), failure=own)).outcome == "NO_SPACE"
    assert decide(replace(after_tests(64, GREEN), failure=own)).outcome == "NO_SPACE"


@pytest.mark.spec("9")
def test_the_evidence_states_each_source() -> None:
    whole = replace(RED, build=BuildRead(warning_count=3))
    decision = decide(after_tests(65, whole))
    assert [(one.source, one.fact) for one in decision.evidence] == [
        ("phase test", "exit code 65"),
        ("result.xcresult", "2 test cases, 1 failed"),
        ("result.xcresult summary", "Failed: 2 tests, 1 failed, 0 skipped"),
        ("result.xcresult build", "0 errors, 3 warnings"),
        ("result.xcresult database", "2 results, 1 failed"),
    ]
    doubted = decide(after_tests(0, Bundle(problem="was not written")))
    assert ("result.xcresult", "was not written (0 test cases)") in [
        (one.source, one.fact) for one in doubted.evidence
    ]
    assert doubted.why == "result.xcresult was not written"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (after_tests(65, EMPTY, ERRORS), "App/A.swift:3:9: error: no such thing"),
        (
            build(
                65, log_of(signs.SCRIPT_PHASE, commands=("PhaseScriptExecution Check\\ it /x/S.sh (in",))
            ),
            "the script phase 'Check it' failed",
        ),
        (
            build(65, log_of(signs.DEPENDENCY_GRAPH, text="ComputeTargetDependencyGraph")),
            "ComputeTargetDependencyGraph",
        ),
        (build(65), "xcodebuild: exit code 65"),
        (
            after_tests(65, None, log_of(signs.INFRASTRUCTURE, text='Error Domain=A Code=-5 "Lost it" X')),
            "Lost it",
        ),
        (
            after_tests(
                65,
                None,
                log_of(signs.INFRASTRUCTURE, text="2026-01-02 03:04:05.678 xcodebuild[7:8] Lost it"),
            ),
            "Lost it",
        ),
        (
            after_tests(74, None, log_of(signs.PACKAGE_RESOLUTION, text="xcodebuild: error: Could not")),
            "Could not",
        ),
        (after_tests(64), "xcodebuild: exit code 64"),
        (after_tests(0, RED), "xcodebuild said 0 with 1 failed tests"),
        (after_tests(None, GREEN, signal=9), "xcodebuild was ended by signal 9"),
    ],
)
def test_the_reason_is_in_the_tool_s_words(facts: Facts, why: str) -> None:
    assert decide(facts).why.startswith(why)
