"""Clients that are interrupted, killed, or only look on (spec section 4, signals; section 12)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ends import assert_cancelled, assert_slot_is_free, leases
from support.lab import Lab, lab
from support.until import until, waiting_project


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def read_until(client: subprocess.Popen[str], wanted: str) -> None:
    """Read the client's messages until one has `wanted`."""
    assert client.stderr is not None
    said: list[str] = []
    while wanted not in (said[-1] if said else ""):
        said.append(client.stderr.readline())
        assert said[-1], said


def kill(client: subprocess.Popen[str]) -> None:
    """As the power does."""
    client.kill()
    client.communicate(timeout=60)


@pytest.mark.spec("4")
def test_a_second_signal_exits_at_once_and_the_run_ends_all_the_same(user: Lab) -> None:
    project, marker, _ = waiting_project(user)
    client = user.start("verify", cwd=project)
    until(marker.exists)
    daemon = user.daemon_pid
    os.kill(daemon, signal.SIGSTOP)
    try:
        client.send_signal(signal.SIGINT)
        read_until(client, "cancelling the run; once more to leave at once")
        client.send_signal(signal.SIGTERM)
        assert client.wait(60) == 80  # though the daemon says nothing
    finally:
        os.kill(daemon, signal.SIGCONT)
        client.communicate(timeout=60)
    assert_cancelled(user, "latest")
    assert_slot_is_free(user)


@pytest.mark.spec("4")
def test_ctrl_c_in_wait_leaves_the_run_alone(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    client = user.start("wait", run_id)
    read_until(client, "build")
    client.send_signal(signal.SIGINT)
    out, err = client.communicate(timeout=60)
    assert (client.returncode, out, err) == (130, "", "")
    assert user.json("status", run_id)["data"]["cancel_requested"] is False
    gate.touch()
    assert user.rchctl("wait", run_id).returncode == 0


@pytest.mark.spec("12")
def test_a_client_that_is_killed_takes_the_run_with_it_where_it_said_so(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    tied = user.start("verify", "--on-disconnect", "cancel", cwd=project)
    until(marker.exists)
    kill(tied)
    assert_cancelled(user, "latest")
    assert leases(user) == []
    marker.unlink()
    kept = user.start("verify", "--no-queue", cwd=project)
    until(marker.exists)
    kill(kept)
    gate.touch()
    assert user.rchctl("wait", "latest").returncode == 0


@pytest.mark.spec("12")
def test_a_save_supersedes_the_runs_of_the_saves_before(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    saved = ("submit", "--group", "save", "--supersede", "--origin", "editor")
    first = user.json(*saved, cwd=project)["data"]["run_id"]
    until(marker.exists)
    second = user.json(*saved, cwd=project)["data"]["run_id"]
    gate.touch()
    third = user.json(*saved, cwd=project)["data"]["run_id"]
    assert user.rchctl("wait", third).returncode == 0
    for run_id in (first, second):
        answer = user.json("wait", run_id)
        assert (answer["exit_code"], answer["data"]["state"]) == (80, "CANCELLED")
    assert leases(user) == []


@pytest.mark.spec("12")
@pytest.mark.fault("C5")
def test_many_clients_with_one_token_make_one_run(user: Lab) -> None:
    project = user.project()
    asked = ("submit", "--json", "--client-token", "nightly-1")
    clients = [user.start(*asked, cwd=project) for _ in range(12)]
    answers = [json.loads(client.communicate(timeout=60)[0]) for client in clients]
    assert {answer["exit_code"] for answer in answers} == {0}
    assert len({answer["data"]["run_id"] for answer in answers}) == 1
    assert len(user.json("list")["data"]["runs"]) == 1
    other = user.json("submit", "--client-token", "nightly-1", "--action", "build", cwd=project)
    assert other["exit_code"] == 2
    assert "nightly-1" in other["error"]["message"]


@pytest.mark.spec("4")
def test_two_signals_during_the_submit_leave_no_run_that_goes_on(user: Lab) -> None:
    project, marker, _ = waiting_project(user)
    with (project / "big").open("wb") as file:
        for _ in range(24):
            file.write(os.urandom(1 << 20))
    user.rchctl("daemon", "start")
    for first, second in ((signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)):
        client = user.start("verify", "--verbose", "--json", cwd=project)
        read_until(client, "bundle")
        client.send_signal(first)
        client.send_signal(second)
        client.communicate(timeout=60)
        assert client.returncode == 80
    done = user.rchctl("run", "--action", "test", "--quiet", cwd=project)  # after what was before it
    assert done.returncode == 0, done.stderr
    runs = user.json("list")["data"]["runs"]
    assert {run["state"] for run in runs[1:]} <= {"CANCELLED"}
    assert not marker.exists()
