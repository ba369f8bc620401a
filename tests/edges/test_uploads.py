"""A changed tree to its worker: what changed alone where that will do, else all of it; a real worker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.cutting import CuttingTransport
from support.trees import make
from support.worker_pipe import COMMAND, Bench, a_bench

from rch.contract.errors import Failure
from rch.contract.worker_rpc import Feature, HasSourceRequest
from rchd.core import effects as fx
from rchd.edges import parts
from rchd.edges.bases import Memory
from rchd.edges.intake import source_record
from rchd.edges.local import LocalTransport
from rchd.edges.snapshot import Snapshot, SnapshotOptions, take
from rchd.edges.uploads import Upload
from rchd.edges.worker_client import Deadlines, WorkerClient

QUICK = Deadlines(connect=20, probe=20, call=20, stall=20, digest=20, tail_grace=20)


class Desk:
    """A tree, its spool, and a worker that sources go to."""

    def __init__(self, folder: Path, client: WorkerClient, way: CuttingTransport) -> None:
        texts = {n: "".join(f"let f{n}x{k} = {k * k * n}\n" for k in range(200)) for n in range(40)}
        self.root = make(folder / "root", {f"Sources/f{n}.swift": text for n, text in texts.items()})
        self.spool = folder / "spool"
        self.client = client
        self.way = way
        self._memory = Memory()

    def take(self) -> Snapshot:
        return take(self.root, SnapshotOptions(), self.spool, memory=self._memory)

    def edit(self, text: str = "let f7 = 70\n") -> Snapshot:
        make(self.root, {"Sources/f7.swift": text})
        return self.take()

    async def send(self, taken: Snapshot, *, max_bytes: int = 0) -> list[dict[str, Any]]:
        """Upload it; the payloads of the requests that this took."""
        effect = fx.Upload(
            run_id="run-0000000001",
            op=1,
            target=fx.Target(worker="mini", protocol=1, deadline=20),
            source=source_record(taken),
            max_bytes=max_bytes,
            lease_id=None,
            fence=None,
        )
        self.way.lines = []
        told: list[tuple[int, int]] = []
        upload = Upload(
            self.client,
            effect,
            host_id="host-000000001",
            spool=self.spool,
            progress=lambda done, total: told.append((done, total)),
        )
        await upload.run()
        assert told[-1][0] == told[-1][1]
        found = await self.client.has_source(HasSourceRequest(source_sha256=taken.source_sha256))
        assert found.exists
        requests = [json.loads(line) for line in self.way.lines]
        return [each["payload"] for each in requests if each["op"] == "upload_source"]


@asynccontextmanager
async def desk_at(folder: Path, bench: Bench) -> AsyncIterator[Desk]:
    way = CuttingTransport(LocalTransport(COMMAND, bench.env), lambda _channel: None)
    client = WorkerClient("mini", way, deadlines=QUICK)
    try:
        await client.probe()
        yield Desk(folder, client, way)
    finally:
        await client.close()


@pytest.mark.spec("5")
async def test_a_change_goes_alone_into_what_the_worker_has(tmp_path: Path) -> None:
    with a_bench(tmp_path / "bench") as bench:
        async with desk_at(tmp_path, bench) as desk:
            first = desk.take()
            await desk.send(first)
            changed = desk.edit()
            (request,) = await desk.send(changed)
            assert request["base"]["source_sha256"] == first.source_sha256
            assert request["stream"]["content_length"] == changed.compressed_bytes
            assert changed.compressed_bytes * 10 < first.compressed_bytes
            (desk.root / "Sources/f3.swift").unlink()
            (request,) = await desk.send(desk.take())
            assert request["base"]["removed"] == ["Sources/f3.swift"]
            assert not list(desk.spool.glob("*.tmp"))


@pytest.mark.spec("5")
@pytest.mark.fault("W8")
async def test_a_worker_without_the_base_is_given_that_and_then_the_change(tmp_path: Path) -> None:
    with a_bench(tmp_path / "bench") as bench:
        async with desk_at(tmp_path, bench) as desk:
            first = desk.take()
            changed = desk.edit()
            requests = await desk.send(changed)
            assert [each["source_sha256"] for each in requests] == [
                changed.source_sha256,
                first.source_sha256,
                changed.source_sha256,
            ]
            assert [each.get("base") is not None for each in requests] == [True, False, True]
            assert len(await desk.send(desk.edit("let f7 = 8\n"))) == 1


@pytest.mark.spec("3.1", "5")
async def test_a_worker_that_takes_no_thin_ones_gets_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_bench(tmp_path / "bench") as bench:
        async with desk_at(tmp_path, bench) as desk:
            offers = desk.client.offers
            monkeypatch.setattr(
                desk.client, "offers", lambda one: one is not Feature.UPLOAD_THIN and offers(one)
            )
            desk.take()
            changed = desk.edit()
            (request,) = await desk.send(changed)
            assert "base" not in request
            assert request["stream"]["content_length"] > changed.compressed_bytes
            whole = [each.name for each in desk.spool.glob(f"{changed.source_sha256}-*.tar.zst")]
            assert [request["stream"]["content_sha256"] in each for each in whole] == [True]


@pytest.mark.spec("5")
@pytest.mark.fault("S1")
async def test_a_large_change_goes_in_parts_into_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 4096)
    with a_bench(tmp_path / "bench") as bench:
        async with desk_at(tmp_path, bench) as desk:
            await desk.send(desk.take())
            noise = "".join(chr(33 + n * 7919 % 90) + str(n * 104_729) for n in range(4000))
            requests = await desk.send(desk.edit(noise))
            assert len(requests) > 3
            assert all(each["base"] and each["resume"] for each in requests)
            assert [each["resume"]["last"] for each in requests[-2:]] == [False, True]


@pytest.mark.spec("5")
async def test_what_is_too_large_for_the_worker_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with a_bench(tmp_path / "bench") as bench:
        async with desk_at(tmp_path, bench) as desk:
            desk.take()
            changed = desk.edit()
            with pytest.raises(Failure) as caught:
                await desk.send(changed, max_bytes=changed.compressed_bytes)
            assert caught.value.label == "BUNDLER / SIZE_EXCEEDED"  # of the base, which it does not have
            assert [len(line) > 0 for line in desk.way.lines].count(True) == 1


@pytest.mark.fault("S2")
@pytest.mark.parametrize("gone", ["thin", "base", "both"])
async def test_a_spool_that_vanished_is_told(tmp_path: Path, gone: str) -> None:
    with a_bench(tmp_path / "bench") as bench:
        async with desk_at(tmp_path, bench) as desk:
            desk.take()
            changed = desk.edit()
            assert changed.base is not None
            for name, path in (
                ("thin", changed.spool_path),
                ("base", desk.spool / changed.base.spool_name),
            ):
                if gone in {name, "both"}:
                    path.unlink()
            with pytest.raises(Failure) as caught:
                await desk.send(changed)
            assert caught.value.kind == "TRANSFER"
