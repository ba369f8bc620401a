"""What a submit may ask for beside the run itself: a group, and an end with its connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.trees import make

from rch.contract.states import is_terminal
from rch.files.paths import HostPaths, host_paths
from rchd import app

pytestmark = pytest.mark.spec("12")


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return host_paths({"RCH_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make(tmp_path / "project", {"Package.swift": "// swift-tools-version: 5.9\n"})


@asynccontextmanager
async def daemon(paths: HostPaths) -> AsyncIterator[None]:
    """The whole daemon, whose only worker never answers."""
    paths.workers_toml.parent.mkdir(parents=True, exist_ok=True)
    worker = '[[worker]]\nname = "w"\ntransport = "local"\ncommand = ["sleep", "60"]\n'
    paths.workers_toml.write_text(worker)
    async with anyio.create_task_group() as group:
        ready = anyio.Event()
        group.start_soon(app.serve, paths, ready.set)
        await ready.wait()
        yield
        group.cancel_scope.cancel()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def call(self, method: str, **params: Any) -> Any:
        said = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.writer.write(json.dumps(said).encode() + b"\n")
        while "id" not in (answer := json.loads(await asyncio.wait_for(self.reader.readline(), 30))):
            pass
        return answer["result"]

    async def submit(self, project: Path, **params: Any) -> str:
        run = await self.call("runs.submit", start=str(project), **params)
        return str(run["run_id"])

    async def ended(self, run_id: str) -> dict[str, Any]:
        """The run's last view."""
        watched = await self.call("runs.watch", run=run_id)
        view: dict[str, Any] = watched["runs"][0]
        while not is_terminal(view["state"]):
            news = json.loads(await asyncio.wait_for(self.reader.readline(), 30))
            view = news["params"].get("run") or view
        return view


@asynccontextmanager
async def client(paths: HostPaths) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(paths.socket, limit=1 << 24)
    try:
        made = Client(reader, writer)
        await made.call("hello", client="test", version="1")
        yield made
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_run_that_is_tied_to_its_connection_is_cancelled_with_it(
    paths: HostPaths, project: Path
) -> None:
    async with daemon(paths), client(paths) as watcher:
        async with client(paths) as submitter:
            tied = await submitter.submit(project, on_disconnect="cancel")
            also = await submitter.submit(project, on_disconnect="cancel")
            kept = await submitter.submit(project)
        for run_id in (tied, also):
            view = await watcher.ended(run_id)
            assert (view["state"], view["exit_code"]) == ("CANCELLED", 80)
        assert (await watcher.call("runs.get", run=kept))["cancel_requested"] is False


async def test_the_connection_that_asked_last_is_the_one_that_counts(
    paths: HostPaths, project: Path
) -> None:
    asked: dict[str, Any] = {"on_disconnect": "cancel", "client_token": "once"}
    async with daemon(paths), client(paths) as watcher:
        async with client(paths) as second:
            async with client(paths) as first:
                run_id = await first.submit(project, **asked)
                assert await second.submit(project, **asked) == run_id
            # The daemon has seen the first one leave when it answers a newer one.
            async with client(paths) as third:
                assert (await third.call("runs.get", run=run_id))["cancel_requested"] is False
        assert (await watcher.ended(run_id))["state"] == "CANCELLED"


@pytest.mark.spec("4")
async def test_a_daemon_that_leaves_cancels_nothing_and_its_successor_knows_no_tie(
    paths: HostPaths, project: Path
) -> None:
    async with daemon(paths), client(paths) as submitter:
        run_id = await submitter.submit(project, on_disconnect="cancel")
        await submitter.call("daemon.shutdown")
        await submitter.reader.read()
    async with daemon(paths), client(paths) as watcher:
        run = await watcher.call("runs.get", run=run_id)
        assert (run["state"], run["cancel_requested"]) == ("QUEUED", False)


async def test_a_newer_run_of_a_group_cancels_the_older_ones(paths: HostPaths, project: Path) -> None:
    async with daemon(paths), client(paths) as user:
        old = await user.submit(project, group="save")
        alone = await user.submit(project)
        new = await user.submit(project, group="save", supersede=True)
        view = await user.call("runs.get", run=old)
        assert (view["state"], view["human_summary"]) == ("CANCELLED", "cancelled (SUPERSEDED)")
        for run_id in (alone, new):
            assert (await user.call("runs.get", run=run_id))["cancel_requested"] is False
    accepted = json.loads((paths.artifacts / new / "accepted.json").read_bytes())
    assert (accepted["group"], accepted["supersede"]) == ("save", True)
    state = json.loads((paths.artifacts / old / "run_state.json").read_bytes())
    assert state["cancel"]["reason"] == "SUPERSEDED"
