"""A fetch that is cut goes on where it was, and never joins two sets."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from support import sshd
from support.fault_proxy import DOWN, CutAfter, fault_proxy
from support.sets import a_job, places_of
from support.worker_pipe import COMMAND, Bench, a_bench, submit_and_end

from rch.contract.errors import Failure
from rch.contract.records import Job
from rch.contract.worker_envelope import decode_fetch_header
from rch.contract.worker_rpc import Feature, FetchHeader
from rchd.edges import artifacts
from rchd.edges.channels import Channel, LineCut
from rchd.edges.fetching import begun
from rchd.edges.local import LocalTransport
from rchd.edges.ssh_transport import SshTarget, SshTransport
from rchd.edges.worker_client import Deadlines, WorkerClient

QUICK = Deadlines(connect=20, probe=20, call=20, stall=20, digest=20, tail_grace=20)
NOISE = "head -c 300000 /dev/urandom | od -An -tx1 -v\n"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Job]]:
    """A worker with one job at its end, whose set has some hundreds of KiB."""
    with a_bench(tmp_path_factory.mktemp("sealed")) as bench:
        with bench.pipe() as pipe:
            job = bench.script(pipe, NOISE)
            assert submit_and_end(pipe, job) == "SUCCEEDED"
            _, stream = pipe.fetch(job.job_id)
            assert len(stream) > 200_000
        yield bench, job


def set_of(bench: Bench, job: Job) -> bytes:
    """The stream of bytes that is the packed set."""
    (packed,) = (bench.data / "jobs" / job.job_id / "attempt-1" / "packed").iterdir()
    return packed.read_bytes()


def files(folder: Path) -> list[Path]:
    """Every file below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Way:
    """A way to a worker that breaks after so many bytes came down, once, and counts them."""

    def __init__(self, inner: Any, cut_at: int | None = None) -> None:
        self.inner, self.left = inner, cut_at
        self.came = 0
        self.host = "mini"

    async def open(self) -> Channel:
        channel = await self.inner.open()
        receive = channel.receive

        async def counted(max_bytes: int = 256 << 10) -> bytes:
            if self.left == 0:
                self.left = None
                raise LineCut("it was cut")
            data: bytes = await receive(max_bytes if self.left is None else min(max_bytes, self.left))
            self.came += len(data)
            if self.left is not None:
                self.left -= len(data)
            return data

        channel.receive = counted
        return channel  # type: ignore[no-any-return]

    async def close(self) -> None:
        await self.inner.close()


@asynccontextmanager
async def client_of(transport: Any) -> AsyncIterator[WorkerClient]:
    client = WorkerClient("mini", transport, deadlines=QUICK)
    try:
        await client.probe()
        transport.came = 0
        yield client
    finally:
        await client.close()


async def cut_at(client: WorkerClient, way: Way, job: Job, into: Path, at: int) -> Failure:
    """A fetch whose line breaks after `at` bytes."""
    way.left = at
    with pytest.raises(Failure) as caught:
        await client.fetch(job.job_id, into)
    assert into not in files(into.parent)
    return caught.value


@pytest.mark.spec("3.2")
@pytest.mark.fault("S6")
async def test_a_cut_fetch_goes_on_at_its_last_byte(sealed: tuple[Bench, Job], tmp_path: Path) -> None:
    bench, job = sealed
    into, whole = tmp_path / "set", set_of(*sealed)
    way = Way(LocalTransport(COMMAND, bench.env))
    async with client_of(way) as client:
        for at in (50_000, 90_000):
            failure = await cut_at(client, way, job, into, at)
            assert failure.label in {"TRANSFER", "SSH / UNREACHABLE"}
        left = begun(into)
        assert left is not None
        assert left.path.read_bytes() == whole[: left.length]
        steps: list[tuple[int, int]] = []
        header = await client.fetch(job.job_id, into, lambda *step: steps.append(step))
        assert steps[0] == (left.length, len(whole))
        assert steps[-1] == (len(whole), len(whole))
        assert header.offset == left.length
    assert into.read_bytes() == whole
    assert files(tmp_path) == [into]


@pytest.mark.fault("S6")
async def test_the_bytes_that_came_are_not_sent_again(sealed: tuple[Bench, Job], tmp_path: Path) -> None:
    bench, job = sealed
    whole = set_of(*sealed)
    way = Way(LocalTransport(COMMAND, bench.env))
    async with client_of(way) as client:
        await client.fetch(job.job_id, tmp_path / "whole")
        once, way.came = way.came, 0
        await cut_at(client, way, job, tmp_path / "set", once - 1_000)
        first, way.came = way.came, 0
        await client.fetch(job.job_id, tmp_path / "set")
        header = once - len(whole)
        assert way.came <= len(whole) - (first - header) + header + 100, "an offset is a member more"
    assert (tmp_path / "set").read_bytes() == whole


