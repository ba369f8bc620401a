"""The daemon's leaving in order: drain, its exits, and what becomes of those who wait."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lab import Lab, lab, run_files
from support.until import until, waiting_project

pytestmark = [pytest.mark.spec("4")]


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest.fixture
def busy(user: Lab) -> Iterator[tuple[str, str, Path]]:
    """A run at its worker, one behind it, and the gate that the first waits for."""
    project, marker, gate = waiting_project(user)
    running = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    queued = user.json("submit", cwd=project)["data"]["run_id"]
    yield running, queued, gate
    gate.touch()


def health(user: Lab) -> dict[str, Any]:
    data: dict[str, Any] = user.json("daemon", "status")["data"]
    return data


def drained(user: Lab) -> bool:
    return user.rchctl("daemon", "status").returncode == 4


def test_a_drain_ends_when_what_runs_is_published_and_leaves_the_queue(
    user: Lab, busy: tuple[str, str, Path]
) -> None:
    running, queued, gate = busy
    stop = user.start("daemon", "stop", "--drain")
    until(lambda: health(user)["status"] == "draining")
    told = health(user)
    assert told["exits"] is True
    assert [(run["run_id"], run["action"]) for run in told["awaited"]] == [(running, "build")]
    assert running in user.rchctl("daemon", "status").stdout
    refused = user.rchctl("verify", cwd=user.root / "project")
    assert (refused.returncode, "draining" in refused.stderr) == (4, True)
    assert "rchctl daemon resume" in refused.stderr
    assert user.json("status", queued)["data"]["waiting"] == "the daemon is draining"
    gate.touch()
    out, err = stop.communicate(timeout=60)
    assert (stop.returncode, out) == (0, "rchd stopped; 1 queued: taken up again by the next start\n")
    assert f"1 run left; {running}" in err
    assert drained(user)
    assert user.rchctl("wait", queued).returncode == 0
    files = run_files(Path(user.json("status", running)["data"]["run_dir"]))
    state = json.loads(files["run_state"].read_text())
    assert (state["state"], state["seq"], state.get("resumed_at")) == ("SUCCEEDED", 3, None)


def test_after_its_timeout_a_drain_leaves_the_rest_to_the_next_start(
    user: Lab, busy: tuple[str, str, Path]
) -> None:
    running, _, gate = busy
    stopped = user.json("daemon", "stop", "--drain", "--timeout", "0.2")
    assert [run["run_id"] for run in stopped["data"]["awaited"]] == [running]
    assert drained(user)
    gate.touch()
    assert user.rchctl("wait", running).returncode == 0
    files = run_files(Path(user.json("status", running)["data"]["run_dir"]))
    assert json.loads(files["build/summary"].read_text())["attempts"] == 1


def test_ctrl_c_ends_the_client_alone_and_resume_calls_the_drain_off(
    user: Lab, busy: tuple[str, str, Path]
) -> None:
    running, queued, gate = busy
    pid = user.daemon_pid
    stop = user.start("daemon", "stop", "--drain")
    until(lambda: health(user)["status"] == "draining")
    stop.send_signal(signal.SIGINT)
    _, err = stop.communicate(timeout=60)
    assert stop.returncode == 130
    assert "goes on draining and ends then" in err
    assert health(user)["exits"] is True
    assert user.rchctl("daemon", "resume").stdout == "rchd takes runs\n"
    told = health(user)
    assert (told["status"], told["exits"], told["awaited"]) == ("ok", False, [])
    gate.touch()
    assert user.rchctl("wait", running).returncode == 0
    assert user.rchctl("wait", queued).returncode == 0
    assert user.daemon_pid == pid


@pytest.mark.faults_long
def test_a_drain_that_is_called_off_says_so_to_who_waits_for_it(
    user: Lab, busy: tuple[str, str, Path]
) -> None:
    assert busy
    stop = user.start("daemon", "stop", "--drain")
    until(lambda: health(user)["status"] == "draining")
    assert user.rchctl("daemon", "resume").returncode == 0
    _, err = stop.communicate(timeout=60)
    assert (stop.returncode, "the drain was called off" in err) == (1, True)
    assert "daemon start" not in err


@pytest.mark.faults_long
def test_a_plain_stop_ends_a_drain_at_once(user: Lab, busy: tuple[str, str, Path]) -> None:
    running, _, gate = busy
    draining = user.start("daemon", "stop", "--drain")
    until(lambda: health(user)["status"] == "draining")
    assert user.rchctl("daemon", "stop").returncode == 0
    draining.communicate(timeout=60)
    assert draining.returncode == 0
    gate.touch()
    assert user.rchctl("wait", running).returncode == 0


def test_restart_with_drain_leaves_a_fresh_daemon_that_goes_on_with_the_queue(
    user: Lab, busy: tuple[str, str, Path]
) -> None:
    running, queued, gate = busy
    before = user.daemon_pid
    waiting = user.start("wait", queued)
    restart = user.start("daemon", "restart", "--drain")
    until(lambda: health(user)["status"] == "draining")
    gate.touch()
    out, err = restart.communicate(timeout=60)
    assert restart.returncode == 0, err
    assert f"pid {user.daemon_pid}" in out
    assert user.daemon_pid != before
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert user.json("status", running)["data"]["state"] == "SUCCEEDED"


def test_restart_starts_where_none_runs_and_flags_keep_their_places(user: Lab) -> None:
    assert user.rchctl("daemon", "restart").returncode == 0
    assert user.rchctl("daemon", "resume").returncode == 0
    assert user.rchctl("daemon", "start", "--drain").returncode == 2
    assert user.rchctl("daemon", "stop", "--timeout", "3").returncode == 2
    assert user.rchctl("daemon", "stop", "--drain", "--timeout", "-1").returncode == 2
    assert user.rchctl("daemon", "stop", "--drain").stdout == "rchd stopped\n"
    assert user.rchctl("daemon", "resume").returncode == 4
