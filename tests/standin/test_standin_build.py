"""Building: compile errors where the source has them, and only what changed."""

from __future__ import annotations

import re

import pytest
from support.standin import Machine

from worker_agent.standin.building import database


def compiled(text: str) -> list[str]:
    return sorted(re.findall(r"^SwiftCompile normal arm64 Compiling\\ (\S+) ", text, re.MULTILINE))


@pytest.mark.spec("11")
def test_only_what_changed_is_compiled_again(machine: Machine) -> None:
    first = machine.xcodebuild("build")
    assert (first.code, compiled(first.text)) == (0, ["Lantern.swift", "Wick.swift"])
    assert first.text.endswith("** BUILD SUCCEEDED **\n\n")
    assert compiled(machine.xcodebuild("build").text) == []
    machine.write("Lantern/Wick.swift", (machine.tree / "Lantern/Wick.swift").read_text() + "\n")
    machine.write("Lantern/Flint.swift", "struct Flint {}\n")
    assert compiled(machine.xcodebuild("build").text) == ["Flint.swift", "Wick.swift"]
    assert compiled(machine.xcodebuild("test").text) == ["LanternTests.swift", "WickTests.swift"]
    assert compiled(machine.xcodebuild("build", "-configuration", "Release").text) != []


@pytest.mark.spec("9")
@pytest.mark.parametrize("action", ["build", "test"])
def test_an_error_in_a_source_is_told_at_its_place(machine: Machine, action: str) -> None:
    text = (
        '// #error("not this")\nlet note = "#error(nor this)"\n  #error("no shears")\n#warning("smoky")\n'
    )
    file = machine.write("Lantern/Shears.swift", text)
    ran = machine.xcodebuild(action, bundle="r.xcresult")
    assert ran.code == 65
    facts = machine.facts(ran, "build")
    said = [(one.severity, one.path, one.line, one.column, one.message) for one in facts.diagnostics]
    assert said == [
        ("error", "Lantern/Shears.swift", 3, 10, "no shears"),
        ("warning", "Lantern/Shears.swift", 4, 10, "smoky"),
    ]
    assert (
        f"** {action.upper()} FAILED **\n\n\nThe following build commands failed:\n\tSwiftCompile"
        in ran.text
    )
    assert "Test Case" not in ran.text
    results = machine.results("get build-results")
    assert (results["status"], results["errorCount"], results["warningCount"]) == ("failed", 1, 1)
    assert results["errors"][0]["sourceURL"].startswith(f"file://{file}#")
    file.unlink()
    assert machine.xcodebuild(action).code == 0


@pytest.mark.spec("11")
def test_two_builds_of_the_same_derived_data_do_not_go_together(machine: Machine) -> None:
    with database(machine.derived):
        ran = machine.xcodebuild("build")
    assert ran.code == 65
    assert "database is locked Possibly there are two concurrent builds running" in ran.text
    assert "** BUILD FAILED **" in ran.text
    assert machine.xcodebuild("build").code == 0


