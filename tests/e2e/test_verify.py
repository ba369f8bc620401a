"""The main job on real parts: client, daemon, worker over pipes, a real Swift package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.lab import DEMO, FAILING_TEST, PACKAGES, Lab, lab, run_files

from rchctl.report.make import report_html

BROKEN_BUILD = """
echo "[1/2] Compiling Sample Sum.swift"
echo "$PWD/Sources/Sample/Sum.swift:3:22: error: cannot convert value of type 'String' to type 'Int'"
exit 1
"""

swift = [
    pytest.mark.swift,
    pytest.mark.skipif(shutil.which("swift") is None, reason="no Swift toolchain on PATH"),
]
# A stand-in says what a real build says, whose own words tests/worker/test_jobs_warm_swift.py holds.
BY = [
    pytest.param(True, id="stand-in"),
    pytest.param(False, id="swift", marks=[*swift, pytest.mark.faults_long]),
]


def red(user: Lab, package: str, **scripts: str) -> Path:
    """A project that a real Swift, or the stand-in, finds at fault."""
    if not user.stand_in:
        return user.copy(PACKAGES / package)
    project = user.project(**scripts)
    source = project / "Sources" / "Sample" / "Sum.swift"
    source.parent.mkdir(parents=True)
    source.write_text(
        'func sum() -> Int {\n    // of nothing\n    let total: Int = "none"\n    return total\n}\n'
    )
    return project


@pytest.mark.swift
@swift[1]
@pytest.mark.spec("8")
def test_verify_builds_tests_and_leaves_a_verified_set_of_artifacts(tmp_path: Path) -> None:
    with lab(tmp_path, stand_in=False) as user:
        project = user.copy(DEMO)
        answer = user.json("verify", cwd=project)
        assert answer["ok"] is True
        run = answer["data"]
        assert (run["state"], run["exit_code"], run["embedded_worker"]) == ("SUCCEEDED", 0, True)
        assert [step["status"] for step in run["steps"]] == ["success", "success"]
        assert "tests passed" in run["human_summary"]

        files = run_files(Path(run["run_dir"]))
        assert not [name for name, path in files.items() if not path.exists()]
        log = files["test/build.log"] if "test/build.log" in files else files["test/build_log"]
        assert log.read_bytes() == files["test/live_log_path"].read_bytes()
        summary = json.loads(files["test/test_summary"].read_text())
        assert (summary["total"], summary["failed"]) == (summary["passed"], 0)
        assert summary["total"] >= 4

        report, page = report_html(Path(run["run_dir"]))
        assert (report.notes, b"SUCCEEDED" in page, b"testGreetsByName" in page) == ((), True, True)

        again = user.json("verify", cwd=project)["data"]
        assert again["run_id"] != run["run_id"]
        first, second = (
            json.loads((Path(r["run_dir"]) / "accepted.json").read_text()) for r in (run, again)
        )
        assert first["source"]["source_sha256"] == second["source"]["source_sha256"]
        listed = user.json("list")["data"]["runs"]
        assert [each["run_id"] for each in listed] == [again["run_id"], run["run_id"]]


@pytest.mark.spec("9")
@pytest.mark.parametrize("stand_in", BY)
def test_a_build_that_does_not_compile_ends_50_with_its_place_and_skips_the_tests(
    tmp_path: Path, *, stand_in: bool
) -> None:
    with lab(tmp_path, stand_in=stand_in) as user:
        run = user.json("verify", cwd=red(user, "broken", build=BROKEN_BUILD))["data"]
        assert (run["exit_code"], run["failure_kind"], run["failure_subkind"]) == (
            50,
            "SWIFTPM",
            "BUILD_FAILED",
        )
        assert [step["state"] for step in run["steps"]] == ["FAILED", "SKIPPED"]
        assert "Sources/" in run["human_summary"]
        assert str(tmp_path) not in run["human_summary"]
        assert ".swift:" in run["human_summary"]
        page = report_html(Path(run["run_dir"]))[1].decode()
        assert '<tr class="hit">' in page  # the source lines of the error


@pytest.mark.spec("9")
@pytest.mark.parametrize("stand_in", BY)
def test_a_failing_test_ends_50_and_is_named(tmp_path: Path, *, stand_in: bool) -> None:
    with lab(tmp_path, stand_in=stand_in) as user:
        run = user.json("verify", cwd=red(user, "failing", test=FAILING_TEST))["data"]
        assert (run["exit_code"], run["failure_kind"], run["failure_subkind"]) == (
            50,
            "SWIFTPM",
            "TESTS_FAILED",
        )
        assert [step["status"] for step in run["steps"]] == ["success", "failed"]
        files = run_files(Path(run["run_dir"]))
        failures = json.loads(files["test/test_summary"].read_text())["failures"]
        assert failures
        assert failures[0]["name"] in run["human_summary"]
