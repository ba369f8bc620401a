"""What a service manager gives and is told: datagrams, the watchdog, a socket that it holds."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from rch.contract.errors import Failure
from rchd.edges.listener import listening
from rchd.edges.service import FIRST_FD, Service


@pytest.fixture(name="folder")
def fixture_folder() -> Iterator[Path]:
    """A short one, 0700, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="rch-") as short:
        yield Path(short)


@pytest.fixture(name="manager")
def fixture_manager(folder: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(folder / "notify"))
        sock.settimeout(10)
        yield sock


class Loop:
    """Turns when it is nudged, as long as it `lives`."""

    def __init__(self) -> None:
        self.turns = 0
        self.lives = True
        self.nudges = 0

    def nudge(self) -> None:
        self.nudges += 1
        self.turns += self.lives


def listening_socket(path: Path, mode: int = 0o600) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(mode)
    sock.listen()
    return sock


def given(sock: socket.socket) -> Service:
    """A service that was handed a copy of `sock`."""
    return Service(sockets={os.dup(sock.fileno()): "rchd.socket"})


@pytest.mark.spec("12")
def test_what_the_manager_says_is_taken_out_of_the_environment(folder: Path) -> None:
    env = {
        "NOTIFY_SOCKET": str(folder / "notify"),
        "WATCHDOG_USEC": "2000000",
        "WATCHDOG_PID": str(os.getpid()),
        "LISTEN_PID": str(os.getpid() + 1),
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "rchd.socket",
        "PATH": "/bin",
    }
    service = Service.from_env(env)
    assert env == {"PATH": "/bin"}
    assert (service.kind, service.watchdog_seconds) == ("systemd", 2.0)
    assert service.unit.endswith(".service")
    assert service.socket_at(folder / "s") is None  # the descriptors were another process's


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    assert Service.from_env({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}).watchdog_seconds == 0
    assert Service.from_env({"WATCHDOG_USEC": "soon"}).watchdog_seconds == 0


def test_who_was_started_by_nobody_tells_nobody() -> None:
    service = Service.from_env({})
    service.tell(READY=1)
    assert (service.kind, service.unit) == ("", "")


def test_launchd_is_known_by_the_label_of_the_agent() -> None:
    service = Service.from_env({"XPC_SERVICE_NAME": "dev.rch.rchd"})
    assert (service.kind, service.unit) == ("launchd", "dev.rch.rchd")
    assert Service.from_env({"XPC_SERVICE_NAME": "com.apple.Terminal"}).kind == ""


def test_news_is_one_datagram_of_lines(folder: Path, manager: socket.socket) -> None:
    Service(notify=str(folder / "notify")).tell(READY=1, STATUS="one\nline")
    assert manager.recv(4096) == b"READY=1\nSTATUS=one line"


def test_who_waits_for_a_slow_manager_waits_no_longer_than_said(folder: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(folder / "notify"))
        service = Service(notify=str(folder / "notify"))
        for _ in range(2000):  # more than any queue takes, and nobody reads
            service.tell(WATCHDOG=1)
        service.tell(patience=0.01, STOPPING=1)
        reader = threading.Timer(0.05, sock.recv, (4096,))
        reader.start()
        service.tell(patience=30, STOPPING=1)
        reader.join()
        drained = everything(sock)
    assert drained[-1] == b"STOPPING=1"
    assert b"STOPPING=1" not in drained[:-1]


def everything(sock: socket.socket) -> list[bytes]:
    """All datagrams that wait in a socket."""
    found: list[bytes] = []
    sock.setblocking(False)
    try:
        while True:
            found.append(sock.recv(4096))
    except BlockingIOError:
        return found


def test_a_manager_that_has_left_is_no_matter(folder: Path) -> None:
    Service(notify=str(folder / "nobody")).tell(READY=1)


