"""A real Swift package in a warm workspace: only what changed is built, and no verdict is a stale one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.worker_pipe import Bench, Pipe, a_bench, artifacts, follow, submit, summary, tar

from rch.contract.records import Job

pytestmark = [pytest.mark.swift, pytest.mark.spec("11"), pytest.mark.timeout(400)]

PACKAGE = {
    "Package.swift": """// swift-tools-version: 5.9
import PackageDescription
let package = Package(name: "Two", targets: [
    .target(name: "Base"), .target(name: "Two", dependencies: ["Base"]),
    .testTarget(name: "TwoTests", dependencies: ["Two"]),
])
""",
    "Sources/Base/Base.swift": "public func base() -> Int { 1 }\n",
    "Sources/Two/One.swift": "import Base\npublic func one() -> Int { base() }\n",
    "Sources/Two/Two.swift": "public func two() -> Int { 2 }\n",
    "Tests/TwoTests/TwoTests.swift": """import Two
import XCTest
final class TwoTests: XCTestCase {
    func testBoth() { XCTAssertEqual([one(), two()], [1, 2]) }
}
""",
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    swift = shutil.which("swift")
    if swift is None:
        pytest.skip("no Swift toolchain on PATH")
    with a_bench(tmp_path) as bench:
        bench.toolchain = Path(swift).resolve().parent.parent
        bench.configure("")
        yield bench


def run(bench: Bench, pipe: Pipe, files: Mapping[str, str], action: str) -> tuple[str, str, Job]:
    """A whole job in the slot; its log, its state."""
    cache = {"namespace": "two", "workspace": "warm", "spm": "shared"}
    config = {"backend": "swiftpm", "project": {"package": "."}, "cache": {"results": False, **cache}}
    job = bench.job(pipe, bench.upload(pipe, tar(files)), action, config=config)
    submit(pipe, job)
    log, _, state = follow(pipe, job.job_id)
    return log, state, job


def objects(bench: Bench) -> dict[str, int]:
    """When each object file was made."""
    (build,) = (bench.data / "workspaces").glob("two/*/0/build")
    return {
        path.name: path.stat().st_mtime_ns
        for path in build.rglob("*.swift.o")
        if "Sources" not in path.parts
    }


@pytest.mark.faults_long
def test_a_second_build_makes_only_what_changed_and_tests_see_every_edit(bench: Bench) -> None:
    with bench.process() as pipe:
        log, state, job = run(bench, pipe, PACKAGE, "test")
        assert state == "SUCCEEDED", log
        assert "Compiling" in log
        assert pipe.ask("status", job_id=job.job_id)["exit_code"] == 0
        first = objects(bench)

        edited = PACKAGE | {"Sources/Two/Two.swift": "public func two() -> Int { 3 }\n"}
        log, state, job = run(bench, pipe, edited, "test")
        assert state == "FAILED", log
        told = summary(bench, job)
        assert (told.failure_kind, told.failure_subkind, told.exit_code) == ("SWIFTPM", "TESTS_FAILED", 50)
        (failure,) = json.loads((artifacts(bench, job) / "test_summary.json").read_text())["failures"]
        assert "testBoth" in failure["name"]
        assert failure["name"] in told.human_summary
        second = objects(bench)
        assert second["Base.swift.o"] == first["Base.swift.o"]
        assert second["Two.swift.o"] > first["Two.swift.o"]
        assert "Compiling Base" not in log

        # A source that is gone is gone from the build.
        gone = {name: text for name, text in PACKAGE.items() if name != "Sources/Two/Two.swift"}
        log, state, job = run(bench, pipe, gone, "test")
        assert state == "FAILED"
        told = summary(bench, job)
        assert (told.failure_kind, told.failure_subkind, told.exit_code) == ("SWIFTPM", "BUILD_FAILED", 50)
        assert re.search(r"Tests/TwoTests/TwoTests\.swift:\d+", told.human_summary)
        assert str(bench.root) not in told.human_summary
        assert "cannot find 'two' in scope" in log
        assert list((bench.data / "caches/two/spm").glob("swift_*/manifests/*"))
        # No results of the job before it: the tests were not run.
        assert not (artifacts(bench, job) / "test_summary.json").exists()
        assert "testBoth" not in (artifacts(bench, job) / "junit.xml").read_text()
