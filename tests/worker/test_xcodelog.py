from __future__ import annotations

import json
import re
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker_agent.model import PhaseExit
from worker_agent.results import signs
from worker_agent.results.buildlog import LogReader, read_log
from worker_agent.results.facts import Facts
from worker_agent.results.lines import xctest_name
from worker_agent.results.logfacts import Happening, LogFacts
from worker_agent.results.signs import own_sign, sign_of
from worker_agent.results.verdict import decide
from worker_agent.results.xcresult import Bundle
from worker_agent.results.xcresult_summary import SummaryRead
from worker_agent.results.xcresult_tests import TestsRead

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
TREE = Path("/job/tree")


def read(text: str | bytes, *, piece: int = 1 << 20) -> tuple[LogFacts, list[Happening]]:
    raw = text.encode() if isinstance(text, str) else text
    reader = LogReader(TREE, Path("/job/build"), tool="xcodebuild")
    reader.begin("test")
    news = [one for at in range(0, len(raw), piece) for one in reader.feed(raw[at : at + piece])]
    news += reader.end()
    return reader.facts(), news


def facts_of(text: str | bytes) -> LogFacts:
    return read(text)[0]


def kinds(facts: LogFacts) -> set[str]:
    return {one.kind for one in facts.signs}


def labelled() -> Iterator[tuple[str, dict[str, Any]]]:
    labels = FIXTURES / "LABELS.json"
    if labels.is_file():
        for name, label in json.loads(labels.read_text()).items():
            if name.startswith("logs/xcodebuild"):
                yield name, label


# The outcome of a label, and the verdicts on its log beside a bundle that holds no test at all.
OUTCOMES = {
    "package_resolution_failed": {"PACKAGE_RESOLUTION"},
    "build_failed": {"BUILD_FAILED"},
    "infrastructure": {"INFRASTRUCTURE"},
    "tests_failed": {"INCONSISTENT"},
    "fragment, no banner": {"INCONSISTENT"},
}
EMPTY = Bundle(tests=TestsRead(), summary=SummaryRead(result="Passed"))


@pytest.mark.spec("9")
@pytest.mark.parametrize(("name", "label"), list(labelled()))
def test_a_recorded_log_comes_out_as_its_label_says(name: str, label: dict[str, Any]) -> None:
    facts = read_log(FIXTURES / name, TREE, tool="xcodebuild")
    action = "build" if "_build_" in name else "test"
    phase = PhaseExit(action, label.get("usual_exit", 65), None, 5)
    told = Facts(action=action, backend="xcodebuild", phases=(phase,), log=facts, bundle=EMPTY)
    assert decide(told).outcome in OUTCOMES[label["outcome"]]
    ran = facts.passed | facts.failed
    if "tests_ran" in label:
        assert bool(ran) == label["tests_ran"]
    if label["outcome"] == "tests_failed":
        assert signs.TESTS_FAILED in kinds(facts)
        assert facts.failing
        assert signs.INFRASTRUCTURE not in kinds(facts)
    for failing in label.get("failing", []):
        assert failing.removesuffix("()").replace("/", ".") in facts.failing
    if label.get("all_reported_cases_passed"):
        assert facts.passed
        assert not facts.failed
    if "compiler_errors" in label:
        assert facts.error_count == label["compiler_errors"]


def test_every_test_of_the_recorded_parallel_logs_is_told() -> None:
    log = FIXTURES / "logs" / "xcodebuild_parallel_test_log.txt"
    if not log.is_file():
        pytest.skip(f"the recorded outputs are not at {FIXTURES}")
    facts, news = read(log.read_bytes())
    text = log.read_text()
    for outcome, names in (("passed", facts.passed), ("failed", facts.failed), ("skipped", facts.skipped)):
        printed = re.findall(rf"^Test case '(\S+?)(?:\(\))?' {outcome} on", text, re.MULTILINE)
        assert {xctest_name(one) for one in printed} == names
    assert len(news) == len(facts.passed | facts.failed | facts.skipped)
    assert facts.unfinished == ()


CONSOLE = """\
/job/tree/App/A.swift:3:9: error: cannot find 'x' in scope
/job/tree/App.xcodeproj: error: Signing for "App" requires a development team. (in target 'App')
/job/tree/Package.swift:7: warning: old tools
ld: warning: directory not found
Undefined symbols for architecture arm64:
  "_f", referenced from:
ld: symbol(s) not found for architecture arm64
clang: error: linker command failed with exit code 1 (use -v to see invocation)
warning: no outputs
xcodebuild: error: Could not resolve package dependencies:
note: /job/tree/App/A.swift:3:9: error: quoted
"""


