"""Outputs of `xcresulttool` and result bundles in the forms of Xcode 16 and 26, made by hand."""

from __future__ import annotations

import json
import plistlib
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from worker_agent.results.tool import ToolOutput
from worker_agent.results.xcresult_db import NAME

Node = dict[str, Any]

DEVICE: Node = {
    "deviceId": "A-1",
    "deviceName": "iPhone 16",
    "architecture": "arm64",
    "modelName": "iPhone 16",
    "osVersion": "18.2",
    "osBuildNumber": "22C150",
    "platform": "iOS Simulator",
}
RESULTS = {
    "passed": "Passed",
    "failed": "Failed",
    "skipped": "Skipped",
    "expected_failure": "Expected Failure",
}


def node(kind: str, name: str, result: str | None = None, *children: Node, **members: Any) -> Node:
    """One test node."""
    made: Node = {"nodeType": kind, "name": name, **members}
    if result is not None:
        made["result"] = result
    if children:
        made["children"] = list(children)
    return made


def case(
    name: str, outcome: str = "passed", *children: Node, suite: str = "SumTests", **members: Any
) -> Node:
    """One test of a class."""
    said = {"nodeIdentifier": f"{suite}/{name}", "duration": "0,005s", **members}
    return node("Test Case", name, RESULTS.get(outcome, outcome), *children, **said)


def failure(text: str) -> Node:
    """What a failed assertion says."""
    return node("Failure Message", text, "Failed")


def report_of(*cases: Node, result: str | None = None, devices: Sequence[Node] = (DEVICE,)) -> Node:
    """The whole output for tests of one class in one bundle."""
    said = {str(one.get("result")) for one in cases}
    whole = result or ("Failed" if "Failed" in said else "Passed")
    suite = node("Test Suite", "SumTests", whole, *cases)
    bundle = node("Unit test bundle", "SampleTests", whole, suite)
    return {
        "devices": list(devices),
        "testPlanConfigurations": [{"configurationId": "1", "configurationName": "Default"}],
        "testNodes": [node("Test Plan", "Sample", whole, bundle)],
    }


def summary_of(told: Node, **members: Any) -> Node:
    """The summary that belongs to such an output."""
    results = [one.get("result") for one in _cases(told["testNodes"])]
    counts = {
        "totalTestCount": len(results),
        "passedTests": results.count("Passed"),
        "failedTests": results.count("Failed"),
        "skippedTests": results.count("Skipped"),
        "expectedFailures": results.count("Expected Failure"),
    }
    return {
        "title": "Test - Sample",
        "environmentDescription": "Sample",
        "result": "Failed" if counts["failedTests"] else "Passed",
        "testFailures": [],
        **counts,
        **members,
    }


def _cases(nodes: Sequence[Node]) -> list[Node]:
    found: list[Node] = []
    for one in nodes:
        found += [one] if one["nodeType"] == "Test Case" else _cases(one.get("children", []))
    return found


def build_of(errors: Sequence[Node] = (), warnings: Sequence[Node] = (), **members: Any) -> Node:
    """The output for a build."""
    return {"errors": list(errors), "warnings": list(warnings), "analyzerWarnings": [], **members}


def data(told: Any) -> bytes:
    """As the tool prints it."""
    return json.dumps(told, indent=2, ensure_ascii=False).encode()


class Tool:
    """Answers as `xcresulttool get` would, from what it was given; what it was not, it cannot do."""

    def __init__(self, answers: Mapping[tuple[str, ...], bytes]) -> None:
        self._answers = answers

    def __call__(self, words: Sequence[str]) -> ToolOutput:
        answer = self._answers.get(tuple(words))
        return ToolOutput(
            answer or b"", None if answer is not None else "ended with 64: unknown subcommand"
        )


def make_bundle(path: Path, *, major: int = 3) -> Path:
    """A bundle's folder with the property list that says what it is."""
    path.mkdir(parents=True)
    listed = {"version": {"major": major, "minor": 53}, "storage": {"backend": "fileBacked2"}}
    (path / "Info.plist").write_bytes(plistlib.dumps(listed))
    return path


LAYOUT = """
CREATE TABLE TestCases (identifier TEXT, name TEXT, testSuite_fk INTEGER);
CREATE TABLE TestCaseResultsByDestinationAndConfiguration
  (destination_fk INTEGER, configuration_fk INTEGER, result TEXT, testCase_fk INTEGER);
"""


def make_database(bundle: Path, results: Mapping[str, str], *, layout: str = LAYOUT) -> Path:
    """A bundle's database that holds a result for each identifier, and the sums that the tool adds."""
    path = bundle / NAME
    with closing(sqlite3.connect(path)) as database:
        database.executescript(layout)
        for number, (identifier, result) in enumerate(results.items(), 1):
            name = identifier.rpartition("/")[2]
            database.execute("INSERT INTO TestCases VALUES (?, ?, 1)", (identifier, name))
            for destination, configuration in ((None, None), (1, None), (1, 1)):
                database.execute(
                    "INSERT INTO TestCaseResultsByDestinationAndConfiguration VALUES (?, ?, ?, ?)",
                    (destination, configuration, result, number),
                )
        database.commit()
    return path
