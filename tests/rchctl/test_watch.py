"""`rchctl watch`: what runs find is told as it comes, each once (spec section 12)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon, run_view, step_view
from support.run_folder import RunFolder

from rch.contract.records import Diagnostic, TestFailure

OTHER = "0198c2f0-7a11-7c3e-9b52-3f6f5d1e0a02"
LATE = Diagnostic(path="A.swift", line=3, column=1, severity="warning", message="told by the records alone")
LIVE = {"path": "A.swift", "line": 1, "column": 5, "severity": "error", "message": "no such type"}
FAILED = {"framework": "xctest", "name": "T.testOne", "message": "is not 2", "path": "A.swift", "line": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The project that runs are of."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "A.swift").write_text("one\ntwo\nthree\n")
    (folder / "Package.swift").touch()
    return folder


def folder_of(tmp_path: Path, root: Path) -> RunFolder:
    """The records of a run that said what was told live in part, and more."""
    return RunFolder(
        tmp_path / "artifacts",
        root=str(root),
        status="failed",
        diagnostics=(Diagnostic(**LIVE), LATE),  # type: ignore[arg-type]
        failures=(
            TestFailure(name="testOne", suite="Pkg.T", message="is not 2 at all", path="A.swift", line=2),
        ),
    ).write()


def found(daemon: FakeDaemon, kind: str, data: dict[str, Any], run_id: str = RUN_ID) -> None:
    """An event of the worker, as the daemon hands it on."""
    event = {"job_id": "job-test-0000", "n": 1, "at": "2026-01-02T03:04:05Z", "type": kind, "data": data}
    daemon.tell("job", run_id, data=event)


def line(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.mark.spec("12")
def test_findings_come_while_the_run_goes_on_between_the_marks_of_its_begin_and_end(
    cli: Cli, daemon: FakeDaemon, root: Path, tmp_path: Path
) -> None:
    run_dir = str(folder_of(tmp_path, root).path)
    daemon.change(root=str(root), run_dir=run_dir, state="RUNNING", steps=[step_view(0, "test", "RUNNING")])
    process = cli.start("watch", "latest", "--format", "errorfmt")
    assert line(process) == f"rchctl: begin {RUN_ID}"
    found(daemon, "diagnostic", LIVE)
    assert line(process) == f"{root}/A.swift:1:5: error: no such type"
    found(daemon, "diagnostic", LIVE)  # a daemon that was started anew reads the log once more
    found(daemon, "failure", FAILED)
    assert line(process) == f"{root}/A.swift:2:1: error: is not 2 [T.testOne]"
    daemon.change(state="FAILED", exit_code=50, steps=[step_view(0, "test", "FAILED")])
    out, err = process.communicate(timeout=20)
    assert out.splitlines() == [
        f"{root}/A.swift:3:1: warning: told by the records alone",
        f"rchctl: end {RUN_ID} FAILED 50",
    ]
    assert (process.returncode, err) == (50, "")


def test_a_run_that_is_over_is_told_of_from_its_records(
    cli: Cli, daemon: FakeDaemon, root: Path, tmp_path: Path
) -> None:
    run_dir = str(folder_of(tmp_path, root).path)
    daemon.change(root=str(root), run_dir=run_dir, state="FAILED", exit_code=50)
    done = cli(
        "watch", RUN_ID, "--format", "errorfmt", "--begin-marker", "<{run_id}", "--end-marker", ">{state}"
    )
    assert done.returncode == 50
    assert done.stdout.splitlines() == [
        f"<{RUN_ID}",
        f"{root}/A.swift:1:5: error: no such type",
        f"{root}/A.swift:2:1: error: is not 2 at all [Pkg.T.testOne]",
        f"{root}/A.swift:3:1: warning: told by the records alone",
        ">FAILED",
    ]


@pytest.mark.spec("12")
def test_all_runs_of_a_project_are_followed_over_a_restart_of_the_daemon(cli: Cli, root: Path) -> None:
    with FakeDaemon(cli.socket) as first:
        first.runs = {OTHER: run_view(OTHER, root="/elsewhere"), RUN_ID: run_view(root=str(root))}
        process = cli.start(
            "watch", "--all", "--project", str(root), "--format", "errorfmt", "--no-autostart"
        )
        assert line(process) == f"rchctl: begin {RUN_ID}"
        found(first, "diagnostic", LIVE, OTHER)
        found(first, "diagnostic", LIVE)
        assert line(process) == f"{root}/A.swift:1:5: error: no such type"
    with FakeDaemon(cli.socket) as second:
        second.runs = {RUN_ID: run_view(root=str(root), seq=2)}
        second.wait_for_watcher()
        second.runs[OTHER] = run_view(OTHER, root=str(root))
        second.change(state="SUCCEEDED", exit_code=0)
        assert line(process) == f"rchctl: end {RUN_ID} SUCCEEDED 0"
        second.change(OTHER, state="RUNNING")
        assert line(process) == f"rchctl: begin {OTHER}"
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=20)


def test_it_ends_when_nobody_reads_it(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("watch", "--all", "--format", "json")
    assert json.loads(line(process))["type"] == "snapshot"
    assert process.stdout is not None
    process.stdout.close()
    daemon.tell("heartbeat")
    assert process.wait(20) == 0
    assert process.stderr is not None
    process.stderr.close()


def test_json_lines_are_the_notifications_and_the_snapshots(
    cli: Cli, daemon: FakeDaemon, root: Path
) -> None:
    daemon.change(root=str(root), state="RUNNING", steps=[step_view(0, "test", "RUNNING")])
    process = cli.start("watch", "--latest", "--format", "json")
    snapshot = json.loads(line(process))
    assert (snapshot["type"], [each["run_id"] for each in snapshot["runs"]]) == ("snapshot", [RUN_ID])
    daemon.tell("heartbeat")
    found(daemon, "diagnostic", LIVE)
    told = json.loads(line(process))
    assert (told["type"], told["run_id"], told["data"]["type"]) == ("job", RUN_ID, "diagnostic")
    daemon.change(state="CANCELLED", exit_code=80)
    out, _ = process.communicate(timeout=20)
    assert [json.loads(each)["type"] for each in out.splitlines()] == ["run"]
    assert process.returncode == 80


@pytest.mark.parametrize("argv", [["watch"], ["watch", "latest"]])
def test_text_has_a_line_a_transition(cli: Cli, daemon: FakeDaemon, root: Path, argv: list[str]) -> None:
    daemon.change(root=str(root), waiting="run 1 is ahead")
    process = cli.start(*argv)
    who = f"{RUN_ID} Demo: " if argv == ["watch"] else ""
    assert line(process) == f"{who}queued: run 1 is ahead"
    daemon.change(waiting="run 1 is ahead")
    daemon.change(state="RUNNING", phase="following", waiting=None, steps=[step_view(0, "test", "RUNNING")])
    assert line(process) == f"{who}test"
    found(daemon, "diagnostic", LIVE)
    assert line(process) == f"{root}/A.swift:1:5: error: no such type"
    daemon.change(state="FAILED", exit_code=50, failure_kind="SWIFTPM", duration_ms=900, human_summary="no")
    assert line(process) == f"{who}FAILED (SWIFTPM), exit code 50 in 900 ms: no"
    process.terminate()
    process.communicate(timeout=20)


def test_a_simulated_run_says_so_in_every_form(
    cli: Cli, daemon: FakeDaemon, root: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "artifacts", root=str(root), simulated=True, diagnostics=(LATE,)).write()
    daemon.change(root=str(root), run_dir=str(folder.path), state="SUCCEEDED", exit_code=0, simulated=True)
    lines = cli("watch", "latest", "--format", "errorfmt").stdout.splitlines()
    assert lines[1:] == [
        f"{root}/A.swift:3:1: warning: simulated: told by the records alone",
        "note: simulated: stand-in tools, no verdict",
        f"rchctl: end {RUN_ID} SIMULATED 0",
    ]
    text = cli("watch", "latest").stdout.splitlines()
    assert len(text) == 3
    assert all(each.startswith("simulated: ") for each in text)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--json"], "type --format json"),
        (["latest", "--all"], "exclude one another"),
        (["--all", "--latest"], "exclude one another"),
        (["latest", "--project", "x"], "is about all runs"),
        (["--begin-marker", "x"], "is about --format errorfmt"),
        (["--format", "errorfmt", "--end-marker", "a\nb"], "is no printable line"),
        (["--format", "xml"], "unknown format 'xml'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_daemon_is_asked(
    cli: Cli, argv: list[str], said: str
) -> None:
    done = cli("watch", *argv, "--no-autostart")
    assert (done.returncode, done.stdout if "--json" not in argv else "") == (2, "")
    assert said in done.stdout + done.stderr
