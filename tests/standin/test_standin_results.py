"""Result bundles and `xcresulttool`, beside the recorded documents and databases."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest
from support.recordings import FOLDER, recording
from support.standin import Machine

from worker_agent.standin.database import RESULTS, TABLES

MIXED = """import XCTest
import Testing

final class MixedTests: XCTestCase {
    func testFails() { XCTFail("soot") }
    func testSkips() throws { throw XCTSkip("no wind") }
    func testKnown() { XCTExpectFailure("later"); XCTFail("known") }
    func testNow() { /* standin: */ }
}

@Suite("Outer") struct Outer {
    @Suite struct Inner {
        @Test("deep", arguments: ["a, b", "c"]) func deep(value: String) { Issue.record("dark") }
    }
}
"""
RETRY = ("-retry-tests-on-failure", "-test-iterations", "2")


def nodes(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield above, tree["nodeType"], tree
    for child in tree.get("children", ()):
        yield from nodes(child, tree["nodeType"])


def all_nodes(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [each for tree in document["testNodes"] for each in nodes(tree)]


def mixed(machine: Machine, *argv: str, scenario: str = "", **env: str) -> dict[str, Any]:
    machine.write("LanternTests/Mixed.swift", MIXED)
    machine.xcodebuild("test", *argv, bundle="r.xcresult", scenario=scenario, **env)
    told: dict[str, Any] = machine.results("get test-results tests --compact", **env)
    return told


@pytest.mark.spec("9")
def test_the_nodes_are_those_of_the_recorded_document(machine: Machine) -> None:
    ours = all_nodes(mixed(machine, *RETRY, scenario="localised"))
    recorded = all_nodes(json.loads(recording("xcresulttool/tests_xcode16_mixed_retries.json")))
    places = {(above, kind) for above, kind, _ in recorded if "UI test" not in f"{above}{kind}"}
    assert places <= {(above, kind) for above, kind, _ in ours}
    keys: dict[str, set[str]] = {}
    for _, kind, node in recorded:
        keys.setdefault(kind, set()).update(node)
    unknown = {(kind, key) for _, kind, node in ours for key in node if key not in keys.get(kind, {key})}
    assert unknown == set()
    assert {node["result"] for _, _, node in ours} >= {node["result"] for _, _, node in recorded}


@pytest.mark.spec("9")
@pytest.mark.parametrize("release", ["16.2", "26.0.1"])
def test_the_document_keeps_to_the_schema_that_the_tool_prints(machine: Machine, release: str) -> None:
    schema = json.loads(recording("xcresulttool/tests_json_schema.trunk.json"))
    env = {"DEVELOPER_DIR": str(machine.root / f"Xcode_{release}.app/Contents/Developer")}
    document = mixed(machine, *RETRY, **env)
    jsonschema.validate(document, {**schema, "$ref": "#/$defs/Tests"})
    cases = [node for _, kind, node in all_nodes(document) if kind == "Test Case"]
    assert all(("durationInSeconds" in node) is (release == "26.0.1") for node in cases)


@pytest.mark.spec("9")
def test_what_a_careless_reader_stumbles_over_is_there(machine: Machine) -> None:
    found = all_nodes(mixed(machine, *RETRY, scenario="localised"))
    cases = {node["nodeIdentifier"]: node for _, kind, node in found if kind == "Test Case"}
    (skip,) = cases["MixedTests/testSkips()"]["children"]
    assert skip == {"name": "Test skipped - no wind", "nodeType": "Failure Message", "result": "Skipped"}
    first, second = cases["MixedTests/testFails()"]["children"]
    assert (first["name"], second["name"], first["nodeType"]) == ("Retry 1", "Retry 2", "Repetition")
    assert first["children"][0]["name"] == "Mixed.swift:5: failed - soot"
    deep = cases["Outer/Inner/deep(value:)"]
    assert [each["name"] for each in deep["children"]] == ['"a, b"', '"c"']
    assert deep["children"][0]["children"][0]["nodeType"] == "Repetition"
    assert (deep["result"], deep["details"]) == ("Failed", "Failed after 2 retries")
    assert cases["MixedTests/testKnown()"]["result"] == "Expected Failure"
    assert all("." not in node["duration"] for node in cases.values())
    assert any("," in node["duration"] for node in cases.values())


@pytest.mark.spec("9")
def test_a_flaky_test_passes_in_the_end_with_its_failure_on_record(machine: Machine) -> None:
    ran = machine.xcodebuild("test", *RETRY, bundle="r.xcresult", scenario="flaky")
    assert ran.code == 0
    found = all_nodes(machine.results("get test-results tests"))
    repeated = [node for _, kind, node in found if kind == "Test Case" and "children" in node]
    (flaky,) = [node for node in repeated if node["children"][0]["nodeType"] == "Repetition"]
    assert flaky["result"] == "Passed"
    assert [one["result"] for one in flaky["children"]] == ["Failed", "Passed"]
    assert machine.xcodebuild("test", scenario="flaky").code == 65


@pytest.mark.spec("9")
def test_summary_and_tests_agree(machine: Machine) -> None:
    found = all_nodes(mixed(machine))
    summary = machine.results("get test-results summary")
    results = [node["result"] for _, kind, node in found if kind == "Test Case"]
    assert summary["totalTestCount"] == len(results) == 12
    names = {"Passed": "passedTests", "Failed": "failedTests", "Skipped": "skippedTests"}
    assert {key: summary[key] for key in names.values()} == {
        key: results.count(result) for result, key in names.items()
    }
    assert [one["testIdentifierString"] for one in summary["testFailures"]] == [
        "MixedTests/testFails()",
        "Outer/Inner/deep(value:)",
    ]


def columns(database: Path) -> dict[str, dict[str, str]]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        tables = [
            row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        told = {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for name in tables}
    connection.close()
    return {name: {row[1]: row[2] for row in rows} for name, rows in told.items()}


@pytest.mark.spec("9")
@pytest.mark.parametrize("name", ["test-swift", "test-swift-mix"])
def test_the_database_has_the_recorded_tables(machine: Machine, tmp_path: Path, name: str) -> None:
    archive = FOLDER / "xcresult_bundles" / f"{name}.xcresult.tar.gz"
    if not archive.is_file():
        pytest.skip("the recorded bundle is not beside the project")
    with tarfile.open(archive) as tar:
        tar.extract(f"{name}.xcresult/database.sqlite3", tmp_path, filter="data")
    recorded = columns(tmp_path / f"{name}.xcresult" / "database.sqlite3")
    machine.xcodebuild("test", bundle="r.xcresult")
    ours = columns(machine.home / "r.xcresult" / "database.sqlite3")
    assert set(ours) == set(TABLES)
    assert {table: recorded[table] for table in ours} == ours


@pytest.mark.spec("9")
def test_the_database_counts_what_the_documents_count(machine: Machine) -> None:
    mixed(machine, *RETRY)
    connection = sqlite3.connect(machine.home / "r.xcresult" / "database.sqlite3")
    query = (
        "SELECT c.identifier, r.result FROM TestCases c "
        "JOIN TestCaseResultsByDestinationAndConfiguration r "
        "ON r.testCase_fk = c.rowid WHERE r.destination_fk IS NULL"
    )
    told = dict(connection.execute(query).fetchall())
    runs = connection.execute("SELECT count(*) FROM TestCaseRuns").fetchone()[0]
    located = connection.execute(
        "SELECT l.lineNumber FROM TestIssues i "
        "JOIN SourceCodeContexts x ON i.sourceCodeContext_fk = x.rowid "
        "JOIN SourceCodeLocations l ON x.location_fk = l.rowid WHERE i.compactDescription = 'failed - soot'"
    ).fetchall()
    connection.close()
    cases = [
        node
        for _, kind, node in all_nodes(machine.results("get test-results tests"))
        if kind == "Test Case"
    ]
    assert told == {node["nodeIdentifier"]: RESULTS[node["result"]] for node in cases}
    assert (runs, located) == (len(cases) + 2, [(5,), (5,)])


@pytest.mark.spec("9")
def test_a_cut_bundle_cannot_be_read(machine: Machine) -> None:
    machine.xcodebuild("test", bundle="r.xcresult", scenario="truncated-bundle")
    ran = machine.start(
        "xcrun",
        "xcresulttool",
        "get",
        "test-results",
        "summary",
        "--path",
        str(machine.home / "r.xcresult"),
    )
    assert (ran.code, ran.out, ran.err[:6]) == (1, b"", "Error:")
    with pytest.raises(sqlite3.DatabaseError):
        columns(machine.home / "r.xcresult" / "database.sqlite3")


def test_the_tool_tells_its_version_and_refuses_what_it_does_not_know(machine: Machine) -> None:
    assert machine.start("xcresulttool", "version").text.startswith("xcresulttool version ")
    assert machine.start("xcresulttool", "get", "object", "--path", "x").code == 64
    assert machine.start("xcresulttool", "get", "test-results", "tests").code == 64
    assert machine.start("xcresulttool", "get", "build-results", "--path", "nowhere").code == 1
