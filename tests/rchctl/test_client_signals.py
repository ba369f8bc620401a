"""What SIGINT and SIGTERM do to a verb that owns a run (spec section 4)."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, Connection, FakeDaemon

from rch.contract.errors import Failure, Kind
from rchctl import live
from rchctl.__main__ import main
from rchctl.signals import Guard, Interrupted, owes, window


def watched(cli: Cli, daemon: FakeDaemon, *args: str) -> subprocess.Popen[str]:
    process = cli.start(*args)
    daemon.wait_for_watcher()
    return process


@pytest.mark.spec("4")
@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "USER"), (signal.SIGTERM, "SIGNAL")])
def test_the_first_signal_cancels_the_run_and_exits_80(
    cli: Cli, daemon: FakeDaemon, number: int, reason: str
) -> None:
    process = watched(cli, daemon, "verify")
    process.send_signal(number)
    assert daemon.wait_for("runs.cancel") == {"run": RUN_ID, "reason": reason}
    _, err = process.communicate(timeout=60)
    assert process.returncode == 80
    assert f"rchctl wait {RUN_ID}" in err


def test_the_envelope_tells_of_the_cancel(cli: Cli, daemon: FakeDaemon) -> None:
    process = watched(cli, daemon, "verify", "--json")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    said = json.loads(out)
    assert (said["ok"], said["exit_code"], said["error"]["kind"]) == (False, 80, "CANCELLED")
    assert said["data"]["run_id"] == RUN_ID


@pytest.mark.spec("4")
def test_the_second_signal_exits_at_once(cli: Cli, daemon: FakeDaemon) -> None:
    held = threading.Event()

    def never(_params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        held.wait(20)
        return {}

    daemon.on("runs.cancel", never)
    process = watched(cli, daemon, "verify")
    process.send_signal(signal.SIGINT)
    daemon.wait_for("runs.cancel")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    held.set()
    assert process.returncode == 80
    assert time.monotonic() - begun < 15  # and not the time that the daemon takes


def test_a_signal_while_the_source_is_taken_cancels_what_comes_of_it(cli: Cli, daemon: FakeDaemon) -> None:
    interrupted = threading.Event()

    def slow(_params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        interrupted.wait(20)
        return dict(daemon.runs[RUN_ID])

    daemon.on("runs.submit", slow)
    process = cli.start("verify")
    daemon.wait_for("runs.submit")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "rchctl: cancelling the run; once more to leave at once\n"
    interrupted.set()
    daemon.wait_for("runs.cancel")
    process.communicate(timeout=60)
    assert process.returncode == 80
    assert daemon.count("runs.submit") == 1


def test_a_cancel_that_is_refused_is_told_and_still_80(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.on("runs.cancel", Failure(Kind.INTERNAL, "state cannot be written"))
    process = watched(cli, daemon, "verify")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 80
    assert "the daemon refused to end it: state cannot be written" in err
    assert f"hint: rchctl cancel {RUN_ID}" in err


def test_a_cancel_without_a_daemon_ends_in_ten_seconds(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "ACKNOWLEDGE_SECONDS", 0.3)
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    with FakeDaemon(cli.socket) as daemon:

        def leave(_params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
            threading.Thread(target=daemon.close).start()
            daemon.stopped.wait(0.2)
            return {}

        daemon.on("runs.cancel", leave)

        def interrupt() -> None:
            daemon.wait_for_watcher()
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        assert main(["verify", "--no-autostart"]) == 80
    assert "the daemon did not acknowledge it" in capfd.readouterr().err


def test_a_cancel_outlives_a_broken_connection(cli: Cli, daemon: FakeDaemon) -> None:
    dropped = threading.Event()

    def drop_once(params: dict[str, Any], connection: Connection) -> dict[str, Any]:
        if not dropped.is_set():
            dropped.set()
            connection.sock.shutdown(2)
            return {}
        return dict(daemon._runs_cancel(params, connection))

    daemon.on("runs.cancel", drop_once)
    process = watched(cli, daemon, "verify")
    process.send_signal(signal.SIGTERM)
    daemon.wait_for("runs.cancel", times=2)
    process.communicate(timeout=60)
    assert process.returncode == 80


def test_ctrl_c_leaves_a_run_alone_that_is_only_waited_for(cli: Cli, daemon: FakeDaemon) -> None:
    process = watched(cli, daemon, "wait", "latest")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert daemon.count("runs.cancel") == 0


def test_ctrl_c_while_the_program_is_read_is_no_traceback(cli: Cli, tmp_path: Path) -> None:
    slow = tmp_path / "json.py"  # it is imported first, and tells that it is
    slow.write_text("import sys, time\nsys.stdout.write('here\\n'); sys.stdout.flush()\ntime.sleep(20)\n")
    process = cli.start("list", PYTHONPATH=str(tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (-signal.SIGINT, "")


@pytest.mark.spec("4")
def test_a_second_signal_on_the_way_out_exits_80_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    with pytest.raises(Interrupted), Guard(), window():
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert left == [80]


def test_a_guard_that_saw_no_signal_leaves_none_behind() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Guard():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.spec("4")
def test_ctrl_c_before_the_run_is_sent_says_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "getcwd", interrupted)
    assert main(["verify"]) == 80
    assert "interrupted before a run was submitted" in capfd.readouterr().err
    assert main(["verify", "--detach"]) == 130


@pytest.mark.spec("4")
def test_a_signal_before_the_answer_asks_for_the_end_by_the_token(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.features = ["cancel_token"]
    asked = threading.Event()

    def slow(_params: dict[str, Any], connection: Connection) -> dict[str, Any]:
        # The cancel is the next line of the same connection, which is read by nobody meanwhile.
        asked.set()
        seen.put(connection.sock.recv(1 << 16))
        raise Failure(Kind.CANCELLED, "cancelled before the source was taken")

    seen: queue.Queue[bytes] = queue.Queue()
    daemon.on("runs.submit", slow)
    process = cli.start("verify", "--client-token", "mine")
    daemon.wait_for("runs.submit")
    assert asked.wait(20)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    assert process.stderr.readline() == "rchctl: cancelling the run; once more to leave at once\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 80
    process.communicate(timeout=60)
    request = json.loads(seen.get(timeout=20))
    assert (request["method"], request["params"]) == (
        "runs.cancel",
        {"client_token": "mine", "reason": "SIGNAL"},
    )


def test_the_end_of_a_run_that_was_never_accepted_is_told(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.features = ["cancel_token"]
    interrupted = threading.Event()

    def slow(_params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        interrupted.wait(20)
        raise Failure(Kind.CANCELLED, "cancelled before the source was taken")

    daemon.on("runs.submit", slow)
    daemon.on("runs.cancel", Failure(Kind.CANCELLED, "no run was accepted"))
    process = cli.start("verify")
    daemon.wait_for("runs.submit")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    process.stderr.readline()
    interrupted.set()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 80
    assert err.startswith("rchctl: interrupted before a run was accepted\n")


@pytest.mark.spec("4")
def test_a_second_signal_waits_for_the_cancel_that_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    with Guard() as guard:
        owes(cancel=True)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert left == []
        with pytest.raises(Interrupted), window():
            pass
        guard.owes(cancel=False)
        assert left == [80]


@pytest.mark.spec("4")
def test_a_second_signal_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    with Guard():
        owes(cancel=True)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 20
        while not left and time.monotonic() < deadline:
            time.sleep(0.01)
    assert left == [80]


@pytest.mark.spec("4")
def test_a_storm_of_signals_exits_80(cli: Cli, daemon: FakeDaemon) -> None:
    """Also one that goes on while the interpreter takes itself down."""
    slow = cli.home / "sitecustomize.py"
    slow.write_text("import atexit, time\natexit.register(time.sleep, 0.3)\n")
    process = cli.start("verify", PYTHONPATH=str(cli.home))
    daemon.wait_for_watcher()
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.0005)
    process.communicate(timeout=60)
    assert process.returncode == 80


@pytest.mark.spec("4")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_there_is_a_daemon_exits_80(
    number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> str:
        os.kill(os.getpid(), number)
        raise AssertionError

    before = signal.getsignal(number)
    monkeypatch.setattr(os, "getcwd", interrupted)
    assert main(["verify"]) == 80
    assert "interrupted before a run was submitted" in capfd.readouterr().err
    assert signal.getsignal(number) is before


@pytest.mark.spec("4")
def test_a_signal_after_the_last_word_leaves_the_exit_code_alone(cli: Cli, daemon: FakeDaemon) -> None:
    late = cli.home / "sitecustomize.py"
    late.write_text(
        "import atexit, os, signal\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
    )
    daemon.on("runs.submit", Failure(Kind.WORKER_BUSY, "no worker is free"))
    done = cli("verify", PYTHONPATH=str(cli.home))
    assert done.returncode == 90
