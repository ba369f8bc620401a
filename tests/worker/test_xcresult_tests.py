from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.xcresults import DEVICE, case, data, failure, node, report_of

from worker_agent.results import xcresult_tests
from worker_agent.results.cases import Case
from worker_agent.results.durations import milliseconds
from worker_agent.results.xcresult_tests import TestsRead, parse_tests

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"


def read(told: Any) -> TestsRead:
    return parse_tests(data(told))


def one_of(told: Any) -> Case:
    found = read(told)
    assert found.problem is None
    (only,) = found.cases
    return only


def recorded(name: str) -> bytes:
    path = FIXTURES / "xcresulttool" / name
    if not path.is_file():
        pytest.skip(f"the recorded outputs are not at {FIXTURES}")
    return path.read_bytes()


@pytest.mark.spec("9")
def test_a_recording_of_both_frameworks_with_repetitions_is_read() -> None:
    told = parse_tests(recorded("tests_xcode16_mixed_retries.json"))
    assert (told.problem, told.doubts, told.said) == (None, (), ())
    assert Counter(one.outcome for one in told.cases) == {"passed": 28, "failed": 12, "skipped": 7}
    by = {one.identifier: one for one in told.cases}
    slow = by["FastlaneTrainerExampleUITests/testAccessibilityAndScreenshots()"]
    assert (slow.milliseconds, [one.milliseconds for one in slow.attempts]) == (5000, [6000, 4000])
    assert (slow.texts[0].path, slow.texts[0].line) == ("FastlaneTrainerExampleUITests.swift", 129)
    assert slow.message == "XCTAssertTrue failed"
    flags = by["FastlaneTrainerTests/SkipTests/FeatureFlagTests/testFeatureFlag(_:)"]
    assert [(one.name, one.outcome) for one in flags.arguments] == [
        ('"basic_feature"', "passed"),
        ('"experimental_feature"', "failed"),
        ('"premium_feature"', "failed"),
    ]
    assert flags.arguments[1].attempts[0].texts[0].line == 334
    assert flags.suite == "FastlaneTrainerExampleTests.FastlaneTrainerTests.SkipTests.FeatureFlagTests"
    skipped = by["FastlaneTrainerTests/SkipTests/EnvironmentTests/testCIOnly()"]
    assert skipped.message == "Test 'CI environment test' skipped: Test only runs in CI environment"
    assert not any(one.flaky for one in told.cases)
    assert [one.device_name for one in told.devices] == ["iPhone 16 Pro"]


def test_the_recording_holds_each_kind_that_the_tool_s_schema_names_and_no_other_result() -> None:
    schema = json.loads(recorded("tests_json_schema.trunk.json"))["$defs"]
    kinds = set(schema["TestNodeType"]["enum"])
    known = {
        *xcresult_tests._ABOVE,
        *xcresult_tests._SPLITS,
        *xcresult_tests._REPEATS,
        *xcresult_tests._SAYS,
    }
    assert known <= kinds
    assert kinds - known == {
        "Test Case",
        "Arguments",
        "Source Code Reference",
        "Attachment",
        "Expression",
        "Test Value",
        "Runtime Warning",
    }
    assert set(schema["TestResult"]["enum"]) == {*xcresult_tests._OUTCOMES, "unknown"}


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5s", 5000),
        ("0,005s", 5),
        ("0.0095s", 9),
        ("1m 2s", 62_000),
        ("1h 2m", 3_720_000),
        ("1d 1s", 86_401_000),
        ("1 min 2,5 Sek.", 62_500),
        ("22ms", 22),
        ("٠٫٠٠٥ث", 5),  # noqa: RUF001  (what such a machine prints)
        ("0.5 秒", 500),
        ("", 0),
        ("soon", 0),
        ("9" * 50 + "s", 315_360_000_000),
        ("3 foo 2 bar", 0),
        (None, 0),
    ],
)
def test_durations_of_every_language_are_read(text: str | None, expected: int) -> None:
    assert milliseconds(text) == expected


def test_a_duration_in_seconds_counts_before_the_text() -> None:
    assert milliseconds("1m", 0.25) == 250
    assert milliseconds("1m", -1.0) == 0
    assert one_of(report_of(case("testA()", durationInSeconds=1.5))).milliseconds == 1500


def test_the_form_of_xcode_26_is_read() -> None:
    place = {"filePath": "/job/tree/Tests/SumTests.swift", "lineNumber": 9}
    told = report_of(
        case("testA()", "failed", node("Failure Message", "boom", "Failed", sourceLocation=place)),
        case("testB()", "skipped", node("Skip Message", "not on this machine")),
        case("testC()", "expected_failure", node("Expected Failure", "known: 1234")),
        case("testD()", "passed", node("Runtime Warning", "hang")),
    )
    failed, skipped, expected, warned = read({**told, "somethingNew": {"a": [1]}}).cases
    assert (failed.texts[0].path, failed.texts[0].line) == ("/job/tree/Tests/SumTests.swift", 9)
    assert (skipped.outcome, skipped.message) == ("skipped", "not on this machine")
    assert (expected.outcome, expected.message) == ("expected_failure", "known: 1234")
    assert (warned.outcome, warned.texts) == ("passed", ())


