from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import pytest

from worker_agent.results import buildlog, lines
from worker_agent.results.buildlog import LogReader, read_log
from worker_agent.results.logfacts import MAX_DIAGNOSTICS, LogFacts

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
TREE = Path("/job/tree")

# What swift 6.3.1 prints for the packages of tests/packages and for others like them.
RECORDED = Path(__file__).parent / "recorded"
BROKEN = (RECORDED / "broken.txt").read_text()
FAILING = (RECORDED / "failing.txt").read_text()
CRASHING = (RECORDED / "crashing.txt").read_text()


def facts_of(text: str | bytes, phase: str | None = "test", *, piece: int = 1 << 20) -> LogFacts:
    data = text.encode() if isinstance(text, str) else text
    reader = LogReader(TREE, Path("/job/build"))
    if phase is not None:
        reader.begin(phase)
    for at in range(0, len(data), piece):
        reader.feed(data[at : at + piece])
    reader.end()
    return reader.facts()


CLOSED = (
    "Test Suite 'A' passed at 2026-01-02 03:04:05.678\n\t Executed 1 test, with 0 failures (0 unexpected)\n"
)
OPENED = "Test Suite 'Selected tests' started at 2026-01-02 03:04:05.678\n"


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("text", "vouched"),
    [
        (f"Test Case 'A.a' passed (0.001 seconds)\n{CLOSED}", ("A.a",)),
        (f"dotsTest Case '-[M.A a]' skipped (0.001 seconds).\n{CLOSED}", ("A.a",)),
        (2 * f"{OPENED}Test Case 'A.a' passed (0.001 seconds)\n{CLOSED}{CLOSED}", ("A.a", "A.a")),
        (f"Test Case 'A.a' failed (0.001 seconds)\n{CLOSED}", ()),
        # its process was ended by the test, whatever that printed before
        (f"Test Case 'A.a' passed (0.001 seconds)\n{OPENED}{CLOSED}", ()),
        ("Test Case 'A.a' passed (0.001 seconds)\n", ()),
        (f"{OPENED}{CLOSED}", ()),
        # more than is looked at of a line
        (f"{'x' * 5000}Test Case 'A.a' passed (0.001 seconds)\n{CLOSED}", ()),
    ],
)
def test_a_test_is_vouched_for_where_its_suite_was_closed_after_it(
    text: str, vouched: tuple[str, ...]
) -> None:
    assert facts_of(text).vouched == vouched


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("head", "found"),
    [("error: ", True), ("warning: ", True), ("", False), ("x error: ", False), ("note: ", False)],
)
def test_that_there_are_no_tests_is_taken_from_swiftpm_s_own_line(head: str, *, found: bool) -> None:
    said = f"{head}no tests found; create a target in the 'Tests' directory\n"
    assert facts_of(said).no_tests_found == found


@pytest.mark.spec("9")
@pytest.mark.parametrize("printed", ["", "dots..", "one Test two ", "x" * 500])
def test_the_end_of_a_function_is_seen_behind_what_was_printed(printed: str) -> None:
    begun = "◇ Test some() started.\n◇ Test other() started.\n"
    facts = facts_of(
        f"{begun}{printed}✔ Test some() passed after 0.001 seconds.\n"
        f"{printed}✘ Test other() failed after 0.001 seconds with 1 issue.\n"
    )
    assert not facts.running
    assert facts.failed_functions == {"other()"}


@pytest.mark.spec("9")
def test_a_compiler_error_is_told_with_its_place_in_the_repository() -> None:
    facts = facts_of(BROKEN, "build")
    first = facts.first_error
    assert first is not None
    assert (first.path, first.line, first.column) == ("Sources/Sample/Sum.swift", 3, 22)
    assert first.message == "cannot convert value of type 'String' to specified type 'Int'"
    assert [(one.path, one.message) for one in facts.diagnostics[1:]] == [(None, "fatalError")]
    assert facts.error_count == 2


@pytest.mark.parametrize("piece", [1, 7, 100, 4096])
def test_the_size_of_the_pieces_does_not_matter(piece: int) -> None:
    for text, phase in ((BROKEN, "build"), (FAILING, "test"), (CRASHING, "test")):
        assert facts_of(text, phase, piece=piece) == facts_of(text, phase)


