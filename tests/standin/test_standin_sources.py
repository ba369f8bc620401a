"""What is read in Swift sources and in project files, also in ones that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker_agent.standin.pbxproj import PlistError, parse
from worker_agent.standin.project import ProjectError, load
from worker_agent.standin.sources import Found, declared_tests, diagnoses, masked

SWIFT = """
// func testNot() in a comment; class Not: XCTestCase {
import Testing
import XCTest

class Base: XCTestCase {
    let text = "func testNeither() { XCTFail() }"
    func testPlain() async throws { }
    func helper() { XCTFail("never a test") }
    func testWith(argument: Int) { }
}

@Suite("Outer name", .serialized)
struct Outer {
    @Suite final class Inner {
        @Test("shown", .tags(.slow), arguments: ["a, b", "c)"], [1, 2])
        func pairs(_ text: String, number: Int) {
            fatalError("gone: \\(text)")
        }
    }

    @Test func plain() {
        withKnownIssue { Issue.record("later") }
    }
}

@Test(.disabled("no wind")) func top() { /* standin: nothing */ }

@Test func moody() {
    // standin: flaky 2
    // standin: seconds 0.25
}
"""


def by_name() -> dict[str, Found]:
    return {
        "/".join([*(name for name, _ in one.suites), one.function]): one for one in declared_tests(SWIFT)
    }


def test_tests_of_both_frameworks_are_found_with_their_suites() -> None:
    found = by_name()
    assert list(found) == [
        "Base/testPlain()",
        "Outer/Inner/pairs(_:number:)",
        "Outer/plain()",
        "top()",
        "moody()",
    ]
    assert found["Base/testPlain()"].framework == "xctest"
    pairs = found["Outer/Inner/pairs(_:number:)"]
    assert (pairs.display, pairs.suites) == ("shown", (("Outer", "Outer name"), ("Inner", None)))
    assert pairs.arguments == ('"a, b"', '"c)"')
    assert pairs.crash == (18, r"gone: \(text)")
    assert (found["Outer/plain()"].expected, found["Outer/plain()"].failures) == (
        True,
        ((23, "Issue recorded: later"),),
    )
    assert (found["top()"].skip, found["moody()"].flaky, found["moody()"].seconds) == ("no wind", 2, 0.25)


@given(st.text(alphabet='/*"\\\n#@(){}[]: abcTestfuncclass', max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_text_is_too_strange_to_be_read(text: str) -> None:
    assert len(masked(text)) == len(text)
    assert masked(text).count("\n") == text.count("\n")
    declared_tests(text)
    list(diagnoses(text))


def test_a_property_list_of_the_old_form_is_read() -> None:
    text = '// !$*UTF8*$!\n{ a = (1, "two \\"2\\"", ); /* c */ b = { c-d = e/f.g; }; }'
    assert parse(text) == {"a": ["1", 'two "2"'], "b": {"c-d": "e/f.g"}}


@pytest.mark.parametrize(
    "text", ["", "{", "{ a = ; }", "( a b )", "{ a = b }", "} {", "(" * 1000, "{ \x00 }", "a b"]
)
def test_what_is_no_property_list_is_refused(text: str) -> None:
    with pytest.raises(PlistError):
        parse(text)


def test_a_project_of_the_older_form_names_its_files_one_by_one(tmp_path: Path) -> None:
    project = tmp_path / "Old.xcodeproj"
    project.mkdir()
    (tmp_path / "Sources").mkdir()
    (tmp_path / "Sources" / "A.swift").write_text("")
    (project / "project.pbxproj").write_text(
        "{ objects = {"
        "P = {isa = PBXProject; mainGroup = G; };"
        "G = {isa = PBXGroup; children = (S, ); };"
        "S = {isa = PBXGroup; path = Sources; children = (F, S, ); };"
        'F = {isa = PBXFileReference; path = A.swift; sourceTree = "<group>"; };'
        "B = {isa = PBXBuildFile; fileRef = F; };"
        "C = {isa = PBXSourcesBuildPhase; files = (B, missing, ); };"
        'T = {isa = PBXNativeTarget; name = Old; productType = "x.application"; buildPhases = (C, ); };'
        "}; }"
    )
    (target,) = load(project).targets
    assert (target.name, target.kind, target.sources) == (
        "Old",
        "application",
        (tmp_path / "Sources/A.swift",),
    )


@pytest.mark.parametrize("text", ["{ }", "{ objects = (); }", "no"])
def test_a_project_without_objects_is_refused(tmp_path: Path, text: str) -> None:
    project = tmp_path / "X.xcodeproj"
    project.mkdir()
    (project / "project.pbxproj").write_text(text)
    with pytest.raises(ProjectError, match=r"project\.pbxproj"):
        load(project)