@pytest.mark.spec("9")
def test_a_test_that_passed_only_on_a_retry_is_flaky() -> None:
    told = case(
        "testA()",
        "passed",
        node("Repetition", "First Run", "Failed", failure("SumTests.swift:3: no"), duration="1s"),
        node("Repetition", "Retry 1", "Passed", duration="2s"),
    )
    only = one_of(report_of(told))
    assert only.flaky
    assert [one.texts[0].message for one in only.lost_attempts] == ["no"]
    assert read(report_of(told)).doubts == ()
    inner = node("Arguments", "1", "Passed", *told["children"])
    assert one_of(report_of(case("testB(_:)", "passed", inner))).flaky


def test_one_name_on_two_runtimes_is_two_cases() -> None:
    older = {**DEVICE, "deviceId": "A-2", "osVersion": "17.5"}
    runs = [
        node("Device", "iPhone 16", "Passed", nodeIdentifier="A-1", duration="1s"),
        node("Device", "iPhone 16", "Failed", failure("A.swift:1: no"), nodeIdentifier="A-2"),
    ]
    told = read(report_of(case("testA()", "failed", *runs), devices=(DEVICE, older)))
    assert [(one.device, one.outcome) for one in told.cases] == [
        ("iPhone 16 (18.2)", "passed"),
        ("iPhone 16 (17.5)", "failed"),
    ]
    twin = {**older, "osVersion": "18.2"}
    told = read(report_of(case("testA()", "failed", *runs), devices=(DEVICE, twin)))
    assert len({one.device for one in told.cases}) == 2
    plans = [node("Test Plan Configuration", name, "Passed") for name in ("German", "Arabic")]
    told = read(report_of(case("testA()", "passed", *plans)))
    assert [one.device for one in told.cases] == ["German", "Arabic"]


def test_a_name_with_a_slash_and_one_without_an_identifier_are_kept_whole() -> None:
    told = read(
        report_of(
            case("`a/b c`()", nodeIdentifier="Outer/Inner/`a/b c`()"), node("Test Case", "bare()", "Passed")
        )
    )
    assert [(one.suite, one.name) for one in told.cases] == [
        ("SampleTests.Outer.Inner", "`a/b c`()"),
        ("SampleTests", "bare()"),
    ]


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("told", "doubt"),
    [
        (report_of(case("testA()"), result="Failed"), "suite SumTests failed and none of its tests"),
        (report_of(case("testA()", "passed", failure("no"))), "testA() passed and says: no"),
        (
            report_of(case("testA()", "passed", node("Repetition", "1", "Failed"))),
            "testA() passed and its last repetition did not",
        ),
        (
            report_of(case("testA()", "passed", node("Arguments", "1", "Failed"))),
            "testA() passed and one of its arguments did not",
        ),
    ],
)
def test_nodes_that_contradict_one_another_are_doubted(told: Any, doubt: str) -> None:
    assert doubt in " ".join(read(told).doubts)


@pytest.mark.spec("9")
def test_a_test_without_a_known_result_is_neither_passed_nor_failed() -> None:
    told = report_of(case("a()", "unknown"), case("b()", "Splendid"), node("Test Case", "c()"))
    assert [one.outcome for one in read(told).cases] == ["unknown"] * 3


def test_what_failed_above_every_test_is_told() -> None:
    told = report_of(case("testA()"))
    suite = told["testNodes"][0]["children"][0]
    suite["result"] = "Failed"
    suite["children"].append(failure("SampleTests-Runner encountered an error (lost)"))
    found = read(told)
    assert found.said == ("SampleTests-Runner encountered an error (lost)",)
    told_of = "unit test bundle SampleTests failed and none of its tests: SampleTests-Runner"
    assert told_of in " ".join(found.doubts)


@pytest.mark.spec("9")
def test_a_failure_above_tests_that_all_passed_is_doubted_whatever_the_bundle_says() -> None:
    told = report_of(case("testA()"))
    told["testNodes"][0]["children"].append(failure("the runner was lost"))
    assert "the runner was lost" in " ".join(read(told).doubts)


@pytest.mark.spec("9")
def test_tests_below_a_kind_of_node_that_is_not_known_are_counted() -> None:
    told = report_of(case("testA()"))
    plan = told["testNodes"][0]
    plan["children"] = [node("Test Shard", "1", "Passed", *plan["children"], node("Shard", "2", "Failed"))]
    found = read(told)
    assert [one.name for one in found.cases] == ["testA()"]
    assert found.doubts == ("shard 2 failed and none of its tests",)


