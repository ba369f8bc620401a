"""A daemon that runs short: of descriptors, of processes; and one whose folders lie on another machine."""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from support.lab import Lab, lab, run_files
from support.until import until, waiting_project

from rch.contract.errors import Failure, Kind
from rchd.core.session import Call
from rchd.edges import local
from rchd.edges.listener import listening
from rchd.edges.local import LocalTransport
from rchd.edges.socket import Connection, Server

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc and changes another one's limits")

_ODD_DAEMON = """
import sys
from pathlib import Path
{patch}
from rchd.__main__ import main
main()
"""
_ON_NFS = """
from rch.files import filesystems
real = filesystems._statfs
def statfs(folder):
    return (0x6969).to_bytes(8, sys.byteorder) if Path(folder) == Path({folder!r}) else real(folder)
filesystems._statfs = statfs
"""
_NO_LOCKS = """
import errno, fcntl
def flock(fd, how):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
"""
_NO_PROCESSES = """
import errno
from rchd.edges.local import LocalTransport
from rchd.edges.socket import Connection, Server
real = LocalTransport._start
async def start(transport):
    if Path({flag!r}).exists():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    return await real(transport)
LocalTransport._start = start
"""


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def odd_daemon(user: Lab, patch: str) -> None:
    """Let `rchctl` start a daemon to which something happens."""
    script = user.root / "odd.py"
    script.write_text(_ODD_DAEMON.format(patch=patch))
    user.env["RCH_RCHD"] = shlex.join([sys.executable, str(script)])


# --- folders on another machine -----------------------------------------------------------


@pytest.mark.fault("H6")
@pytest.mark.spec("12")
@linux
def test_a_state_directory_on_nfs_is_refused_by_name_with_a_way_out(user: Lab) -> None:
    state = user.home / "state"
    odd_daemon(user, _ON_NFS.format(folder=str(state)))
    refused = user.rchctl("daemon", "start")
    assert refused.returncode == 4
    assert f"the state directory {state} is on a network file system (nfs)" in refused.stderr
    assert "hint: set RCH_HOME to a folder on a disk of this machine" in refused.stderr
    assert not (state / "rchd.db").exists()


@pytest.mark.fault("H6")
@pytest.mark.spec("12")
@linux
def test_a_socket_on_nfs_is_refused_and_leaves_nothing_there(user: Lab) -> None:
    odd_daemon(user, _ON_NFS.format(folder=str(user.socket.parent)))
    refused = user.rchctl("daemon", "start")
    assert refused.returncode == 4
    assert f"the socket's folder {user.socket.parent} is on a network file system (nfs)" in refused.stderr
    assert "set RCH_SOCKET to" in refused.stderr
    assert not user.socket.exists()


@pytest.mark.fault("H6")
@pytest.mark.spec("12")
def test_a_file_system_that_answers_no_locks_is_refused(user: Lab) -> None:
    odd_daemon(user, _NO_LOCKS)
    refused = user.rchctl("daemon", "start")
    assert refused.returncode == 4
    assert "rchd.lock cannot be locked: its file system has no locks" in refused.stderr


# --- descriptors --------------------------------------------------------------------------


@contextmanager
def connected(user: Lab) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        sock.settimeout(30)
        sock.connect(str(user.socket))
        yield sock


def health(sock: socket.socket) -> dict[str, Any]:
    """The daemon's health, asked without a greeting."""
    sock.sendall(b'{"jsonrpc":"2.0","id":1,"method":"daemon.health","params":{}}\n')
    return line(sock)


def line(sock: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        piece = sock.recv(65536)
        assert piece, "it hung up without a word"
        data += piece
    said: dict[str, Any] = json.loads(data)
    return said


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def fill_the_gaps(user: Lab, pid: int, stack: ExitStack) -> int:
    """Connect until each number below the highest is taken; that number + 1."""
    while True:
        numbers = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
        if numbers == set(range(max(numbers) + 1)):
            return max(numbers) + 1
        health(stack.enter_context(connected(user)))


@pytest.mark.fault("H13")
@linux
def test_without_descriptors_it_sends_clients_away_in_words_and_takes_them_again(user: Lab) -> None:
    user.rchctl("daemon", "start")
    pid = user.daemon_pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    assert limits[0] >= min(limits[1], 8192)
    with ExitStack() as idle, connected(user) as before:
        assert "result" in health(before)
        full = fill_the_gaps(user, pid, idle)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (full, limits[1]))
        used, began = cpu_seconds(pid), time.monotonic()
        for _ in range(3):
            with connected(user) as late:
                said = line(late)
                assert "no file descriptor left" in said["error"]["message"]
                assert said["error"]["data"]["exit_code"] == 4
        client = user.rchctl("daemon", "status")
        assert (client.returncode, "no file descriptor left" in client.stderr) == (4, True), client.stderr
        assert health(before)["result"]["status"] == "ok"
        assert not select.select([before], [], [], 1.5)[0]
        assert cpu_seconds(pid) - used < (time.monotonic() - began) / 2
    until(lambda: user.rchctl("daemon", "status").returncode == 0)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert user.json("verify", cwd=user.project())["exit_code"] == 0
    assert user.daemon_pid == pid


