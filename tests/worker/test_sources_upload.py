"""Uploads into the source store, over the wire."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.small_disk import fill, small_disk
from support.worker_pipe import MANIFEST, Bench, Pipe, Refused, a_bench, submit, tar, until

SOURCE = tar({"Package.swift": MANIFEST, "Sources/a/main.swift": os.urandom(200_000)})
DIGEST = hashlib.sha256(SOURCE).hexdigest()
PACKED = zstandard.compress(SOURCE)
STORED = [f"{DIGEST}.{suffix}" for suffix in ("index", "json", "seen", "tar")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


def stream(body: bytes, **other: Any) -> dict[str, Any]:
    return {"content_length": len(body), "content_sha256": hashlib.sha256(body).hexdigest(), **other}


def stored(bench: Bench) -> list[str]:
    """Every file of the store, temporary ones too."""
    folder = bench.data / "sources"
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


@pytest.mark.spec("5")
@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_an_upload_is_stored_by_its_digest_and_found(bench: Bench, compression: str) -> None:
    body = PACKED if compression == "zstd" else SOURCE
    with bench.pipe() as pipe:
        assert pipe.ask("has_source", source_sha256=DIGEST) == {"exists": False}
        asked = {"source_sha256": DIGEST, "stream": stream(body, compression=compression)}
        assert pipe.ask("upload_source", body, **asked) == {"stored": True}
        assert pipe.ask("has_source", source_sha256=DIGEST) == {"exists": True}
        # A duplicate is read to its end, dropped and answered ok; the channel is in step.
        assert pipe.ask("upload_source", body, **asked) == {"stored": True}
        assert pipe.ask("has_source", source_sha256=DIGEST) == {"exists": True}
    assert (bench.data / "sources" / f"{DIGEST}.tar").read_bytes() == SOURCE
    assert stored(bench) == STORED


@pytest.mark.spec("3.2")
@pytest.mark.fault("T1")
def test_a_duplicate_that_is_not_what_it_says_is_refused_and_what_is_stored_stays(bench: Bench) -> None:
    with bench.pipe() as pipe:
        bench.upload(pipe, SOURCE)
        announced = {**stream(PACKED), "content_sha256": "0" * 64}
        with pytest.raises(Refused) as refusal:
            pipe.ask("upload_source", PACKED, source_sha256=DIGEST, stream=announced)
        assert (refusal.value.code, refusal.value.data["reason"]) == ("INVALID_REQUEST", "transport_digest")
        assert pipe.is_closed()
    assert stored(bench) == STORED


STREAM_MEMBERS = {"content_length", "content_sha256", "compression", "format"}
BAD = "INVALID_REQUEST"
# The change to a good request, the body, the code and the reason.
REFUSALS: dict[str, tuple[dict[str, Any], bytes, str, str | None]] = {
    "a wrong transport digest": ({"content_sha256": "0" * 64}, PACKED, BAD, "transport_digest"),
    "a wrong bundle digest": ({"source_sha256": "0" * 64}, PACKED, BAD, "bundle_digest"),
    "the tar of something else": ({"compression": "none"}, SOURCE[:512], BAD, "bundle_digest"),
    "no zstd": ({}, SOURCE, BAD, "compression"),
    "a frame that is cut": ({}, PACKED[:-9], BAD, "compression"),
    "a length below zero": ({"content_length": -1}, b"", BAD, None),
    "a digest that is none": ({"content_sha256": "x"}, PACKED, BAD, None),
    "an unknown compression": ({"compression": "lzma"}, PACKED, BAD, None),
    "an unknown format": ({"format": "zip"}, PACKED, BAD, None),
    "a base that is not there": ({"base": {"source_sha256": "0" * 64}}, PACKED, "BASE_MISSING", None),
    "a base that is none": ({"base": {"source_sha256": "x"}}, PACKED, BAD, None),
    "a part of nothing": ({"resume": {}}, PACKED, BAD, None),
    "a dead lease": ({"lease_id": "lease-000001", "fence": 1}, PACKED, "LEASE_EXPIRED", None),
    "a lease without its fence": ({"lease_id": "lease-000001"}, PACKED, BAD, None),
}


@pytest.mark.spec("3.2")
@pytest.mark.parametrize("case", REFUSALS)
def test_a_bad_upload_is_refused_closes_its_channel_and_leaves_nothing(bench: Bench, case: str) -> None:
    change, body, code, reason = REFUSALS[case]
    payload: dict[str, Any] = {"source_sha256": DIGEST, "stream": stream(body)}
    for key, value in change.items():
        (payload["stream"] if key in STREAM_MEMBERS else payload)[key] = value
    with bench.pipe() as pipe:
        with pytest.raises(Refused) as refusal:
            pipe.ask("upload_source", body, **payload)
        assert (refusal.value.code, refusal.value.data.get("reason")) == (code, reason)
        assert pipe.is_closed()
    assert stored(bench) == []


@pytest.mark.spec("5")
@pytest.mark.fault("T3")
def test_a_tar_with_the_right_files_in_another_form_is_refused(bench: Bench) -> None:
    other = SOURCE + bytes(512)
    with bench.pipe() as pipe, pytest.raises(Refused) as refusal:
        pipe.ask(
            "upload_source", other, source_sha256=hashlib.sha256(other).hexdigest(),
            stream=stream(other, compression="none"),
        )  # fmt: skip
    assert (refusal.value.code, refusal.value.data["reason"]) == ("INVALID_REQUEST", "not_canonical")
    assert stored(bench) == []


@pytest.mark.spec("3.2")
def test_an_announced_length_over_the_limit_is_refused_before_a_byte_is_read(bench: Bench) -> None:
    bench.configure(f"max_upload_bytes = {len(PACKED) - 1}\n")
    with bench.pipe() as pipe, pytest.raises(Refused) as refusal:
        pipe.ask("upload_source", source_sha256=DIGEST, stream=stream(PACKED))  # no body is sent
    assert (refusal.value.code, refusal.value.data) == ("PAYLOAD_TOO_LARGE", {"max_bytes": len(PACKED) - 1})


@pytest.mark.spec("5")
def test_a_source_of_exactly_the_limit_passes(bench: Bench) -> None:
    source = tar({"Package.swift": MANIFEST, "zeros": bytes(100_000)})
    bench.configure(f"max_upload_bytes = {len(source)}\n")
    with bench.pipe() as pipe:
        bench.upload(pipe, source)


@pytest.mark.fault("Z1")
@pytest.mark.parametrize("declares", [True, False])
def test_a_bomb_is_stopped_at_the_limit(bench: Bench, declares: bool) -> None:  # noqa: FBT001  (a parameter)
    bench.configure("max_upload_bytes = 1000000\n")
    packer = zstandard.ZstdCompressor(write_content_size=declares)
    bomb = packer.compress(bytes(64 << 20)) if declares else b"".join(_packed_blindly(packer, 64))
    with bench.pipe() as pipe, pytest.raises(Refused) as refusal:
        pipe.ask("upload_source", bomb, source_sha256=DIGEST, stream=stream(bomb))
    assert (refusal.value.code, refusal.value.data) == ("PAYLOAD_TOO_LARGE", {"max_bytes": 1_000_000})
    assert stored(bench) == []


def _packed_blindly(packer: zstandard.ZstdCompressor, mebibytes: int) -> list[bytes]:
    run = packer.compressobj()
    return [run.compress(bytes(1 << 20)) for _ in range(mebibytes)] + [run.flush()]


@pytest.mark.spec("3.2")
@pytest.mark.fault("S12")
def test_a_body_that_is_cut_short_stores_nothing(bench: Bench) -> None:
    with bench.pipe() as pipe:
        pipe.send(_header(PACKED) + PACKED[: len(PACKED) // 2])
        pipe.stdin.close()
        with pytest.raises(Refused) as refusal:
            pipe.answer()
    assert (refusal.value.code, refusal.value.data) == ("INVALID_REQUEST", {"reason": "short_body"})
    assert stored(bench) == []


def _header(body: bytes) -> bytes:
    payload = {"source_sha256": DIGEST, "stream": stream(body)}
    line = {"protocol_version": 1, "op": "upload_source", "request_id": "request-0001", "payload": payload}
    return json.dumps(line).encode() + b"\n"


@pytest.mark.spec("5")
@pytest.mark.fault("S4")
def test_two_uploads_of_one_source_at_once_both_succeed(bench: Bench) -> None:
    answers: list[dict[str, Any]] = []

    def send(pipe: Pipe, gate: threading.Barrier) -> None:
        pipe.send(_header(PACKED) + PACKED[:-10])
        gate.wait(10)
        pipe.send(PACKED[-10:])
        answers.append(pipe.answer()["payload"])

    with bench.pipe() as one, bench.pipe() as two:
        gate = threading.Barrier(2)
        threads = [threading.Thread(target=send, args=(pipe, gate)) for pipe in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert answers == [{"stored": True}, {"stored": True}]
    assert stored(bench) == STORED


def test_what_a_dead_upload_left_is_swept_and_a_living_one_is_not_touched(bench: Bench) -> None:
    incoming = bench.data / "sources" / "incoming"
    with bench.process() as dying, bench.pipe() as living, bench.pipe() as pipe:
        for other in (dying, living):
            other.send(_header(PACKED) + PACKED[:-10])
        until(lambda: len(list(incoming.glob("*"))) == 2)
        dying.kill()
        bench.upload(pipe, tar({"Package.swift": MANIFEST}))
        assert len(list(incoming.glob("*"))) == 1
        living.send(PACKED[-10:])
        assert living.answer()["payload"] == {"stored": True}
    assert list(incoming.glob("*")) == []


@pytest.mark.spec("3.1")
@pytest.mark.fault("W9")
def test_a_full_disk_is_told_and_leaves_room_for_the_next_try(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with small_disk(bench.data, 600) as disk:
        big = tar({"Package.swift": MANIFEST, "noise": os.urandom(900_000)})
        with bench.pipe() as pipe, pytest.raises(Refused) as refusal:
            bench.upload(pipe, big)
        assert refusal.value.code == "NO_SPACE"
        assert stored(bench) == []
        ballast = fill(disk)
        ballast.unlink()
        with bench.pipe() as pipe:
            bench.upload(pipe, SOURCE)


@pytest.mark.spec("3.3")
def test_a_source_that_was_damaged_on_disk_is_missing(bench: Bench) -> None:
    with bench.pipe() as pipe:
        digest = bench.upload(pipe, SOURCE)
        path = bench.data / "sources" / f"{digest}.tar"
        data = bytearray(path.read_bytes())
        data[2000] ^= 1
        path.write_bytes(data)
        with pytest.raises(Refused, match="SOURCE_MISSING"):
            submit(pipe, bench.job(pipe, digest))
        assert pipe.ask("has_source", source_sha256=digest) == {"exists": False}


@pytest.mark.spec("5")
@pytest.mark.fault("W8")
@pytest.mark.parametrize("facts", [None, b"{", b'{"config":null}'])
def test_a_source_whose_facts_cannot_be_read_is_uploaded_anew(bench: Bench, facts: bytes | None) -> None:
    """Else every later upload of it is dropped as a duplicate: as after a change of the facts' form."""
    with bench.pipe() as pipe:
        job = bench.script(pipe, "exit 0\n")
        digest = job.job_key_inputs.source_sha256
        path = bench.data / "sources" / f"{digest}.json"
        path.unlink() if facts is None else path.write_bytes(facts)
        with pytest.raises(Refused, match="SOURCE_MISSING"):
            submit(pipe, job)
        assert pipe.ask("has_source", source_sha256=digest) == {"exists": False}
        bench.script(pipe, "exit 0\n")
        assert submit(pipe, job)["state"] == "RUNNING"
