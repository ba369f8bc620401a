"""The daemon as a service manager starts it: with its socket, its notes and its stop."""

from __future__ import annotations

import queue
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.lab import Lab, lab
from support.until import until

# Takes descriptor 3 from its parent, as systemd hands it over.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "rchd", "run"])
"""


@contextmanager
def manager(user: Lab) -> Iterator[tuple[socket.socket, queue.SimpleQueue[str]]]:
    """What a manager has: the socket where the daemon is to listen, and what the daemon says to it."""
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    user.socket.parent.chmod(0o700)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notes,
    ):
        held.bind(str(user.socket))
        user.socket.chmod(0o600)
        held.listen()
        notes.bind(str(user.socket.with_name("n")))
        # It reads at once, as a manager does: few notes fit into the kernel's queue.
        reader = threading.Thread(target=read, args=(notes, said))
        reader.start()
        try:
            yield held, said
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"", str(user.socket.with_name("n")))
            reader.join()


def read(notes: socket.socket, said: queue.SimpleQueue[str]) -> None:
    while note := notes.recv(4096):
        said.put(note.decode())


def start(user: Lab, held: socket.socket) -> subprocess.Popen[bytes]:
    env = {
        **user.env,
        "LISTEN_FDS": "1",
        "NOTIFY_SOCKET": str(user.socket.with_name("n")),
        "WATCHDOG_USEC": "400000",
    }
    words = [sys.executable, "-c", _START, str(held.fileno())]
    with (user.root / "log").open("wb") as log:
        return subprocess.Popen(words, env=env, pass_fds=[held.fileno()], stdout=log, stderr=log)


@pytest.mark.spec("12")
def test_a_managers_socket_is_served_told_of_and_left_where_it_was(tmp_path: Path) -> None:
    with lab(tmp_path) as user, manager(user) as (held, notes):
        process = start(user, held)
        try:
            first = notes.get(timeout=60)
            assert first == "READY=1\nSTATUS=ready: 0 running, 0 queued", (user.root / "log").read_text()
            assert notes.get(timeout=60).startswith("WATCHDOG=1\nSTATUS=ready")
            status = user.json("daemon", "status")["data"]
            assert (status["pid"], status["supervisor"]) == (process.pid, "systemd")
            assert status["unit"].endswith(".service")
            ended = user.json("verify", cwd=user.project())
            assert ended["data"]["state"] == "SUCCEEDED"
        finally:
            process.terminate()
            assert process.wait(30) == 0
        while (said := notes.get(timeout=60)).startswith("WATCHDOG=1"):
            pass
        assert said == "STOPPING=1"
        assert user.socket.is_socket()
        user.socket.unlink()  # the manager's own to do


@pytest.mark.spec("12")
@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="it is not installed")
def test_the_first_client_has_systemd_start_the_daemon(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        user.socket.parent.chmod(0o700)
        tool = shutil.which("systemd-socket-activate")
        words = [str(tool), f"--listen={user.socket}"]
        words += [f"--setenv={name}" for name in user.env]
        with (user.root / "log").open("wb") as log:
            process = subprocess.Popen(
                [*words, sys.executable, "-m", "rchd", "run"], env=user.env, stdout=log, stderr=log
            )
        try:
            until(lambda: "Listening on" in (user.root / "log").read_text())
            user.socket.chmod(0o600)  # as SocketMode= does
            done = user.rchctl("daemon", "status", "--json")
            assert done.returncode == 0, (user.root / "log").read_text()
            assert user.daemon_pid == process.pid
        finally:
            process.terminate()
            process.wait(30)