@pytest.mark.fault("H13")
@linux
def test_idle_clients_leave_descriptors_for_the_work(user: Lab) -> None:
    few = f'ulimit -n 96 && exec {shlex.quote(sys.executable)} -m rchd "$@"'
    user.env["RCH_RCHD"] = shlex.join(["sh", "-c", few, "sh"])
    user.rchctl("daemon", "start")
    with ExitStack() as idle:
        for _ in range(48):
            assert "result" in health(idle.enter_context(connected(user)))
        with connected(user) as late:
            assert "over 48 connections" in line(late)["error"]["message"]
        run = user.rchctl("verify", cwd=user.project())
        assert (run.returncode, "over 48 connections" in run.stderr) == (4, True), run.stderr
        idle.pop_all().close()
    until(lambda: user.rchctl("daemon", "status").returncode == 0)
    assert user.rchctl("verify", cwd=user.root / "project").returncode == 0


@pytest.mark.fault("H13")
def test_a_small_soft_limit_is_raised_to_what_is_allowed() -> None:
    script = (
        "import resource; from rchd.edges.process import raise_descriptors;"
        "print(raise_descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    for soft, hard, then in ((256, 1000, "1000 1000"), (512, 512, "512 512")):
        shell = (
            f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec {shlex.join([sys.executable, '-c', script])}"
        )
        done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == then


@pytest.mark.fault("H13")
@linux
def test_a_run_at_its_worker_outlives_a_lack_of_descriptors(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    pid, log = user.daemon_pid, user.home / "state" / "rchd.log"
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with ExitStack() as idle:
        full = fill_the_gaps(user, pid, idle)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (full, limits[1]))
        gate.touch()
        until(lambda: "effect.waits" in log.read_text())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert user.rchctl("wait", run_id).returncode == 0
    files = run_files(Path(user.json("status", run_id)["data"]["run_dir"]))
    assert files["build/build_log"].read_text() == files["build/live_log_path"].read_text()
    assert user.daemon_pid == pid


@pytest.mark.fault("H13")
async def test_a_call_that_lacked_descriptors_may_be_made_again(tmp_path: Path) -> None:
    async def answer(_call: Call, _connection: Connection) -> object:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "somewhere")

    def ask() -> dict[str, Any]:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
            sock.settimeout(30)
            sock.connect(str(path))
            return health(sock)

    path = tmp_path / "own" / "s"
    with listening(path) as listener:
        async with anyio.create_task_group() as group:
            ready = anyio.Event()
            group.start_soon(Server(group, answer).serve, listener, ready.set)
            await ready.wait()
            refused = (await anyio.to_thread.run_sync(ask))["error"]
            group.cancel_scope.cancel()
    assert refused["data"]["exit_code"] == 4
    assert "Too many open files" in refused["message"]


# --- processes ----------------------------------------------------------------------------


@pytest.mark.fault("H13")
def test_a_run_waits_for_a_process_to_be_had(user: Lab) -> None:
    flag = user.root / "no-processes"
    flag.touch()
    odd_daemon(user, _NO_PROCESSES.format(flag=str(flag)))
    client = user.start("verify", "--json", cwd=user.project())
    log = user.home / "state" / "rchd.log"
    until(lambda: log.exists() and "worker.not_started" in log.read_text())
    pid = user.daemon_pid
    flag.unlink()
    out, err = client.communicate(timeout=60)
    assert (client.returncode, json.loads(out)["data"]["state"]) == (0, "SUCCEEDED"), err
    assert user.daemon_pid == pid


@pytest.mark.fault("H13")
async def test_no_process_to_be_had_for_long_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = []

    async def start(_transport: LocalTransport) -> local.LocalChannel:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("can't start new thread")
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(LocalTransport, "_start", start)
    monkeypatch.setattr(local, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(local, "FIRST_PAUSE_SECONDS", 0.01)
    with pytest.raises(Failure) as told:
        await LocalTransport(("worker",)).open()
    assert (told.value.kind, told.value.subkind) == (Kind.SSH, "UNREACHABLE")
    assert os.strerror(errno.EAGAIN) in told.value.message
    assert "ulimit -u" in told.value.hint
    assert 3 <= len(tries) <= 10


@pytest.mark.fault("H13")
async def test_a_command_that_is_not_there_is_not_waited_for() -> None:
    with pytest.raises(Failure) as told:
        await LocalTransport(("/not/there",)).open()
    assert "ulimit" not in told.value.hint
