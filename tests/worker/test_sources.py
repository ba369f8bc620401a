from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from junitparser import JUnitXml
from support import jobs
from support.xcresults import (
    build_of,
    case,
    data,
    failure,
    make_bundle,
    make_database,
    report_of,
    summary_of,
)

from rch.contract.manifest import root_sha256
from rch.contract.records import Attestation, Job, Manifest, Summary, TestSummary, decode_record
from worker_agent.model import PhaseExit
from worker_agent.results.finish import Ending, finish
from worker_agent.results.logfacts import LogFacts
from worker_agent.results.sources import backend_name, keep_bundle, sources_of

XCODE = {
    "xcode_build": "16C5032a",
    "developer_dir": "/Applications/Xcode.app/Contents/Developer",
    "macos_version": "15.2",
    "macos_build": "24C101",
    "arch": "arm64",
}
GREEN = report_of(case("testA()"), case("testB()", "skipped", failure("Test skipped - not here")))
RED = report_of(case("testA()", "failed", failure("SumTests.swift:9: no")), case("testB()"))


def xcode_job() -> Job:
    job = jobs.job()
    return msgspec.structs.replace(
        job, job_key_inputs=msgspec.structs.replace(job.job_key_inputs, toolchain=XCODE)
    )


class Room:
    """A job of xcodebuild that has run, and an `xcrun` that answers for its bundle."""

    def __init__(self, root: Path) -> None:
        self.layout = jobs.layout(root / "job")
        self.job = xcode_job()
        self.tools = root / "bin"
        self.tools.mkdir()
        self.bundle = self.layout.scratch / "result.xcresult"

    def ran(self, report: dict[str, Any], **database: str) -> Room:
        self.layout.log.write_text("** TEST SUCCEEDED **\n")
        make_bundle(self.bundle)
        (self.bundle / "Data").mkdir()
        (self.bundle / "Data/data.0~x").write_bytes(b"x" * 100)
        (self.bundle / "Data/refs").symlink_to("/etc/passwd")
        answers = {"tests": report, "summary": summary_of(report), "build-results": build_of()}
        for name, told in answers.items():
            (self.tools / name).write_bytes(data(told))
        if database:
            make_database(self.bundle, database)
        return self

    def answers(self) -> Room:
        """Put an `xcrun` where the job's PATH finds it."""
        script = self.tools / "xcrun"
        code = (
            "import os, sys\n"
            "words = sys.argv[1:]\n"
            "assert words[:2] == ['xcresulttool', 'get'], words\n"
            f"assert words[-2:] == ['--path', {str(self.bundle)!r}], words\n"
            f"sys.stdout.buffer.write(open(os.path.join({str(self.tools)!r}, words[-3]), 'rb').read())\n"
        )
        script.write_text(f"#!{sys.executable}\n{code}")
        script.chmod(0o755)
        return self

    def finish(self, code: int = 0, log: LogFacts | None = None) -> Summary:
        return finish(
            self.layout,
            jobs.submit(self.job),
            Ending(
                phases=(PhaseExit("test", code, None, 80),),
                ended=None,
                state=jobs.state(self.job),
                attempts=1,
                duration_ms=100,
                log=log,
                env={"PATH": f"{self.tools}:{os.environ['PATH']}"},
            ),
            worker_name="mini",
            capabilities=jobs.capabilities(),
            now=lambda: jobs.NOW,
        ).summary

    def read(self, name: str, kind: type[Any]) -> Any:
        return decode_record((self.layout.artifacts / name).read_bytes(), kind)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.mark.spec("9")
def test_a_green_of_xcodebuild_rests_on_its_bundle_and_keeps_it(room: Room) -> None:
    told = (
        room.ran(GREEN, **{"SumTests/testA()": "Success", "SumTests/testB()": "Skipped"}).answers().finish()
    )
    assert (told.status, told.backend, told.human_summary) == (
        "success",
        "xcodebuild",
        "1 test passed, 1 skipped",
    )
    attestation = room.read("attestation.json", Attestation)
    assert attestation.backend == {"name": "xcodebuild", "version": "16C5032a"}
    manifest = room.read("manifest.json", Manifest)
    kept = [one.path for one in manifest.entries if one.path.startswith("result.xcresult")]
    assert kept == [
        "result.xcresult",
        "result.xcresult/Data",
        "result.xcresult/Data/data.0~x",
        "result.xcresult/Info.plist",
        "result.xcresult/database.sqlite3",
    ]
    assert root_sha256(manifest.entries) == manifest.artifact_root_sha256
    index = json.loads((room.layout.artifacts / "job_index.json").read_text())
    assert index["files"]["result_xcresult"] == "result.xcresult"


@pytest.mark.spec("9")
def test_a_red_of_xcodebuild_names_the_failed_test_in_every_file(room: Room) -> None:
    told = room.ran(RED).answers().finish(65)
    assert (told.failure_kind, told.failure_subkind) == ("XCODEBUILD", "TESTS_FAILED")
    assert told.human_summary == "1 of 2 tests failed: SumTests.testA()"
    (failed,) = room.read("test_summary.json", TestSummary).failures
    assert (failed.identifier, failed.message, failed.line) == ("SumTests/testA()", "no", 9)
    document = JUnitXml.fromfile(str(room.layout.artifacts / "junit.xml"))
    assert (document.tests, document.failures) == (2, 1)


@pytest.mark.spec("9")
def test_without_the_tool_or_with_a_torn_answer_nothing_passes(room: Room) -> None:
    room.ran(GREEN).answers()
    (room.tools / "tests").write_bytes(data(GREEN)[:200])
    torn = room.finish()
    assert (torn.failure_subkind, torn.exit_code) == ("INCONSISTENT", 50)
    assert "result.xcresult tests: is cut short" in torn.human_summary
    (room.tools / "xcrun").write_text("#!/bin/sh\nexit 72\n")
    assert room.finish().failure_subkind == "INCONSISTENT"


def test_a_set_that_is_closed_again_still_has_its_bundle(room: Room) -> None:
    room.ran(GREEN).answers()
    assert room.finish().status == "success"
    (room.layout.artifacts / "result.xcresult/Info.plist").unlink()
    assert room.finish().status == "success"
    assert (room.layout.artifacts / "result.xcresult/Info.plist").is_file()


def test_a_build_that_failed_is_an_error_of_the_session(room: Room) -> None:
    room.layout.log.write_text(
        f"{room.layout.tree}/App/A.swift:3:9: error: no such thing\n"
        "** TEST FAILED **\n\nThe following build commands failed:\n"
        "\tSwiftCompile normal arm64\n(1 failure)\n"
    )
    told = room.answers().finish(65)
    assert told.human_summary == "build failed: App/A.swift:3:9: error: no such thing"
    document = JUnitXml.fromfile(str(room.layout.artifacts / "junit.xml"))
    assert (document.tests, document.errors) == (1, 1)


def test_which_tool_a_job_names_and_where_its_results_lie(room: Room) -> None:
    swift = jobs.job()
    assert (backend_name(swift), backend_name(room.job)) == ("swiftpm", "xcodebuild")
    sources = sources_of(swift, room.layout, {})
    assert [path.name for path in sources.xunit] == ["xunit.xml", "xunit-swift-testing.xml"]
    assert (sources.bundle, sources.version) == (None, "6.3.1")
    keep_bundle(sources, room.layout.artifacts)
    assert not (room.layout.artifacts / "result.xcresult").exists()
