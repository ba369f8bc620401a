"""Every outward effect is answered by one event, whatever the worker or this disk does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
import pytest
from support import fake_worker
from support.playbook import accepted
from support.sets import NONCE, RUN_ID, compressed, header_of, places_of, right_set

from rch.config.inventory import Inventory, WorkerEntry
from rch.contract.errors import Failure, Kind
from rch.contract.worker_rpc import Code, FetchHeader, RpcError, TailRequest, TailResult
from rch.files import durable
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.edges import artifacts
from rchd.edges import shortage as shortage_module
from rchd.edges.performer import Performer
from rchd.edges.pool import WorkerPool
from rchd.edges.prober import Prober
from rchd.edges.worker_client import WorkerClient

TARGET = fx.Target(worker="mini", protocol=1, deadline=10.0)
RUN: dict[str, Any] = {"run_id": RUN_ID, "op": 7, "target": TARGET}


class Edge:
    """A performer with one scripted worker process behind it."""

    def __init__(self, root: Path, scenario: str) -> None:
        entry = WorkerEntry(name="mini", transport="local", command=fake_worker.command(scenario))
        self.inventory = Inventory(workers=(entry,))
        self.pool = WorkerPool(self.inventory.workers)
        self.prober = Prober(self.pool, lambda: self.inventory)
        self.posted: list[ev.Event] = []
        self.performer = make(self.pool, self.prober, root)

    async def do(self, effect: fx.Outward) -> ev.Event:
        return await self.performer.perform(effect, self.posted.append)


def make(pool: WorkerPool, prober: Prober, root: Path) -> Performer:
    return Performer(
        pool=pool, prober=prober, host_id="host-00000001", artifacts_root=root, spool=root / "spool"
    )


@asynccontextmanager
async def edge(root: Path, scenario: str = "honest") -> AsyncIterator[Edge]:
    it = Edge(root, scenario)
    try:
        yield it
    finally:
        await it.pool.close()


RESERVE = fx.Reserve(**RUN)
CALLS: list[tuple[fx.Outward, type[ev.Answer]]] = [
    (RESERVE, ev.Reserved),
    (fx.HasSource(**RUN, source_sha256="a" * 64, lease_id=None), ev.SourceKnown),
    (fx.CancelJob(**RUN, job_id="job-00000001", reason="USER", lease_id=None, fence=None), ev.CancelNoted),
    (fx.Release(**RUN, lease_id="lease-00000001", fence=1), ev.Released),
    (fx.Tail(**RUN, job_id="job-00000001", cursor=None, log_path="r/live.log"), ev.TailNews),
    (fx.Probe(run_id=RUN_ID, op=7, max_age=300, tags=(), deadline=10.0), ev.Probed),
    (fx.Publish(run_id=RUN_ID, op=7, job_id="job-0000000001", step_dir="r/steps/x/j"), ev.Published),
]


async def test_every_effect_is_answered_with_its_own_number(tmp_path: Path) -> None:
    async with edge(tmp_path) as it:
        for effect, kind in CALLS:
            event = await it.do(effect)
            assert isinstance(event, kind)
            assert (event.run_id, event.op) == (RUN_ID, 7)


@pytest.mark.spec("3.1")
async def test_a_busy_worker_is_told_with_its_wish(tmp_path: Path) -> None:
    async with edge(tmp_path, "busy") as it:
        event = await it.do(RESERVE)
        assert isinstance(event, ev.WorkerRefused)
        assert (event.operation, event.code, event.kind) == ("reserve", "BUSY", "WORKER_BUSY")
        assert event.retry_after == 7.0


@pytest.mark.fault("S9")
@pytest.mark.parametrize(
    ("scenario", "kind"), [("missing", "EXECUTOR"), ("killed", "SSH"), ("noise", "EXECUTOR")]
)
async def test_a_worker_that_does_not_speak_is_a_cut_line_with_its_reason(
    tmp_path: Path, scenario: str, kind: str
) -> None:
    async with edge(tmp_path, scenario) as it:
        event = await it.do(RESERVE)
        assert isinstance(event, ev.LineCut)
        assert (event.operation, event.kind) == ("reserve", kind)
        assert "mini" in event.message


async def test_a_worker_that_left_the_inventory_is_told_by_name(tmp_path: Path) -> None:
    async with edge(tmp_path) as it:
        gone = fx.Target(worker="gone", protocol=1, deadline=1.0)
        event = await it.do(fx.Release(run_id=RUN_ID, op=1, target=gone, lease_id="lease-1", fence=1))
        assert isinstance(event, ev.LineCut)
        assert "'gone'" in event.message
        assert (event.kind, event.subkind) == ("SSH", "UNREACHABLE"), "it may come back with the next edit"


async def test_a_probe_is_kept_while_it_is_young_and_forgotten_on_demand(tmp_path: Path) -> None:
    probe = fx.Probe(run_id=RUN_ID, op=7, max_age=300, tags=(), deadline=10.0)
    async with edge(tmp_path) as it:
        fresh = []
        for _ in range(2):
            event = await it.do(probe)
            assert isinstance(event, ev.Probed)
            fresh.append(event.reports[0].fresh)
        it.performer.forget_probe("mini")
        event = await it.do(probe)
        assert isinstance(event, ev.Probed)
        assert [*fresh, event.reports[0].fresh] == [True, False, True]


async def test_an_upload_over_the_workers_limit_is_refused_before_a_byte_goes(tmp_path: Path) -> None:
    source = accepted().source
    async with edge(tmp_path) as it:
        event = await it.do(fx.Upload(**RUN, source=source, max_bytes=899, lease_id=None, fence=None))
        assert isinstance(event, ev.LineCut)
        assert (event.kind, event.subkind) == ("BUNDLER", "SIZE_EXCEEDED")
        assert not it.posted


# --- tail and fetch, with a worker whose every answer is chosen ---------------------------


class Chosen:
    """Answers `tail` from a list and `fetch` with a set."""

    def __init__(self, *tails: TailResult, stream: bytes = b"", header: FetchHeader | None = None) -> None:
        self.tails = list(tails)
        self.stream, self.header = stream, header

    async def tail(self, _request: TailRequest) -> TailResult:
        return self.tails.pop(0)

    async def fetch(
        self,
        _job_id: str,
        into: Path,
        max_bytes: int,
        progress: Callable[..., None],
        seconds: float | None = None,
    ) -> FetchHeader:
        del max_bytes, seconds
        progress(len(self.stream), len(self.stream))
        into.write_bytes(self.stream)  # noqa: ASYNC240  (a few bytes)
        assert self.header is not None
        return self.header


class Pool(WorkerPool):
    """A pool of one chosen client."""

    def __init__(self, client: Chosen) -> None:
        super().__init__(())
        self._chosen = client

    def client(self, name: str) -> WorkerClient:
        del name
        return cast("WorkerClient", self._chosen)


def chosen(root: Path, client: Chosen) -> Performer:
    pool = Pool(client)
    return make(pool, Prober(pool, lambda: Inventory(workers=())), root)


def said(text: str, cursor: str | None, **members: Any) -> TailResult:
    return TailResult(log_chunk=text, events=(), next_cursor=cursor, state="RUNNING", **members)


def tail(cursor: str | None) -> fx.Tail:
    return fx.Tail(**RUN, job_id="job-00000001", cursor=cursor, log_path="r/host/j/live.log")


@pytest.mark.fault("S5")
async def test_the_live_log_grows_by_bytes_and_begins_anew_after_a_reset(tmp_path: Path) -> None:
    client = Chosen(
        said("eins ü\n", "1"),
        said("", "1"),
        said("zwei\n", "2"),
        said("new\n", "3", reset=True),
        said("end\n", None),
    )
    performer = chosen(tmp_path, client)
    log = tmp_path / "r/host/j/live.log"
    seen: list[tuple[int, int, bytes]] = []
    for cursor in (None, "1", "1", "2", "3"):
        event = await performer.perform(tail(cursor), lambda _: None)
        assert isinstance(event, ev.TailNews)
        seen.append((event.log_offset, event.log_bytes, log.read_bytes()))
    assert seen == [
        (0, 8, "eins ü\n".encode()),
        (8, 0, "eins ü\n".encode()),
        (8, 5, "eins ü\nzwei\n".encode()),
        (0, 4, b"new\n"),
        (4, 4, b"new\nend\n"),
    ]


@pytest.mark.fault("S5")
async def test_a_log_read_again_after_a_restart_is_the_same_bytes_over(tmp_path: Path) -> None:
    client = Chosen(said("one\ntwo\n", "1"), said("one\n", "1"), said("two\nthree\n", "2"))
    log = tmp_path / "r/host/j/live.log"
    await chosen(tmp_path, client).perform(tail(None), lambda _: None)
    again = chosen(tmp_path, client)
    await again.perform(tail(None), lambda _: None)
    assert log.read_bytes() == b"one\ntwo\n"
    await again.perform(tail("1"), lambda _: None)
    assert log.read_bytes() == b"one\ntwo\nthree\n"


class Full(durable.System):
    """A full disk, for as many syscalls as it is told."""

    def __init__(self, number: int, times: int) -> None:
        self.number, self.left = number, times

    def sync(self, fd: int) -> None:
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))
        super().sync(fd)


@pytest.mark.fault("H12")
async def test_a_full_disk_holds_the_log_up_and_loses_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortage_module, "SPACE_SECONDS", 0.01)
    calls = 0
    real = artifacts.write_log

    def full(*args: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OSError(28, "No space left on device")
        real(*args, **options)

    monkeypatch.setattr(artifacts, "write_log", full)
    event = await chosen(tmp_path, Chosen(said("one\n", "1"))).perform(tail(None), lambda _: None)
    assert isinstance(event, ev.TailNews)
    assert (tmp_path / "r/host/j/live.log").read_bytes() == b"one\n"
    calls = -1_000_000
    with anyio.move_on_after(0.1) as scope:
        await chosen(tmp_path, Chosen(said("two\n", "1"))).perform(tail(None), lambda _: None)
    assert scope.cancelled_caught


def fetch() -> tuple[fx.Fetch, Chosen]:
    made = right_set()
    stream = compressed(made.tar())
    effect = fx.Fetch(
        **RUN,
        job=made.job,
        host_nonce=NONCE,
        step_dir=f"{RUN_ID}/steps/test/{made.job.job_id}",
        max_bytes=1 << 30,
    )
    return effect, Chosen(stream=stream, header=header_of(made.sealed(), stream))


@pytest.mark.spec("8")
async def test_a_fetched_set_is_staged_told_and_then_published(tmp_path: Path) -> None:
    effect, client = fetch()
    performer = chosen(tmp_path, client)
    posted: list[ev.Event] = []
    event = await performer.perform(effect, posted.append)
    assert isinstance(event, ev.Fetched)
    assert (event.summary.status, event.state, event.seq) == ("success", "SUCCEEDED", 3)
    assert [type(each) for each in posted] == [ev.StageNews]
    at = places_of(tmp_path, effect.job)
    assert at.staged.is_dir()
    assert not at.step.exists()
    publish = fx.Publish(run_id=RUN_ID, op=8, job_id=effect.job.job_id, step_dir=effect.step_dir)
    for _ in range(2):
        event = await performer.perform(publish, posted.append)
        assert isinstance(event, ev.Published)
        assert event.found
    assert (at.step / "job_index.json").exists()


@pytest.mark.fault("A1")
async def test_a_set_that_is_not_what_it_says_is_told_with_its_errors(tmp_path: Path) -> None:
    effect, client = fetch()
    other = right_set()
    other.files["build.log"] = b"other"
    client.stream = compressed(other.tar())
    event = await chosen(tmp_path, client).perform(effect, lambda _: None)
    assert isinstance(event, ev.FetchRefused)
    assert not event.trust
    assert event.errors[0].startswith("build.log: ")


@pytest.mark.fault("H12")
@pytest.mark.parametrize("number", [28, 122])
async def test_a_set_that_finds_no_space_is_fetched_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(shortage_module, "SPACE_SECONDS", 0.01)
    effect, client = fetch()
    performer = chosen(tmp_path, client)
    at = places_of(tmp_path, effect.job)
    at.host.mkdir(parents=True)
    told: list[ev.Event] = []
    with monkeypatch.context() as patch:
        patch.setattr(durable, "_sys", Full(number, 1))
        assert isinstance(await performer.perform(effect, told.append), ev.Fetched)
    details = [each.detail for each in told if isinstance(each, ev.StageNews) and each.detail]
    assert "space on this machine's disk" in " ".join(details)


async def test_a_disk_that_takes_no_set_is_told_as_such_and_the_next_try_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect, client = fetch()
    performer = chosen(tmp_path, client)
    at = places_of(tmp_path, effect.job)
    at.host.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "_sys", Full(5, 1))
        event = await performer.perform(effect, lambda _: None)
    assert isinstance(event, ev.LineCut)
    assert event.kind == Kind.ARTIFACTS
    assert "this machine" in (event.hint or "")
    assert not at.rejected.exists()
    assert isinstance(await performer.perform(effect, lambda _: None), ev.Fetched)


@pytest.mark.fault("H11")
async def test_a_disk_that_fails_a_log_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_options: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(artifacts, "write_log", broken)
    event = await chosen(tmp_path, Chosen(said("one\n", "1"))).perform(tail(None), lambda _: None)
    assert isinstance(event, ev.LineCut)
    assert (event.kind, event.message.rpartition(": ")[2]) == (Kind.ARTIFACTS, "Input/output error")
    assert "this machine" in (event.hint or "")


async def test_a_failure_of_the_registry_keeps_its_place(tmp_path: Path) -> None:
    effect, client = fetch()

    async def refuse(*_args: Any, **_options: Any) -> FetchHeader:
        raise Failure(Kind.ARTIFACTS, "too long", subkind="SIZE_EXCEEDED", hint="less")

    client.fetch = refuse  # type: ignore[method-assign]
    event = await chosen(tmp_path, client).perform(effect, lambda _: None)
    assert isinstance(event, ev.LineCut)
    assert (event.operation, event.kind, event.subkind, event.message, event.hint) == (
        "fetch",
        "ARTIFACTS",
        "SIZE_EXCEEDED",
        "too long",
        "less",
    )


class Damaging(Chosen):
    """A worker whose line damages what is uploaded."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self._reason = reason

    async def upload(self, *_args: object, **_options: object) -> None:
        raise RpcError(Code.INVALID_REQUEST, "the digest is wrong", {"reason": self._reason})