def test_a_message_that_is_told_again_counts_once() -> None:
    line = "/job/tree/A.swift:1:2: warning: unused\n"
    facts = facts_of(line * 3 + "/job/tree/A.swift:2:2: warning: unused\n", "build")
    assert facts.warning_count == 2
    assert len(facts.diagnostics) == 2


@pytest.mark.parametrize(
    ("printed", "path"),
    [
        ("/job/tree/Sources/A.swift", "Sources/A.swift"),
        ("/job/tree/Sources/../Tests/A.swift", "Tests/A.swift"),
        ("/job/treehouse/A.swift", "/job/treehouse/A.swift"),
        ("/job/tree/../secret/A.swift", "/job/secret/A.swift"),
        ("/job/build/x.derived/runner.swift", "runner.swift"),
        ("/usr/lib/swift/Swift.swiftinterface", "/usr/lib/swift/Swift.swiftinterface"),
    ],
)
def test_paths_are_of_the_repository_only_where_they_lie_in_it(printed: str, path: str) -> None:
    facts = facts_of(f"{printed}:1:2: error: no\n", "build")
    assert [one.path for one in facts.diagnostics] == [path]


def test_a_tree_behind_a_link_is_known_by_both_its_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    reader = LogReader(tmp_path / "link")
    reader.feed(f"{tmp_path}/real/A.swift:1:2: error: a\n{tmp_path}/link/B.swift:1:2: error: b\n".encode())
    assert [one.path for one in reader.facts().diagnostics] == ["A.swift", "B.swift"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("error: 'tree': invalid manifest", "'tree': invalid manifest"),
        ("clang: error: linker command failed with exit code 1", "linker command failed with exit code 1"),
        ("/job/tree/a.c:1:10: fatal error: 'x.h' file not found", "'x.h' file not found"),
        ("\x1b[1m/job/tree/A.swift:1:2: \x1b[31merror: \x1b[0mred\r", "red"),
    ],
)
def test_other_forms_of_an_error_are_read(line: str, message: str) -> None:
    (one,) = facts_of(line + "\n", "build").diagnostics
    assert (one.severity, one.message) == ("error", message)


@pytest.mark.parametrize(
    "line",
    [
        '12 | let text = "/job/tree/A.swift:1:2: error: planted"',
        '12 | let text = "tool: error: planted"',
        "  |       `- error: cannot convert",
        "/job/tree/A.swift:1:2: note: declared here",
        "[3/7] Compiling Sample error: no",
    ],
)
def test_quoted_source_and_notes_are_no_diagnostics(line: str) -> None:
    assert facts_of(line + "\n", "build").diagnostics == ()


@pytest.mark.spec("9")
def test_failures_of_both_frameworks_have_message_and_place() -> None:
    facts = facts_of(FAILING)
    assert [(one.framework, one.name, one.path, one.line) for one in facts.failures] == [
        ("xctest", "SumTests.testOfNone", "/job/tree/Tests/SampleTests/SumTests.swift", 11),
        ("swift-testing", "none()", "SumSuite.swift", 11),
        ("swift-testing", "odd(_:)", "Suite.swift", 7),
        ("swift-testing", "named()", "Suite.swift", 12),
    ]
    assert facts.failures[0].message == 'XCTAssertEqual failed: ("1") is not equal to ("0")'
    assert facts.failures[1].message == "Expectation failed: (sum([]) → 1) == 0"
    assert facts.failed == {"SumTests.testOfNone"}
    assert facts.passed == {"SumTests.testOfSome"}
    assert facts.skipped == {"SumTests.testLater"}
    assert facts.unfinished == ()


@pytest.mark.spec("3.3")
def test_each_failed_assertion_is_news_with_its_place_before_its_test_ends(tmp_path: Path) -> None:
    (tmp_path / "Tests").mkdir()
    (tmp_path / "Tests" / "SumSuite.swift").touch()
    reader = LogReader(tmp_path)
    reader.begin("test")
    news = reader.feed(FAILING.replace("/job/tree", str(tmp_path)).encode())
    told = [one.data for one in news if one.type == "failure"]
    facts = reader.facts()
    assert [(each["name"], each["line"], each["message"]) for each in told] == [
        (each.name, each.line, each.message) for each in facts.failures
    ]
    assert {each["framework"] for each in told} == {"xctest", "swift-testing"}
    assert all(not each["path"].startswith("/") for each in told)
    first = next(one for one in news if one.type == "test" and one.data["outcome"] == "failed")
    assert news.index(first) == 1


