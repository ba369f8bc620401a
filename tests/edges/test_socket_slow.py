"""The Unix socket and clients that are slow, silent or gone."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.local_socket import client, request, serving, settle

from rch.contract.errors import Failure
from rch.contract.local_api import RunEvent
from rchd.core.session import MAX_IN_FLIGHT, Call
from rchd.edges import socket as edge
from rchd.edges.listener import listening
from rchd.edges.socket import Connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.mark.spec("12")
@pytest.mark.fault("C1")
async def test_a_half_line_has_a_deadline_that_more_bytes_do_not_move(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "HALF_LINE_SECONDS", 100.0)
    loop = asyncio.get_running_loop()
    clock, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: clock() + ahead)
    async with serving(path) as server, client(path) as it:
        (connection,) = server.connections
        began = loop.time()
        for had, byte in enumerate(request("runs.list")[:3]):
            it.send(bytes([byte]))
            await settle(lambda had=had: connection._reader.pending > had)  # type: ignore[misc]
            ahead += 40.0
        assert b"a message was not ended within 100 s" in await it.rest()
        assert loop.time() - began < 170, "the last piece would have moved it to 180"


@pytest.mark.fault("C1")
async def test_whole_lines_one_after_the_other_have_no_deadline(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece ends one line and begins the next: none of them is late."""
    loop = asyncio.get_running_loop()
    clock, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: clock() + ahead)
    async with serving(path), client(path) as it:
        said = request("runs.list")
        it.send(said[:5])
        for _ in range(10):
            it.send(said[5:] + said[:5])
            assert "result" in await it.read()
            ahead += edge.HALF_LINE_SECONDS / 3
            await asyncio.sleep(0)
        it.send(said[5:])
        await it.read()


@pytest.mark.fault("C1")
async def test_many_slow_clients_do_not_hold_up_a_good_one(path: Path) -> None:
    async with serving(path), contextlib.AsyncExitStack() as stack:
        for _ in range(200):
            slow = await stack.enter_async_context(client(path, hello=False))
            slow.send(b"{")
        async with client(path) as good:
            began = asyncio.get_running_loop().time()
            for number in range(50):
                assert (await good.call("daemon.health", {}, number))["id"] == number
            assert asyncio.get_running_loop().time() - began < 10


@pytest.mark.fault("C4")
async def test_a_client_that_leaves_at_any_byte_leaves_nothing_half_done(path: Path) -> None:
    calls = []

    async def note(call: Call, _connection: Connection) -> object:
        calls.append(call.method)
        return {}

    said = request("runs.submit", {"start": "/"})
    hello = request("hello", {"client": "test", "version": "1"})
    async with serving(path, note) as server:
        for cut in range(len(said) + 1):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.send(hello + said[:cut])
        await settle(lambda: len(calls) == len(said) + 2)
        await settle(lambda: not server.connections)
    assert calls.count("hello") == len(said) + 1
    assert calls.count("runs.submit") == 1


async def test_a_call_goes_on_when_its_client_has_left(path: Path) -> None:
    gate, done = anyio.Event(), anyio.Event()

    async def wait(call: Call, _connection: Connection) -> object:
        if call.method == "runs.list":
            await gate.wait()
            done.set()
        return {}

    async with serving(path, wait) as server:
        async with client(path) as it:
            it.send(request("runs.list"))
            await settle(lambda: any(each.session.in_flight for each in server.connections))
        await settle(lambda: not server.connections)
        gate.set()
        with anyio.fail_after(60):
            await done.wait()


async def test_what_hangs_on_a_client_ends_with_it_even_if_it_comes_late(path: Path) -> None:
    ended: list[int] = []
    async with serving(path) as server:
        async with client(path):
            (connection,) = server.connections
            connection.at_close(1, lambda: ended.append(1))
            connection.at_close(2, lambda: ended.append(2))
            connection.not_at_close(2)
        await settle(lambda: not server.connections)
        assert ended == [1]
        connection.at_close(3, lambda: ended.append(3))
        assert ended == [1, 3]
        connection.tell(RunEvent(subscription=1, seq=1, type="run", run_id=None, at="x"))


def news(number: int, size: int = 10_000) -> RunEvent:
    return RunEvent(
        subscription=1,
        seq=number,
        type="stage",
        run_id="r",
        at="2026-01-02T03:04:05Z",
        data={"x": "y" * size},
    )


def unread(connection: Connection) -> int:
    transport = connection._transport
    assert transport is not None
    return transport.get_write_buffer_size()


@pytest.mark.spec("12")
@pytest.mark.fault("C2")
async def test_a_reader_that_never_reads_gets_a_gap_and_takes_no_memory(path: Path) -> None:
    async with serving(path) as server, client(path) as it:
        (connection,) = server.connections
        it.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(1, 3001):
            connection.tell(news(number))
            assert unread(connection) < edge.MAX_UNREAD_BYTES + 20_000
        it.writer.transport.resume_reading()  # type: ignore[attr-defined]
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != "gap":
            seen.append((await it.read())["params"])
        assert len(seen) < 1000
        numbers = [event["seq"] for event in seen[:-1]]
        assert numbers == list(range(1, len(numbers) + 1))
        gap = seen[-1]
        assert (gap["subscription"], gap["seq"], gap["run_id"]) == (1, 3000, None)
        assert gap["at"] == "2026-01-02T03:04:05Z"
        connection.tell(news(3001))
        assert (await it.read())["params"]["seq"] == 3001


@pytest.mark.fault("C2")
async def test_a_client_that_asks_and_never_reads_is_heard_no_more(path: Path) -> None:
    answered = 0

    async def long(call: Call, _connection: Connection) -> object:
        nonlocal answered
        answered += 1
        return "x" * 100_000 if call.method != "hello" else {}

    asked = 500
    async with serving(path, long) as server, client(path) as it:
        (connection,) = server.connections
        it.writer.transport.pause_reading()  # type: ignore[attr-defined]
        most, still = 0, 0
        for number in range(asked):
            it.send(request("runs.list", {}, number))
            await asyncio.sleep(0)
            most = max(most, unread(connection))
        while still < 50:
            before = answered
            await asyncio.sleep(0)
            still = still + 1 if answered == before else 0
            most = max(most, unread(connection))
        assert answered < asked
        assert most < edge.MAX_UNREAD_BYTES + (MAX_IN_FLIGHT + 1) * 100_100
        it.writer.transport.resume_reading()  # type: ignore[attr-defined]
        ids: list[int] = []
        while len(ids) < asked:
            ids.append((await it.read())["id"])
        assert set(ids) <= set(range(asked))
        assert answered > MAX_IN_FLIGHT


@pytest.mark.fault("H7")
@pytest.mark.parametrize("whole_folder", [False, True])
async def test_a_socket_that_was_removed_comes_back_and_its_connections_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, whole_folder: bool
) -> None:
    monkeypatch.setattr(edge, "LOOK_SECONDS", 0.02)
    path = tmp_path / "run" / "s"
    async with serving(path), client(path) as before:
        if whole_folder:
            shutil.rmtree(path.parent)
        else:
            path.unlink()
        with anyio.fail_after(60):
            while not path.exists():  # noqa: ASYNC110  (a file that another task makes)
                await anyio.sleep(0.01)
        async with client(path) as after:
            for each in (before, after):
                assert (await each.call("daemon.health"))["result"] == {"method": "daemon.health"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(Failure, match="another daemon listens"), listening(path):
            pass
    assert not path.exists()
