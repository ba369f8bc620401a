"""A whole daemon that takes requests: who waits for a snapshot, who has gone, and one token, one run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.trees import Link, make

from rch.contract.errors import Failure
from rch.contract.local_api import SubmitParams
from rch.files.paths import HostPaths, host_paths
from rchd import api_taking, app
from rchd.edges import intake as intake_edge
from rchd.edges import turn
from rchd.edges.intake import KEPT_BUNDLES, Intake, request_sha256
from rchd.edges.snapshot import take

PACKAGE: dict[str, str | bytes | Link | None] = {
    "Package.swift": "// swift-tools-version: 5.9\n",
    "Sources/a.swift": "let a = 1\n",
}


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return host_paths({"RCH_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make(tmp_path / "project", PACKAGE)


class Held:
    """A snapshot that goes on until it is let go, or is not wanted any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let_go = False
        self.began = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        monkeypatch.setattr(intake_edge, "take", self._take)

    def _take(self, *arguments: Any, cancelled: Callable[[], bool], **options: Any) -> Any:
        self.began.release()
        while not self.let_go and not cancelled():
            time.sleep(0.005)
        try:
            return take(*arguments, cancelled=cancelled, **options)
        except Failure:
            self.ended.release()
            raise


async def seen(semaphore: threading.Semaphore) -> None:
    assert await anyio.to_thread.run_sync(semaphore.acquire, True, 30)


@pytest.mark.fault("C4")
@pytest.mark.parametrize("token", [None, "token-1"])
async def test_a_client_that_has_gone_holds_up_nobody_with_its_snapshot(
    token: str | None, paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_taking, "GONE_SECONDS", 0.01)
    held = Held(monkeypatch)
    params = {"start": str(project), "client_token": token}
    async with daemon(paths):
        async with connection(paths) as (_, writer):
            writer.write(_line("hello", {"client": "test", "version": "1"}, 0))
            writer.write(_line("runs.submit", params, 1))
            await seen(held.began)
        await seen(held.ended)
        held.let_go = True
        (again,) = await ask(paths, "runs.submit", params)
        (listed,) = await ask(paths, "runs.list", {})
    assert [run["run_id"] for run in listed["result"]["runs"]] == [again["result"]["run_id"]]