def test_the_end_of_each_test_is_news() -> None:
    reader = LogReader(TREE)
    reader.begin("test")
    news = [
        (one.type, one.data["name"], one.data["outcome"])
        for one in reader.feed(FAILING.encode())
        if one.type != "failure"
    ]
    assert news == [
        ("test", "SumTests.testOfNone", "failed"),
        ("test", "SumTests.testOfSome", "passed"),
        ("test", "SumTests.testLater", "skipped"),
        ("test", "some()", "passed"),
        ("test", "none()", "failed"),
        ("test", "odd(_:)", "failed"),
        ("test", "named()", "failed"),
        ("test", "off()", "skipped"),
        ("test", "known()", "passed"),
    ]


@pytest.mark.spec("9")
def test_tests_of_suites_that_started_and_never_ended_are_told_the_last_one_last() -> None:
    names = ["one()", "two()", "\"a name\" (aka 'three()')", "two()", "one()"]
    begun = "".join(f"\u25c7 Test {name} started.\n" for name in names)
    ended = (
        "\u2714 Test one() passed after 0.001 seconds.\n"
        "\u2718 Test two() with 2 test cases failed after 0.001 seconds with 1 issue.\n"
    )
    text = "\u25c7 Test run started.\n\u25c7 Suite A started.\n" + begun + ended
    text += "\u25c7 Test case passing 1 argument n \u2192 1 to odd(_:) started.\n"
    assert facts_of(text).running == ("three()", "one()", "two()")
    assert facts_of(text + ended).running == ("three()",)
    assert facts_of(FAILING).running == ()


def test_a_test_that_prints_without_a_line_end_is_still_seen_to_pass() -> None:
    text = "Test Case 'A.testX' started at 1\nabcTest Case 'A.testX' passed (0.1 seconds)\n"
    facts = facts_of(text)
    assert facts.passed == {"A.testX"}
    assert facts.unfinished == ()


@pytest.mark.spec("9")
def test_a_crash_tells_the_signal_the_trap_and_the_test_that_did_not_end() -> None:
    facts = facts_of(CRASHING)
    assert facts.signal == 4
    assert facts.crash == "Sample/Sum.swift:3: Fatal error: nothing to sum"
    assert facts.crashes[2] == "crashed: Illegal instruction at 0x00007f7dbc0f9361"
    assert facts.unfinished == ("SumTests.testOfNone",)


def test_the_words_of_the_crash_are_the_last_before_the_backtrace() -> None:
    facts = facts_of("Fatal error: printed\n" * 30 + CRASHING + "Fatal error: printed later\n")
    assert facts.crash == "Sample/Sum.swift:3: Fatal error: nothing to sum"


@pytest.mark.parametrize(
    "line",
    [
        "error: Exited with unexpected signal code 11",
        "error: Exited with signal code 11",
        "rsp 0x00007fcf117fbb00  error: Process '/x.xctest' exited with unexpected signal code 11",
    ],
)
def test_other_words_for_a_crash_are_known(line: str) -> None:
    assert facts_of(line).signal == 11


def test_what_a_test_prints_is_no_diagnostic_of_the_build() -> None:
    assert facts_of("/job/tree/A.swift:1:2: error: planted\nerror: planted\n", "test").diagnostics == ()


def test_a_full_disk_and_an_absent_test_target_are_noticed() -> None:
    assert facts_of("error: /job/build/x.o: No space left on device\n", "build").no_space
    said = "error: no tests found; create a target in the 'Tests' directory\n"
    assert facts_of(said, "test").no_tests_found


def test_an_issue_whose_arguments_go_over_lines_is_read_to_its_place() -> None:
    text = (
        '✘ Test "all kinds" recorded an issue with 1 argument input → "final class C {\n'
        "}\n"
        '" at Macro.swift:363:7: Expectation failed: no\n'
        "✘ Test other() recorded an issue with 1 argument input →\n"
        + "filler\n" * 20
        + " at B.swift:1:1: late\n"
    )
    (only,) = facts_of(text).failures
    assert (only.name, only.path, only.line, only.message) == (
        "all kinds",
        "Macro.swift",
        363,
        "Expectation failed: no",
    )