def test_the_messages_of_compiler_linker_and_tool_are_told_with_their_places() -> None:
    facts = facts_of(CONSOLE)
    told = [(one.severity, one.path, one.line, one.message[:17]) for one in facts.diagnostics]
    assert [one[1:] for one in told if one[0] == "error"] == [
        ("App/A.swift", 3, "cannot find 'x' i"),
        ("App.xcodeproj", None, 'Signing for "App"'),
        (None, None, "Undefined symbols"),
        (None, None, "symbol(s) not fou"),
        (None, None, "linker command fa"),
        (None, None, "Could not resolve"),
    ]
    assert [one[1:] for one in told if one[0] == "warning"] == [
        ("Package.swift", 7, "old tools"),
        (None, None, "directory not fou"),
        (None, None, "no outputs"),
    ]
    assert {signs.SIGNING, signs.LINK, signs.PACKAGE_RESOLUTION} <= kinds(facts)


TESTS = """\
Test Suite 'All tests' started at 2026-01-02 03:04:05.678.
Test Case '-[AppTests.SumTests testA]' started.
/job/tree/AppTests/SumTests.swift:9: error: -[AppTests.SumTests testA] : XCTAssertTrue failed
Test Case '-[AppTests.SumTests testA]' failed (0.002 seconds).
Test Case '-[AppTests.SumTests testB]' started.
/job/tree/App/A.swift:3:9: error: a test prints what it likes
Test Case '-[AppTests.SumTests testB]' passed (0.002 seconds).
◇ Test run started.
◇ Test none() started.
✘ Test none() recorded an issue at SumSuite.swift:11:5: Expectation failed: x
✘ Test none() failed after 0.001 seconds with 1 issue.
Test case 'SumSuite/some()' passed on 'Clone 1 of iPhone 16 - App (12)' (0.001 seconds)
Test case 'SumTests.testC()' skipped on 'My Mac - App (12)' (0.001 seconds)
"""


def test_tests_of_all_three_consoles_are_news_as_they_finish() -> None:
    facts, news = read(TESTS)
    ended = [one for one in news if one.type != "failure"]
    assert [(one.type, one.data["name"], one.data["outcome"]) for one in ended] == [
        ("test", "SumTests.testA", "failed"),
        ("test", "SumTests.testB", "passed"),
        ("test", "none()", "failed"),
        ("test", "SumSuite/some()", "passed"),
        ("test", "SumTests.testC", "skipped"),
    ]
    assert [(one.name, one.line) for one in facts.failures] == [("SumTests.testA", 9), ("none()", 11)]
    assert facts.diagnostics == ()


@pytest.mark.parametrize("piece", [1, 7, 100, 4096])
def test_the_size_of_the_pieces_does_not_matter(piece: int) -> None:
    text = CONSOLE + TESTS + BLOCKS
    assert read(text.encode(), piece=piece) == read(text)


BLOCKS = """\
Failing tests:
\tAppTests:
\t\tSumTests.testA()
\t-[SumTests testD]

Testing failed:
\tAppUITests-Runner (77) encountered an error (Lost connection to testmanagerd)
\tSumTests.testA() failed

The following build commands failed:
\tPhaseScriptExecution Check\\ it /job/build/Script-1.sh (in target 'App' from project 'App')
\tLd /job/build/App normal
(2 failures)
\tLd this is no member
"""


def test_the_closing_blocks_are_read_to_their_ends() -> None:
    facts = facts_of(BLOCKS)
    assert facts.failing == {"SumTests.testA", "SumTests.testD"}
    assert len(facts.commands) == 2
    build = {signs.BUILD_FAILED, signs.SCRIPT_PHASE, signs.LINK}
    assert kinds(facts) == {signs.INFRASTRUCTURE, signs.TESTS_FAILED, *build}


def test_a_message_that_ends_with_a_colon_is_told_with_what_stands_below() -> None:
    head = "xcodebuild: error: Could not resolve package dependencies:"
    (sign,) = facts_of(f"{head}\n  no versions of 'wax' match\n\n  other\n").signs
    assert sign.text == f"{head} no versions of 'wax' match"