@pytest.mark.spec("9")
def test_a_quiet_build_says_its_errors_alone(machine: Machine) -> None:
    machine.write("Lantern/Shears.swift", '#error("no shears")\n')
    ran = machine.xcodebuild("build", "-quiet")
    assert ran.text.splitlines()[0].endswith("Shears.swift:1:8: error: no shears")
    assert "** BUILD FAILED **" in ran.text


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["-scheme", "Nobody"], 65, 'does not contain a scheme named "Nobody"'),
        (["-project", "No.xcodeproj"], 66, "'No.xcodeproj' does not exist."),
        (["-destination", "platform=iOS Simulator,name=iPhone 1"], 70, "Unable to find a device matching"),
        (["-destination", "generic/platform=iOS"], 0, ""),
        (["-destination", "platform=macOS"], 0, ""),
        (["-invented"], 64, "invalid option '-invented'"),
        (["archive"], 64, "not 'build archive'"),
        (["-jobs"], 64, "requires at least 1 argument"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_own_code(
    machine: Machine, argv: list[str], code: int, words: str
) -> None:
    ran = machine.xcodebuild("build", *argv)
    assert (ran.code, words in ran.err) == (code, True)


def test_tests_do_not_run_on_a_platform_alone(machine: Machine) -> None:
    ran = machine.xcodebuild("test", "-destination", "generic/platform=iOS")
    assert (ran.code, "Tests must be run on a concrete device" in ran.err) == (70, True)


def test_a_damaged_project_is_refused(machine: Machine) -> None:
    machine.write("Lantern.xcodeproj/project.pbxproj", "{ objects = { a = ( ; }; }")
    ran = machine.xcodebuild("build")
    assert (ran.code, "is damaged" in ran.err) == (74, True)


def test_a_package_without_a_pin_is_refused_where_only_pins_count(machine: Machine) -> None:
    project = machine.tree / "Lantern.xcodeproj/project.pbxproj"
    reference = (
        '9 = {isa = XCRemoteSwiftPackageReference; repositoryURL = "https://example.invalid/wax.git"; };'
    )
    project.write_text(project.read_text().replace("\tobjects = {", "\tobjects = {\n" + reference))
    fixed = "-onlyUsePackageVersionsFromResolvedFile"
    ran = machine.xcodebuild("build", fixed)
    assert (ran.code, "an out-of-date resolved file was detected at" in ran.err) == (74, True)
    resolved = machine.tree / "Lantern.xcodeproj/project.xcworkspace/xcshareddata/swiftpm/Package.resolved"
    resolved.parent.mkdir(parents=True)
    resolved.write_text('{"pins": [{"identity": "wax", "state": {"version": "4.1.0"}}], "version": 3}')
    packages = machine.home / "packages"
    ran = machine.xcodebuild("build", fixed, "-clonedSourcePackagesDirPath", str(packages))
    assert (ran.code, "wax: https://example.invalid/wax.git @ 4.1.0" in ran.text) == (0, True)
    assert (packages / "checkouts/wax").is_dir()
    assert machine.xcodebuild("-resolvePackageDependencies", fixed).code == 0


def test_questions_are_answered_in_json(machine: Machine) -> None:
    assert machine.start("xcodebuild", "-list", "-json").json == {
        "project": {
            "configurations": ["Debug", "Release"],
            "name": "Lantern",
            "schemes": ["Lantern"],
            "targets": ["Lantern", "LanternTests"],
        }
    }
    (settings,) = machine.start("xcodebuild", "-showBuildSettings", "-json", "-scheme", "Lantern").json
    assert settings["buildSettings"]["PROJECT_DIR"] == str(machine.tree)
    assert machine.start("xcodebuild", "-showTestPlans", "-scheme", "Lantern").code == 0
    assert "name:iPhone 16" in machine.start("xcodebuild", "-showdestinations", "-scheme", "Lantern").text


def test_a_workspace_leads_to_its_projects(machine: Machine) -> None:
    space = machine.tree / "Lamps.xcworkspace"
    space.mkdir()
    (space / "contents.xcworkspacedata").write_text(
        '<Workspace version="1.0"><FileRef location="group:Lantern.xcodeproj"/></Workspace>'
    )
    ran = machine.start("xcodebuild", "build", "-workspace", "Lamps.xcworkspace", "-scheme", "Lantern")
    assert (ran.code, "** BUILD SUCCEEDED **" in ran.text) == (0, True)


def test_a_scheme_that_tests_nothing_or_names_what_is_not_there_is_no_success(machine: Machine) -> None:
    scheme = machine.tree / "Lantern.xcodeproj/xcshareddata/xcschemes/Lantern.xcscheme"
    whole = scheme.read_text()
    scheme.write_text(whole.replace('skipped = "NO"', 'skipped = "YES"'))
    ran = machine.xcodebuild("test")
    assert (ran.code, "is not currently configured for the test action" in ran.err) == (66, True)
    scheme.write_text(whole.replace('BlueprintName = "LanternTests"', 'BlueprintName = "GoneTests"'))
    ran = machine.xcodebuild("test")
    assert (ran.code, "There is no target named “GoneTests”" in ran.err) == (65, True)
    scheme.write_text(whole[:200])
    assert machine.xcodebuild("build").code == 74


def test_a_source_that_is_listed_and_gone_breaks_the_build(machine: Machine) -> None:
    project = machine.tree / "Lantern.xcodeproj/project.pbxproj"
    rows = "8 = {isa = PBXBuildFile; fileRef = 9; }; 9 = {isa = PBXFileReference; path = Gone.swift; };"
    text = project.read_text().replace("\tobjects = {", "\tobjects = {\n" + rows)
    text = text.replace("children = (\n", "children = (\n9,\n", 1)
    before, sources, after = text.partition("/* Begin PBXSourcesBuildPhase section */")
    project.write_text(before + sources + after.replace("files = (\n", "files = (\n8,\n", 1))
    ran = machine.xcodebuild("build")
    assert (ran.code, "Gone.swift:1:1: error: Build input file cannot be found" in ran.text) == (65, True)
    assert machine.xcodebuild("build").code == 65


def test_a_disk_that_takes_no_more_is_an_error_of_its_own(machine: Machine) -> None:
    machine.derived.write_text("a file where a folder is to be")
    ran = machine.xcodebuild("build")
    assert (ran.code, ran.err.startswith("xcodebuild: error: ")) == (74, True)


def test_a_name_that_is_no_utf8_comes_back_as_it_was_given(machine: Machine) -> None:
    ran = machine.xcodebuild("build", "-scheme", "Gr\udcfcn")
    assert (ran.code, "Gr\udcfcn" in ran.err) == (65, True)