def test_bytes_that_are_no_text_are_replaced() -> None:
    facts = facts_of(b"/job/tree/A.swift:1:2: error: \xff\xfe\x00 caf\xc3\n", "build")
    assert facts.diagnostics[0].message.startswith("\ufffd\ufffd")


def test_lists_are_capped_and_counts_are_not() -> None:
    text = "".join(f"/job/tree/A.swift:{n}:1: error: e\n" for n in range(1, 501))
    facts = facts_of(text, "build")
    assert (len(facts.diagnostics), facts.error_count) == (MAX_DIAGNOSTICS, 500)


def test_news_are_capped_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buildlog, "MAX_HAPPENINGS", 5)
    reader = LogReader(TREE)
    reader.begin("test")
    news = reader.feed("".join(f"Test Case 'A.test{n}' passed (0 seconds)\n" for n in range(9)).encode())
    assert [one.type for one in news] == ["test"] * 4 + ["note"]
    assert reader.feed(b"Test Case 'A.testZ' passed (0 seconds)\n") == []


@pytest.mark.fault("H12")
def test_memory_and_time_stay_bounded_by_a_line_without_end() -> None:
    reader = LogReader(TREE)
    block = b"x: error: " * 6554
    tracemalloc.start()
    began = time.process_time()
    for _ in range(256):
        reader.feed(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert time.process_time() - began < 5
    reader.feed(b"tail\n/job/tree/A.swift:1:2: error: after\n")
    assert [one.message for one in reader.facts().diagnostics] == ["after"]


@pytest.mark.parametrize(
    "hostile",
    [
        "Test Case '" * 400,
        ": error: " * 500,
        "✘ Test " + "a " * 2000 + "passed after",
        "✘ Test x recorded an issue" + " at a:1:" * 500,
        "error: " + "exited with " * 330,
        "1:1:" * 1000,
    ],
)
def test_no_line_is_expensive(hostile: str) -> None:
    data = (hostile + "\n").encode() * 200
    began = time.process_time()
    facts_of(data, None)
    assert time.process_time() - began < 2


def test_a_log_on_disk_is_read_without_phases(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text(BROKEN + FAILING)
    facts = read_log(log, TREE)
    assert facts.error_count == 1
    assert facts.failed == {"SumTests.testOfNone"}
    assert read_log(tmp_path / "none.log", TREE) == LogFacts()


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("-[Module.Class testX]", "Class.testX"),
        ("Class.testX", "Class.testX"),
        ("Module.Class.testX", "Class.testX"),
        ("testX", "testX"),
    ],
)
def test_names_of_both_systems_become_one(name: str, short: str) -> None:
    assert lines.xctest_name(name) == short


def recorded(name: str) -> tuple[bytes, dict[str, dict[str, int]]]:
    log = FIXTURES / "logs" / name
    if not log.is_file():
        pytest.skip(f"the recorded outputs are not at {FIXTURES}")
    labels = json.loads((FIXTURES / "LABELS.json").read_text())
    return log.read_bytes(), labels[f"logs/{name}"]


def test_a_recorded_log_of_both_frameworks_on_macos_is_read() -> None:
    data, label = recorded("swift_test_mixed_6_0_macos.txt")
    facts = facts_of(data)
    by = {
        kind: [one for one in facts.failures if one.framework == kind]
        for kind in ("xctest", "swift-testing")
    }
    assert len(facts.passed | facts.failed) == label["xctest"]["run"]
    assert len(facts.failed) == len(by["xctest"]) == label["xctest"]["failed"]
    assert len(by["swift-testing"]) == label["swift_testing"]["failed"]
    assert by["xctest"][0].name == "CaptureGroupTests.testForceFailure"
    assert by["swift-testing"][0].path == "Test.swift"


def test_a_long_recorded_log_of_macos_is_read() -> None:
    data, label = recorded("swift_test_macos.txt")
    facts = facts_of(data)
    issues = [one for one in facts.failures if one.framework == "swift-testing"]
    assert len(issues) == label["swift_testing"]["issues"]
    assert {one.path for one in issues} == {"TestDeclarationMacroTests.swift", "PlanTests.swift"}
    assert facts.failed == frozenset()
    assert facts.unfinished == ()
    assert facts.signal is None