@pytest.mark.fault("C4")
async def test_a_client_that_has_gone_holds_up_nobody_with_its_plan(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with daemon(paths):
        async with connection(paths) as (_, writer):
            writer.write(_line("hello", {"client": "test", "version": "1"}, 0))
            writer.write(_line("runs.plan", {"start": str(project)}, 1))
            await seen(held.began)
        await seen(held.ended)


@pytest.mark.spec("12")
async def test_who_waits_for_the_snapshots_of_others_hears_of_it(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "WAIT_SECONDS", 0.01)
    held = Held(monkeypatch)
    async with daemon(paths), connection(paths) as (reader, writer):
        writer.write(_line("hello", {"client": "test", "version": "1"}, 0))
        writer.write(_line("runs.submit", {"start": str(project)}, 1))
        await seen(held.began)
        writer.write(_line("runs.submit", {"start": str(project), "progress": True}, 2))
        said: dict[str, Any] = {}
        while said.get("params", {}).get("type") != "stage":
            said = json.loads(await asyncio.wait_for(reader.readline(), 30))
        held.let_go = True
    assert said["params"]["data"]["detail"] == "waits for other snapshots"


@pytest.mark.fault("C5")
async def test_a_client_that_comes_back_with_its_token_has_the_same_snapshot(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: asyncio.Queue[api_taking.Taking] = asyncio.Queue()
    real = api_taking.Taking._gone

    def gone(taking: api_taking.Taking, number: int) -> None:
        real(taking, number)
        left.put_nowait(taking)

    monkeypatch.setattr(api_taking.Taking, "_gone", gone)
    monkeypatch.setattr(api_taking, "GONE_SECONDS", 3600.0)
    held = Held(monkeypatch)
    params = {"start": str(project), "client_token": "token-1"}
    async with daemon(paths), connection(paths) as (reader, other):
        async with connection(paths) as (_, writer):
            writer.write(_line("hello", {"client": "test", "version": "1"}, 0))
            writer.write(_line("runs.submit", params, 1))
            await seen(held.began)
        other.write(_line("hello", {"client": "test", "version": "1"}, 0))
        other.write(_line("runs.submit", params, 1))
        with anyio.fail_after(30):
            taking = await left.get()
            while not taking._waiting:  # noqa: ASYNC110  (nothing tells of it)
                await anyio.sleep(0.005)
        taking._abandon()  # the time to come back is over
        held.let_go = True
        answers = [json.loads(await asyncio.wait_for(reader.readline(), 30)) for _ in range(2)]
    assert answers[1]["result"]["run_id"]
    assert not held.began.acquire(blocking=False)


# --- one token, one run -------------------------------------------------------------------


def test_the_digest_of_a_request_is_of_what_is_asked_and_nothing_else() -> None:
    base = SubmitParams(start="/a", overrides={"x": 1, "y": 2})
    same = SubmitParams(start="/a", overrides={"y": 2, "x": 1}, client_token="t", progress=True)  # noqa: S106
    assert request_sha256(base) == request_sha256(same)
    others = [
        SubmitParams(start="/b", overrides={"x": 1, "y": 2}),
        SubmitParams(start="/a", overrides={"x": 1}),
        SubmitParams(start="/a", overrides={"x": 1, "y": 2}, actions=("build",)),
        SubmitParams(start="/a", overrides={"x": 1, "y": 2}, queue=False),
    ]
    assert len({request_sha256(each) for each in [base, *others]}) == 5


@asynccontextmanager
async def daemon(paths: HostPaths) -> AsyncIterator[None]:
    """The whole daemon, whose only worker ends at once."""
    paths.workers_toml.parent.mkdir(parents=True, exist_ok=True)
    paths.workers_toml.write_text('[[worker]]\nname = "w"\ntransport = "local"\ncommand = ["false"]\n')
    async with anyio.create_task_group() as group:
        ready = anyio.Event()
        group.start_soon(app.serve, paths, ready.set)
        await ready.wait()
        yield
        group.cancel_scope.cancel()


@asynccontextmanager
async def connection(paths: HostPaths) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(paths.socket, limit=1 << 24)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(paths: HostPaths, method: str, *many: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to one call for each of `many`, all in flight at once on one connection."""
    async with connection(paths) as (reader, writer):
        writer.write(_line("hello", {"client": "test", "version": "1"}, 0))
        for number, params in enumerate(many, 1):
            writer.write(_line(method, params, number))
        answers: dict[int, dict[str, Any]] = {}
        while len(answers) <= len(many):
            answer = json.loads(await asyncio.wait_for(reader.readline(), 60))
            if "id" in answer:
                answers[answer["id"]] = answer
        return [answers[number] for number in range(1, len(many) + 1)]


def _line(method: str, params: dict[str, Any], number: int) -> bytes:
    said = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return json.dumps(said).encode() + b"\n"


@pytest.mark.fault("C5")
@pytest.mark.spec("12")
async def test_a_hundred_submits_with_one_token_are_one_run(paths: HostPaths, project: Path) -> None:
    params = {"start": str(project), "client_token": "token-1"}
    async with daemon(paths):
        ids: list[str] = []

        async def some() -> None:
            ids.extend(a["result"]["run_id"] for a in await ask(paths, "runs.submit", *[params] * 20))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(some)
        assert len(ids) == 100
        assert len(set(ids)) == 1
        (listed,) = await ask(paths, "runs.list", {})
        assert [run["run_id"] for run in listed["result"]["runs"]] == ids[:1]
    assert [path.name for path in paths.artifacts.iterdir()] == ids[:1]


@pytest.mark.fault("C5")
async def test_a_token_with_another_body_is_a_conflict_also_after_a_restart(
    paths: HostPaths, project: Path
) -> None:
    params: dict[str, Any] = {"start": str(project), "client_token": "token-1"}
    others = [
        {**params, "actions": ["build"]},
        {**params, "start": str(project / "Sources")},
        {**params, "overrides": {"run.continue_on_failure": "true"}},
    ]
    async with daemon(paths):
        first, *at_once = await ask(paths, "runs.submit", params, *others)
        later = await ask(paths, "runs.submit", *others)
    async with daemon(paths):
        (again,) = await ask(paths, "runs.submit", {**params, "progress": True})
        restarted = await ask(paths, "runs.submit", *others)
    run_id = first["result"]["run_id"]
    assert again["result"]["run_id"] == run_id
    for answer in [*at_once, *later, *restarted]:
        error = answer["error"]
        assert error["data"]["exit_code"] == 2
        assert "client_token 'token-1' stands for another request" in error["message"]
    assert all(run_id in answer["error"]["message"] for answer in [*later, *restarted])
    assert len(list(paths.artifacts.iterdir())) == 1


@pytest.mark.fault("C5")
async def test_a_token_whose_request_was_refused_is_free_again(paths: HostPaths, project: Path) -> None:
    bad = {"start": str(project / "nowhere"), "client_token": "token-1"}
    good = {"start": str(project), "client_token": "token-1"}
    async with daemon(paths):
        refusals = await ask(paths, "runs.submit", bad, bad)
        assert {answer["error"]["data"]["exit_code"] for answer in refusals} == {3}
        (accepted,) = await ask(paths, "runs.submit", good)
        assert accepted["result"]["run_id"]


@pytest.mark.fault("C3")
async def test_numbers_beyond_all_bounds_end_no_daemon(paths: HostPaths, project: Path) -> None:
    async with daemon(paths):
        big = 10**40
        answers = await ask(paths, "runs.submit", {"start": str(project), "priority": big})
        answers += await ask(paths, "runs.watch", {"run": "all", "after_seq": big})
        answers += await ask(paths, "runs.list", {"limit": big})
        assert {answer["error"]["data"]["exit_code"] for answer in answers} == {2}
        (listed,) = await ask(paths, "runs.list", {"limit": -5})
        assert listed["result"]["runs"] == []


@pytest.mark.spec("12")
async def test_a_follower_that_comes_back_gets_the_answer_first_and_then_what_it_missed(
    paths: HostPaths, project: Path
) -> None:
    async with daemon(paths):
        (submitted,) = await ask(paths, "runs.submit", {"start": str(project)})
        run_id = submitted["result"]["run_id"]
        async with connection(paths) as (reader, writer):
            writer.write(_line("hello", {"client": "test", "version": "1"}, 0))
            await reader.readline()
            writer.write(_line("runs.watch", {"run": run_id, "after_seq": 0}, 1))
            answer = json.loads(await reader.readline())
            assert answer["id"] == 1
            news: list[dict[str, Any]] = []
            while not news or news[-1]["run"]["exit_code"] is None:
                event = json.loads(await asyncio.wait_for(reader.readline(), 60))["params"]
                assert event["subscription"] == answer["result"]["subscription"]
                news += [event] if event["type"] == "run" else []
        seqs = [event["seq"] for event in news]
        assert seqs == sorted(set(seqs))
        assert seqs[0] == 1
        assert news[0]["run"]["state"] == "QUEUED"
        assert news[-1]["run"]["state"] == "FAILED"


def _track(project: Path, name: str) -> None:
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    subprocess.run(["git", "-C", str(project), "add", name], check=True)


@pytest.mark.spec("5")
@pytest.mark.parametrize("way", [".rchignore", "git_index"])
async def test_a_bundle_without_the_project_is_refused_at_once(
    paths: HostPaths, tmp_path: Path, way: str
) -> None:
    project = tmp_path / "package"
    project.mkdir()
    (project / "Package.swift").write_text("// swift-tools-version: 5.9\n")
    (project / "a.txt").write_text("a")
    overrides: dict[str, object] = {}
    if way == ".rchignore":
        (project / ".rchignore").write_text("/Package.swift\n")
    else:
        _track(project, "a.txt")
        overrides = {"bundle.mode": "git_index"}
    with pytest.raises(Failure, match=r"Package\.swift is not in the bundle") as caught:
        await Intake(paths).take(SubmitParams(start=str(project), overrides=overrides))
    assert caught.value.exit_code == 92


async def test_the_spool_keeps_live_bundles_and_a_few_others(paths: HostPaths, tmp_path: Path) -> None:
    project = tmp_path / "package"
    project.mkdir()
    (project / "Package.swift").write_text("// swift-tools-version: 5.9\n")
    live: set[str] = set()
    intake = Intake(paths, lambda: live)
    for number in range(KEPT_BUNDLES + 4):
        (project / "a.txt").write_text(str(number))
        accepted = await intake.take(SubmitParams(start=str(project)))
        if number < 2:
            live.add(accepted.source.spool_name)
        intake.release(accepted.run_id)
    kept = {each.name for each in paths.spool.iterdir()}
    assert live <= kept
    assert accepted.source.spool_name in kept
    assert len(kept) == KEPT_BUNDLES + 3  # its own is not counted while it is taken in
