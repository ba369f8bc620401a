"""Starting the daemon: once, detached, and with its last words when it will not."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import support.fake_daemon
from support.cli import Cli
from support.fake_daemon import Connection, FakeDaemon

from rch.files.locks import FileLock, is_free
from rch.files.paths import host_paths
from rchctl import autostart
from rchctl.__main__ import main

STAND_IN = f"{shlex.quote(sys.executable)} {shlex.quote(support.fake_daemon.__file__)}"


@pytest.fixture
def stub(cli: Cli, tmp_path: Path) -> Iterator[Cli]:
    """A client whose daemon is the stand-in; it is stopped at the end."""
    tests = str(Path(support.fake_daemon.__file__).parents[1])
    cli.env |= {"RCH_RCHD": STAND_IN, "FAKE_DAEMON_STARTS": str(tmp_path / "starts"), "PYTHONPATH": tests}
    yield cli
    assert cli("daemon", "stop").returncode == 0


def starts(cli: Cli) -> list[list[str]]:
    path = cli.home / "starts"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.spec("12")
def test_a_missing_daemon_is_started_and_stays(stub: Cli) -> None:
    assert stub("status").returncode == 0
    assert stub("status").returncode == 0
    assert len(starts(stub)) == 1


def test_many_terminals_start_one_daemon(stub: Cli) -> None:
    terminals = [stub.start("status") for _ in range(4)]
    for each in terminals:
        _, err = each.communicate(timeout=60)
        assert each.returncode == 0, err
    assert len(starts(stub)) == 1


def test_the_daemon_has_a_session_of_its_own_and_stands_nowhere(stub: Cli) -> None:
    stub("status")
    pid, folder = starts(stub)[0]
    assert os.getsid(int(pid)) == int(pid)
    assert folder == "/"


def test_what_a_service_manager_says_to_the_caller_is_not_said_to_the_daemon(stub: Cli) -> None:
    said = {
        "NOTIFY_SOCKET": "/nobody",
        "WATCHDOG_USEC": "1",
        "LISTEN_FDS": "1",
        "XPC_SERVICE_NAME": "other",
    }
    assert stub("status", **said).returncode == 0
    names = Path(f"/proc/{starts(stub)[0][0]}/environ").read_bytes()
    assert not [name for name in said if f"\0{name}=".encode() in b"\0" + names]
    assert b"RCH_HOME=" in names


def test_relative_places_mean_the_same_to_the_daemon(cli: Cli) -> None:
    cli.env |= {"RCH_RCHD": STAND_IN, "RCH_HOME": "here", "RCH_SOCKET": "short"}
    cli.env["PYTHONPATH"] = str(Path(support.fake_daemon.__file__).parents[1])
    assert cli("status").returncode == 0
    assert (cli.home / "short").exists()
    assert (cli.home / "here" / "state" / "rchd.log").exists()
    assert cli("daemon", "stop").returncode == 0


def test_a_daemon_that_ends_at_once_has_its_last_words_shown(cli: Cli) -> None:
    cli.env |= {"RCH_RCHD": STAND_IN, "FAKE_DAEMON_FAIL": "rchd: state is newer\nthan this \x1b[31mversion"}
    cli.env["PYTHONPATH"] = str(Path(support.fake_daemon.__file__).parents[1])
    result = cli("status")
    log = host_paths(cli.environment).log
    assert result.returncode == 4
    assert result.stderr.splitlines() == [
        "  | rchd: state is newer",
        "  | than this version",
        "rchctl: the daemon ended at once with exit code 3",
        f"  hint: read {log}",
    ]


@pytest.mark.parametrize(("args", "env"), [(("--no-autostart",), {}), ((), {"RCH_NO_AUTOSTART": "1"})])
def test_without_autostart_a_missing_daemon_is_exit_4(
    cli: Cli, args: tuple[str, ...], env: dict[str, str]
) -> None:
    cli.env["RCH_RCHD"] = STAND_IN
    result = cli("verify", *args, **env)
    assert result.returncode == 4
    assert result.stderr.splitlines() == [
        f"rchctl: no daemon answers at {cli.socket} (No such file or directory)",
        "  hint: rchctl daemon start",
    ]
    assert starts(cli) == []


def test_daemon_status_never_starts_one(cli: Cli) -> None:
    cli.env["RCH_RCHD"] = STAND_IN
    assert cli("daemon", "status").returncode == 4
    assert starts(cli) == []


def test_daemon_start_and_stop_say_what_is(stub: Cli) -> None:
    begun = stub("daemon", "start", RCH_NO_AUTOSTART="1")
    pid = starts(stub)[0][0]
    assert (begun.returncode, f"pid {pid}" in begun.stdout) == (0, True)
    assert stub("daemon", "stop").stdout == "rchd stopped\n"
    assert is_free(host_paths(stub.environment).lock)
    again = stub("daemon", "stop")
    assert (again.returncode, again.stdout) == (0, "")
    assert "no daemon runs" in again.stderr


def test_a_daemon_that_is_still_ending_is_waited_for(stub: Cli) -> None:
    paths = host_paths(stub.environment)
    with FileLock(paths.lock, "an older daemon"):
        terminal = stub.start("status")
        lock = FileLock(paths.start_lock)
        while lock.try_acquire():  # until the client is about to start one
            lock.release()
        assert starts(stub) == []
    _, err = terminal.communicate(timeout=60)
    assert terminal.returncode == 0, err
    assert len(starts(stub)) == 1


def test_a_socket_path_that_is_too_long_is_refused(cli: Cli) -> None:
    result = cli("status", RCH_SOCKET="/tmp/" + "x" * 120)
    assert result.returncode == 4
    assert "set RCH_SOCKET or RCH_HOME to a shorter path" in result.stderr


@pytest.mark.spec("12")
def test_another_protocol_names_both_versions_and_the_cure(cli: Cli) -> None:
    with FakeDaemon(cli.socket, version="9.9.9", protocol=2):
        result = cli("verify")
    assert result.returncode == 4
    assert "rchctl 0.1.0 speaks protocol 1" in result.stderr
    assert "rchd 9.9.9" in result.stderr
    assert "  hint: rchctl daemon stop && rchctl daemon start\n" in result.stderr


def test_the_cure_works_across_versions(cli: Cli) -> None:
    with FakeDaemon(cli.socket, version="9.9.9", protocol=2) as daemon:
        terminal = cli.start("daemon", "stop")
        assert daemon.stopped.wait(20)
        daemon.close()
        assert terminal.communicate(timeout=60)[0] == "rchd stopped\n"


def test_another_version_of_the_same_protocol_is_noted(cli: Cli) -> None:
    with FakeDaemon(cli.socket, version="0.0.9"):
        result = cli("status", "--json")
    assert result.returncode == 0
    assert result.stderr == (
        "rchctl: note: rchd 0.0.9 is running, this is 0.1.0: rchctl daemon stop && rchctl daemon start\n"
    )


def test_a_daemon_that_cannot_be_started_gets_a_remedy_of_its_own(cli: Cli) -> None:
    assert "see that RCH_RCHD names a program" in cli("list", RCH_RCHD="/nonexistent").stderr
    (cli.home / "file").touch()
    done = cli("list", RCH_HOME=str(cli.home / "file"))
    assert done.returncode == 4
    assert "set RCH_HOME to a folder that can be written" in done.stderr


def test_a_daemon_that_listens_elsewhere_is_named(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(autostart, "START_SECONDS", 0.1)
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    paths = host_paths(cli.environment)
    paths.lock.parent.mkdir(parents=True)
    with FileLock(paths.lock, "rchd"):
        assert main(["list"]) == 4
    err = capfd.readouterr().err
    assert f"does not listen at {cli.socket}; was it started with another RCH_SOCKET?" in err
    assert str(os.getpid()) in err


def test_what_is_no_daemon_is_told_so(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.on("daemon.health", {"version": "9.0"})
    done = cli("daemon", "status")
    assert (done.returncode, done.stdout) == (4, "")
    assert f"what listens at {cli.socket} does not answer as rchd" in done.stderr

    def junk(_params: dict[str, Any], connection: Connection) -> dict[str, Any]:
        connection.sock.sendall(b"junk\n")
        return {}

    daemon.on("hello", junk)
    err = cli("daemon", "status").stderr
    assert "does not answer as rchd" in err
    assert "hint: rchctl daemon status" not in err


def test_a_daemon_that_hangs_is_told_with_its_pid_and_how_to_end_it(
    cli: Cli, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(autostart, "START_SECONDS", 0.1)
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    over = threading.Event()

    def hang(_params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        over.wait(60)
        return {}

    daemon.on("hello", hang)
    paths = host_paths(cli.environment)
    paths.lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.lock, "rchd"):
        assert main(["list"]) == 4
    over.set()
    err = capfd.readouterr().err
    assert f"did not answer within 0 s (pid {os.getpid()})" in err
    assert f"hint: if it stays so: kill {os.getpid()}" in err
