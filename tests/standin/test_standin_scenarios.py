"""Every scenario: what it makes `xcodebuild` end with, and say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.recordings import recording
from support.standin import REPO, Machine

from worker_agent.standin.scenario import SCENARIOS, Scenario, ScenarioError, find, read

FAILED = "** TEST FAILED **"
PASSED = "** TEST SUCCEEDED **"
CASES: dict[str, tuple[int, str]] = {
    "no-destination": (70, "Unable to find a device matching the provided destination specifier"),
    "packages": (74, "xcodebuild: error: Could not resolve package dependencies:"),
    "license": (69, "You have not agreed to the Xcode license agreements"),
    "no-scheme": (65, "does not contain a scheme named"),
    "no-project": (66, "does not exist."),
    "existing-bundle": (64, "xcodebuild: error: Existing file at -resultBundlePath"),
    "script-phase": (65, "Command PhaseScriptExecution failed with a nonzero exit code"),
    "dependency-graph": (
        65,
        "\tComputeTargetDependencyGraph\n\tTesting project Lantern with scheme Lantern",
    ),
    "locked-database": (65, "database is locked"),
    "runner-never-started": (65, "Test runner never began executing tests after launching."),
    "early-exit": (65, "Early unexpected exit, operation never finished bootstrapping"),
    "timed-out-registering": (65, "Timed out registering for testing event accessibility notifications"),
    "failed-to-open": (65, "Failed to install or launch the test runner."),
    "lost-connection": (65, "Lost connection to testmanagerd"),
    "no-boot": (65, "Unable to boot the Simulator."),
    "no-tests": (0, PASSED),
    "crash": (65, "Restarting after unexpected exit, crash, or test timeout in"),
    "failing": (65, FAILED),
    "flaky": (65, FAILED),
    "parallel": (0, "Clone 1 of iPhone 16"),
    "late-lines": (0, PASSED),
    "localised": (0, PASSED),
    "hostile-names": (65, "</script>"),
    "invalid-utf8": (0, PASSED),
    "stall:seconds=0.01": (0, PASSED),
    "slow:seconds=0.001": (0, PASSED),
    "flood:bytes=300000": (0, PASSED),
    "slow-boot:seconds=0.01": (0, PASSED),
    "exit-0-with-failures": (0, "Failing tests:"),
    "exit-65-without-failures": (65, FAILED),
    "exit:code=3": (3, FAILED),
    "truncated-bundle": (0, PASSED),
    "no-bundle": (0, PASSED),
    "unknown-shape": (0, PASSED),
    "no-delete": (0, PASSED),
    "two-runtimes": (0, PASSED),
}
ELSEWHERE = {"ignore-int", "orphan"}
"""Those that need a process of their own: test_standin_processes.py."""


def test_no_scenario_is_left_out() -> None:
    assert {name.partition(":")[0] for name in CASES} | ELSEWHERE == set(SCENARIOS)


def test_the_page_tells_of_every_scenario() -> None:
    page = (REPO / "docs" / "simulation.md").read_text()
    assert [name for name in SCENARIOS if f"| `{name}" not in page] == []


@pytest.mark.spec("9")
@pytest.mark.parametrize("scenario", CASES)
def test_a_scenario_ends_as_it_says(machine: Machine, scenario: str) -> None:
    code, words = CASES[scenario]
    ran = machine.xcodebuild("test", scenario=scenario)
    assert (ran.code, words in ran.text + ran.err) == (code, True)
    assert machine.xcodebuild("build", scenario=scenario).code in {0, code}


INFRASTRUCTURE = {
    "early-exit": "logs/xcodebuild_early_unexpected_exit_1.log",
    "timed-out-registering": "logs/xcodebuild_timed_out_registering_ax.log",
    "failed-to-open": "logs/xcodebuild_test_runner_failed_to_open_2021.log",
}


@pytest.mark.spec("9")
@pytest.mark.parametrize("scenario", INFRASTRUCTURE)
def test_a_lost_runner_leaves_tests_that_all_passed(machine: Machine, scenario: str) -> None:
    ran = machine.xcodebuild("test", bundle="r.xcresult", scenario=scenario)
    facts = machine.facts(ran)
    assert (len(facts.passed), facts.failed) == (3, frozenset())
    summary = machine.results("get test-results summary")
    assert (summary["passedTests"], summary["failedTests"]) == (7, 0)
    recorded = recording(INFRASTRUCTURE[scenario])
    block = recorded.partition("Testing failed:")[2]
    words = block.partition("encountered an error (")[2][:45]
    assert words
    assert f"encountered an error ({words}" in ran.text.partition("Testing failed:")[2]


@pytest.mark.spec("9")
def test_a_crash_ends_one_test_and_the_rest_is_run_again(machine: Machine) -> None:
    ran = machine.xcodebuild(
        "test", "-only-testing:LanternTests/WickTests", scenario="crash", bundle="r.xcresult"
    )
    facts = machine.facts(ran)
    assert facts.unfinished == ("WickTests.testItBurnsDown",)
    assert facts.passed == {
        "WickTests.testThereIsNoWickOfNoLength",
        "WickTests.testItNeverGoesBelowNothing",
    }
    assert str(facts.trap).endswith("WickTests.swift:10: Fatal error: Unexpectedly found nil")
    assert machine.results("get test-results summary")["failedTests"] == 1


@pytest.mark.spec("9")
def test_exit_code_and_bundle_disagree_where_that_is_the_scenario(machine: Machine) -> None:
    machine.xcodebuild("test", bundle="a.xcresult", scenario="exit-0-with-failures")
    assert machine.results("get test-results summary", "a.xcresult")["failedTests"] == 1
    machine.xcodebuild("test", bundle="b.xcresult", scenario="exit-65-without-failures")
    assert machine.results("get test-results summary", "b.xcresult")["failedTests"] == 0


@pytest.mark.spec("9")
def test_a_document_of_an_unknown_form_has_no_tests(machine: Machine) -> None:
    machine.xcodebuild("test", bundle="r.xcresult")
    assert (
        machine.results("get test-results tests", scenario="unknown-shape")["formatVersion"]["major"] == 9
    )


def test_hostile_bytes_come_as_they_are(machine: Machine) -> None:
    assert b"caf\xe9 \xff\xfe\x80" in machine.xcodebuild("test", scenario="invalid-utf8").out
    text = machine.xcodebuild("test", scenario="hostile-names", bundle="r.xcresult").text
    assert "\x1b]0;title\x07" in text
    names = str(machine.results("get test-results tests"))
    assert ("x" * 4000 in names, "javascript:x" in names) == (True, True)


def cases_in(nodes: list[Any]) -> Iterator[str]:
    """The identifiers of all tests in a document's nodes."""
    for node in nodes:
        if node["nodeType"] == "Test Case":
            yield node["nodeIdentifier"]
        else:
            yield from cases_in(node.get("children", []))


