"""An upload that is cut goes on where it was: a real worker, real deaths, a real sshd and a bad line."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import zstandard
from support import fake_parts, sshd
from support.cutting import CuttingTransport
from support.fault_proxy import UP, CutAfter, fault_proxy
from support.worker_pipe import COMMAND, MANIFEST, Bench, a_bench, tar, until

from rch.contract.errors import Failure
from rch.contract.ids import is_id
from rch.contract.worker_rpc import Feature, RpcError, Stream, UploadRequest
from rchd.edges import parts
from rchd.edges.channels import Transport
from rchd.edges.local import LocalTransport
from rchd.edges.parts import PART_BYTES, upload_id_of
from rchd.edges.ssh_transport import SshTarget, SshTransport
from rchd.edges.worker_client import Deadlines, WorkerClient

PART = 64 << 10
LINE = 2 << 10  # room for a header line
QUICK = Deadlines(connect=20, probe=20, call=20, stall=20, digest=20, tail_grace=20)
UPLOAD = "upload-00000001"


@dataclass
class Bundle:
    """A source of some 330 KiB that does not compress, spooled."""

    path: Path
    tar: bytes = field(
        default_factory=lambda: tar({"Package.swift": MANIFEST, "noise": os.urandom(330_000)})
    )

    def __post_init__(self) -> None:
        self.path.write_bytes(zstandard.compress(self.tar))

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def source_sha256(self) -> str:
        return hashlib.sha256(self.tar).hexdigest()

    @property
    def request(self) -> UploadRequest:
        content = hashlib.sha256(self.path.read_bytes()).hexdigest()
        stream = Stream(content_length=self.size, content_sha256=content)
        return UploadRequest(source_sha256=self.source_sha256, stream=stream)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path / "bench") as bench:
        yield bench


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path / "spool")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", PART)


def kill(channel: Any) -> None:
    """The worker's process dies."""
    os.kill(channel.pid, signal.SIGKILL)


@asynccontextmanager
async def client_of(
    transport: Transport, cut: Callable[[Any], object] = kill
) -> AsyncIterator[tuple[WorkerClient, CuttingTransport]]:
    """A client that was probed, and its way, which counts from here on."""
    way = CuttingTransport(transport, cut)
    client = WorkerClient("mini", way, deadlines=QUICK)
    try:
        await client.probe()
        way.sent, way.opened, way.edges, way.lines = 0, 0, [], []
        yield client, way
    finally:
        await client.close()


def local(bench: Bench) -> LocalTransport:
    return LocalTransport(COMMAND, bench.env)


def at_rest(bench: Bench) -> list[str]:
    return sorted(path.name for path in (bench.data / "sources").rglob("*") if path.is_file())


def check_stored(bench: Bench, bundle: Bundle) -> None:
    digest = bundle.source_sha256
    assert (bench.data / "sources" / f"{digest}.tar").read_bytes() == bundle.tar
    # That it was verified is noted last: who dies before it verifies it once more.
    kept = [name for name in at_rest(bench) if not name.endswith(".seen")]
    assert kept == [f"{digest}.{suffix}" for suffix in ("index", "json", "tar")]


async def upload(client: WorkerClient, bundle: Bundle, tries: int = 2) -> int:
    """Upload as the core does, which tries again; how many tries it took."""
    for number in range(1, tries):
        with suppress(Failure):
            await client.upload(bundle.request, bundle.path, upload_id=UPLOAD)
            return number
    await client.upload(bundle.request, bundle.path, upload_id=UPLOAD)
    return tries


def resumes(way: CuttingTransport) -> list[dict[str, Any] | None]:
    return [json.loads(line)["payload"].get("resume") for line in way.lines]


# --- the plain way --------------------------------------------------------------------


