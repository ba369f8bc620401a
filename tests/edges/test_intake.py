"""What becomes of a request before it is a run: accepted whole, or nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.small_disk import fill, small_disk
from support.trees import Link, checkout, make

from rch.contract.errors import Failure, Kind
from rch.contract.local_api import SubmitParams
from rch.contract.records import Accepted, SourceManifest, decode_record, encode_record
from rch.files import durable
from rch.files.paths import HostPaths, host_paths
from rchd import api_taking, app
from rchd.edges import intake as intake_edge
from rchd.edges import packing, turn
from rchd.edges.intake import KEPT_BUNDLES, Intake, request_sha256
from rchd.edges.snapshot import Progress, take

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


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def refused(paths: HostPaths, params: SubmitParams) -> Failure:
    """The refusal, after which nothing of the run is left."""
    with pytest.raises(Failure) as caught:
        await Intake(paths).take(params)
    assert not paths.artifacts.exists() or not list(paths.artifacts.iterdir())
    assert not [name for name in files(paths.spool) if durable.is_temp_name(name)]
    return caught.value


@pytest.mark.spec("4")
async def test_an_accepted_run_is_durable_before_it_is_told(paths: HostPaths, project: Path) -> None:
    told: list[Progress] = []
    accepted = await Intake(paths).take(SubmitParams(start=str(project / "Sources")), told.append)
    place = paths.artifacts / accepted.run_id
    assert files(place) == ["accepted.json", "source_manifest.json"]
    written = decode_record((place / "accepted.json").read_bytes(), Accepted)
    assert encode_record(written) == encode_record(accepted)
    manifest = decode_record((place / "source_manifest.json").read_bytes(), SourceManifest)
    assert [entry.path for entry in manifest.entries] == ["Package.swift", "Sources/a.swift"]
    assert manifest.source_sha256 == accepted.source.source_sha256
    assert files(paths.spool) == [accepted.source.spool_name]
    assert accepted.root == os.path.realpath(project)  # noqa: ASYNC240  (one look)
    assert [step.action for step in accepted.steps] == ["build", "test"]
    assert len({step.job_id for step in accepted.steps} | {step.host_nonce for step in accepted.steps}) == 4
    assert told[-1].bytes_done == told[-1].bytes_total == accepted.source.tar_bytes


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("change", "params", "kind", "subkind"),
    [
        ({".rch/xcode.toml": 'schema_version = 1\nbackend = "swiftpn"\n'}, {}, Kind.CONFIG, "BAD_VALUE"),
        ({".rch/xcode.toml": "schema_version = 1\nbackend_ = 1\n"}, {}, Kind.CONFIG, "UNKNOWN_KEY"),
        ({}, {"overrides": {"run.artefact_profile": "rich"}}, Kind.CONFIG, "UNKNOWN_KEY"),
        ({}, {"overrides": {"timeouts.overall_seconds": "-1"}}, Kind.CONFIG, "BAD_VALUE"),
        ({}, {"actions": ("archive",)}, Kind.USAGE, None),
        ({}, {"group": ""}, Kind.USAGE, None),
        ({}, {"group": "g" * 201}, Kind.USAGE, None),
        ({}, {"supersede": True}, Kind.USAGE, None),
        ({}, {"on_disconnect": "detach"}, Kind.USAGE, None),
        ({"away": Link("../../outside")}, {}, Kind.BUNDLER, "SYMLINK_ESCAPE"),
        ({"A.swift": "", "a.swift": ""}, {}, Kind.BUNDLER, "PATH_COLLISION"),
        (
            {"big.bin": b"x" * 4096},
            {"overrides": {"bundle.max_bytes": "4096"}},
            Kind.BUNDLER,
            "SIZE_EXCEEDED",
        ),
        ({}, {"overrides": {"bundle.gitignore": "true"}}, Kind.CONFIG, None),
    ],
)
async def test_what_is_refused_leaves_nothing_behind(
    paths: HostPaths,
    project: Path,
    change: dict[str, str | bytes | Link | None],
    params: dict[str, Any],
    kind: Kind,
    subkind: str | None,
) -> None:
    make(project, change)
    failure = await refused(paths, SubmitParams(start=str(project), **params))
    assert failure.kind == kind
    if subkind is not None:
        assert failure.subkind == subkind


async def test_a_fifo_is_refused_and_not_waited_for(paths: HostPaths, project: Path) -> None:
    os.mkfifo(project / "pipe")
    failure = await refused(paths, SubmitParams(start=str(project)))
    assert (failure.kind, failure.subkind) == (Kind.BUNDLER, "UNSUPPORTED_FILE")
    assert "pipe" in failure.message


@pytest.mark.parametrize("start", ["", ".", "project", "/a\0b", "~"])
async def test_a_start_that_is_no_whole_path_is_refused(paths: HostPaths, start: str) -> None:
    failure = await refused(paths, SubmitParams(start=start))
    assert (failure.kind, failure.exit_code) == (Kind.USAGE, 2)


async def test_a_start_that_is_nowhere_is_refused(paths: HostPaths, tmp_path: Path) -> None:
    failure = await refused(paths, SubmitParams(start=str(tmp_path / "nowhere")))
    assert (failure.kind, failure.subkind) == (Kind.CONFIG, "NO_PROJECT")


@pytest.mark.fault("H12")
async def test_a_full_disk_refuses_the_run_and_leaves_nothing(
    tmp_path: Path, project: Path, paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.data_dir.parent.mkdir(parents=True)
    with small_disk(paths.data_dir, 256) as disk:
        ballast = fill(disk)
        failure = await refused(paths, SubmitParams(start=str(project)))
        assert (failure.kind, failure.subkind, failure.exit_code) == (Kind.BUNDLER, "NO_SPACE", 92)
        ballast.unlink()
        assert (await Intake(paths).take(SubmitParams(start=str(project)))).run_id
    del tmp_path, monkeypatch


class NoAccepted(durable.System):
    """A disk on which the second file of a run cannot be made durable."""

    def rename(self, src: Path, dst: Path) -> None:
        if dst.name == "accepted.json":
            raise OSError(5, "Input/output error")
        super().rename(src, dst)


@pytest.mark.fault("H11")
async def test_a_run_that_cannot_be_written_down_leaves_nothing(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_sys", NoAccepted())
    failure = await refused(paths, SubmitParams(start=str(project)))
    assert (failure.kind, failure.subkind) == (Kind.BUNDLER, None)
    assert "Input/output error" in failure.message


@pytest.mark.spec("5")
async def test_the_manifest_of_the_package_is_kept_though_git_ignores_it(
    paths: HostPaths, tmp_path: Path
) -> None:
    config = (
        'schema_version = 1\nbackend = "swiftpm"\n[project]\npackage = "."\n[bundle]\ngitignore = true\n'
    )
    root = checkout(
        tmp_path / "ignored",
        {
            ".rch/xcode.toml": config,
            ".gitignore": "Package.swift\nnotes.txt\n",
            "Package.swift": "// swift-tools-version: 5.9\n",
            "notes.txt": "not for the worker\n",
        },
    )
    accepted = await Intake(paths).take(SubmitParams(start=str(root)))
    data = (paths.artifacts / accepted.run_id / "source_manifest.json").read_bytes()
    names = {entry.path for entry in decode_record(data, SourceManifest).entries}
    assert "Package.swift" in names
    assert "notes.txt" not in names


async def test_a_huge_snapshot_ends_soon_when_nobody_waits_for_it(paths: HostPaths, project: Path) -> None:
    for number in range(64):
        (project / f"big{number}.bin").write_bytes(os.urandom(1 << 20))
    reached, ended = anyio.Event(), []
    loop = asyncio.get_running_loop()
    done: list[int] = []

    def tell(progress: Progress) -> None:
        done.append(progress.bytes_done)
        loop.call_soon_threadsafe(reached.set)

    async def submit() -> None:
        try:
            await Intake(paths).take(SubmitParams(start=str(project)), tell)
        except Failure as failure:
            ended.append(failure.kind)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(submit)
            await reached.wait()
            group.cancel_scope.cancel()
    assert ended == [Kind.CANCELLED]
    assert max(done) < 64 << 20
    assert files(paths.spool) == []
    assert not paths.artifacts.exists()


async def test_what_no_worker_would_take_is_refused_before_it_is_read(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (project / "sparse.bin").open("wb") as file:
        file.truncate(64 << 30)
    monkeypatch.setattr(packing, "opened", None)  # to read a file fails
    failure = await refused(paths, SubmitParams(start=str(project)))
    assert (failure.kind, failure.subkind) == (Kind.BUNDLER, "SIZE_EXCEEDED")
    assert "over the limit of 68719476736" in failure.message


async def test_a_bundle_that_is_pruned_before_anyone_holds_it_is_made_again(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = take, list[Path]()

    def pruned(*arguments: Any, **options: Any) -> Any:
        snapshot = real(*arguments, **options)
        made.append(snapshot.spool_path)
        if len(made) == 1:
            snapshot.spool_path.unlink()
        return snapshot

    monkeypatch.setattr(intake_edge, "take", pruned)
    accepted = await Intake(paths).take(SubmitParams(start=str(project)))
    assert len(made) == 2
    assert files(paths.spool) == [accepted.source.spool_name]


# --- who waits for it ----------------------------------------------------------------------


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