@pytest.mark.parametrize(
    ("words", "hostile", "plain"),
    [
        ("-only-testing:LanternTests/HostileNames", 6, 0),
        ("-only-testing:LanternTests/HostileNames/hostile1()", 1, 0),
        ("-only-testing:LanternTests/WickTests", 0, 3),
        ("-skip-testing:LanternTests/HostileNames", 0, 7),
        ("-skip-testing:LanternTests", 0, 0),
    ],
)
def test_tests_with_hostile_names_are_selected_as_all_others(
    machine: Machine, words: str, hostile: int, plain: int
) -> None:
    machine.xcodebuild("test", words, scenario="hostile-names", bundle="r.xcresult")
    names = list(cases_in(machine.results("get test-results tests")["testNodes"]))
    found = [name for name in names if name.startswith("HostileNames/")]
    assert (len(found), len(names) - len(found)) == (hostile, plain)


def test_once_and_then_no_more(machine: Machine) -> None:
    codes = [machine.xcodebuild("test", scenario="early-exit:first=2").code for _ in range(3)]
    assert codes == [65, 65, 0]
    assert machine.xcodebuild("build", scenario="script-phase:first=1").code == 65
    assert machine.xcodebuild("build", scenario="script-phase:first=1").code == 0


def test_a_scenario_is_found_in_the_environment_then_in_the_tree_then_beside_the_tools(
    machine: Machine,
) -> None:
    machine.root.mkdir()
    (machine.root / "standin.toml").write_text('scenario = "exit:code=9"\n')
    assert machine.xcodebuild("test").code == 9
    (machine.tree / "standin.toml").write_text('scenario = "no-tests"\n')
    assert machine.xcodebuild("test").code == 0
    assert machine.xcodebuild("test", scenario="early-exit").code == 65


def test_what_is_no_scenario_is_told_and_nothing_is_run(machine: Machine) -> None:
    ran = machine.xcodebuild("test", scenario="sunshine")
    assert (ran.code, ran.out) == (78, b"")
    assert "there is no scenario 'sunshine': no-destination," in ran.err
    assert machine.start("xcrun", "simctl", "list", scenario="sunshine").code == 0


@pytest.mark.parametrize("text", ["stall:seconds=x", "stall:bytes=1", "crash:first=-1", "flaky:on=moon"])
def test_a_bad_parameter_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match=text.partition(":")[0]):
        read(text)


def test_parameters_and_joined_scenarios(tmp_path: Path) -> None:
    wanted = read("stall:seconds=0.5,on=build; flaky:times=2;localised")
    assert wanted.scenario("build") == Scenario(stall_seconds=0.5)
    assert wanted.scenario("test") == Scenario(flaky=2, localised=True)
    assert read("license").scenario("build").refusal == "license"
    assert find({}, [tmp_path]).scenario("test") == Scenario()
    (tmp_path / "standin.toml").write_text("scenario = 5")
    with pytest.raises(ScenarioError, match="is no text"):
        find({}, [tmp_path])
