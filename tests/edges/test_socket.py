"""The Unix socket held to its word by clients of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest
from blockbuster import blockbuster_ctx
from support.local_socket import Client, client, request, serving, settle
from support.trees import as_nobody

from rch.contract.errors import Failure, Kind
from rch.contract.local_api import MAX_MESSAGE, RunEvent
from rch.contract.messages import MAX_HEADERS
from rchd.core.session import MAX_IN_FLIGHT, Call
from rchd.edges import socket as edge
from rchd.edges.listener import listening
from rchd.edges.socket import Connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


# --- the file -----------------------------------------------------------------------------


@pytest.mark.spec("12")
def test_the_socket_is_private_from_its_first_instant(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = socket.socket.listen

    def listen(sock: socket.socket, backlog: int) -> None:
        bound = Path(sock.getsockname())
        seen.append((stat.S_IMODE(bound.stat().st_mode), bound.name, path.exists()))
        real(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", listen)
    before = os.umask(0)
    try:
        with listening(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert seen == [(0o600, f".{os.getpid():x}", False)]


@pytest.mark.fault("H7")
async def test_a_stale_socket_is_replaced(path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    async with serving(path), client(path) as it:
        assert (await it.call("daemon.health"))["result"] == {"method": "daemon.health"}
    assert [entry.name for entry in path.parent.iterdir()] == ["s.lock"]


@pytest.mark.fault("H7")
def test_what_is_no_socket_is_never_replaced(path: Path) -> None:
    for make in (lambda: path.write_text("precious"), path.mkdir, lambda: path.symlink_to("elsewhere")):
        make()
        before = path.lstat().st_ino
        with pytest.raises(Failure, match="is there and is no socket") as refused, listening(path):
            pass
        assert refused.value.subkind == "SOCKET_PATH"
        assert path.lstat().st_ino == before
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.fault("H6")
def test_a_second_daemon_is_refused_and_the_first_goes_on(path: Path) -> None:
    with listening(path):
        inode = path.stat().st_ino
        with pytest.raises(Failure, match="another daemon listens") as refused, listening(path):
            pass
        assert refused.value.subkind == "ALREADY_RUNNING"
        assert path.stat().st_ino == inode
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))


@pytest.mark.spec("12")
def test_only_our_own_socket_is_removed_at_the_end(path: Path) -> None:
    with listening(path):
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.is_socket()
    other.close()


def test_the_socket_is_gone_after_a_failure_too(path: Path) -> None:
    with pytest.raises(RuntimeError), listening(path):
        raise RuntimeError
    assert not path.exists()
    with listening(path):
        pass


@pytest.mark.fault("H7")
def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o750)
    with pytest.raises(Failure, match="has mode 0750, 0700 is needed"), listening(folder / "s"):
        pass


@pytest.mark.fault("H7")
def test_a_folder_of_another_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    folder = tmp_path / "run"
    folder.mkdir(0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(Failure, match="belongs to uid 65534"), listening(folder / "s"):
        pass


@pytest.mark.fault("H7")
def test_a_path_too_long_is_refused_by_its_length(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="bytes with its closing NUL"), listening(tmp_path / ("x" * 120)):
        pass


# --- who may speak ------------------------------------------------------------------------


@pytest.mark.spec("12")
@pytest.mark.fault("C6")
async def test_another_user_is_refused_whatever_the_modes_say(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    calls = []

    async def note(call: Call, _connection: Connection) -> object:
        calls.append(call.method)
        return {}

    async with serving(path, note) as server:
        monkeypatch.chdir(path.parent)
        path.parent.chmod(0o711)
        path.chmod(0o666)  # noqa: ASYNC240  (a call that does not wait)
        with socket.socket(socket.AF_UNIX) as stranger:
            with as_nobody():
                stranger.connect("s")
            stranger.setblocking(False)
            with contextlib.suppress(OSError):
                stranger.send(request("daemon.health"))
            said = b"-"
            with contextlib.suppress(ConnectionResetError):
                said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(stranger, 100), 60)
        assert said in {b"", b"-"}
        assert not server.connections
        async with client(path):
            pass
    assert calls == ["hello"]


@pytest.mark.spec("12")
async def test_connections_are_capped_and_the_refusal_names_the_cap(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "MAX_CONNECTIONS", 2)
    async with serving(path), client(path), client(path), client(path, hello=False) as third:
        assert "over 2 connections" in (await third.read())["error"]["message"]
        assert await third.rest() == b""


async def test_fifty_clients_at_once_are_all_answered(path: Path) -> None:
    async with serving(path) as server:
        answers: list[dict[str, Any]] = []

        async def one(number: int) -> None:
            async with client(path) as it:
                answers.append(await it.call("daemon.health", None, number))

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, number)
        assert sorted(answer["id"] for answer in answers) == list(range(50))
        await settle(lambda: not server.connections)


async def test_the_loop_is_never_blocked_by_a_client(path: Path) -> None:
    async with serving(path):
        with blockbuster_ctx("rchd"):
            async with client(path) as it:
                for method in ("daemon.health", "rpc.describe", "nonsense"):
                    await it.call(method)
                it.send(b"nonsense\n")
                await it.rest()


# --- what is said -------------------------------------------------------------------------


@pytest.mark.spec("12")
async def test_hello_comes_first(path: Path) -> None:
    async with serving(path), client(path, hello=False) as it:
        assert "before hello" in (await it.call("runs.list"))["error"]["message"]
        await it.call("hello", {"client": "test", "version": "1"})
        assert (await it.call("runs.list"))["result"] == {"method": "runs.list"}


async def test_a_request_in_single_bytes_and_two_in_one_piece_are_the_same(path: Path) -> None:
    async with serving(path), client(path) as it:
        for byte in request("runs.list", {}, "slow"):
            it.send(bytes([byte]))
            await it.writer.drain()
        assert (await it.read())["id"] == "slow"
        it.send(request("runs.list", {}, "a") + request("workers.list", {}, "b"))
        assert {(await it.read())["id"], (await it.read())["id"]} == {"a", "b"}


async def test_a_notification_is_carried_out_and_not_answered(path: Path) -> None:
    calls = []

    async def note(call: Call, _connection: Connection) -> object:
        calls.append(call.method)
        return {}

    async with serving(path, note), client(path) as it:
        it.send(b'{"jsonrpc":"2.0","method":"workers.list"}\n')
        assert (await it.call("runs.list", {}, 5))["id"] == 5
    assert calls == ["hello", "workers.list", "runs.list"]


@pytest.mark.fault("C3")
@pytest.mark.parametrize(
    "hostile",
    [
        b"nonsense",
        b'{"jsonrpc":"2.0","id":NaN}',
        b'{"jsonrpc":"2.0","id":1,"id":2}',
        b"[" * 10_000,
        b"\xff\xfe\xfd",
        b"\xef\xbb\xbf{}",
        b'{"a":"\\ud800"}',
        b'{"jsonrpc":"2.0","id":1,"method":"hello"}\x00',
        b'{"a":"' + b"x" * MAX_MESSAGE + b'"}',
    ],
    ids=["text", "nan", "twice", "deep", "utf8", "bom", "surrogate", "nul", "oversize"],
)
async def test_hostile_bytes_are_answered_and_nothing_after_them_is_heard(
    path: Path, hostile: bytes
) -> None:
    calls = []

    async def note(call: Call, _connection: Connection) -> object:
        calls.append(call.method)
        return {}

    async with serving(path, note) as server, client(path) as it:
        it.send(hostile + b"\n" + request("runs.submit", {"start": "/"}))
        said = (await it.rest()).splitlines()
        assert len(said) == 1
        error = json.loads(said[0])["error"]
        assert error["data"]["exit_code"] == 2
        await settle(lambda: not server.connections)
        async with client(path):
            pass
    assert calls == ["hello", "hello"]


# --- the other framing --------------------------------------------------------------------


async def framed_answer(it: Client) -> dict[str, Any]:
    """The next message, which has a header block."""
    head = await asyncio.wait_for(it.reader.readuntil(b"\r\n\r\n"), 10)
    name, _, length = head.strip().partition(b": ")
    assert name == b"Content-Length"
    answer: dict[str, Any] = json.loads(await it.reader.readexactly(int(length)))
    return answer


def framed(method: str, params: object = None, call_id: object = 1) -> bytes:
    body = request(method, params, call_id).strip()
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.spec("12")
async def test_a_message_is_answered_in_its_kind(path: Path) -> None:
    async with serving(path), client(path, hello=False) as it:
        it.send(framed("hello", {"client": "editor", "version": "1"}))
        assert (await framed_answer(it))["result"] == {"method": "hello"}
        assert (await it.call("runs.list", {}, 2))["id"] == 2
        it.send(framed("nonsense", {}, 3))
        assert (await framed_answer(it))["error"]["code"] == -32601
        for byte in framed("runs.list", {}, 4):
            it.send(bytes([byte]))
            await it.writer.drain()
        assert (await framed_answer(it))["id"] == 4


@pytest.mark.spec("12")
async def test_answers_out_of_turn_and_news_keep_to_the_kind_of_their_asker(path: Path) -> None:
    hold = anyio.Event()
    connections = []

    async def answer(call: Call, connection: Connection) -> object:
        connections.append(connection)
        if call.method == "runs.list":
            await hold.wait()
        return {}

    async with serving(path, answer), client(path) as it:
        it.send(request("runs.list", {}, "line") + framed("workers.list", {}, "framed"))
        assert (await framed_answer(it))["id"] == "framed"
        news = RunEvent(subscription=1, seq=7, type="heartbeat", run_id=None, at="")
        connections[-1].tell(news)
        assert (await framed_answer(it))["params"]["seq"] == 7
        hold.set()
        assert (await it.read())["id"] == "line"


@pytest.mark.spec("12")
@pytest.mark.fault("C3")
@pytest.mark.parametrize(
    "hostile",
    [
        b"Content-Length: 100\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: %d\r\n\r\n" % (MAX_MESSAGE + 1),
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Length: 4\r\n\r\nnull",
        b"C" * (MAX_HEADERS + 1),
    ],
    ids=["cut", "negative", "oversize", "twice", "no object", "endless"],
)
async def test_hostile_header_blocks_are_answered_in_kind_and_nothing_after_them_is_heard(
    path: Path, hostile: bytes
) -> None:
    async with serving(path) as server, client(path) as it:
        it.send(hostile + request("runs.submit", {"start": "/"}))
        answer = await framed_answer(it)
        assert (answer["id"], answer["error"]["data"]["exit_code"]) == (None, 2)
        assert await it.rest() == b""
        await settle(lambda: not server.connections)


@pytest.mark.spec("12")
@pytest.mark.fault("C1")
@pytest.mark.parametrize(
    "sent", [b"Content-Le", b"Content-Length: 2\r\n\r\n", b"Content-Length: 2\r\n\r\n{"]
)
async def test_half_a_framed_message_has_the_same_deadline(
    path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(edge, "HALF_LINE_SECONDS", 0.2)
    async with serving(path), client(path) as it:
        it.send(sent)
        assert "a message was not ended" in (await framed_answer(it))["error"]["message"]
        assert await it.rest() == b""


@pytest.mark.fault("C3")
async def test_a_line_without_an_end_is_refused_at_the_limit_and_not_kept(path: Path) -> None:
    async with serving(path), client(path) as it:
        it.send(b"x" * (MAX_MESSAGE + 1))
        assert f"a line is over {MAX_MESSAGE} bytes".encode() in await it.rest()


@pytest.mark.fault("C3")
@pytest.mark.parametrize("call_id", [10**30, 1.5, "x" * 1000])
async def test_an_id_that_cannot_be_said_back_ends_neither_line_nor_daemon(
    path: Path, call_id: object
) -> None:
    async with serving(path), client(path) as it:
        assert (await it.call("runs.list", {}, call_id))["error"]["code"] == -32600
        assert (await it.call("runs.list", {}, 2))["id"] == 2


async def test_a_defect_in_one_call_is_told_on_one_line_and_ends_nothing(path: Path) -> None:
    async def broken(call: Call, _connection: Connection) -> object:
        if call.method == "runs.list":
            raise ZeroDivisionError("first\nsecond")
        if call.method == "workers.list":
            return object()
        raise Failure(Kind.CONFIG, "no such key", subkind="UNKNOWN_KEY")

    async with serving(path, broken), client(path, hello=False) as it:
        assert (await it.call("hello", {"client": "a", "version": "1"}))["error"]["data"]["exit_code"] == 3
        error = (await it.call("runs.list"))["error"]
        assert (error["code"], error["message"]) == (-32603, "runs.list failed: first second")
        assert (await it.call("workers.list"))["error"]["data"]["kind"] == "INTERNAL"


@pytest.mark.spec("12")
async def test_too_many_requests_in_flight_are_refused_and_the_others_answered(path: Path) -> None:
    gate = anyio.Event()

    async def wait(call: Call, _connection: Connection) -> object:
        if call.method != "hello":
            await gate.wait()
        return {}

    async with serving(path, wait), client(path) as it:
        for number in range(MAX_IN_FLIGHT + 3):
            it.send(request("daemon.health", {}, number))
        early = [await it.read() for _ in range(3)]
        assert all(f"over {MAX_IN_FLIGHT} requests" in answer["error"]["message"] for answer in early)
        gate.set()
        late = [await it.read() for _ in range(MAX_IN_FLIGHT)]
        assert sorted(answer["id"] for answer in late) == list(range(MAX_IN_FLIGHT))
