"""The real server of the local socket, and one client of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from rchd.core.session import Call
from rchd.edges.listener import listening
from rchd.edges.socket import Connection, Server

Answer = Callable[[Call, Connection], Awaitable[object]]


async def echo(call: Call, _connection: Connection) -> object:
    """Says which method was called."""
    return {"method": call.method}


@asynccontextmanager
async def serving(path: Path, answer: Answer = echo) -> AsyncIterator[Server]:
    """The real server at `path`."""
    with listening(path) as listener:
        async with anyio.create_task_group() as group:
            server = Server(group, answer)
            ready = anyio.Event()
            group.start_soon(server.serve, listener, ready.set)
            await ready.wait()
            yield server
            group.cancel_scope.cancel()


class Client:
    """One connection, line by line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def call(self, method: str, params: object = None, call_id: object = 1) -> dict[str, Any]:
        self.send(request(method, params, call_id))
        return await self.read()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self) -> dict[str, Any]:
        line = await asyncio.wait_for(self.reader.readline(), 60)
        assert line, "the daemon hung up"
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def rest(self) -> bytes:
        """All until the daemon hangs up."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self.reader.read(), 60)
        return b""


@asynccontextmanager
async def client(path: Path, *, hello: bool = True) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(path, limit=64 << 20)
    it = Client(reader, writer)
    try:
        if hello:
            answer = await it.call("hello", {"client": "test", "version": "1"})
            assert "result" in answer, answer
        yield it
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def request(method: str, params: object = None, call_id: object = 1) -> bytes:
    said = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}
    return json.dumps(said).encode() + b"\n"


async def settle(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110  (what is looked at has no event)
            await asyncio.sleep(0)
