"""Clients that name what is no name, say far too much, or do one thing without end (spec section 12)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from support.trees import make

from rch.contract import local_api as api
from rch.files.paths import HostPaths, host_paths
from rchd import app
from rchd.core.session import MAX_SUBSCRIPTIONS, MAX_TOLD

pytestmark = [pytest.mark.spec("12"), pytest.mark.fault("C3")]

LONG = "x" * 900_000
UNSAFE = (
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "a/b",
    "%2e%2e",
    "a\0b",
    "*",
    "",
    " ",
    "\x1b[2J",
    "-",
    "'; --",
)
SAFE_WITHOUT = {"daemon.shutdown", "daemon.drain", "hello"}


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return host_paths({"RCH_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make(tmp_path / "project", {"Package.swift": "// swift-tools-version: 5.9\n"})


class Client:
    """One connection, whose answers come in any order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._id = 0

    def send(self, method: str, **params: Any) -> int:
        self._id += 1
        said = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self.writer.write(json.dumps(said).encode() + b"\n")
        return self._id

    async def answers(self, *ids: int) -> dict[int, dict[str, Any]]:
        """The answers to these, the notifications between them left out."""
        found: dict[int, dict[str, Any]] = {}
        while len(found) < len(ids):
            line = await asyncio.wait_for(self.reader.readline(), 60)
            assert line, "the daemon hung up"
            if (said := json.loads(line)).get("id") in ids:
                found[said["id"]] = {**said, "bytes": len(line)}
        return found

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        sent = self.send(method, **params)
        return (await self.answers(sent))[sent]


@asynccontextmanager
async def talking(paths: HostPaths) -> AsyncIterator[Client]:
    """The whole daemon, whose only worker never answers, and a client of it."""
    paths.workers_toml.parent.mkdir(parents=True, exist_ok=True)
    worker = '[[worker]]\nname = "w"\ntransport = "local"\ncommand = ["sleep", "60"]\n'
    paths.workers_toml.write_text(worker)
    async with anyio.create_task_group() as group:
        ready = anyio.Event()
        group.start_soon(app.serve, paths, ready.set)
        await ready.wait()
        reader, writer = await asyncio.open_unix_connection(paths.socket, limit=1 << 24)
        client = Client(reader, writer)
        await client.ask("hello", client="test", version="1")
        try:
            yield client
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        group.cancel_scope.cancel()


def text_fields(kind: type[msgspec.Struct]) -> list[str]:
    """The members that take a text."""
    return [field.name for field in msgspec.structs.fields(kind) if "str" in str(field.type)]


FIELDS = [
    (method, name)
    for method, (kind, _, _) in api.METHODS.items()
    if method not in SAFE_WITHOUT
    for name in text_fields(kind)
]


async def test_a_text_as_long_as_a_message_is_refused_in_short_wherever_it_stands(
    paths: HostPaths, project: Path
) -> None:
    async with talking(paths) as it:
        for method, name in FIELDS:
            kind = api.METHODS[method][0]
            required = {
                field.name: str(project)
                for field in msgspec.structs.fields(kind)
                if field.required and field.name != name
            }
            answer = await it.ask(method, **{**required, name: LONG})
            if (method, name) == ("runs.list", "state"):  # no run is in it
                assert answer["result"] == {"runs": [], "more": False}
                continue
            assert "error" in answer, (method, name)
            assert len(answer["error"]["message"]) <= MAX_TOLD + 1, (method, name)
            assert answer["error"]["data"]["kind"] in {"USAGE", "CONFIG"}, (method, name, answer)
        assert (await it.ask("daemon.health"))["result"]["status"] == "ok"


async def test_a_run_is_never_named_by_a_path(paths: HostPaths, tmp_path: Path) -> None:
    (tmp_path / "home" / "data" / "artifacts" / "xcode").mkdir(parents=True)
    async with talking(paths) as it:
        for method in ("runs.get", "runs.cancel", "runs.watch", "runs.rerun"):
            for name in UNSAFE:
                answer = await it.ask(method, run=name)
                assert answer["error"]["data"]["exit_code"] == 2, (method, name, answer)


async def test_a_storm_of_cancels_is_one_cancel(paths: HostPaths, project: Path) -> None:
    async with talking(paths) as it:
        run_id = (await it.ask("runs.submit", start=str(project)))["result"]["run_id"]
        for _ in range(20):
            sent = [it.send("runs.cancel", run=run_id) for _ in range(50)]
            told = await it.answers(*sent)
            assert {each["result"]["run_id"] for each in told.values()} == {run_id}
        view = (await it.ask("runs.get", run=run_id))["result"]
        assert (view["state"], view["exit_code"]) == ("CANCELLED", 80)


async def test_a_flood_of_watches_ends_at_the_cap_and_leaving_makes_room(paths: HostPaths) -> None:
    async with talking(paths) as it:
        told = [await it.ask("runs.watch", run="all") for _ in range(MAX_SUBSCRIPTIONS + 1)]
        assert all("result" in each for each in told[:-1])
        assert f"over {MAX_SUBSCRIPTIONS} subscriptions" in told[-1]["error"]["message"]
        await it.ask("runs.unwatch", subscription=told[0]["result"]["subscription"])
        assert "result" in await it.ask("runs.watch", run="all")
