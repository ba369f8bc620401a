"""`report`, `open`, `history` and `flaky`: from folders on disk, without a daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.run_folder import RunFolder, run_id

from rch.contract.records import TestFailure, TestNote
from rchctl.__main__ import main

BOTH = (("S", "one()", "failed"), ("S", "two()", "passed"))
FAILURE = TestFailure(name="one()", suite="S", message="no")


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of runs, and a project folder to stand in."""
    monkeypatch.setenv("RCH_HOME", str(tmp_path))
    for name in ("RCH_SOCKET", "RCH_OPENER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "greeter"
    root.mkdir()
    (root / "Package.swift").touch()
    monkeypatch.chdir(root)
    return tmp_path / "data" / "artifacts" / "xcode"


def a_run(artifacts: Path, number: int, **members: Any) -> RunFolder:
    return RunFolder(artifacts, number, root=str(Path.cwd()), **members).write()


def told(capfd: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    """The envelope of a call."""
    assert main([*argv, "--json"]) == code
    envelope: dict[str, Any] = json.loads(capfd.readouterr().out)
    return envelope


@pytest.mark.spec("12")
def test_a_report_is_written_into_the_run_and_its_path_is_told(
    artifacts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = a_run(artifacts, 1)
    assert main(["report", "latest"]) == 0
    assert capfd.readouterr().out == f"{folder.path}/report.html\n"
    assert "SUCCEEDED" in (folder.path / "report.html").read_text()


@pytest.mark.parametrize("word", ["latest", run_id(2), run_id(2)[:4], "FOLDER"])
def test_a_run_is_found_by_id_beginning_or_folder(
    artifacts: Path, capfd: pytest.CaptureFixture[str], word: str
) -> None:
    folder = a_run(artifacts, 2)
    (artifacts / "no-run").mkdir()
    word = str(folder.path) if word == "FOLDER" else word
    data = told(capfd, "report", word, "--output", "page.html")["data"]
    assert (data["run_id"], data["path"]) == (run_id(2), str(Path.cwd() / "page.html"))
    assert data["bytes"] == Path("page.html").stat().st_size


def test_a_copied_folder_needs_nothing_beside_it(
    artifacts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(artifacts, 1).path.rename(tmp_path / "kept")
    assert told(capfd, "report", str(tmp_path / "kept"))["data"]["run_id"] == run_id(1)
    assert told(capfd, "report", "latest", code=2)["error"]["message"].startswith("no runs in ")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("0198", "is the beginning of 2 runs"),
        ("nope", "no run 'nope'"),
        ("", "no run ''"),
        ("./nowhere", "no folder of a run"),
    ],
)
def test_a_word_that_means_no_run_or_two(
    artifacts: Path, capfd: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    a_run(artifacts, 1)
    a_run(artifacts, 2)
    assert said in told(capfd, "report", word, code=2)["error"]["message"]


def test_a_report_that_cannot_be_written_says_where_else(
    artifacts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(artifacts, 1)
    error = told(capfd, "report", "latest", "--output", "/dev/null/x.html", code=2)["error"]
    assert "--output FILE" in error["hint"]


def opener(tmp_path: Path, *, code: int = 0) -> str:
    """A command that notes what it is to open."""
    script = tmp_path / "opener"
    script.write_text(f'#!/bin/sh\necho noise\nprintf %s "$1" > {tmp_path}/opened\nexit {code}\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("what", "name"),
    [("report", "report.html"), ("log", "build.log"), ("junit", "junit.xml"), ("folder", run_id(1))],
)
def test_open_hands_it_to_the_opener(
    artifacts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    what: str,
    name: str,
) -> None:
    a_run(artifacts, 1)
    monkeypatch.setenv("RCH_OPENER", opener(tmp_path))
    assert told(capfd, "open", "latest", what)["data"]["opened"] is True
    assert (tmp_path / "opened").read_text().endswith(f"/{name}")


def test_where_nothing_opens_it_the_path_is_told(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = a_run(artifacts, 1)
    monkeypatch.setattr(sys, "platform", "linux")
    assert main(["report", "latest", "--open"]) == 0
    said = capfd.readouterr()
    assert (said.out, "RCH_OPENER" in said.err) == (f"{folder.path}/report.html\n", True)
    assert "has no xcresult" in told(capfd, "open", "latest", "xcresult", code=2)["error"]["message"]
    assert "did you mean 'log'" in told(capfd, "open", "latest", "logs", code=2)["error"]["message"]
    monkeypatch.setenv("RCH_OPENER", opener(tmp_path, code=3))
    assert "ended with 3" in told(capfd, "open", "latest", code=1)["error"]["message"]
    monkeypatch.setenv("RCH_OPENER", "no-such-program-anywhere")
    assert told(capfd, "open", "latest", code=1)["error"]["kind"] == "INTERNAL"


def test_history_tells_of_this_project_alone(artifacts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a_run(artifacts, 1, duration_ms=4000)
    a_run(artifacts, 2, status="failed", subkind="TESTS_FAILED", cases=BOTH, failures=(FAILURE,))
    a_run(artifacts, 3, simulated=True)
    RunFolder(artifacts, 4, project="Other", root="/elsewhere").write()
    data = told(capfd, "history")["data"]
    assert [run["run_id"] for run in data["runs"]] == [run_id(2), run_id(1)]
    assert data["runs"][0]["tests"] == {"total": 2, "passed": 1, "failed": 1, "skipped": 0, "flaky": 0}
    assert data["runs"][0]["steps"] == [
        {"action": "test", "status": "failed", "duration_ms": 4500, "cached": False}
    ]
    assert data["trend"]["median_ms"] == 4000
    assert [run["run_id"] for run in told(capfd, "history", "--limit", "1")["data"]["runs"]] == [run_id(2)]
    other = told(capfd, "history", "--project", "Other")["data"]["runs"]
    assert [run["run_id"] for run in other] == [run_id(4)]
    assert main(["history"]) == 0
    out = capfd.readouterr().out
    assert "tests_failed" in out
    assert "trend: " in out


def test_history_of_simulations_is_marked_on_every_line(
    artifacts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(artifacts, 1, simulated=True)
    assert main(["history", "--simulate"]) == 0
    out = capfd.readouterr().out
    assert all(line.startswith("simulated: ") for line in out.splitlines())
    assert "simulated: passed" in out


@pytest.mark.spec("9")
def test_flaky_has_the_runs_as_evidence(artifacts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a_run(artifacts, 1, status="failed", subkind="TESTS_FAILED", cases=BOTH, failures=(FAILURE,))
    a_run(artifacts, 2)
    retried = TestNote(name="three()", suite="S", message="once")
    a_run(artifacts, 3, source="b" * 64, flaky=(retried,), created_at="2026-01-03T00:00:00.000Z")
    a_run(artifacts, 4, status="failed", cases=(("S", "four()", "failed"),), source="c" * 64)
    tests = told(capfd, "flaky")["data"]["tests"]
    assert [(each["test"], each["retried"], each["disagreed"]) for each in tests] == [
        ("S/three()", 1, 0),
        ("S/one()", 0, 1),
    ]
    assert tests[1]["evidence"] == [
        {"run_id": run_id(2), "outcome": "passed"},
        {"run_id": run_id(1), "outcome": "failed"},
    ]
    assert told(capfd, "flaky", "--since", "2026-02-01")["data"] == {"runs": 0, "tests": []}
    assert main(["flaky"]) == 0
    assert f"failed in {run_id(1)}" in capfd.readouterr().out


def test_outside_of_a_project_its_name_is_asked_for(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(artifacts, 1)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / ".git").mkdir()
    monkeypatch.chdir(tmp_path / "bare")
    assert "--project NAME" in told(capfd, "history", code=3)["error"]["hint"]
    assert told(capfd, "flaky", "--limit", "no", code=2)["error"]["kind"] == "USAGE"


def test_a_damaged_run_is_left_out_of_the_history(
    artifacts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(artifacts, 1)
    (a_run(artifacts, 2).path / "run_index.json").write_text("{")
    (a_run(artifacts, 3).path / "run_summary.json").write_text("{}")
    assert [run["run_id"] for run in told(capfd, "history")["data"]["runs"]] == [run_id(1)]


def test_a_report_asks_no_daemon_and_starts_none(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    folder = RunFolder(tmp_path / "data" / "artifacts" / "xcode").write()
    code = (
        "import sys; from rchctl.__main__ import main; code = main(sys.argv[1:]);"
        "bad = {'asyncio', 'rchd', 'rchctl.client', 'rchctl.autostart'} & set(sys.modules);"
        "sys.exit(code or 9 * bool(bad))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(folder.path)],
        env={**os.environ, **cli.environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "state").exists()


def test_history_tells_a_busy_worker_from_failed_tests(
    artifacts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, kind in ((1, "WORKER_BUSY"), (2, "ATTESTATION")):
        summary = a_run(artifacts, number, status="failed").path / "run_summary.json"
        record = json.loads(summary.read_text())
        summary.write_text(json.dumps({**record, "failure_kind": kind}))
    a_run(artifacts, 3, status="failed", subkind="TESTS_FAILED")
    assert main(["history"]) == 0
    verdicts = [line.split()[1] for line in capfd.readouterr().out.splitlines()[1:4]]
    assert verdicts == ["tests_failed", "attestation", "worker_busy"]


def test_a_run_without_a_set_is_told_as_such(artifacts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = a_run(artifacts, 1, status="failed", subkind="BUILD_FAILED", summary="nothing came of it")
    shutil.rmtree(folder.path / "steps")
    index = folder.path / "run_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "steps": []}))
    error = told(capfd, "attest", "verify", str(folder.path), code=2)["error"]
    assert error["message"].endswith("has no artifact set: SWIFTPM / BUILD_FAILED: nothing came of it")
    (folder.path / "run_summary.json").unlink()
    error = told(capfd, "attest", "verify", str(folder.path), code=2)["error"]
    assert error["message"].endswith("has no artifact set: it has not ended")
