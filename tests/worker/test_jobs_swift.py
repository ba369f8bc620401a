"""A real Swift package, built by the real toolchain, through the pipe."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.worker_pipe import Bench, a_bench, follow, submit, tar

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
def test_a_package_is_built(bench: Bench) -> None:
    with bench.process() as pipe:
        good = {"Package.swift": MANIFEST, "Sources/Small/main.swift": 'print("hello")\n'}
        job = bench.job(pipe, bench.upload(pipe, tar(good)))
        submit(pipe, job)
        log, events, state = follow(pipe, job.job_id)
        assert state == "SUCCEEDED", log
        assert "Compiling" in log
        assert [event["data"]["name"] for event in events if event["type"] == "stage"][-1] == "build"
        assert pipe.ask("status", job_id=job.job_id)["exit_code"] == 0