@pytest.mark.spec("3.2")
@pytest.mark.parametrize(
    ("reason", "subkind"), [("transport_digest", "TRANSPORT_DIGEST"), ("bundle_digest", "BUNDLE_DIGEST")]
)
async def test_a_bundle_damaged_on_its_way_is_a_transfer_that_may_be_tried_again(
    tmp_path: Path, reason: str, subkind: str
) -> None:
    effect = fx.Upload(**RUN, source=accepted().source, max_bytes=0, lease_id=None, fence=None)
    event = await chosen(tmp_path, Damaging(reason)).perform(effect, lambda _event: None)
    assert isinstance(event, ev.LineCut)
    assert (event.kind, event.subkind) == ("TRANSFER", subkind)


class Noting(Chosen):
    """A worker that notes how it is sent a bundle."""

    def __init__(self) -> None:
        super().__init__()
        self.upload_ids: list[str] = []

    async def upload(
        self, _request: object, _body: Path, progress: Callable[[int, int], None], upload_id: str
    ) -> None:
        progress(300, 900)
        progress(900, 900)
        self.upload_ids.append(upload_id)

    async def release(self, _request: object) -> None:
        raise Failure(Kind.SSH, "nobody is there", subkind="UNREACHABLE")


@pytest.mark.spec("5")
@pytest.mark.fault("S2")
async def test_the_same_upload_has_the_same_name_in_every_try_and_tells_where_it_goes_on(
    tmp_path: Path,
) -> None:
    client, posted = Noting(), list[ev.Event]()
    effect = fx.Upload(**RUN, source=accepted().source, max_bytes=0, lease_id=None, fence=None)
    for run_id in (RUN_ID, RUN_ID, "run-0000000002"):
        # Each by a daemon of its own, which remembers nothing.
        again = msgspec.structs.replace(effect, run_id=run_id)
        event = await chosen(tmp_path, client).perform(again, posted.append)
        assert isinstance(event, ev.Uploaded)
    first, second, other = client.upload_ids
    assert first == second != other
    told = [(news.stage, news.done, news.total) for news in posted if isinstance(news, ev.StageNews)]
    assert told[:2] == [("upload", 300, 900), ("upload", 900, 900)]


@pytest.mark.fault("S6")
async def test_with_the_lease_goes_what_a_cut_fetch_left_also_out_of_reach(tmp_path: Path) -> None:
    effect, _ = fetch()
    at = places_of(tmp_path, effect.job)
    artifacts.prepare(at)
    came = at.stream.with_name(f"{at.stream.name}.{'a' * 64}.part")
    came.write_bytes(b"bytes")
    release = fx.Release(**RUN, lease_id="lease-00000001", fence=1)
    event = await chosen(tmp_path, Noting()).perform(release, lambda _: None)
    assert isinstance(event, ev.LineCut)
    assert not came.exists()