@pytest.mark.faults_long
@pytest.mark.fault("S6")
@pytest.mark.timeout(600)
async def test_a_cut_at_every_16_kib_and_at_the_edges(sealed: tuple[Bench, Job], tmp_path: Path) -> None:
    bench, job = sealed
    whole = set_of(*sealed)
    way = Way(LocalTransport(COMMAND, bench.env))
    async with client_of(way) as client:
        await client.fetch(job.job_id, tmp_path / "whole")
        end, header = way.came, way.came - len(whole)
    edges = (1, header - 1, header, header + 1, end - 1)
    for at in sorted({*range(1, end, 16 << 10), *edges}):
        into = tmp_path / f"set-{at}"
        # A client of its own: a spare channel that dies before it has answered is nobody's cut.
        async with client_of(way) as client:
            await cut_at(client, way, job, into, at)
            left = begun(into)
            assert (left.length if left else 0) == max(0, at - header)
            await client.fetch(job.job_id, into)
        assert into.read_bytes() == whole
        into.unlink()


@pytest.mark.fault("S6")
async def test_who_comes_back_without_memory_goes_on_too(sealed: tuple[Bench, Job], tmp_path: Path) -> None:
    """The daemon is cancelled, or dies, in the middle."""
    bench, job = sealed
    into, whole = tmp_path / "set", set_of(*sealed)
    async with client_of(Way(LocalTransport(COMMAND, bench.env))) as client:
        with anyio.CancelScope() as scope:
            await client.fetch(job.job_id, into, lambda done, _: scope.cancel() if done > 10_000 else None)
        assert scope.cancelled_caught
    left = begun(into)
    assert left is not None
    assert 10_000 < left.length <= len(whole)
    async with client_of(Way(LocalTransport(COMMAND, bench.env))) as client:
        assert (await client.fetch(job.job_id, into)).offset == left.length
    assert into.read_bytes() == whole


# --- sets that changed ----------------------------------------------------------------


@pytest.fixture
def changing(sealed: tuple[Bench, Job], tmp_path: Path) -> tuple[Bench, Job]:
    """The same worker, on a copy of its home that may be changed."""
    bench, job = sealed
    other = Bench(tmp_path / "other")
    shutil.rmtree(other.home)
    shutil.copytree(bench.home, other.home)
    return other, job


def change(bench: Bench, job: Job, *, longer: int) -> bytes:
    """Another packed set in the place of the one that was begun; as many bytes longer."""
    (packed,) = (bench.data / "jobs" / job.job_id / "attempt-1" / "packed").iterdir()
    data = os.urandom(packed.stat().st_size + longer)
    packed.unlink()
    packed.with_name(f"{hashlib.sha256(data).hexdigest()}.tar.zst").write_bytes(data)
    return data


@pytest.mark.spec("3.2")
@pytest.mark.fault("S6")
@pytest.mark.parametrize("longer", [0, 5_000, -150_000])
async def test_a_set_that_changed_is_fetched_from_its_beginning(
    changing: tuple[Bench, Job], tmp_path: Path, longer: int
) -> None:
    bench, job = changing
    into = tmp_path / "set"
    way = Way(LocalTransport(COMMAND, bench.env))
    async with client_of(way) as client:
        await cut_at(client, way, job, into, 200_000)
        other = change(bench, job, longer=longer)
        header = await client.fetch(job.job_id, into)
        assert (header.offset, header.set_length) == (0, len(other))
    assert into.read_bytes() == other
    assert begun(into) is None


@pytest.mark.fault("S6")
async def test_bytes_that_were_damaged_here_meanwhile_are_never_taken(
    sealed: tuple[Bench, Job], tmp_path: Path
) -> None:
    bench, job = sealed
    into = tmp_path / "set"
    way = Way(LocalTransport(COMMAND, bench.env))
    async with client_of(way) as client:
        await cut_at(client, way, job, into, 100_000)
        left = begun(into)
        assert left is not None
        left.path.write_bytes(bytes(left.length))
        with pytest.raises(Failure) as caught:
            await client.fetch(job.job_id, into)
        assert caught.value.label == "ARTIFACTS / INTEGRITY_MISMATCH"
        assert files(tmp_path) == []
        await client.fetch(job.job_id, into)
    assert into.read_bytes() == set_of(*sealed)


@pytest.mark.fault("S6")
async def test_more_than_the_whole_is_begun_anew(sealed: tuple[Bench, Job], tmp_path: Path) -> None:
    bench, job = sealed
    into, whole = tmp_path / "set", set_of(*sealed)
    way = Way(LocalTransport(COMMAND, bench.env))
    async with client_of(way) as client:
        await cut_at(client, way, job, into, 100_000)
        left = begun(into)
        assert left is not None
        left.path.write_bytes(whole + b"more")
        await client.fetch(job.job_id, into)
        assert into.read_bytes() == whole
        left.path.write_bytes(whole)
        assert (await client.fetch(job.job_id, into)).offset == len(whole)
    assert into.read_bytes() == whole


