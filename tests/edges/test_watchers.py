"""A crowd of followers over real sockets: told once each, in order; who does not read slows nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from support.playbook import accepted

from rch.contract.local_api import RunEvent, RunView
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.core.session import Call, event_line
from rchd.edges import hub as edge
from rchd.edges import socket as sockets
from rchd.edges.hub import Hub, Lines
from rchd.edges.listener import listening
from rchd.edges.socket import Connection, Server

AT = "2026-01-02T03:04:05.000Z"
CROWD, IDLERS, NEWS = 40, 10, 500


def a_view() -> RunView:
    effects = Core("/artifacts").handle(ev.RunAccepted(at=1.0, accepted=accepted()))
    return next(each.view for each in effects if isinstance(each, fx.Announce) and each.view)


def test_what_a_crowd_is_told_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[msgspec.Struct] = []

    def counted(event: msgspec.Struct) -> bytes:
        encoded.append(event)
        return event_line(event)

    monkeypatch.setattr(edge, "event_line", counted)
    hub, lines, told = Hub("/artifacts"), Lines(), list[tuple[RunEvent, bytes]]()
    for _ in range(200):
        hub.follow("all", lambda event: told.append((event, lines.of(event))))
    view = a_view()
    for seq in (7, 8):
        hub.announce(fx.Announce(type="run", run_id=view.run_id, seq=seq, at=AT, view=view))
    hub.announce(fx.Announce(type="log", run_id=view.run_id, seq=8, at=AT, data={"path": "x/live.log"}))
    assert len(encoded) == 3
    assert [line for _, line in told] == [event_line(event) for event, _ in told]
    assert [event.subscription for event, _ in told] == [*range(1, 201)] * 3


@asynccontextmanager
async def crowd(path: Path) -> AsyncIterator[tuple[Server, Hub]]:
    """A server whose every call is a subscription to all runs."""
    hub = Hub("/artifacts")

    async def answer(call: Call, connection: Connection) -> object:
        return {} if call.method == "hello" else {"subscription": hub.follow("all", connection.tell).number}

    with listening(path) as listener:
        async with anyio.create_task_group() as group:
            server = Server(group, answer)
            ready = anyio.Event()
            group.start_soon(server.serve, listener, ready.set)
            await ready.wait()
            yield server, hub
            group.cancel_scope.cancel()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str) -> Any:
    params = {"client": "test", "version": "1"} if method == "hello" else {"run": "all"}
    writer.write(
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"
    )
    return json.loads(await asyncio.wait_for(reader.readline(), 60))


async def follow(path: Path, stack: AsyncExitStack) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_unix_connection(path, limit=64 << 20)
    stack.callback(writer.close)
    assert "result" in await ask(reader, writer, "hello")
    assert "result" in await ask(reader, writer, "runs.watch")
    return reader


@pytest.mark.spec("12")
@pytest.mark.fault("C2")
@pytest.mark.fault("H15")
async def test_who_does_not_read_gets_a_gap_and_takes_nothing_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MAX_UNREAD_BYTES", 128 << 10)
    async with crowd(tmp_path / "s") as (server, hub), AsyncExitStack() as stack:
        readers = [await follow(tmp_path / "s", stack) for _ in range(CROWD)]
        idlers, good = readers[:IDLERS], readers[IDLERS:]
        for reader in idlers:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
        seen: list[list[int]] = [[] for _ in good]

        async def read(reader: asyncio.StreamReader, numbers: list[int]) -> None:
            while len(numbers) < NEWS:
                event = json.loads(await reader.readline())["params"]
                assert event["type"] == "run"
                numbers.append(event["seq"])

        view, most = a_view(), 0
        async with anyio.create_task_group() as group:
            for reader, numbers in zip(good, seen, strict=True):
                group.start_soon(read, reader, numbers)
            for seq in range(1, NEWS + 1):
                hub.announce(fx.Announce(type="run", run_id=view.run_id, seq=seq, at=AT, view=view))
                if seq % 20 == 0:
                    most = max(most, sum(map(unread, server.connections)))
                    with anyio.fail_after(60):
                        while min(map(len, seen)) < seq - 100:  # noqa: ASYNC110  (as fast as they read)
                            await asyncio.sleep(0)
        assert all(numbers == list(range(1, NEWS + 1)) for numbers in seen)
        assert most < IDLERS * sockets.MAX_UNREAD_BYTES + CROWD * (200 << 10)
        for reader in idlers:
            reader._transport.resume_reading()  # type: ignore[attr-defined]
            kinds = []
            while "gap" not in kinds:
                kinds.append(json.loads(await asyncio.wait_for(reader.readline(), 60))["params"]["type"])
            assert len(kinds) < NEWS


def unread(connection: Connection) -> int:
    assert connection._transport is not None
    return connection._transport.get_write_buffer_size() + connection._unsent_bytes


async def test_what_is_told_in_one_turn_goes_out_as_one_and_before_the_end(tmp_path: Path) -> None:
    async with crowd(tmp_path / "s") as (server, _hub), AsyncExitStack() as stack:
        reader = await follow(tmp_path / "s", stack)
        (connection,) = server.connections
        for number in range(100):
            connection.write(b'{"n":%d}\n' % number)
        connection.hang_up()
        lines = (await asyncio.wait_for(reader.read(), 60)).splitlines()
        assert [json.loads(line)["n"] for line in lines] == list(range(100))