def test_a_name_without_a_file_is_reached() -> None:
    name = f"rch-test-{os.getpid()}-{os.urandom(4).hex()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(10)
        Service(notify=f"@{name}").tell(READY=1)
        assert sock.recv(100) == b"READY=1"


@pytest.mark.spec("12")
async def test_the_watchdog_is_fed_while_the_loop_turns_and_no_longer(
    folder: Path, manager: socket.socket
) -> None:
    manager.setblocking(False)
    service = Service(notify=str(folder / "notify"), watchdog_seconds=0.02)
    loop = Loop()

    async def nudged(times: int) -> None:
        until = loop.nudges + times
        while loop.nudges < until:  # noqa: ASYNC110  (it is nudged, and tells nobody)
            await anyio.sleep(0.002)

    async with anyio.create_task_group() as group:
        group.start_soon(service.tend, loop, lambda: "ready")
        with anyio.fail_after(10):
            said = await asyncio.get_running_loop().sock_recv(manager, 4096)
            assert said == b"WATCHDOG=1\nSTATUS=ready"
            loop.lives = False
            await nudged(2)  # what was on its way is sent by then
            everything(manager)
            await nudged(3)
            assert everything(manager) == []
            loop.lives = True
            assert await asyncio.get_running_loop().sock_recv(manager, 4096)
        group.cancel_scope.cancel()


@pytest.mark.spec("12")
def test_the_socket_that_the_manager_holds_is_used_and_stays(folder: Path) -> None:
    path = folder / "s"
    with closing(listening_socket(path)) as held:
        sock = given(held).socket_at(path)
        assert sock is not None
        assert not os.get_inheritable(sock.fileno())
        with listening(path, sock) as listener:
            assert not listener.is_lost()
            with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
                client.connect(str(path))
                listener.sock.accept()[0].close()
        assert path.is_socket()
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
            client.connect(str(path))  # it waits in the manager's queue


def test_a_name_that_the_manager_lost_is_ours_from_then_on(folder: Path) -> None:
    path = folder / "s"
    with closing(listening_socket(path)) as held:
        with listening(path, given(held).socket_at(path)) as listener:
            path.unlink()
            assert listener.is_lost()
            with closing(listener.renew()) as fresh:
                assert fresh.getsockname() != ""
                assert not listener.is_lost()
        assert not path.exists()


def _tcp(_path: Path) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _deaf(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o600)
    return sock


def _datagram(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    return sock


@pytest.mark.spec("12")
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_tcp, "is no stream socket of this machine"),
        (_datagram, "is no stream socket of this machine"),
        (_deaf, "does not listen"),
        (lambda path: listening_socket(path.with_name("t")), "listens at"),
        (lambda path: listening_socket(path, 0o666), "has mode 0666, 0600 is needed"),
    ],
)
def test_a_socket_that_would_let_in_others_or_nobody_is_refused(
    folder: Path, make: Callable[[Path], socket.socket], why: str
) -> None:
    path = folder / "s"
    with closing(make(path)) as held:
        service = given(held)
        with pytest.raises(Failure, match=why) as caught:
            service.socket_at(path)
    assert caught.value.subkind == "SOCKET_PATH"
    assert caught.value.hint is not None
    assert f"ListenStream={path}" in caught.value.hint


def test_what_is_no_socket_and_what_comes_twice_is_refused(folder: Path) -> None:
    path = folder / "s"
    file = os.open(folder / "file", os.O_CREAT | os.O_RDWR, 0o600)
    with pytest.raises(Failure, match=r"\(x\) is no socket"):
        Service(sockets={file: "x"}).socket_at(path)
    with closing(listening_socket(path)) as held:
        twice = Service(sockets={os.dup(held.fileno()): "a", os.dup(held.fileno()): "b"})
        with pytest.raises(Failure, match="is given twice"):
            twice.socket_at(path)


def test_the_first_descriptor_is_the_third() -> None:
    assert FIRST_FD == 3
