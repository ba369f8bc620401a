"""What a submit may ask for beside the run itself: a group, and an end with its connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.trees import make

from rch.contract.states import is_terminal
from rch.files.paths import NO_DAEMON_MARK, HostPaths, host_paths
from rchd import app
from rchd.edges import intake, snapshot

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
        return (await self.ask(method, **params))["result"]

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The whole answer, a refusal too."""
        said = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.writer.write(json.dumps(said).encode() + b"\n")
        while "id" not in (answer := json.loads(await asyncio.wait_for(self.reader.readline(), 60))):
            pass
        return dict(answer)

    async def submit(self, project: Path, **params: Any) -> str:
        run = await self.call("runs.submit", start=str(project), **params)
        return str(run["run_id"])

    async def ended(self, run_id: str) -> dict[str, Any]:
        """The run's last view."""
        watched = await self.call("runs.watch", run=run_id)
        view: dict[str, Any] = watched["runs"][0]
        while not is_terminal(view["state"]):
            news = json.loads(await asyncio.wait_for(self.reader.readline(), 60))
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


MINE = {"client_token": "mine"}


async def asked_for_the_end(paths: HostPaths, **params: Any) -> dict[str, Any]:
    """The whole answer of `runs.cancel`."""
    async with client(paths) as other:
        said = {"jsonrpc": "2.0", "id": 2, "method": "runs.cancel", "params": params}
        other.writer.write(json.dumps(said).encode() + b"\n")
        return dict(json.loads(await asyncio.wait_for(other.reader.readline(), 60)))


def lines(*requests: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(
        json.dumps({"jsonrpc": "2.0", "id": 7 + at, "method": method, "params": params}).encode() + b"\n"
        for at, (method, params) in enumerate(requests)
    )


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Holds each snapshot before its first byte or, once it is whole, before its answer."""
    made = Held()
    real = snapshot.take

    def take(*args: Any, **options: Any) -> Any:
        if made.whole:
            done = real(*args, **options)
            made.hold()
            return done
        made.hold()
        return real(*args, **options)

    monkeypatch.setattr(intake, "take", take)
    yield made
    made.go.set()


class Held:
    """A snapshot that waits; `whole`: when all is read."""

    def __init__(self) -> None:
        self.whole = False
        self.here, self.go = threading.Event(), threading.Event()

    def hold(self) -> None:
        self.here.set()
        assert self.go.wait(30)


def asked(project: Path) -> dict[str, Any]:
    return {"start": str(project), **MINE}


@pytest.mark.spec("4")
async def test_a_cancel_while_the_source_is_read_leaves_no_run(
    paths: HostPaths, project: Path, held: Held
) -> None:
    async with daemon(paths), client(paths) as user:
        async with client(paths) as submitter:
            submitter.writer.write(lines(("runs.submit", asked(project))))
            await asyncio.to_thread(held.here.wait, 30)
            submitter.writer.write(lines(("runs.cancel", {**MINE, "reason": "SIGNAL"})))
            await submitter.writer.drain()
        # The one that asked is gone; the one that asks now is told how it went.
        told = asyncio.create_task(asked_for_the_end(paths, **MINE))
        await user.call("daemon.health")
        held.go.set()
        error = (await told)["error"]
        assert error["data"]["kind"] in {"CANCELLED", "USAGE"}  # on its way out, or gone
        assert (await user.call("runs.list"))["runs"] == []
        assert list(paths.artifacts.glob("*")) == []
        assert list(paths.spool.glob("*")) == []
        # The token is free: what was called off was nobody's run.
        assert (await user.call("runs.get", run=await user.submit(project, **MINE)))[
            "cancel_requested"
        ] is False


@pytest.mark.spec("4")
async def test_a_cancel_once_the_source_is_read_is_accepted_with_the_run(
    paths: HostPaths, project: Path, held: Held
) -> None:
    held.whole = True
    async with daemon(paths), client(paths) as watcher:
        async with client(paths) as submitter:
            submitter.writer.write(lines(("runs.submit", asked(project))))
            await asyncio.to_thread(held.here.wait, 30)
            submitter.writer.write(lines(("runs.cancel", {**MINE, "reason": "SIGNAL"})))
            await submitter.writer.drain()
        await watcher.call("daemon.health")
        again = asyncio.create_task(asked_for_the_end(paths, **MINE))
        await watcher.call("daemon.health")
        held.go.set()
        run = (await again)["result"]
        assert (run["state"], run["exit_code"]) == ("CANCELLED", 80)
        state = json.loads((paths.artifacts / run["run_id"] / "run_state.json").read_bytes())
        assert state["cancel"]["reason"] == "SIGNAL"


@pytest.mark.spec("4")
async def test_one_write_of_a_submit_and_its_cancel_starts_nothing(paths: HostPaths, project: Path) -> None:
    async with daemon(paths), client(paths) as user:
        async with client(paths) as hasty:
            hasty.writer.write(lines(("runs.submit", asked(project)), ("runs.cancel", MINE)))
        view = await user.call("runs.list")
        assert [run for run in view["runs"] if not run["cancel_requested"]] == []


@pytest.mark.spec("4")
async def test_a_cancel_means_one_run_by_its_name_or_its_token(paths: HostPaths, project: Path) -> None:
    async with daemon(paths), client(paths) as user:
        for wrong in ({}, {"run": "latest", **MINE}):
            assert (await asked_for_the_end(paths, **wrong))["error"]["data"]["kind"] == "USAGE"
        unknown = await asked_for_the_end(paths, **MINE)
        assert unknown["error"]["data"]["subkind"] == "UNKNOWN_RUN"
        run_id = await user.submit(project, **MINE)
        assert (await asked_for_the_end(paths, **MINE))["result"]["run_id"] == run_id
        assert (await user.ended(run_id))["state"] == "CANCELLED"
        assert (await asked_for_the_end(paths, **MINE))["result"]["state"] == "CANCELLED"


@pytest.mark.fault("H15")
async def test_so_many_runs_are_taken_and_no_more_until_one_is_over(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rchd.api.MAX_LIVE_RUNS", 2)
    async with daemon(paths), client(paths) as it:
        first = await it.submit(project)
        await it.submit(project)
        error = (await it.ask("runs.submit", start=str(project)))["error"]
        assert "2 runs wait or run already" in error["message"]
        assert error["data"]["kind"] == "DAEMON"
        await it.call("runs.cancel", run=first)
        assert (await it.ended(first))["state"] == "CANCELLED"
        await it.submit(project)


@pytest.mark.spec("4")
async def test_a_run_without_a_daemon_is_named_as_such(paths: HostPaths) -> None:
    own = "0198c2f0-7a11-7c3e-9b52-3f6f5d1e0a01"
    async with daemon(paths), client(paths) as user:
        (paths.artifacts / own).mkdir()
        for name in (own, own[:13], "latest"):
            assert "--no-daemon" not in (await user.ask("runs.get", run=name))["error"]["message"]
        (paths.artifacts / own / NO_DAEMON_MARK).touch()
        for name in (own, own[:13], "latest"):
            error = (await user.ask("runs.get", run=name))["error"]
            assert f"{own} is a --no-daemon run" in error["message"]
            assert error["data"]["hint"] == f"rchctl report {own}, or rchctl artifacts {own}"
