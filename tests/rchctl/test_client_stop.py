"""Clients that follow a run while the daemon is stopped on purpose: nobody starts it behind its back."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon
from support.lab import Lab, lab
from support.until import until, waiting_project

from rch.contract.errors import Failure
from rchctl import follow
from rchctl.console import Console
from rchctl.context import Context
from rchctl.logs import Logs
from rchctl.progress import Progress


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def _by_call(user: Lab) -> None:
    assert user.rchctl("daemon", "stop").returncode == 0


def _by_signal(user: Lab) -> None:
    os.kill(user.daemon_pid, signal.SIGTERM)


@pytest.mark.spec("4")
@pytest.mark.parametrize("stop", [_by_call, _by_signal])
def test_a_daemon_that_is_stopped_stays_so_and_a_start_goes_on(
    user: Lab, stop: Callable[[Lab], None]
) -> None:
    project, marker, gate = waiting_project(user)
    client = user.start("verify", cwd=project)
    until(marker.exists)
    stop(user)
    assert client.stderr is not None
    told = ""
    while "rchctl: the daemon was stopped: waiting 30 s for its start\n" not in told:
        line = client.stderr.readline()
        assert line, told
        told += line
    assert user.rchctl("daemon", "status").returncode == 4
    assert user.rchctl("daemon", "start").returncode == 0
    gate.touch()
    out, err = client.communicate(timeout=60)
    assert client.returncode == 0, (out, err)


@pytest.mark.spec("4")
@pytest.mark.parametrize("said", [True, False])
def test_only_after_a_stop_that_was_said_nobody_starts_the_daemon(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, *, said: bool
) -> None:
    monkeypatch.setattr(follow, "RECONNECT_SECONDS", 0.3)
    started = cli.home / "started"
    cli.env["RCH_RCHD"] = shlex.join([sys.executable, "-c", f"open({str(started)!r}, 'w')"])
    null = os.open(os.devnull, os.O_WRONLY)
    args = argparse.Namespace(json=False, no_autostart=False)
    call = Context("wait", args, Console({}, null, null), cli.environment)
    with FakeDaemon(cli.socket) as daemon:
        waiting = follow.Follower(
            call, call.connect(), RUN_ID, progress=Progress(call.console, enabled=False)
        )

        def leave() -> None:
            daemon.wait_for_watcher()
            if said:
                daemon.tell("end", data={"reason": "shutdown"})
            daemon.close()

        leaving = threading.Thread(target=leave)
        leaving.start()
        with pytest.raises(Failure) as caught:
            waiting.follow()
        leaving.join()
    os.close(null)
    assert (caught.value.exit_code, caught.value.hint) == (4, f"rchctl wait {RUN_ID}")
    assert ("the daemon was stopped; run" in caught.value.message) is said
    assert started.exists() is not said


def test_a_last_word_that_was_not_looked_at_yet_counts(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("wait", RUN_ID, "--no-autostart")
    daemon.wait_for_watcher()
    daemon.on("runs.watch", lambda _params, connection: _say_and_leave(connection.sock))
    daemon.tell("gap")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("rchctl: queued")
    assert "the daemon was stopped" in process.stderr.readline()
    process.kill()
    process.communicate()


def _say_and_leave(sock: socket.socket) -> dict[str, object]:
    sock.sendall(
        b'{"jsonrpc":"2.0","method":"runs.event","params":{"subscription":9,"seq":1,"type":"end",'
        b'"run_id":null,"at":"2026-01-02T03:04:05.000Z","data":{"reason":"shutdown"}}}\n'
    )
    sock.shutdown(socket.SHUT_RDWR)
    return {}


@pytest.mark.fault("H12")
def test_a_state_that_cannot_be_written_is_told_to_who_waits(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("wait", RUN_ID)
    daemon.wait_for_watcher()
    for trouble in ({}, {"trouble": "no space left"}, {"trouble": "no space left"}):
        daemon.tell("heartbeat", data=trouble)
    daemon.change(state="SUCCEEDED", exit_code=0)
    _, err = process.communicate(timeout=60)
    assert err.count("rchctl: warning: the daemon's state cannot be written: no space left\n") == 1


def test_health_counts_the_connections(user: Lab) -> None:
    assert user.rchctl("daemon", "start").returncode == 0
    before = user.json("daemon", "status")["data"]["connections"]
    others = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for each in others:
        each.connect(str(user.socket))
    assert user.json("daemon", "status")["data"]["connections"] == before + 5
    for each in others:
        each.close()


class _Order(Progress, Logs):
    """Notes what is told first: the log, or the run's new stage."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def run(self, run: dict[str, Any]) -> None:
        self.told.append("run" if run else "")

    def asks(self, runs: object) -> None:
        pass

    def catch_up(self, run: dict[str, Any]) -> None:
        self.told.append("log" if run else "")


def test_after_a_lost_connection_the_log_comes_before_the_end_of_its_stage(
    cli: Cli, daemon: FakeDaemon
) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    args = argparse.Namespace(json=False, no_autostart=True)
    call = Context("wait", args, Console({}, null, null), cli.environment)
    order = _Order()
    following = follow.Follower(call, call.connect(), RUN_ID, progress=order, logs=order)
    following._watch()
    order.told.clear()
    daemon.change(state="SUCCEEDED", exit_code=0)
    following._watch()
    following.drop()
    os.close(null)
    assert order.told[:2] == ["log", "run"]
