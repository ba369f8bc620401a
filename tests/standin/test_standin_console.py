"""The lines of `xcodebuild`: by the worker's own reader of logs, and beside the recordings."""

from __future__ import annotations

import re

import pytest
from support.recordings import recording
from support.standin import Machine

from worker_agent.standin.output import BLOCK, Output

XCTESTS = {
    "WickTests.testThereIsNoWickOfNoLength",
    "WickTests.testItBurnsDown",
    "WickTests.testItNeverGoesBelowNothing",
}
BAD = """import XCTest

final class SootTests: XCTestCase {
    func testFails() {
        XCTFail("soot")
    }

    func testSkips() throws {
        throw XCTSkip("no wind")
    }
}
"""
BAD_SWIFT = """import Testing

@Suite("The glass") struct Glass {
    @Test("is clear") func clear() {
        Issue.record("it is not")
    }

    @Test(.disabled("broken")) func whole() {}
}
"""


@pytest.mark.spec("9")
def test_a_good_run_names_each_test_and_ends_with_the_banner(machine: Machine) -> None:
    ran = machine.xcodebuild("test")
    assert (ran.code, ran.err) == (0, "")
    assert ran.text.endswith("** TEST SUCCEEDED **\n\n")
    facts = machine.facts(ran)
    assert facts.passed >= XCTESTS
    assert (facts.failed, facts.unfinished, facts.running) == (frozenset(), (), ())
    assert '✔ Test "burns for its wick and no longer" with 3 test cases passed' in ran.text


@pytest.mark.spec("9")
def test_failures_carry_their_place_and_a_skip_its_reason(machine: Machine) -> None:
    soot = machine.write("LanternTests/SootTests.swift", BAD)
    machine.write("LanternTests/Glass.swift", BAD_SWIFT)
    ran = machine.xcodebuild("test")
    assert ran.code == 65
    facts = machine.facts(ran)
    assert facts.failed == {"SootTests.testFails"}
    assert facts.skipped == {"SootTests.testSkips"}
    xctest, swift = (
        next(one for one in facts.failures if one.framework == kind) for kind in ("xctest", "swift-testing")
    )
    assert (xctest.path, xctest.line, xctest.message) == (str(soot), 5, "failed - soot")
    assert (swift.path, swift.line) == ("Glass.swift", 5)
    assert "Failing tests:\n\tGlass.clear()\n\tSootTests.testFails()\n\n** TEST FAILED **" in ran.text
    assert '➜ Test whole() skipped: "broken"' in ran.text


SHAPES = {
    "serial": (
        "logs/xcodebuild_twb_mixed_xctest_swifttesting_fail.log",
        "",
        r"Test Suite|Test Case|\t Executed|◇|✔|✘|↳ Testing|Failing tests|Test session|.*IDETestOperations",
    ),
    "parallel": (
        "logs/xcodebuild_twb_parallel_clone_swifttesting.log",
        "parallel",
        r"Test suite|Test case|Failing tests|Test session|.*IDETestOperations",
    ),
}


def shapes(text: str, wanted: str) -> set[str]:
    """Lines of one kind with all that is particular taken out."""
    found = set()
    for line in text.splitlines():
        if re.match(wanted, line):
            plain = re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d.:-]*", "_", line)
            plain = re.sub(r"(?<=Test )(?!Suite|Case|run|suite|case)\S+\(\)", "_", plain)
            found.add(re.sub(r"_( _)+", "_", plain).partition(" at ")[0].partition("after")[0])
    return found


@pytest.mark.spec("9")
@pytest.mark.parametrize("kind", SHAPES)
def test_the_lines_have_the_shapes_of_the_recorded_ones(machine: Machine, kind: str) -> None:
    file, scenario, wanted = SHAPES[kind]
    machine.write("LanternTests/Glass.swift", BAD_SWIFT)
    ours = shapes(machine.xcodebuild("test", scenario=scenario).text, wanted)
    recorded = shapes(recording(file), wanted)
    assert recorded - ours == set()


@pytest.mark.spec("9")
def test_late_lines_come_after_the_banner_as_in_the_recording(machine: Machine) -> None:
    ran = machine.xcodebuild("test", scenario="late-lines")
    before, _, after = ran.text.partition("** TEST SUCCEEDED **")
    assert "Test case" not in before
    assert "Test case 'LanternTests/kindling()' passed on 'Clone 1 of iPhone 16 - Lantern (" in after
    recorded = recording("logs/xcodebuild_twb_parallel_clone_swifttesting.log")
    assert "Test case" not in recorded.partition("** TEST EXECUTE FAILED **")[0]


@pytest.mark.spec("6")
def test_narrowing_selects_by_bundle_suite_and_function(machine: Machine) -> None:
    def passed(*argv: str) -> str:
        text = machine.xcodebuild("test", "-parallel-testing-enabled", "YES", *argv).text
        return " ".join(sorted(re.findall(r"Test case '([^']*)' passed", text)))

    everything = passed()
    assert len(everything.split()) == 7
    assert passed("-only-testing:LanternTests") == everything
    assert passed("-only-testing:LanternTests/WickTests/testItBurnsDown") == "WickTests.testItBurnsDown()"
    assert passed("-only-testing", "LanternTests/aDarkLanternDoesNotBurn()") == "aDarkLanternDoesNotBurn()"
    assert passed(
        "-only-testing:LanternTests/WickTests", "-skip-testing:LanternTests/WickTests/testItBurnsDown"
    ) == ("WickTests.testItNeverGoesBelowNothing() WickTests.testThereIsNoWickOfNoLength()")


@pytest.mark.spec("9")
def test_a_name_that_matches_nothing_is_a_success_without_tests(machine: Machine) -> None:
    ran = machine.xcodebuild("test", "-only-testing:LanternTests/Nobody", bundle="r.xcresult")
    assert (ran.code, "** TEST SUCCEEDED **" in ran.text) == (0, True)
    assert machine.facts(ran).passed == frozenset()
    assert machine.results("get test-results summary")["totalTestCount"] == 0
    (plan,) = machine.results("get test-results tests")["testNodes"]
    assert plan == {"name": "Lantern", "nodeType": "Test Plan", "result": "unknown"}


def test_output_waits_for_a_whole_block_unless_it_is_asked_not_to() -> None:
    class Seen:
        def __init__(self) -> None:
            self.pieces: list[bytes] = []

        def write(self, data: bytes, /) -> int:
            self.pieces.append(data)
            return len(data)

        def flush(self) -> None:
            pass

    held, at_once = Seen(), Seen()
    for output in (Output(held, held), Output(at_once, at_once, unbuffered=True)):
        for _ in range(3):
            output.say("line\n")
    assert (held.pieces, at_once.pieces) == ([], [b"line\n"] * 3)
    output = Output(held, held)
    output.say("x" * BLOCK)
    assert len(held.pieces[0]) == BLOCK
