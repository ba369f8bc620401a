from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET
from support import jobs
from support.xcresults import (
    DEVICE,
    Tool,
    build_of,
    case,
    data,
    failure,
    make_bundle,
    node,
    report_of,
    summary_of,
)

from rch.contract.records import Diagnostic, Job
from worker_agent.model import PhaseExit
from worker_agent.results import signs, summaries
from worker_agent.results.facts import Facts
from worker_agent.results.logfacts import LogFacts
from worker_agent.results.places import Places
from worker_agent.results.signs import Sign
from worker_agent.results.summaries import failures, narrowing, session_failure
from worker_agent.results.verdict import decide
from worker_agent.results.xcresult import BUILD, SUMMARY, TESTS, Bundle, read_bundle
from worker_agent.results.xcresult_summary import BuildRead

RETRIED = case(
    "flaky()",
    "passed",
    node("Repetition", "First Run", "Failed", failure("SumTests.swift:3: no luck")),
    node("Repetition", "Retry 1", "Passed"),
    duration="2s",
)
REPORT = report_of(
    case("good()", duration="1s"),
    RETRIED,
    case("bad()", "failed", failure("SumTests.swift:9: XCTAssertTrue failed")),
    case("off()", "skipped", failure("Test skipped - not here")),
    case("known()", "expected_failure", node("Expected Failure", "known: 12")),
)
WARNING = {
    "message": "unused",
    "sourceURL": "file:///job/tree/App/B.swift#StartingLineNumber=4",
    "targetName": "App",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "Tests").mkdir()
    (tmp_path / "Tests/SumTests.swift").touch()
    return tmp_path


def bundle_in(tmp_path: Path, report: dict[str, object]) -> Bundle:
    answers = {
        TESTS: data(report),
        SUMMARY: data(summary_of(report)),
        BUILD: data(build_of(warnings=[WARNING])),
    }
    path = make_bundle(tmp_path / "r.xcresult")
    return read_bundle(path, Tool(answers), Places(Path("/job/tree")), tested=True)


@pytest.fixture
def red(tmp_path: Path) -> Facts:
    return Facts(
        action="test",
        backend="xcodebuild",
        phases=(PhaseExit("test", 65, None, 80),),
        bundle=bundle_in(tmp_path, REPORT),
    )


def test_failed_tests_have_the_bundle_s_message_and_a_place_in_the_repository(
    red: Facts, tree: Path
) -> None:
    (bad,) = failures(red, Places(tree))
    assert (bad.name, bad.suite, bad.identifier) == ("bad()", "SampleTests.SumTests", "SumTests/bad()")
    assert (bad.message, bad.path, bad.line) == ("XCTAssertTrue failed", "Tests/SumTests.swift", 9)
    assert (bad.duration_ms, bad.device) == (5, UNSET)


@pytest.mark.spec("9")
def test_the_summary_of_tests_tells_flaky_skipped_expected_and_slow_ones(red: Facts, tree: Path) -> None:
    told = summaries.test_summary(jobs.job(), red, failures(red, Places(tree)), created_at=jobs.NOW)
    assert (told.total, told.passed, told.failed, told.skipped, told.expected_failures) == (5, 2, 1, 1, 1)
    assert [(one.identifier, one.message) for one in told.flaky] == [("SumTests/flaky()", "no luck")]
    assert [(one.name, one.message) for one in told.skips] == [("off()", "Test skipped - not here")]
    assert [(one.name, one.message) for one in told.expected] == [("known()", "known: 12")]
    assert [(one.name, one.duration_ms) for one in told.slowest[:2]] == [
        ("flaky()", 2000),
        ("good()", 1000),
    ]
    (device,) = told.devices
    assert (device.name, device.os_version, device.udid) == ("iPhone 16", "18.2", "A-1")
    assert DEVICE["osBuildNumber"] == device.os_build


def test_at_most_ten_slow_tests_are_told(tmp_path: Path, red: Facts) -> None:
    many = report_of(*(case(f"t{n}()", duration=f"{n}s") for n in range(30)))
    (tmp_path / "r.xcresult/Info.plist").unlink()
    (tmp_path / "r.xcresult").rmdir()
    facts = replace(red, bundle=bundle_in(tmp_path, many))
    told = summaries.test_summary(jobs.job(), facts, (), created_at=jobs.NOW)
    assert [one.name for one in told.slowest] == [f"t{n}()" for n in range(29, 19, -1)]
    assert told.flaky == ()