STAMP = "2026-01-02 03:04:05.678 xcodebuild[77:1234] "


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            f"{STAMP}[MT] Error: Test runner never began executing tests after launching",
            signs.INFRASTRUCTURE,
        ),
        (f"{STAMP}Error Domain=X Code=1 'Lost connection to the device'", signs.INFRASTRUCTURE),
        ("xcodebuild: error: Failed to prepare device 'iPhone 16' for development.", signs.INFRASTRUCTURE),
        ("xcodebuild: error: Unable to boot the Simulator.", signs.INFRASTRUCTURE),
        ("error: unable to attach DB: error: accessing build database: disk I/O", signs.LOCKED_DATABASE),
        ("Restarting after unexpected exit, crash, or test timeout in A/b(); see", signs.CRASH),
        ("xcodebuild: error: Unable to find a destination matching the provided", signs.NO_DESTINATION),
        ('xcodebuild: error: The project named "A" does not contain a scheme named', signs.PROJECT_MISSING),
        ("xcodebuild: error: 'A.xcodeproj' does not exist.", signs.PROJECT_MISSING),
        ("xcodebuild: error: invalid option '-x'", signs.USAGE),
        ("You have not agreed to the Xcode license agreements.", signs.LICENCE),
        ("Agreeing to the Xcode/iOS license requires admin privileges", signs.LICENCE),
        ("** BUILD FAILED **", signs.BUILD_FAILED),
        ("** BUILD INTERRUPTED **", signs.BUILD_FAILED),
        ("** TEST EXECUTE FAILED **", signs.TESTS_FAILED),
        ("Testing failed: Testing cancelled because the build failed.", signs.BUILD_FAILED),
        ("Command CodeSign failed with a nonzero exit code", signs.SIGNING),
        ("Command SwiftCompile failed with a nonzero exit code", signs.COMPILE),
        ("error: No profiles for 'a.b' were found: Xcode couldn't find any", signs.SIGNING),
        ("duplicate symbol '_f' in:", signs.LINK),
        # What a test or an app prints is not the tool's word.
        ("error: Lost connection to the server", None),
        ("error: test crashed with signal 5", None),
        ("Lost connection to the server", None),
        ("2026-01-02 03:04:05.678 MyApp[77:1234] Lost connection to the server", None),
        (f"{STAMP}[MT] IDETestOperationsObserverDebug: 35.592 elapsed", None),
        ("** TEST SUCCEEDED **", None),
        ("   ** BUILD FAILED **", None),
        ("ld: warning: x", None),
        ("builtin-ld: x", None),
    ],
)
def test_the_sign_of(line: str, kind: str | None) -> None:
    found = sign_of(line)
    assert (found.kind if found else None) == kind


def test_what_ended_a_runner_before_and_amid_its_tests_are_two_things() -> None:
    before = own_sign("The test runner exited with code 1 before establishing connection.")
    amid = own_sign("The test runner exited with code 1 before finishing running tests.")
    assert before is not None
    assert amid is not None
    assert (before.kind, amid.kind) == (signs.INFRASTRUCTURE, signs.CRASH)


def test_bytes_that_are_no_text_are_borne() -> None:
    raw = b"\xff\xfe\x00Test Case '-[M.A testX]' passed\n\x1b[31merror: \x1b[0mred\n"
    raw += b"Test Case '-[M.A test\xff]' passed\n** BUILD FAILED **\r\n"
    facts = facts_of(raw)
    assert facts.passed == {"A.test\ufffd"}
    assert signs.BUILD_FAILED in kinds(facts)


@pytest.mark.fault("H12")
def test_memory_and_time_stay_bounded_by_a_line_of_fifty_megabytes() -> None:
    reader = LogReader(TREE, tool="xcodebuild")
    block = b"x: error: Test Case '-[M.A t]' passed " * 1700
    tracemalloc.start()
    began = time.process_time()
    for _ in range(52 * (1 << 20) // len(block)):
        reader.feed(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert time.process_time() - began < 5
    reader.feed(b"tail\n** TEST FAILED **\n")
    assert kinds(reader.facts()) == {signs.TESTS_FAILED}


@pytest.mark.parametrize(
    "hostile",
    [
        "Failing tests:\n" + "\tA.b()\n" * 5000,
        "The following build commands failed:\n" + "\tPhaseScriptExecution " + "\\ " * 2000,
        "/" * 4000 + ": error: x",
        "/a:1:PACKAGE-TARGET:" * 200,
        "Test case '" * 400,
        STAMP + "rror Domain " * 300,
        "PhaseScriptExecution " + "\\ " * 2000,
        "error: option '" * 270,
        "ld: " * 1000,
    ],
)
def test_no_line_is_expensive(hostile: str) -> None:
    raw = (hostile + "\n").encode() * (400_000 // len(hostile) + 1)
    began = time.process_time()
    facts = facts_of(raw)
    assert time.process_time() - began < 2
    assert len(facts.failing) < 1000


def test_a_long_build_log_is_read_quickly() -> None:
    command = (
        "    /Applications/Xcode.app/Contents/Developer/usr/bin/swiftc -module-name App " + "-I/x/y " * 40
    )
    step = f"SwiftCompile normal arm64 /job/tree/A.swift (in target 'App')\n    cd /job/tree\n{command}\n\n"
    block = (step * (65536 // len(step))).encode()
    reader = LogReader(TREE, tool="xcodebuild")
    began = time.process_time()
    for _ in range(640):
        reader.feed(block)
    seconds = time.process_time() - began
    assert 640 * len(block) / seconds > 15e6  # bytes a second, a fraction of what a free machine does
