"""A real Swift package, built by the real toolchain, through the pipe."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.worker_pipe import Bench, a_bench, follow, submit, tar

from rch.contract.records import Summary, decode_record

MANIFEST = """// swift-tools-version: 5.9
import PackageDescription
let package = Package(name: "Small", targets: [.executableTarget(name: "Small")])
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    swift = shutil.which("swift")
    if swift is None:
        pytest.skip("no Swift toolchain on PATH")
    with a_bench(tmp_path) as bench:
        bench.toolchain = Path(swift).resolve().parent.parent
        bench.configure("")
        yield bench


@pytest.mark.swift
@pytest.mark.spec("3.3")
@pytest.mark.timeout(300)
def test_a_package_that_compiles_and_one_that_does_not(bench: Bench) -> None:
    with bench.process() as pipe:
        good = {"Package.swift": MANIFEST, "Sources/Small/main.swift": 'print("hello")\n'}
        job = bench.job(pipe, bench.upload(pipe, tar(good)))
        submit(pipe, job)
        log, events, state = follow(pipe, job.job_id)
        assert state == "SUCCEEDED", log
        assert "Compiling" in log
        assert {event["type"] for event in events} >= {"stage"}
        assert pipe.fetch(job.job_id)[0]["manifest"]["entries"]
        bad = {"Package.swift": MANIFEST, "Sources/Small/main.swift": "let x: Int = nope\n"}
        job = bench.job(pipe, bench.upload(pipe, tar(bad)))
        submit(pipe, job)
        log, events, state = follow(pipe, job.job_id)
    assert state == "FAILED"
    assert any(event["type"] == "diagnostic" for event in events), log
    path = bench.data / "jobs" / job.job_id / "attempt-1" / "artifacts" / "summary.json"
    summary = decode_record(path.read_bytes(), Summary)
    assert (summary.failure_kind, summary.failure_subkind, summary.exit_code) == (
        "SWIFTPM",
        "BUILD_FAILED",
        50,
    )
    assert "Sources/Small/main.swift:1:" in summary.human_summary
