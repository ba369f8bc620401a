"""More runs than one message holds: every answer keeps to the limit, and who goes on gets them all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from support.playbook import T0, accepted

from rch.contract.local_api import MAX_MESSAGE
from rch.contract.states import is_terminal
from rch.files.paths import HostPaths, host_paths
from rchd import app
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.edges.core_rows import rows_of
from rchd.edges.store import SqliteStore

pytestmark = [pytest.mark.spec("12"), pytest.mark.fault("H15")]

MANY = 400
LONG = "x" * 4000


@pytest.fixture(name="paths")
def fixture_paths(tmp_path: Path) -> HostPaths:
    paths = host_paths({"RCH_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    paths.workers_toml.parent.mkdir(parents=True)
    paths.workers_toml.write_text('[[worker]]\nname = "w"\ntransport = "local"\ncommand = ["false"]\n')
    return paths


def fill(paths: HostPaths, first: int, many: int, *, over: bool) -> list[str]:
    """Runs with a long word to say, in the order of their acceptance."""
    core, effects = Core(str(paths.artifacts)), list[fx.Effect]()
    core.draining = True
    ids = [f"run-{number:08d}" for number in range(first, first + many)]
    for run_id in ids:
        run = msgspec.structs.replace(accepted(run_id, ("build",)), warnings=(LONG,))
        effects += core.handle(ev.RunAccepted(at=T0, accepted=run))
        if over:
            effects += core.handle(ev.CancelAsked(at=T0, run_id=run_id, reason="USER"))
    dirty = core.take_dirty()
    assert {is_terminal(run.state) for run in dirty} == {over}
    store = SqliteStore.open(paths.database)
    store.commit(rows_of(dirty, []))
    store.close()
    return ids


class Client:
    """One connection; the longest line that came over it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.longest = 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        said = {"jsonrpc": "2.0", "id": "i" * 256, "method": method, "params": params}
        self._writer.write(json.dumps(said).encode() + b"\n")
        while True:
            line = await asyncio.wait_for(self._reader.readline(), 60)
            self.longest = max(self.longest, len(line))
            if "id" in (answer := json.loads(line)):
                assert "result" in answer, answer
                found: dict[str, Any] = answer["result"]
                return found

    async def listed(self, limit: int, **params: Any) -> list[dict[str, Any]]:
        """All pages."""
        runs: list[dict[str, Any]] = []
        more = True
        while more:
            before = {"before": runs[-1]["run_id"]} if runs else {}
            page = await self.call("runs.list", limit=limit - len(runs), **params, **before)
            runs += page["runs"]
            more = page["more"] and len(runs) < limit
        return runs


@asynccontextmanager
async def served(paths: HostPaths) -> AsyncIterator[Client]:
    async with anyio.create_task_group() as group:
        ready = anyio.Event()
        group.start_soon(app.serve, paths, ready.set)
        await ready.wait()
        reader, writer = await asyncio.open_unix_connection(paths.socket, limit=64 << 20)
        client = Client(reader, writer)
        await client.call("hello", client="test", version="1")
        yield client
        writer.close()
        group.cancel_scope.cancel()


async def test_a_list_is_cut_into_messages_and_complete(paths: HostPaths) -> None:
    ids = fill(paths, 0, MANY, over=True)
    async with served(paths) as client:
        first = await client.call("runs.list", limit=1000)
        assert first["more"]
        assert 1 < len(first["runs"]) < MANY
        assert [run["run_id"] for run in await client.listed(1000)] == ids[::-1]
        assert [run["run_id"] for run in await client.listed(250)] == ids[:-251:-1]
        assert len(await client.listed(1000, state="CANCELLED")) == MANY
        assert await client.listed(1000, state="QUEUED") == []
        last = await client.call("runs.list", limit=5, before=ids[3])
        assert ([run["run_id"] for run in last["runs"]], last["more"]) == (ids[2::-1], False)
        assert client.longest <= MAX_MESSAGE


async def test_a_snapshot_of_all_runs_is_one_message_and_the_rest_is_listed(paths: HostPaths) -> None:
    over = fill(paths, 0, 10, over=True)
    ids = fill(paths, 10, MANY, over=False)
    async with served(paths) as client:
        snapshot = await client.call("runs.watch", run="all")
        assert snapshot["more"]
        assert 1 < len(snapshot["runs"]) < MANY
        known = {run["run_id"] for run in snapshot["runs"]}
        assert not known & set(over)
        known |= {run["run_id"] for run in await client.listed(1000)}
        assert known == {*over, *ids}
        assert client.longest <= MAX_MESSAGE
