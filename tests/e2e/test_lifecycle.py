"""Runs over their whole life: detached, cancelled, killed under, shared by terminals."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import NO_TESTS, PASSING_TEST, Lab, lab, run_files
from support.until import until, waiting_project


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def test_a_detached_run_is_waited_for_by_its_id(user: Lab) -> None:
    project, _, gate = waiting_project(user)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    assert user.json("status", run_id)["data"]["state"] in {"QUEUED", "RUNNING"}
    gate.touch()
    assert user.rchctl("wait", run_id[:18]).returncode == 0
    assert user.json("status", "latest")["data"]["run_id"] == run_id


@pytest.mark.spec("4")
def test_the_snapshot_is_of_the_moment_of_acceptance(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    first = user.json("submit", cwd=project)["data"]["run_id"]
    (project / "build.sh").write_text("echo queued version; exit 3")
    second = user.json("submit", cwd=project)["data"]["run_id"]
    (project / "build.sh").write_text("echo later version")
    until(marker.exists)
    gate.touch()
    assert user.rchctl("wait", first).returncode == 0
    assert user.rchctl("wait", second).returncode == 50
    assert "queued version" in user.rchctl("tail", second).stdout


@pytest.mark.spec("4")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_run_and_its_processes(user: Lab, number: int) -> None:
    project, marker, _ = waiting_project(user)
    client = user.start("verify", cwd=project)
    until(marker.exists)
    client.send_signal(number)
    out, err = client.communicate(timeout=60)
    assert client.returncode == 80, (out, err)
    assert user.rchctl("wait", "latest").returncode == 80
    run = user.json("status", "latest")["data"]
    assert run["state"] == "CANCELLED"
    files = run_files(Path(run["run_dir"]))
    told = json.loads(files["build/summary"].read_text())
    assert (told["status"], told["failure_kind"], told["exit_code"]) == ("cancelled", "CANCELLED", 80)
    assert "started" in files["build/build_log"].read_text()
    state = json.loads(files["run_state"].read_text())
    assert state["cancel"]["reason"] == ("USER" if number == signal.SIGINT else "SIGNAL")


@pytest.mark.spec("4")
@pytest.mark.fault("H1")
def test_a_daemon_killed_in_the_middle_of_a_job_takes_it_up_again(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    count = user.root / "executions"
    (project / "build.sh").write_text(f'echo x >> "{count}"\n' + (project / "build.sh").read_text())
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    user.kill_daemon()
    gate.touch()
    assert user.rchctl("wait", run_id).returncode == 0
    run = user.json("status", run_id)["data"]
    assert (run["state"], run["seq"]) == ("SUCCEEDED", 3)
    assert count.read_text() == "x\n"
    files = run_files(Path(run["run_dir"]))
    assert json.loads(files["run_state"].read_text())["resumed_at"]
    assert files["build/build_log"].read_text() == files["build/live_log_path"].read_text()


@pytest.mark.spec("4")
def test_a_client_that_watches_outlives_the_daemon(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    client = user.start("verify", "--json", cwd=project)
    until(marker.exists)
    user.kill_daemon()
    gate.touch()
    out, err = client.communicate(timeout=60)
    assert client.returncode == 0, (out, err)
    assert json.loads(out)["data"]["state"] == "SUCCEEDED"


def test_a_queued_run_says_why_it_waits_and_can_be_cancelled(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    first = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    second = user.json("submit", "--no-cache", cwd=project)["data"]["run_id"]
    until(lambda: "busy" in (user.json("status", second)["data"]["waiting"] or ""))
    third = user.json("submit", cwd=project)["data"]
    assert "behind" in user.json("status", third["run_id"])["data"]["waiting"]
    assert user.rchctl("cancel", second).returncode == 0
    assert user.json("status", second)["data"]["exit_code"] == 80
    gate.touch()
    assert user.rchctl("wait", first).returncode == 0
    assert user.rchctl("wait", third["run_id"]).returncode == 0


@pytest.mark.spec("3.4")
def test_a_run_that_may_not_queue_fails_at_once_when_the_worker_is_busy(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    user.json("submit", cwd=project)
    until(marker.exists)
    answer = user.json("verify", "--no-queue", cwd=project)
    assert answer["exit_code"] == 90
    gate.touch()


def test_run_action_runs_that_step_alone(user: Lab) -> None:
    project = user.project(build="exit 1", test=PASSING_TEST)
    run = user.json("run", "--action", "test", cwd=project)["data"]
    assert [(step["action"], step["status"]) for step in run["steps"]] == [("test", "success")]


@pytest.mark.spec("8")
def test_every_file_of_a_run_is_found_through_the_indices_alone(user: Lab) -> None:
    run = user.json("verify", cwd=user.project())["data"]
    run_dir = Path(run["run_dir"])
    pointed = {path.resolve() for path in run_files(run_dir).values()}
    there = {path.resolve() for path in run_dir.rglob("*") if path.is_file()}
    markers = {path for path in there if path.name in {"run_index.json", "job_index.json"}}
    assert there - pointed - markers == set()
    listing = user.json("artifacts", run["run_id"])
    assert listing["ok"] is True
    assert user.rchctl("artifacts", run["run_id"]).returncode == 0


@pytest.mark.spec("9")
def test_a_test_step_in_which_no_test_ran_is_no_green(user: Lab) -> None:
    project = user.project(test=NO_TESTS)
    run = user.json("verify", cwd=project)["data"]
    assert (run["exit_code"], run["failure_subkind"]) == (50, "NO_TESTS_RAN")


def test_the_daemon_starts_by_itself_and_stops_when_told(user: Lab) -> None:
    assert user.rchctl("daemon", "status").returncode == 4
    assert user.rchctl("list").returncode == 0
    pid = user.daemon_pid
    assert user.rchctl("daemon", "stop").returncode == 0
    until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))
    assert not user.socket.exists()


def _is_zombie(pid: int) -> bool:
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.spec("11")
def test_nothing_of_a_run_that_is_over_lies_about_in_the_workers_trees(user: Lab) -> None:
    project = user.project()
    assert user.json("verify", cwd=project)["exit_code"] == 0
    runs = user.worker_home / "data" / "runs"
    until(lambda: not any(runs.iterdir()))


@pytest.mark.spec("3.4")
@pytest.mark.fault("H5")
def test_a_daemon_that_is_stopped_leaves_its_job_running_under_a_long_lease(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    assert user.rchctl("daemon", "stop").returncode == 0
    table = json.loads((user.worker_home / "state" / "leases" / "table.json").read_text())
    assert [lease["ttl_seconds"] for lease in table["leases"]] == [3600]
    gate.touch()
    assert user.rchctl("wait", run_id).returncode == 0
    files = run_files(Path(user.json("status", run_id)["data"]["run_dir"]))
    assert json.loads(files["build/summary"].read_text())["attempts"] == 1
