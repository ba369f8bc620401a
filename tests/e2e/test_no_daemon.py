"""`verify --no-daemon`: a daemon for one call, beside the usual one, with the same artifacts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lab import Lab, lab
from support.until import until

from rch.files.locks import FileLock, is_free
from rch.files.paths import NO_DAEMON_MARK, host_paths
from rchd.edges import leavings, private
from rchd.edges.store import SqliteStore


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def private_folders(user: Lab) -> list[str]:
    base = user.home / "state" / "private"
    return sorted(each.name for each in base.iterdir() if each.is_dir()) if base.is_dir() else []


def waiting(user: Lab, name: str) -> str:
    """A build script that says that it runs, and waits for a gate."""
    gate = user.root / name
    return f'touch "{gate}.began"\nwhile [ ! -e "{gate}" ]; do sleep 0.02; done\necho built\n'


@pytest.mark.spec("12")
def test_one_call_leaves_its_verdict_and_artifacts_and_no_process_or_folder(user: Lab) -> None:
    project = user.project()
    run = user.json("verify", "--no-daemon", cwd=project)["data"]
    assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
    assert not list((user.home / "state" / "private").iterdir())
    assert not user.socket.exists(), "the usual daemon was never started"
    found = user.json("artifacts", "latest", cwd=project)["data"]
    assert (found["run_id"], found["run_dir"]) == (run["run_id"], run["run_dir"])
    assert Path(found["run_dir"]).parent == user.home / "data" / "artifacts" / "xcode"
    assert user.json("history", cwd=project)["data"]["runs"][0]["run_id"] == run["run_id"]
    assert not user.socket.exists()


def test_the_exit_code_is_the_run_s(user: Lab) -> None:
    failed = user.rchctl("verify", "--no-daemon", cwd=user.project(build="echo no; exit 1"))
    assert failed.returncode == 50
    assert user.rchctl("verify", "--no-daemon", "--detach", cwd=user.root / "project").returncode == 2
    outside = user.root / "nothing"
    outside.mkdir()
    assert user.rchctl("verify", "--no-daemon", cwd=outside).returncode == 3
    assert private_folders(user) == []


@pytest.mark.spec("12")
def test_the_usual_daemon_neither_takes_nor_misses_such_runs(user: Lab) -> None:
    project = user.project()
    alone = user.json("verify", "--no-daemon", cwd=project)["data"]["run_id"]
    usual = user.json("verify", cwd=project)["data"]["run_id"]
    assert [run["run_id"] for run in user.json("list")["data"]["runs"]] == [usual]
    assert user.json("check", "--read-data")["data"]["findings"] == []
    user.rchctl("daemon", "stop")
    for path in (user.home / "state").glob("rchd.db*"):
        path.unlink()
    rebuilt = subprocess.run(
        [sys.executable, "-m", "rchd", "rebuild", "--json"],
        env=user.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [run["run_id"] for run in json.loads(rebuilt.stdout)["data"]["runs"]] == [usual]
    assert (user.home / "data" / "artifacts" / "xcode" / alone / "run_index.json").exists()


def test_a_machine_with_such_runs_alone_has_lost_no_database(user: Lab) -> None:
    project = user.project()
    assert user.rchctl("verify", "--no-daemon", cwd=project).returncode == 0
    assert user.json("check")["data"]["findings"] == []
    assert user.rchctl("daemon", "start").returncode == 0


@pytest.mark.faults_long
def test_two_at_once_and_a_running_daemon_leave_each_other_alone(user: Lab) -> None:
    config = (user.worker_home / "config" / "worker.toml").read_text()
    user.configure_worker(f"max_concurrent_jobs = 3\n{config}")
    projects = [user.project(f"p{each}", build=waiting(user, f"go{each}")) for each in range(3)]
    flags: list[list[str]] = [["--no-daemon"], ["--no-daemon"], []]
    calls = [
        user.start("verify", "--json", *words, cwd=project)
        for words, project in zip(flags, projects, strict=True)
    ]
    for each in range(3):
        until((user.root / f"go{each}.began").exists)
    assert len(private_folders(user)) == 2
    for each in range(3):
        (user.root / f"go{each}").write_text("\n")
    told = [json.loads(call.communicate(timeout=60)[0]) for call in calls]
    assert [each["exit_code"] for each in told] == [0, 0, 0]
    assert len({each["data"]["run_id"] for each in told}) == 3
    assert private_folders(user) == []
    listed = [run["run_id"] for run in user.json("list")["data"]["runs"]]
    assert listed == [told[2]["data"]["run_id"]]


@pytest.mark.spec("4")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_run_and_sees_it_to_its_end(user: Lab, number: int) -> None:
    project = user.project(build=waiting(user, "go"))
    call = user.start("verify", "--no-daemon", "--json", cwd=project)
    until((user.root / "go.began").exists)
    call.send_signal(number)
    told = json.loads(call.communicate(timeout=60)[0])
    assert (call.returncode, told["data"]["state"], told["exit_code"]) == (80, "CANCELLED", 80)
    assert private_folders(user) == []


@pytest.mark.spec("4")
def test_a_killed_call_blocks_nothing(user: Lab) -> None:
    project = user.project(build=waiting(user, "go"))
    call = user.start("verify", "--no-daemon", cwd=project)
    until((user.root / "go.began").exists)
    call.kill()
    call.communicate(timeout=20)
    (user.root / "project" / "build.sh").write_text("echo built")
    after = user.json("verify", "--no-daemon", cwd=project)
    assert after["exit_code"] == 0
    until(lambda: not [name for name in private_folders(user) if _lives(user, name)])
    assert user.json("verify", "--no-daemon", cwd=project)["exit_code"] == 0
    assert private_folders(user) == [], "the next one removed what was left"
    states = [_state(folder) for folder in sorted((user.home / "data" / "artifacts" / "xcode").iterdir())]
    assert states == ["CANCELLED", "SUCCEEDED", "SUCCEEDED"]


@pytest.mark.spec("4")
@pytest.mark.faults_long
def test_a_call_killed_together_with_its_daemon_gives_its_slot_to_the_next(user: Lab) -> None:
    project = user.project(build=waiting(user, "go"))
    call = user.start("verify", "--no-daemon", cwd=project)
    until((user.root / "go.began").exists)
    folder = user.home / "state" / "private" / private_folders(user)[0]
    daemon = int((folder / "rchd.lock").read_text().split()[1])
    call.kill()
    os.kill(daemon, signal.SIGKILL)
    call.communicate(timeout=20)
    until(lambda: is_free(folder / "rchd.lock"))
    (project / "build.sh").write_text("echo built")
    assert user.json("verify", "--no-daemon", "--no-queue", cwd=project)["exit_code"] == 0
    assert private_folders(user) == []
    states = [_state(each) for each in sorted((user.home / "data" / "artifacts" / "xcode").iterdir())]
    assert states == ["CANCELLED", "SUCCEEDED"]


def _lives(user: Lab, name: str) -> bool:
    return not is_free(user.home / "state" / "private" / name / "rchd.lock")


def _state(folder: Path) -> str:
    found: dict[str, Any] = json.loads((folder / "run_state.json").read_text())
    return str(found["state"])


def test_a_run_that_was_cut_off_with_its_daemon_is_told_by_check(user: Lab) -> None:
    project = user.project()
    run_dir = Path(user.json("verify", "--no-daemon", cwd=project)["data"]["run_dir"])
    (run_dir / "run_summary.json").unlink()
    found = user.json("check")["data"]["findings"]
    assert [(each["severity"], each["run_id"]) for each in found] == [("warning", run_dir.name)]
    mark = json.loads((run_dir / NO_DAEMON_MARK).read_text())
    lock = Path(mark["lock"])
    with FileLock(lock):
        assert user.json("check")["data"]["findings"] == []
    shutil.rmtree(lock.parent)


def test_a_folder_is_marked_before_anybody_can_see_it_empty(tmp_path: Path) -> None:
    private.make_marked(tmp_path / "root" / "run", tmp_path / "lock")
    assert private.is_marked(tmp_path / "root" / "run")
    assert [each.name for each in (tmp_path / "root").iterdir()] == ["run"]
    assert not private.is_served(tmp_path / "root" / "run")


def test_a_start_of_the_usual_daemon_clears_no_run_that_such_a_call_just_takes_in(tmp_path: Path) -> None:
    paths = host_paths({"RCH_HOME": str(tmp_path)})
    for name in ("own", "other"):
        (paths.artifacts / name).mkdir(parents=True)
        (paths.artifacts / name / "accepted.json").write_text("{}")
    private.make_marked(paths.artifacts / "alone", tmp_path / "lock")
    (paths.artifacts / "alone" / "accepted.json").write_text("{}")
    paths.state_dir.mkdir()
    store = SqliteStore.open(paths.database)
    try:
        leavings.clear(paths, store, ())
    finally:
        store.close()
    assert [each.name for each in paths.artifacts.iterdir()] == ["alone"]
