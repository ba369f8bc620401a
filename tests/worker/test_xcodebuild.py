"""The command lines of the backend `xcodebuild`, without running one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import jobs

from rch.contract.errors import Failure
from rch.contract.records import Job
from worker_agent.backends import backend_for
from worker_agent.backends.xcodebuild import words_of
from worker_agent.model import JobLayout, Phase

DEVELOPER = "/Applications/Xcode_16.2.app/Contents/Developer"
USUAL = ("-destination", "platform=iOS Simulator,name=iPhone 16,OS=18.2", "-project", "A.xcodeproj")
UDID = "631476B8-0164-5F67-96B2-8A35293859B4"


def job(*argv: str, config: Mapping[str, Any] | None = None) -> Job:
    """A job of an Xcode, on a simulator."""
    asked = jobs.job(*argv, config={"backend": "xcodebuild", **(config or {})})
    inputs = msgspec.structs.replace(
        asked.job_key_inputs,
        toolchain={"xcode_build": "16C5032a", "developer_dir": DEVELOPER},
        destination={"platform": "iOS Simulator", "name": "iPhone 16", "sim_runtime_identifier": "r"},
    )
    return msgspec.structs.replace(asked, job_key_inputs=inputs)


def phases(layout: JobLayout, *argv: str, config: Mapping[str, Any] | None = None) -> tuple[Phase, ...]:
    asked = job(*argv, config=config)
    return tuple(backend_for(asked).phases(asked, layout))


def value(phase: Phase, flag: str) -> str:
    return phase.argv[phase.argv.index(flag) + 1]


@pytest.mark.spec("11")
@pytest.mark.parametrize("action", ["build", "test"])
def test_one_call_has_the_flags_and_the_environment_that_the_worker_owns(
    tmp_path: Path, action: str
) -> None:
    layout = jobs.layout(tmp_path)
    (phase,) = phases(layout, action, *USUAL, "-quiet", "CODE_SIGNING_ALLOWED=NO")
    assert phase.argv[0] == f"{DEVELOPER}/usr/bin/xcodebuild"
    assert phase.argv[-1] == action
    assert (phase.name, phase.cwd, dict(phase.env)) == (action, layout.tree, {"NSUnbufferedIO": "YES"})
    assert value(phase, "-derivedDataPath") == str(layout.build)
    assert value(phase, "-resultBundlePath") == str(layout.scratch / "result.xcresult")
    assert value(phase, "-clonedSourcePackagesDirPath") == str(layout.build / "SourcePackages")
    assert value(phase, "-collect-test-diagnostics") == "never"
    assert {"-quiet", "CODE_SIGNING_ALLOWED=NO"} <= set(phase.argv)
    assert "-onlyUsePackageVersionsFromResolvedFile" not in phase.argv


@pytest.mark.spec("7")
def test_the_device_of_the_job_is_named_by_its_identifier_and_without_one_as_it_was_asked(
    tmp_path: Path,
) -> None:
    layout = jobs.layout(tmp_path)
    assert value(phases(layout, "test", *USUAL)[0], "-destination") == USUAL[1]
    (placed,) = phases(replace(layout, udid=UDID), "test", *USUAL)
    assert value(placed, "-destination") == f"platform=iOS Simulator,id={UDID}"


@pytest.mark.spec("11")
@pytest.mark.parametrize(
    ("timeouts", "seconds"),
    [
        ({}, 240),
        ({"idle_log_seconds": 301}, 300),
        ({"overall_seconds": 600, "idle_log_seconds": 600}, 540),
        ({"overall_seconds": 7200, "idle_log_seconds": 7200}, 7140),
        ({"overall_seconds": 61, "idle_log_seconds": 61}, 60),
        ({"overall_seconds": 60, "idle_log_seconds": 60}, None),
    ],
)
def test_a_test_that_hangs_has_less_time_than_its_job(
    tmp_path: Path, timeouts: dict[str, int], seconds: int | None
) -> None:
    (phase,) = phases(jobs.layout(tmp_path), "test", *USUAL, config={"timeouts": timeouts})
    if seconds is None:
        assert "-test-timeouts-enabled" not in phase.argv
        return
    assert value(phase, "-test-timeouts-enabled") == "YES"
    assert value(phase, "-default-test-execution-time-allowance") == str(seconds)
    assert value(phase, "-maximum-test-execution-time-allowance") == str(seconds)


def test_an_invocation_that_bounds_its_tests_keeps_its_own_bounds_and_a_build_has_none(
    tmp_path: Path,
) -> None:
    layout = jobs.layout(tmp_path)
    (own,) = phases(layout, "test", "-test-timeouts-enabled", "NO", *USUAL)
    assert own.argv.count("-test-timeouts-enabled") == 1
    assert "-maximum-test-execution-time-allowance" not in own.argv
    assert "-test-timeouts-enabled" not in phases(layout, "build", *USUAL)[0].argv


PACKAGED = "objects = { A = { isa = XCRemoteSwiftPackageReference; }; };"


def project(layout: JobLayout, text: str, pins: str = "") -> Path:
    """A project in the tree; where its `Package.resolved` lies."""
    folder = layout.tree / "A.xcodeproj"
    folder.mkdir()
    (folder / "project.pbxproj").write_text(text)
    resolved = folder / "project.xcworkspace/xcshareddata/swiftpm/Package.resolved"
    resolved.parent.mkdir(parents=True)
    if pins:
        resolved.write_text(pins)
    return resolved


@pytest.mark.spec("11")
def test_packages_are_resolved_first_and_then_held_to_what_was_resolved(tmp_path: Path) -> None:
    layout = replace(jobs.layout(tmp_path), spm=tmp_path / "shared")
    resolved = project(layout, PACKAGED)
    asked = job("test", "-configuration", "Debug", *USUAL)
    steps = iter(backend_for(asked).phases(asked, layout))
    resolve = next(steps)
    assert resolve.name == "resolve"
    assert "-resolvePackageDependencies" in resolve.argv
    assert value(resolve, "-clonedSourcePackagesDirPath") == str(tmp_path / "shared")
    assert value(resolve, "-project") == "A.xcodeproj"
    assert "-destination" not in resolve.argv
    resolved.write_text("{}")
    test = next(steps)
    assert "-onlyUsePackageVersionsFromResolvedFile" in test.argv
    assert value(test, "-clonedSourcePackagesDirPath") == str(tmp_path / "shared")
    assert list(steps) == []


def test_without_pins_nothing_is_held_to_them(tmp_path: Path) -> None:
    layout = jobs.layout(tmp_path)
    project(layout, PACKAGED)
    resolve, build = phases(layout, "build", *USUAL)
    assert "-onlyUsePackageVersionsFromResolvedFile" not in {*resolve.argv, *build.argv}


def test_an_invocation_that_holds_packages_itself_holds_their_resolution_too(tmp_path: Path) -> None:
    layout = jobs.layout(tmp_path)
    project(layout, PACKAGED, "{}")
    flag = "-disableAutomaticPackageResolution"
    resolve, build = phases(layout, "build", flag, *USUAL)
    assert resolve.argv.count(flag) == build.argv.count(flag) == 1
    assert "-onlyUsePackageVersionsFromResolvedFile" not in build.argv


@pytest.mark.parametrize(("text", "pins", "number"), [("{}", "", 1), ("{}", "{}", 2), (PACKAGED, "", 2)])
def test_only_a_project_with_packages_has_them_resolved(
    tmp_path: Path, text: str, pins: str, number: int
) -> None:
    layout = jobs.layout(tmp_path)
    project(layout, text, pins)
    assert len(phases(layout, "build", *USUAL)) == number


def test_packages_of_a_job_that_shares_none_lie_in_its_own_folder(tmp_path: Path) -> None:
    layout = jobs.layout(tmp_path)
    (phase,) = phases(layout, "build", *USUAL, config={"cache": {"spm": "off"}})
    assert value(phase, "-clonedSourcePackagesDirPath") == str(layout.scratch / "SourcePackages")


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    "word", ["-resultBundlePath", "-xcconfig", "SWIFT_EXEC=/bin/sh", "-Odd=1", "archive", "-only-testin:A"]
)
def test_a_word_that_the_gate_does_not_know_never_reaches_the_tool(word: str) -> None:
    with pytest.raises(Failure, match="no word of a sanitized"):
        list(words_of(("test", word, "value")))


def test_selectors_and_settings_are_words_of_their_own() -> None:
    argv = ("test", "-only-testing:A/B/c()", "-scheme", "-odd name", "CODE_SIGN_IDENTITY=")
    assert list(words_of(argv)) == [
        ("-only-testing:A/B/c()",),
        ("-scheme", "-odd name"),
        ("CODE_SIGN_IDENTITY=",),
    ]
