"""Every scenario through the worker's own readers and rules: what the gate concludes of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.standin import Machine, Ran

from worker_agent.model import PhaseExit
from worker_agent.results.buildlog import LogReader
from worker_agent.results.facts import Facts
from worker_agent.results.places import Places
from worker_agent.results.tool import ToolOutput
from worker_agent.results.verdict import decide
from worker_agent.results.xcresult import read_bundle
from worker_agent.standin.scenario import SCENARIOS

RETRY = ("-retry-tests-on-failure", "-test-iterations", "3")
OUTCOMES = {
    "": "PASSED",
    "no-destination": "NO_DESTINATION",
    "packages": "PACKAGE_RESOLUTION",
    "license": "LICENSE",
    "no-scheme": "PROJECT_MISSING",
    "no-project": "PROJECT_MISSING",
    "existing-bundle": "USAGE",
    "script-phase": "BUILD_FAILED",
    "dependency-graph": "BUILD_FAILED",
    "locked-database": "INFRASTRUCTURE",
    "runner-never-started": "INFRASTRUCTURE",
    "early-exit": "INFRASTRUCTURE",
    "timed-out-registering": "INFRASTRUCTURE",
    "failed-to-open": "INFRASTRUCTURE",
    "lost-connection": "INFRASTRUCTURE",
    "no-boot": "INFRASTRUCTURE",
    "no-tests": "NO_TESTS_RAN",
    "crash": "TESTS_CRASHED",
    "failing:count=2": "TESTS_FAILED",
    "flaky": "TESTS_FAILED",
    "parallel": "PASSED",
    "late-lines": "PASSED",
    "localised": "PASSED",
    "hostile-names": "TESTS_FAILED",
    "invalid-utf8": "PASSED",
    "exit-0-with-failures": "INCONSISTENT",
    "exit-65-without-failures": "INCONSISTENT",
    "exit:code=1": "INCONSISTENT",
    "truncated-bundle": "INCONSISTENT",
    "no-bundle": "INCONSISTENT",
    "unknown-shape": "INCONSISTENT",
    "two-runtimes": "PASSED",
}
# Of time and processes, which no verdict is about.
ELSEWHERE = {"stall", "slow", "flood", "ignore-int", "orphan", "slow-boot", "no-delete"}


def facts_of(machine: Machine, scenario: str, *argv: str) -> Facts:
    """All that a test of the demo project leaves behind, read as the worker reads it."""
    ran: Ran = machine.xcodebuild("test", *argv, bundle="r.xcresult", scenario=scenario)
    reader = LogReader(machine.tree, machine.derived, tool="xcodebuild")
    reader.begin("test")
    reader.feed(ran.out + ran.err.encode(errors="surrogateescape"))
    reader.end()
    path = machine.home / "r.xcresult"

    def get(words: Sequence[str]) -> ToolOutput:
        told = machine.start("xcrun", "xcresulttool", "get", *words, "--path", str(path), scenario=scenario)
        return ToolOutput(told.out, None if told.code == 0 else f"ended with {told.code}: {told.err}")

    return Facts(
        action="test",
        backend="xcodebuild",
        phases=(PhaseExit("test", ran.code, None, 5),),
        log=reader.facts(),
        bundle=read_bundle(path, get, Places(machine.tree), tested=True),
    )


@pytest.mark.spec("9")
@pytest.mark.parametrize("scenario", OUTCOMES)
def test_what_the_gate_concludes_of(scenario: str, machine: Machine) -> None:
    decision = decide(facts_of(machine, scenario))
    assert decision.outcome == OUTCOMES[scenario], decision.why


@pytest.mark.spec("9")
@pytest.mark.parametrize("scenario", ["", "failing:count=2", "crash", "no-tests", "lost-connection"])
def test_the_form_of_xcode_26_leads_to_the_same(scenario: str, machine: Machine) -> None:
    machine.env["DEVELOPER_DIR"] = str(machine.root / "Xcode_26.0.1.app/Contents/Developer")
    facts = facts_of(machine, scenario)
    assert decide(facts).outcome == OUTCOMES[scenario], decide(facts).why
    if scenario == "failing:count=2":
        assert all(text.path for case in facts.cases for text in case.texts)


def test_every_scenario_has_its_outcome_here() -> None:
    assert {name.partition(":")[0] for name in OUTCOMES if name} == set(SCENARIOS) - ELSEWHERE


@pytest.mark.spec("9")
def test_a_retry_that_succeeds_is_a_pass_with_a_flaky_test(machine: Machine) -> None:
    facts = facts_of(machine, "flaky", *RETRY)
    assert decide(facts).outcome == "PASSED"
    assert sum(case.flaky for case in facts.cases) == 1