def test_the_line_for_people_counts_them(red: Facts) -> None:
    green = replace(red, phases=(PhaseExit("test", 0, None, 80),))
    cases = tuple(one for one in red.cases if one.outcome != "failed")
    assert red.bundle is not None
    assert red.bundle.tests is not None
    assert red.bundle.summary is not None
    bundle = replace(
        red.bundle,
        tests=replace(red.bundle.tests, cases=cases, doubts=()),
        summary=replace(red.bundle.summary, result="Passed", total=4, failed=0),
    )
    facts = replace(green, bundle=bundle)
    decision = decide(facts)
    assert decision.outcome == "PASSED", decision.why
    line = summaries.human_summary(facts, decision, (), ())
    assert line == "2 tests passed, 1 skipped, 1 failed as expected, 1 flaky"
    assert session_failure(facts, decision, ()) is None


def test_the_summary_of_the_build_holds_what_log_and_bundle_tell(red: Facts) -> None:
    error = Diagnostic(path="App/A.swift", line=3, column=9, severity="error", message="no")
    twin = Diagnostic(path="App/B.swift", line=5, column=2, severity="warning", message="unused")
    log = LogFacts(diagnostics=(error, twin), error_count=1, warning_count=1, commands=("Ld /x",))
    told = summaries.build_summary(jobs.job(), replace(red, log=log), created_at=jobs.NOW)
    assert [(one.path, one.severity) for one in told.diagnostics] == [
        ("App/A.swift", "error"),
        ("App/B.swift", "warning"),
    ]
    assert (told.error_count, told.warning_count, told.first_error) == (1, 1, error)
    assert (told.targets, told.failed_commands) == (("App",), ("Ld /x",))
    assert not told.succeeded


def test_a_build_succeeded_where_a_test_ran_and_nothing_tells_of_an_error(red: Facts) -> None:
    def succeeded(**members: object) -> bool:
        facts = replace(red, **members)  # type: ignore[arg-type]  # (members of the facts)
        return summaries.build_summary(jobs.job(), facts, created_at=jobs.NOW).succeeded

    assert red.bundle is not None
    assert succeeded()
    assert not succeeded(bundle=None)
    assert not succeeded(log=LogFacts(error_count=1))
    assert not succeeded(log=LogFacts(commands=("Ld /x",)))
    assert not succeeded(log=LogFacts(signs=(Sign(signs.BUILD_FAILED, "** BUILD FAILED **"),)))
    for build in (BuildRead(error_count=1), BuildRead(status="failed")):
        assert not succeeded(bundle=replace(red.bundle, build=build))


@pytest.mark.spec("9")
def test_a_narrowed_run_of_xcodebuild_says_so() -> None:
    argv = (
        "test",
        "-destination",
        "platform=macOS",
        "-only-testing:AppTests/SumTests",
        "-quiet",
        "-scheme",
        "App",
        "-skip-testing:AppTests/Slow",
        "-testPlan",
        "Smoke",
        "CODE_SIGNING_ALLOWED=NO",
    )
    assert narrowing(argv, "xcodebuild") == (
        "-only-testing:AppTests/SumTests",
        "-skip-testing:AppTests/Slow",
        "-testPlan=Smoke",
    )
    assert narrowing(("test", "-scheme", "App"), "xcodebuild") == ()


def xcode_job(*argv: str) -> Job:
    job = jobs.job(*argv)
    told = {"xcode_build": "16C5032a", "developer_dir": "/X/Developer", "arch": "arm64"}
    return msgspec.structs.replace(
        job, job_key_inputs=msgspec.structs.replace(job.job_key_inputs, toolchain=told)
    )


def test_the_summary_names_the_tool_and_the_scope(red: Facts, tree: Path) -> None:
    failed = failures(red, Places(tree))
    told = summaries.summary(
        xcode_job("test", "-only-testing:AppTests/SumTests"),
        red,
        decide(red),
        created_at=jobs.NOW,
        attempts=1,
        duration_ms=10,
        failed=failed,
        log_truncated=False,
        simulated=False,
    )
    assert (told.backend, told.backend_exit_code) == ("xcodebuild", 65)
    assert (told.failure_kind, told.failure_subkind) == ("XCODEBUILD", "TESTS_FAILED")
    assert told.scope == ("-only-testing:AppTests/SumTests",)
    assert told.human_summary == (
        "1 of 5 tests failed: SumTests.bad() (narrowed: -only-testing:AppTests/SumTests)"
    )
