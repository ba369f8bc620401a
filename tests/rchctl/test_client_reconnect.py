"""A run is followed over lost connections and restarts (spec section 12)."""

from __future__ import annotations

import argparse
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, Connection, FakeDaemon

from rch.contract.errors import Failure
from rchctl import client, follow
from rchctl.console import Console
from rchctl.context import Context
from rchctl.progress import Progress


@pytest.fixture(autouse=True)
def _hang_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test's own clients opened is closed in it, not by the collector in some other one."""
    opened: list[socket.socket] = []
    init = client.Client.__init__

    def noting(self: client.Client, sock: socket.socket) -> None:
        opened.append(sock)
        init(self, sock)

    monkeypatch.setattr(client.Client, "__init__", noting)
    yield
    for sock in opened:
        sock.close()


def context(cli: Cli) -> Context:
    """The client's own parts in this process, its messages thrown away."""
    null = os.open(os.devnull, os.O_WRONLY)
    args = argparse.Namespace(json=False, no_autostart=True)
    return Context("wait", args, Console({}, null, null), cli.environment)


def follower(cli: Cli, **options: Any) -> follow.Follower:
    call = context(cli)
    quiet = Progress(call.console, enabled=False)
    return follow.Follower(call, call.connect(), RUN_ID, progress=quiet, **options)


def test_a_dropped_connection_is_made_anew_by_the_cursor(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("verify")
    daemon.wait_for_watcher()
    daemon.change(state="RUNNING", phase="following")
    daemon.drop()
    assert daemon.wait_for("runs.watch", times=2)["after_seq"] <= 2
    daemon.wait_for_watcher()
    daemon.change(state="SUCCEEDED", exit_code=0)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "the connection to the daemon is lost: connecting again" in err


def test_the_log_goes_on_where_it_was(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> None:
    live = tmp_path / "live.log"
    process = cli.start("verify")
    daemon.wait_for_watcher()
    daemon.log(live, "job-build-0000", b"before\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "before\n"
    daemon.drop()
    daemon.wait_for("runs.watch", times=2)
    daemon.wait_for_watcher()
    daemon.log(live, "job-build-0000", b"after\n")
    daemon.change(state="SUCCEEDED", exit_code=0)
    out, _ = process.communicate(timeout=60)
    assert out.startswith("after\nverdict: SUCCEEDED\n")


def test_a_daemon_that_restarts_is_met_again(cli: Cli) -> None:
    with FakeDaemon(cli.socket) as first:
        process = cli.start("wait", "latest", "--no-autostart")
        first.wait_for_watcher()
    with FakeDaemon(cli.socket) as second:
        second.wait_for_watcher()
        second.change(state="FAILED", exit_code=50)
        process.communicate(timeout=60)
    assert process.returncode == 50


def test_a_submit_that_lost_its_answer_is_the_same_run(cli: Cli, daemon: FakeDaemon) -> None:
    tokens: list[str] = []

    def drop_first(params: dict[str, Any], connection: Connection) -> dict[str, Any]:
        tokens.append(params["client_token"])
        if len(tokens) == 1:
            connection.sock.shutdown(2)
        return dict(daemon.runs[RUN_ID])

    daemon.on("runs.submit", drop_first)
    assert cli("submit").stdout == f"{RUN_ID}\n"
    assert len(tokens) == 2
    assert tokens[0] == tokens[1]


@pytest.mark.spec("4")
def test_a_daemon_that_does_not_come_back_leaves_a_way_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RECONNECT_SECONDS", 0.3)
    with FakeDaemon(cli.socket) as daemon:
        waiting = follower(cli)

        def leave() -> None:
            daemon.wait_for_watcher()
            daemon.close()

        threading.Thread(target=leave).start()
        with pytest.raises(Failure) as caught:
            waiting.follow()
    assert caught.value.exit_code == 4
    assert caught.value.hint == f"rchctl wait {RUN_ID}"


def test_a_silent_daemon_is_asked(cli: Cli, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SILENCE_SECONDS", 0.05)
    waiting = follower(cli)

    def end_untold() -> None:
        daemon.wait_for_watcher()
        daemon.runs[RUN_ID] |= {"state": "SUCCEEDED", "exit_code": 0}

    threading.Thread(target=end_untold).start()
    assert waiting.follow()["state"] == "SUCCEEDED"
    assert daemon.count("runs.get") >= 1


def test_a_daemon_that_does_not_answer_is_taken_for_lost(cli: Cli, daemon: FakeDaemon) -> None:
    released = threading.Event()

    def never(_params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        released.wait(60)
        return {}

    daemon.on("daemon.health", never)
    caller = context(cli).connect()
    with pytest.raises(client.ConnectionLost, match="did not answer"):
        caller.call("daemon.health", {}, 0.1)
    caller.close()
    released.set()


@pytest.mark.spec("4")
def test_a_worker_out_of_reach_ends_the_waiting_client_and_not_the_run(
    cli: Cli, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "UNREACHABLE_SECONDS", 0.2)
    monkeypatch.setattr(follow, "SILENCE_SECONDS", 0.05)
    daemon.change(state="RUNNING", phase="following", waiting="worker_unreachable", worker="studio")
    with pytest.raises(Failure) as caught:
        follower(cli, leave_unreachable=True).follow()
    assert caught.value.exit_code == 20
    assert caught.value.hint == f"rchctl wait {RUN_ID}"


def test_a_worker_that_comes_back_is_no_reason_to_leave(
    cli: Cli, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "UNREACHABLE_SECONDS", 60.0)
    daemon.change(state="RUNNING", phase="following", waiting="worker_unreachable")
    waiting = follower(cli, leave_unreachable=True)

    def come_back() -> None:
        daemon.wait_for_watcher()
        daemon.change(waiting=None)
        daemon.change(state="SUCCEEDED", exit_code=0)

    threading.Thread(target=come_back).start()
    assert waiting.follow()["exit_code"] == 0


def test_an_answer_that_breaks_the_framing_is_no_crash(cli: Cli, daemon: FakeDaemon) -> None:
    def garbage(_params: dict[str, Any], connection: Connection) -> dict[str, Any]:
        connection.sock.sendall(b"{not json\n")
        return {}

    daemon.on("runs.get", garbage)
    result = cli("status", RUN_ID)
    assert result.returncode == 4
    assert "the daemon's answer is not understood" in result.stderr
