"""Evidence of xcodebuild's jobs for tests of the verdict: logs, bundles whose parts agree, phases."""

from __future__ import annotations

from dataclasses import replace

from rch.contract.records import Diagnostic
from worker_agent.model import PhaseExit
from worker_agent.results import signs
from worker_agent.results.cases import Attempt, Case, Text
from worker_agent.results.facts import Facts
from worker_agent.results.logfacts import LogFacts
from worker_agent.results.signs import Sign
from worker_agent.results.xcresult import Bundle
from worker_agent.results.xcresult_db import DatabaseRead
from worker_agent.results.xcresult_summary import BuildRead, SummaryRead
from worker_agent.results.xcresult_tests import TestsRead

ERROR = Diagnostic(path="App/A.swift", line=3, column=9, severity="error", message="no such thing")
ERRORS = LogFacts(diagnostics=(ERROR,), error_count=1, signs=(Sign(signs.COMPILE, "SwiftCompile failed"),))


def phase(code: int | None = 0, name: str = "test", *, signal: int | None = None) -> PhaseExit:
    """How a phase ended."""
    return PhaseExit(name, code, signal, 5)


def case(name: str, outcome: str = "passed", *, said: str = "", lost: bool = False) -> Case:
    """A test with what it said; `lost`: its first attempt failed."""
    attempts = (Attempt("First Run", "failed"), Attempt("Retry 1", "passed")) if lost else ()
    texts = (Text(said),) if said else ()
    return Case("AppTests.SumTests", name, outcome, said, 5, f"SumTests/{name}", "", texts, attempts)


def bundle_of(*cases: Case, **members: object) -> Bundle:
    """A bundle of these tests, whose parts agree but for the given `members`."""
    passed, failed, skipped, expected = (
        sum(case.outcome == one for case in cases)
        for one in ("passed", "failed", "skipped", "expected_failure")
    )
    whole = Bundle(
        tests=TestsRead(cases=cases),
        summary=SummaryRead(
            result="Failed" if failed else "Passed",
            total=len(cases),
            passed=passed,
            failed=failed,
            skipped=skipped,
            expected=expected,
        ),
        build=BuildRead(),
        database=DatabaseRead(
            passed=passed,
            failed=failed,
            skipped=skipped,
            expected=expected,
            failing=tuple(sorted(case.identifier for case in cases if case.outcome == "failed")),
        ),
    )
    return replace(whole, **members)  # type: ignore[arg-type]  # (members of a bundle)


def log_of(*kinds: str, text: str = "said so", **members: object) -> LogFacts:
    """A log with one sign of each kind."""
    found = LogFacts(signs=tuple(Sign(kind, text) for kind in kinds))
    return replace(found, **members)  # type: ignore[arg-type]  # (members of the facts)


def after_tests(
    code: int | None = 0,
    bundle: Bundle | None = None,
    log: LogFacts | None = None,
    *,
    signal: int | None = None,
    allow_no_tests: bool = False,
) -> Facts:
    """A test job whose one phase ended with `code`."""
    return Facts(
        action="test",
        backend="xcodebuild",
        phases=(phase(code, signal=signal),),
        bundle=bundle,
        log=log or LogFacts(),
        allow_no_tests=allow_no_tests,
    )


def build(code: int | None = 0, log: LogFacts | None = None, bundle: Bundle | None = None) -> Facts:
    """A build job whose one phase ended with `code`."""
    return Facts(
        action="build",
        backend="xcodebuild",
        phases=(phase(code, "build"),),
        log=log or LogFacts(),
        bundle=bundle,
    )