@pytest.mark.spec("5")
async def test_a_large_bundle_goes_in_parts_on_one_channel(bench: Bench, bundle: Bundle) -> None:
    async with client_of(local(bench)) as (client, way):
        steps: list[tuple[int, int]] = []
        result = await client.upload(
            bundle.request, bundle.path, lambda *step: steps.append(step), upload_id=UPLOAD
        )
        assert (result.stored, way.opened) == (True, 1)
        asked, *sent = resumes(way)
        assert asked == {"upload_id": UPLOAD, "offset": 0, "last": False}
        assert [each["offset"] for each in sent if each] == list(range(0, bundle.size, PART // 2))
        whole = bundle.request.stream
        assert sent[-1] == {
            "upload_id": UPLOAD,
            "offset": bundle.size // (PART // 2) * (PART // 2),
            "last": True,
            "total_length": bundle.size,
            "total_sha256": whole.content_sha256,
        }
        assert not any("total_length" in (each or {}) for each in sent[:-1])
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1] == (bundle.size, bundle.size)
    check_stored(bench, bundle)


@pytest.mark.spec("5")
@pytest.mark.parametrize("why", ["small", "no id", "not offered"])
async def test_what_needs_no_parts_goes_in_one_piece(
    bench: Bench, bundle: Bundle, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(local(bench)) as (client, way):
        if why == "small":
            monkeypatch.setattr(parts, "PART_BYTES", bundle.size)
        if why == "not offered":
            without(client, Feature.UPLOAD_RESUMABLE)
        await client.upload(bundle.request, bundle.path, upload_id=None if why == "no id" else UPLOAD)
        assert (resumes(way), way.opened) == ([None], 1)
    check_stored(bench, bundle)


def without(client: WorkerClient, feature: Feature) -> None:
    """As if the worker had not named `feature`."""
    probed = client.probed
    assert probed is not None
    kept = tuple(each for each in probed.features if each != feature)
    client._probed = msgspec.structs.replace(probed, features=kept)


@pytest.mark.spec("5")
async def test_without_sessions_each_part_has_a_channel(
    bench: Bench, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 2 * PART)
    async with client_of(local(bench)) as (client, way):
        without(client, Feature.SESSION)
        way.cut_at(3 * PART)
        assert await upload(client, bundle, 1) == 1
        assert way.opened == len(way.lines)
    check_stored(bench, bundle)


async def test_a_source_that_came_meanwhile_is_not_sent(bench: Bench, bundle: Bundle) -> None:
    async with client_of(local(bench)) as (client, way):
        with bench.pipe() as pipe:
            bench.upload(pipe, bundle.tar)
        await client.upload(bundle.request, bundle.path, upload_id=UPLOAD)
        assert way.sent < LINE
    check_stored(bench, bundle)


# --- cuts -----------------------------------------------------------------------------


async def cut_once(bench: Bench, bundle: Bundle, at: int) -> None:
    """Cut at the `at`-th byte that goes up: all is there in the end, and at most a part went twice."""
    async with client_of(local(bench)) as (client, way):
        way.cut_at(at)
        tries = await upload(client, bundle)
        assert way.opened == 2, "there was a cut"
        assert tries == 1 or at <= PART + 2 * LINE, "a cut after a part costs no try"
        assert way.sent <= bundle.size + PART + LINE * len(way.lines)
        if at > PART + LINE:
            assert bundle.size + at > way.sent, "it did not begin again"
    check_stored(bench, bundle)


@pytest.mark.spec("5")
@pytest.mark.fault("S1")
@pytest.mark.parametrize("at", [100, PART // 2, 3 * PART + 12_345])
async def test_a_cut_upload_goes_on_where_it_was(bench: Bench, bundle: Bundle, at: int) -> None:
    await cut_once(bench, bundle, at)


@pytest.mark.faults_long
@pytest.mark.fault("S1")
@pytest.mark.timeout(900)
async def test_a_cut_at_every_frame_edge_and_every_64_kib(bench: Bench, bundle: Bundle) -> None:
    async with client_of(local(bench)) as (client, way):
        await upload(client, bundle, 1)
        edges = set(way.edges)
        end = way.sent
    near = {edge + off for edge in edges for off in (-1, 0, 1)} | set(range(0, end, 64 << 10))
    cases = sorted(at for at in near if at < end)
    assert len(cases) > 30
    for at in cases:
        for path in (bench.data / "sources").glob("*.*"):
            path.unlink()
        await cut_once(bench, bundle, at)


@pytest.mark.fault("S1")
async def test_an_answer_that_was_lost_is_asked_for_again(bench: Bench, bundle: Bundle) -> None:
    """The last part arrived and was stored; only its answer did not come back."""
    async with client_of(local(bench)) as (client, way):
        await upload(client, bundle, 1)
        end, way.sent = way.sent, 0
        for path in (bench.data / "sources").glob("*.*"):
            path.unlink()
        stored = bench.data / "sources" / f"{bundle.source_sha256}.tar"

        def cut(channel: Any) -> None:
            until(stored.exists)
            kill(channel)

        way.cut = cut
        way.cut_at(end)
        assert await upload(client, bundle, 1) == 1
        assert way.sent < end + LINE
    check_stored(bench, bundle)


@contextmanager
def both_die(way: CuttingTransport, at: int) -> Iterator[None]:
    """The worker's process dies at that byte, and with it what goes on in here."""
    with anyio.CancelScope() as scope:

        def die(channel: Any) -> None:
            kill(channel)
            scope.cancel()

        way.cut = die
        way.cut_at(at)
        yield
    assert scope.cancelled_caught
    way.cut = kill


@pytest.mark.fault("S2")
async def test_who_comes_back_without_memory_goes_on_too(bench: Bench, bundle: Bundle) -> None:
    """Both ends die in the middle: a new daemon knows nothing but the run and its spool."""
    async with client_of(local(bench)) as (client, way):
        with both_die(way, 3 * PART + PART // 2):
            await upload(client, bundle, 1)
    (left,) = (bench.data / "sources" / "incoming").iterdir()
    there = left.stat().st_size
    assert 2 * PART <= there <= 3 * PART + PART // 2
    async with client_of(local(bench)) as (client, way):
        steps: list[tuple[int, int]] = []
        await client.upload(bundle.request, bundle.path, lambda *step: steps.append(step), upload_id=UPLOAD)
        assert steps[0] == (there, bundle.size)
        assert way.sent <= bundle.size - there + LINE * len(way.lines)
    check_stored(bench, bundle)


@pytest.mark.fault("S2")
async def test_other_bytes_of_the_same_source_are_another_upload(bench: Bench, bundle: Bundle) -> None:
    """The spool was made anew by another compressor: nothing is spliced, and nothing is left over."""

    def named() -> str:
        content = bundle.request.stream.content_sha256
        return upload_id_of("host-0000000001", "run-0000000001", bundle.source_sha256, content)

    async with client_of(local(bench)) as (client, way):
        with both_die(way, 3 * PART):
            await client.upload(bundle.request, bundle.path, upload_id=named())
        before = named()
        bundle.path.write_bytes(zstandard.ZstdCompressor(level=19).compress(bundle.tar))
        assert named() != before
        way.sent = 0
        await client.upload(bundle.request, bundle.path, upload_id=named())
        assert way.sent >= bundle.size
    check_stored(bench, bundle)


def test_an_upload_is_named_by_host_run_source_and_content() -> None:
    facts = ["host-0000000001", "run-0000000001", "a" * 64, "b" * 64]
    one = upload_id_of(*facts)
    assert is_id(one)
    assert upload_id_of(*facts) == one
    others = {
        upload_id_of(*["c" * 64 if n == at else each for n, each in enumerate(facts)]) for at in range(4)
    }
    assert len(others | {one}) == 5


def test_a_part_is_small_enough_to_send_twice_and_large_enough_for_a_long_line() -> None:
    assert 4 << 20 <= PART_BYTES <= 16 << 20


@pytest.mark.spec("5")
@pytest.mark.fault("S4")
async def test_two_hosts_send_one_source_at_once_and_both_are_done(bench: Bench, bundle: Bundle) -> None:
    async def send(upload_id: str) -> None:
        async with client_of(local(bench)) as (client, _):
            result = await client.upload(bundle.request, bundle.path, upload_id=upload_id)
            assert result.stored

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(send, f"upload-0000000{number}")
    check_stored(bench, bundle)


@pytest.mark.fault("W8")
async def test_parts_that_were_collected_meanwhile_are_sent_again(bench: Bench, bundle: Bundle) -> None:
    async with client_of(local(bench)) as (client, way):
        incoming = bench.data / "sources" / "incoming"
        at = [4 * PART]

        def collect(done: int, total: int) -> None:
            del total
            if done in at:
                at.clear()
                for path in incoming.glob("*.part"):
                    path.unlink()

        result = await client.upload(bundle.request, bundle.path, collect, upload_id=UPLOAD)
        assert result.stored
        assert way.sent > bundle.size + 2 * PART
    check_stored(bench, bundle)


# --- workers that lie -----------------------------------------------------------------


@pytest.mark.fault("S3")
@pytest.mark.parametrize("scenario", ["beyond", "says_nothing", "stuck", "always_corrects"])
async def test_a_worker_whose_offsets_lead_nowhere_is_given_up(
    tmp_path: Path, bundle: Bundle, scenario: str
) -> None:
    transport = LocalTransport(fake_parts.command(scenario, tmp_path / "came"))
    async with client_of(transport) as (client, way):
        with pytest.raises(Failure) as caught:
            await client.upload(bundle.request, bundle.path, upload_id=UPLOAD)
        assert caught.value.label == "EXECUTOR / PROTOCOL_ERROR"
        assert len(way.lines) <= 2 * parts.SPARE + 2
        assert way.sent <= (parts.SPARE + 1) * PART + LINE * len(way.lines)


@pytest.mark.fault("S3")
@pytest.mark.parametrize("scenario", ["honest", "loses", "no_room"])
async def test_the_workers_own_offset_wins(tmp_path: Path, bundle: Bundle, scenario: str) -> None:
    came = tmp_path / "came"
    async with client_of(LocalTransport(fake_parts.command(scenario, came))) as (client, way):
        assert (await client.upload(bundle.request, bundle.path, upload_id=UPLOAD)).stored
        assert came.read_bytes() == bundle.path.read_bytes()
        if scenario == "no_room":
            assert resumes(way)[-1] is None


@pytest.mark.fault("S3")
async def test_a_refusal_that_is_not_about_the_offset_is_the_callers(bench: Bench, bundle: Bundle) -> None:
    async with client_of(local(bench)) as (client, _):
        request = msgspec.structs.replace(bundle.request, lease_id="lease-00000001", fence=1)
        with pytest.raises(RpcError, match="LEASE_EXPIRED"):
            await client.upload(request, bundle.path, upload_id=UPLOAD)


async def test_a_spool_that_changed_is_never_a_source(bench: Bench, bundle: Bundle) -> None:
    request = bundle.request
    data = bytearray(bundle.path.read_bytes())
    data[5 * PART] ^= 1
    bundle.path.write_bytes(data)
    async with client_of(local(bench)) as (client, _):
        with pytest.raises(RpcError) as caught:
            await client.upload(request, bundle.path, upload_id=UPLOAD)
        assert caught.value.data == {"reason": "transport_digest"}
        assert at_rest(bench) == []
        bundle.path.write_bytes(data[:-1])
        with pytest.raises(Failure, match=f"{bundle.size} bytes, not {len(data)}") as failed:
            await client.upload(request, bundle.path, upload_id=UPLOAD)
        assert failed.value.label == "TRANSFER"


# --- over SSH -------------------------------------------------------------------------

over_ssh = pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")
RPC = (sys.executable, "-m", "worker_agent", "xcode", "rpc")


def target_of(server: sshd.SshdServer, port: int) -> SshTarget:
    return SshTarget(
        name="mini",
        host=server.host,
        port=port,
        user=server.user,
        fingerprint=server.fingerprints["ed25519"],
        key_path=server.client_key,
        config=(),
    )


@pytest.mark.sshd
@over_ssh
@pytest.mark.fault("S1")
async def test_an_sshd_that_dies_again_and_again_delays_and_loses_nothing(
    bench: Bench, bundle: Bundle, tmp_path: Path
) -> None:
    with sshd.SshdServer(tmp_path / "sshd", command=RPC, env=bench.env) as server:
        transport = SshTransport(target_of(server, server.port))
        async with client_of(transport, lambda _: server.kill_sessions()) as (client, way):
            cuts = (PART + 30_000, 3 * PART + 50_000)
            way.cut_at(*cuts)
            assert await upload(client, bundle, 1) == 1
            assert way.opened == 1 + len(cuts)
            assert way.sent <= bundle.size + len(cuts) * PART + LINE * len(way.lines)
    check_stored(bench, bundle)


@pytest.mark.sshd
@over_ssh
@pytest.mark.fault("S1")
@pytest.mark.parametrize("how", ["rst", pytest.param("fin", marks=pytest.mark.faults_long)])
async def test_a_line_that_breaks_every_two_parts_carries_all_of_it_in_one_try(
    bench: Bench, bundle: Bundle, tmp_path: Path, how: Any
) -> None:
    with sshd.SshdServer(tmp_path / "sshd", command=RPC, env=bench.env) as server:
        async with (
            fault_proxy(server.port) as line,
            client_of(SshTransport(target_of(server, line.port))) as (client, way),
        ):
            line.set(CutAfter(2 * PART + 10_000, UP, how=how, again=True))
            assert await upload(client, bundle, 1) == 1
            assert line.strikes >= 2
            assert way.sent <= bundle.size + (line.strikes + 1) * PART + LINE * len(way.lines)
    check_stored(bench, bundle)