@pytest.mark.spec("9")
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("result", ["Crashed", "unknown", ""])
def test_a_group_with_a_strange_result_is_doubted(level: int, result: str) -> None:
    told = report_of(case("testA()"))
    group = told["testNodes"][0]
    for _ in range(level):
        group = group["children"][0]
    group["result"] = result
    assert f"has the result {result!r}" in " ".join(read(told).doubts)


@pytest.mark.spec("9")
def test_a_plan_without_tests_may_have_no_result() -> None:
    told = report_of()
    told["testNodes"][0] |= {"result": "unknown", "children": []}
    assert read(told) == TestsRead(devices=read(told).devices)


@pytest.mark.spec("9")
def test_a_test_that_failed_while_its_devices_passed_is_failed() -> None:
    runs = [node("Device", name, "Passed", nodeIdentifier=name) for name in ("A-1", "A-2")]
    assert {one.outcome for one in read(report_of(case("a()", "failed", *runs))).cases} == {"failed"}
    assert {one.outcome for one in read(report_of(case("a()", "Crashed", *runs))).cases} == {"unknown"}
    runs.append(node("Device", "A-3", "Failed", nodeIdentifier="A-3"))
    outcomes = [one.outcome for one in read(report_of(case("a()", "failed", *runs))).cases]
    assert outcomes == ["passed", "passed", "failed"]


@pytest.mark.spec("9")
@pytest.mark.parametrize("kind", ["Repetition", "Arguments", "Test Case Run", "Device", "Phase"])
@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("result", ["Failed", "Crashed"])
@pytest.mark.parametrize("outcome", ["passed", "skipped", "expected_failure"])
def test_a_red_part_however_deep_is_doubted(kind: str, depth: int, result: str, outcome: str) -> None:
    part = node(kind, "x", result)
    for _ in range(depth - 1):
        part = node(kind, "x", "Passed", part)
    found = read(report_of(case("testA()", outcome, part)))
    assert found.doubts or any(one.outcome in {"failed", "unknown"} for one in found.cases)


def test_a_retry_within_arguments_within_a_repetition_is_flaky() -> None:
    lost = node("Repetition", "First Run", "Failed", failure("no"))
    inner = node("Arguments", "1", "Passed", lost, node("Repetition", "Retry 1", "Passed"))
    told = report_of(case("testA(_:)", "passed", node("Repetition", "1", "Passed", inner)))
    assert read(told).doubts == ()
    assert one_of(told).flaky


WHOLE = data(report_of(case("testA()")))


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (WHOLE[: len(WHOLE) // 2], "is cut short"),
        (b"null", "another shape"),
        (b"[]", "another shape"),
        (b'{"devices": [], "testPlanConfigurations": []}', "another shape"),
        (b'{"devices": [], "testNodes": {}}', "another shape"),
        (b'{"devices": [], "testNodes": [{"name": "x"}]}', "another shape"),
        (b'{"devices": [], "testNodes": [{"name": 1, "nodeType": "Test Case"}]}', "another shape"),
        (b'{"_type": {"_name": "ActionsInvocationRecord"}}', "before Xcode 16"),
        (b'{"schemaVersion": "1.0.0", "devices": [], "testNodes": []}', "schema version '1.0.0'"),
        (b'{"devices": [], "testNodes": [' + b'{"children": [' * 100_000, "s"),
        (b"\xff\xfe\x00", "another shape"),
        (b'{"devices": [], "testNodes": [1], "testNodes": []}', "another shape"),
        (WHOLE.replace(b'"result": "Passed"', b'"result": "Failed", "result": "Passed"'), "told twice"),
    ],
)
def test_another_shape_is_a_problem_and_never_an_exception(raw: bytes, problem: str) -> None:
    found = parse_tests(raw)
    assert found.problem is not None
    assert problem in found.problem
    assert found.cases == ()


def test_deep_nests_and_too_many_cases_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = case("testA()")
    for _ in range(100):
        inner = node("Test Suite", "S", "Passed", inner)
    assert read(report_of(inner)).problem == "nests deeper than 48"
    deep = failure("x")
    for _ in range(100):
        deep = node("Activity", "A", None, deep)
    assert read(report_of(case("testA()", "failed", deep))).problem == "nests deeper than 48"
    monkeypatch.setattr(xcresult_tests, "MAX_CASES", 3)
    assert "more than 3" in str(read(report_of(*(case(f"test{n}()") for n in range(4)))).problem)


def test_bytes_that_are_no_text_and_long_texts_are_borne() -> None:
    raw = data(report_of(case("testA()", "failed", failure("m" * 100_000)))).replace(
        b"testA", b"test\xff\xfe"
    )
    found = parse_tests(raw)
    assert found.problem is None
    assert found.cases[0].name == "test\ufffd\ufffd()"
    assert len(found.cases[0].message) == 2000


def test_a_large_report_is_read_in_little_time() -> None:
    raw = data(
        report_of(*(case(f"test{n}()", "failed", failure(f"A.swift:{n}: no")) for n in range(20_000)))
    )
    began = time.process_time()
    assert len(parse_tests(raw).cases) == 20_000
    assert time.process_time() - began < 3