async def test_a_worker_that_goes_on_at_no_offset_is_asked_for_all_of_it(
    sealed: tuple[Bench, Job], tmp_path: Path
) -> None:
    bench, job = sealed
    into = tmp_path / "set"
    way = Way(LocalTransport(COMMAND, bench.env))
    async with client_of(way) as client:
        await cut_at(client, way, job, into, 100_000)
        probed = client.probed
        assert probed is not None
        kept = tuple(each for each in probed.features if each != Feature.FETCH_RESUME)
        client._probed = msgspec.structs.replace(probed, features=kept)
        assert (await client.fetch(job.job_id, into)).offset == 0
    assert into.read_bytes() == set_of(*sealed)


async def test_a_set_that_is_over_the_limit_with_what_came_before_is_refused(
    sealed: tuple[Bench, Job], tmp_path: Path
) -> None:
    bench, job = sealed
    into, whole = tmp_path / "set", set_of(*sealed)
    way = Way(LocalTransport(COMMAND, bench.env))
    async with client_of(way) as client:
        await cut_at(client, way, job, into, 100_000)
        with pytest.raises(Failure) as caught:
            await client.fetch(job.job_id, into, max_bytes=len(whole) - 1)
        assert caught.value.label == "ARTIFACTS / SIZE_EXCEEDED"


@pytest.mark.fault("S6")
@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"offset": 7}, "EXECUTOR / PROTOCOL_ERROR"),
        ({"offset": -1}, "EXECUTOR / PROTOCOL_ERROR"),
        ({"set_length": 1}, "EXECUTOR / PROTOCOL_ERROR"),
        ({"set_sha256": "../../../../../tmp/evil"}, None),
        ({"set_sha256": "0" * 64}, None),
    ],
)
async def test_a_header_that_lies_names_no_file_and_joins_nothing(
    sealed: tuple[Bench, Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    label: str | None,
) -> None:
    bench, job = sealed
    into = tmp_path / "folder" / "set"
    into.parent.mkdir()

    def lying(line: bytes, request_id: str, job_id: str) -> FetchHeader:
        header = decode_fetch_header(line, request_id, job_id)
        return msgspec.structs.replace(header, **change)

    monkeypatch.setattr("rchd.edges.fetching.decode_fetch_header", lying)
    way = Way(LocalTransport(COMMAND, bench.env))
    async with client_of(way) as client:
        if label is None:
            await client.fetch(job.job_id, into)
            assert into.read_bytes() == set_of(*sealed)
        else:
            with pytest.raises(Failure) as caught:
                await client.fetch(job.job_id, into)
            assert caught.value.label == label
    assert files(tmp_path) in ([], [into])


# --- places ---------------------------------------------------------------------------


def test_what_came_outlives_the_next_fetch_and_goes_with_the_run(tmp_path: Path) -> None:
    at = places_of(tmp_path, a_job())
    artifacts.prepare(at)
    came = at.stream.with_name(f"{at.stream.name}.{'a' * 64}.part")
    came.write_bytes(b"bytes")
    at.stream.touch()
    artifacts.prepare(at)
    assert (came.exists(), at.stream.exists()) == (True, False)
    artifacts.forget_fetches(tmp_path, "run-of-another")
    assert came.exists()
    artifacts.forget_fetches(tmp_path, a_job().run_id)
    assert not came.exists()


def test_of_several_beginnings_none_is_used(tmp_path: Path) -> None:
    into = tmp_path / "set"
    for letter in "ab":
        into.with_name(f"set.{letter * 64}.part").write_bytes(b"bytes")
    assert begun(into) is None
    assert list(tmp_path.iterdir()) == []
    for name in ("set.x.part", f"set.{'a' * 64}.part"):
        (tmp_path / name).touch()
        assert begun(into) is None
        assert list(tmp_path.iterdir()) == []


# --- over SSH -------------------------------------------------------------------------


@pytest.mark.sshd
@pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")
@pytest.mark.fault("S6")
async def test_a_line_that_breaks_on_the_way_down_brings_the_set_by_and_by(
    sealed: tuple[Bench, Job], tmp_path: Path
) -> None:
    bench, job = sealed
    into, whole = tmp_path / "set", set_of(*sealed)
    command = (sys.executable, "-m", "worker_agent", "xcode", "rpc")
    with sshd.SshdServer(tmp_path / "sshd", command=command, env=bench.env) as server:
        async with fault_proxy(server.port) as line:
            target = SshTarget(
                name="mini",
                host=server.host,
                port=line.port,
                user=server.user,
                fingerprint=server.fingerprints["ed25519"],
                key_path=server.client_key,
                config=(),
            )
            async with client_of(SshTransport(target)) as client:
                offsets = []
                for cut in (100_000, 60_000):
                    line.set(CutAfter(cut, DOWN))
                    with pytest.raises(Failure):
                        await client.fetch(job.job_id, into)
                    left = begun(into)
                    assert left is not None
                    offsets.append(left.length)
                line.set()
                assert (await client.fetch(job.job_id, into)).offset == offsets[-1]
    assert offsets == sorted(set(offsets))
    assert into.read_bytes() == whole
