"""Uploads in parts: what the worker keeps, what it refuses, and what it makes of it at the end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.small_disk import small_disk
from support.worker_pipe import MANIFEST, Bench, Refused, a_bench, submit_and_end, tar

from worker_agent import sources_parts
from worker_agent.leftovers import sweep_sources
from worker_agent.sources import Sources
from worker_agent.sources_parts import IDLE_SECONDS, KEEP_SECONDS, Partials, partials_of
from worker_agent.worker import Worker

SOURCE = tar({"Package.swift": MANIFEST, "Sources/a/main.swift": os.urandom(200_000)})
DIGEST = hashlib.sha256(SOURCE).hexdigest()
PACKED = zstandard.compress(SOURCE)
FILES = [f"{DIGEST}.{suffix}" for suffix in ("index", "json", "seen", "tar")]
TOTAL = len(PACKED)
TOTALS = {"total_length": TOTAL, "total_sha256": hashlib.sha256(PACKED).hexdigest()}
UPLOAD = "upload-00000001"
PART = 50_000
STORED = {"stored": True}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


def stored(bench: Bench) -> list[str]:
    """Every file of the store, temporary ones too."""
    folder = bench.data / "sources"
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def partial(bench: Bench) -> list[Path]:
    """What is kept of uploads on their way."""
    return sorted((bench.data / "sources" / "incoming").glob("*.part"))


def part_of(offset: int, body: bytes, *, last: bool = False, **more: Any) -> dict[str, Any]:
    """The payload that announces `body` at `offset`."""
    resume = {"upload_id": UPLOAD, "offset": offset, "last": last, **(TOTALS if last else {})}
    for key in ("upload_id", "total_length", "total_sha256"):
        if key in more:
            resume[key] = more.pop(key)
    stream = {"content_length": len(body), "content_sha256": hashlib.sha256(body).hexdigest()}
    if "compression" in more:
        stream["compression"] = more.pop("compression")
    return {"source_sha256": DIGEST, "stream": stream, "resume": resume, **more}


def put(bench: Bench, offset: int, body: bytes, **more: Any) -> dict[str, Any]:
    """Send one part on a channel of its own, as after a cut."""
    return bench.ask("upload_source", body, **part_of(offset, body, **more))


def refused(bench: Bench, offset: int, body: bytes, **more: Any) -> tuple[str, dict[str, Any]]:
    with pytest.raises(Refused) as refusal:
        put(bench, offset, body, **more)
    return refusal.value.code, refusal.value.data


def asked(bench: Bench, **more: Any) -> int:
    """Where the worker says to go on."""
    answer = put(bench, 0, b"", **more)
    assert not answer["stored"]
    return int(answer["next_offset"])


def send_all(bench: Bench, body: bytes = PACKED, **more: Any) -> dict[str, Any]:
    """Everything that is missing, part by part."""
    answer: dict[str, Any] = {"stored": False, "next_offset": asked(bench, **more)}
    while not answer["stored"]:
        offset = answer["next_offset"]
        piece = body[offset : offset + PART]
        answer = put(bench, offset, piece, last=offset + len(piece) == len(body), **more)
    return answer


@pytest.mark.spec("5")
def test_parts_make_a_source_and_leave_nothing_else(bench: Bench) -> None:
    with bench.pipe() as pipe:
        for offset in range(0, TOTAL, PART):
            piece, last = PACKED[offset : offset + PART], offset + PART >= TOTAL
            answer = pipe.ask("upload_source", piece, **part_of(offset, piece, last=last))
            assert answer == (STORED if last else {"stored": False, "next_offset": offset + PART})
        job = bench.job(pipe, DIGEST)
        assert submit_and_end(pipe, job) == "SUCCEEDED"
    assert (bench.data / "sources" / f"{DIGEST}.tar").read_bytes() == SOURCE
    assert stored(bench) == FILES


@pytest.mark.spec("5")
def test_an_uncompressed_source_goes_in_parts_too(bench: Bench) -> None:
    totals = {"total_length": len(SOURCE), "total_sha256": DIGEST}
    assert put(bench, 0, SOURCE[:PART], compression="none")["next_offset"] == PART
    assert put(bench, PART, SOURCE[PART:], last=True, compression="none", **totals) == STORED
    assert (bench.data / "sources" / f"{DIGEST}.tar").read_bytes() == SOURCE
    assert stored(bench) == FILES


@pytest.mark.spec("5")
def test_an_empty_part_asks_and_an_empty_last_part_ends(bench: Bench) -> None:
    assert asked(bench) == 0
    assert partial(bench) == []
    put(bench, 0, PACKED)
    assert asked(bench) == TOTAL
    assert put(bench, TOTAL, b"", last=True) == STORED
    assert put(bench, 0, b"") == STORED
    assert stored(bench) == FILES


LIES: dict[str, int] = {"ahead": PART + 1, "behind": PART - 1, "from the start": 0, "beyond the end": TOTAL,
                        "far beyond": 1 << 31, "below zero": -1}  # fmt: skip


@pytest.mark.fault("S3")
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("lie", LIES)
def test_an_offset_that_lies_is_told_the_true_one_and_what_is_there_stays(
    bench: Bench,
    lie: str,
    last: bool,  # noqa: FBT001  (a parameter)
) -> None:
    put(bench, 0, PACKED[:PART])
    code, data = refused(bench, LIES[lie], PACKED[PART:], last=last)
    assert (code, data) == ("INVALID_REQUEST", {"reason": "offset", "next_offset": PART})
    assert [path.read_bytes() for path in partial(bench)] == [PACKED[:PART]]
    assert send_all(bench) == STORED
    assert (bench.data / "sources" / f"{DIGEST}.tar").read_bytes() == SOURCE


@pytest.mark.fault("S3")
def test_a_lying_offset_is_refused_before_its_body_comes(bench: Bench) -> None:
    with bench.pipe() as pipe:
        with pytest.raises(Refused) as refusal:
            pipe.ask("upload_source", **part_of(7, PACKED))
        assert refusal.value.data["next_offset"] == 0
        assert pipe.is_closed()
    assert stored(bench) == []


@pytest.mark.fault("S3")
def test_a_part_that_is_repeated_is_added_once(bench: Bench) -> None:
    put(bench, 0, PACKED[:PART])
    put(bench, PART, PACKED[PART : 2 * PART])
    assert refused(bench, PART, PACKED[PART : 2 * PART])[1]["next_offset"] == 2 * PART
    assert send_all(bench) == STORED


@pytest.mark.fault("S3")
def test_nobody_meets_the_bytes_of_another_upload(bench: Bench) -> None:
    put(bench, 0, PACKED[:PART])
    other = {"source_sha256": "0" * 64}
    body = PACKED[PART:]
    for payload in (part_of(PART, body, upload_id="upload-00000002"), part_of(PART, body) | other):
        with bench.pipe() as pipe, pytest.raises(Refused) as refusal:
            pipe.ask("upload_source", body, **payload)
        assert refusal.value.data == {"reason": "offset", "next_offset": 0}
    assert asked(bench) == PART
    # The same id from another host names another upload, too.
    bench.configure("max_concurrent_jobs = 2\n")
    for host, offset in (("host-1", 0), ("host-2", 0)):
        lease = bench.ask("reserve", run_id=f"run-of-{host}-00", host_id=host)
        held = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
        assert asked(bench, **held) == offset
        put(bench, 0, PACKED[: PART // 2], **held)
    assert sorted(path.stat().st_size for path in partial(bench)) == [PART // 2, PART // 2, PART]


BAD_TOTALS: dict[str, tuple[dict[str, Any], str, bool]] = {
    "too short": ({"total_length": TOTAL - 1}, "totals", True),
    "too long": ({"total_length": TOTAL + 1}, "totals", True),
    "no length": ({"total_length": None}, "totals", True),
    "no digest": ({"total_sha256": None}, "", True),
    "another digest": ({"total_sha256": "0" * 64}, "transport_digest", False),
}


@pytest.mark.fault("S3")
@pytest.mark.parametrize("case", BAD_TOTALS)
def test_wrong_totals_are_found_before_anything_is_unpacked(
    bench: Bench, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals, reason, kept = BAD_TOTALS[case]
    put(bench, 0, PACKED[:PART])
    with monkeypatch.context() as patch:
        patch.setattr(Sources, "store", None)  # whoever unpacks fails otherwise
        code, data = refused(bench, PART, PACKED[PART:], last=True, **totals)
    assert (code, data.get("reason", "")) == ("INVALID_REQUEST", reason)
    assert asked(bench) == (PART if kept else 0)
    assert not (bench.data / "sources" / f"{DIGEST}.tar").exists()
    assert send_all(bench) == STORED


@pytest.mark.fault("S3")
def test_a_part_beyond_the_total_that_it_names_is_refused(bench: Bench) -> None:
    code, data = refused(bench, 0, PACKED[:PART], total_length=PART - 1)
    assert (code, data["reason"], data["next_offset"]) == ("INVALID_REQUEST", "totals", 0)


@pytest.mark.spec("3.2")
def test_a_part_that_was_damaged_on_its_way_is_not_added(bench: Bench) -> None:
    put(bench, 0, PACKED[:PART])
    payload = part_of(PART, PACKED[PART:], last=True)
    damaged = bytearray(PACKED[PART:])
    damaged[100] ^= 1
    with pytest.raises(Refused) as refusal:
        bench.ask("upload_source", bytes(damaged), **payload)
    assert refusal.value.data == {"reason": "transport_digest"}
    assert asked(bench) == PART


@pytest.mark.spec("5")
@pytest.mark.parametrize(
    ("body", "digest", "reason"),
    [
        (PACKED, "0" * 64, "bundle_digest"),
        (PACKED[:-9], DIGEST, "compression"),
        (zstandard.compress(SOURCE + bytes(512)), None, "not_canonical"),
    ],
    ids=["digest", "compression", "form"],
)
def test_whole_parts_that_are_no_source_are_not_kept(
    bench: Bench, body: bytes, digest: str | None, reason: str
) -> None:
    name = digest or hashlib.sha256(SOURCE + bytes(512)).hexdigest()
    totals = {"total_length": len(body), "total_sha256": hashlib.sha256(body).hexdigest()}
    put(bench, 0, body[:PART], source_sha256=name)
    code, data = refused(bench, PART, body[PART:], last=True, source_sha256=name, **totals)
    assert (code, data["reason"]) == ("INVALID_REQUEST", reason)
    assert stored(bench) == []


@pytest.mark.spec("5")
@pytest.mark.parametrize("upload_id", ["", "short", "../../../../etc/passwd", "x" * 65, "up load 0000001"])
def test_an_upload_id_that_is_none_is_refused(bench: Bench, upload_id: str) -> None:
    assert refused(bench, 0, PACKED[:PART], upload_id=upload_id)[0] == "INVALID_REQUEST"
    assert stored(bench) == []


@pytest.mark.spec("5")
def test_all_parts_together_are_bound_by_what_the_worker_takes(bench: Bench) -> None:
    bench.configure(f"max_upload_bytes = {2 * PART}\n")
    put(bench, 0, PACKED[:PART])
    assert put(bench, PART, PACKED[PART : 2 * PART])["next_offset"] == 2 * PART
    code, data = refused(bench, 2 * PART, PACKED[2 * PART : 2 * PART + 1])
    assert (code, data) == ("PAYLOAD_TOO_LARGE", {"max_bytes": 2 * PART})


@pytest.mark.spec("5")
def test_a_large_part_is_not_held_in_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_parts, "IN_MEMORY", PART)
    assert put(bench, 0, PACKED[: 3 * PART])["next_offset"] == 3 * PART
    assert put(bench, 3 * PART, PACKED[3 * PART :], last=True) == STORED
    assert stored(bench) == FILES


# --- cuts and deaths ------------------------------------------------------------------


def request(payload: dict[str, Any], body: bytes) -> bytes:
    line = {"protocol_version": 1, "op": "upload_source", "request_id": "request-0001", "payload": payload}
    return json.dumps(line).encode() + b"\n" + body


@pytest.mark.spec("5")
@pytest.mark.fault("S1")
@pytest.mark.fault("S2")
def test_a_worker_that_dies_in_a_part_has_all_parts_before_it(bench: Bench) -> None:
    put(bench, 0, PACKED[:PART])
    whole = request(part_of(PART, PACKED[PART:], last=True), PACKED[PART:])
    for sent in (10, len(whole) // 2, len(whole) - 1):
        with bench.process() as pipe:
            pipe.send(whole[:sent])
            pipe.process.send_signal(signal.SIGKILL)
        assert asked(bench) == PART
    assert send_all(bench) == STORED
    assert stored(bench) == FILES


@pytest.mark.fault("S2")
def test_a_part_that_was_half_written_down_is_gone_on_with_at_its_last_byte(bench: Bench) -> None:
    """As if the worker had died in the middle of a write: the bytes are right as far as they go."""
    put(bench, 0, PACKED[: 2 * PART])
    (path,) = partial(bench)
    os.truncate(path, PART + 777)
    assert asked(bench) == PART + 777
    assert send_all(bench) == STORED


@pytest.mark.fault("S2")
def test_bytes_that_a_power_cut_left_wrong_are_never_a_source_and_are_sent_again(bench: Bench) -> None:
    put(bench, 0, PACKED[:PART])
    (path,) = partial(bench)
    path.write_bytes(bytes(PART))
    code, data = refused(bench, PART, PACKED[PART:], last=True)
    assert (code, data["reason"]) == ("INVALID_REQUEST", "transport_digest")
    assert stored(bench) == []
    assert send_all(bench) == STORED


@pytest.mark.fault("S1")
def test_a_line_that_hangs_in_a_part_holds_nobody_up(bench: Bench) -> None:
    """The old line may be dead without a word while the new one goes on; what it says late is refused."""
    with bench.process() as hanging:
        whole = request(part_of(0, PACKED[:PART]), PACKED[:PART])
        hanging.send(whole[:-10])
        assert send_all(bench) == STORED
        hanging.send(whole[-10:])
        assert hanging.answer()["payload"] == STORED
    assert stored(bench) == FILES


@pytest.mark.spec("5")
@pytest.mark.fault("S4")
def test_two_hosts_send_one_source_in_parts_and_no_space_is_taken_twice(bench: Bench) -> None:
    put(bench, 0, PACKED[:PART], upload_id="upload-of-one-00")
    put(bench, 0, PACKED[: 2 * PART], upload_id="upload-of-two-00")
    assert len(partial(bench)) == 2
    assert send_all(bench, upload_id="upload-of-one-00") == STORED
    assert stored(bench) == FILES
    # The other one learns of it with its next part, whichever that is.
    assert put(bench, 2 * PART, PACKED[2 * PART : 3 * PART], upload_id="upload-of-two-00") == STORED
    assert stored(bench) == FILES


@pytest.mark.fault("S3")
@pytest.mark.fault("S4")
@pytest.mark.parametrize("ids", [("upload-00000001", "upload-00000002"), (UPLOAD, UPLOAD)])
def test_last_parts_at_once_store_one_source(
    bench: Bench, ids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them have passed the first look at their offset before the first of them is added."""
    ready, add = threading.Barrier(2 * len(ids)), Partials._add

    def add_together(*given: Any) -> object:
        ready.wait(10)
        return add(*given)

    answers: list[dict[str, Any]] = []
    for upload_id in set(ids):
        put(bench, 0, PACKED[:PART], upload_id=upload_id)
    monkeypatch.setattr(Partials, "_add", add_together)

    def end(upload_id: str) -> None:
        answers.append(put(bench, PART, PACKED[PART:], last=True, upload_id=upload_id))

    threads = [threading.Thread(target=end, args=(upload_id,)) for upload_id in ids * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [STORED] * len(threads)
    assert stored(bench) == FILES


# --- what is kept ---------------------------------------------------------------------


def aged(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


@pytest.mark.fault("S2")
def test_an_upload_that_nobody_goes_on_with_is_swept_and_begins_anew(bench: Bench) -> None:
    put(bench, 0, PACKED[:PART])
    (path,) = partial(bench)
    worker = Worker(bench.env)
    aged(path, KEEP_SECONDS - 60)
    sweep_sources(worker, time.time())
    assert asked(bench) == PART
    aged(path, KEEP_SECONDS + 60)
    sweep_sources(worker, time.time())
    assert partial(bench) == []
    assert refused(bench, PART, PACKED[PART:])[1]["next_offset"] == 0
    assert send_all(bench) == STORED


@pytest.mark.parametrize("bound", ["number", "bytes"])
def test_beyond_number_or_bytes_the_idlest_go_and_the_busy_send_the_newcomer_away(
    bench: Bench, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bound == "number":
        monkeypatch.setattr(sources_parts, "KEEP_PARTIALS", 2)
    else:
        bench.configure(f"keep_sources_bytes = {2 * PART}\n")
    put(bench, 0, PACKED[:PART], upload_id="upload-00000001")
    (oldest,) = partial(bench)
    put(bench, 0, PACKED[:PART], upload_id="upload-00000002")
    code, data = refused(bench, 0, PACKED[:PART], upload_id="upload-00000003")
    assert (code, data) == ("FEATURE_MISSING", {"reason": "too_many_parts"})
    assert put(bench, PART, PACKED[PART : 2 * PART])["next_offset"] == 2 * PART, "who has begun goes on"
    aged(oldest, IDLE_SECONDS - 60)
    refused(bench, 0, PACKED[:PART], upload_id="upload-00000003")
    aged(oldest, IDLE_SECONDS + 60)
    assert put(bench, 0, PACKED[:PART], upload_id="upload-00000003")["next_offset"] == PART
    assert not oldest.exists()
    assert len(partial(bench)) == 2


@pytest.mark.spec("5")
@pytest.mark.fault("W8")
def test_a_collection_in_the_middle_takes_neither_the_parts_nor_the_pinned_source(bench: Bench) -> None:
    bench.configure("keep_sources_bytes = 1\n")
    lease = bench.ask("reserve", run_id="run-0000000001", host_id="host-1")
    held = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
    worker = Worker(bench.env)
    put(bench, 0, PACKED[:PART], **held)
    for number in range(3):  # sources that nothing uses, which the sweep may take
        with bench.pipe() as pipe:
            bench.upload(pipe, tar({"Package.swift": MANIFEST, "number": str(number)}))
    sweep_sources(worker, time.time())
    assert asked(bench, **held) == PART
    assert send_all(bench, **held) == STORED
    aged(bench.data / "sources" / f"{DIGEST}.seen", 9 * KEEP_SECONDS)
    sweep_sources(worker, time.time())
    assert bench.ask("has_source", source_sha256=DIGEST) == {"exists": True}


@pytest.mark.fault("W8")
def test_a_sweep_leaves_an_upload_alone_that_is_being_added_to(bench: Bench) -> None:
    put(bench, 0, PACKED[:PART])
    (path,) = partial(bench)
    aged(path, 2 * KEEP_SECONDS)
    with sources_parts._locked(path):
        partials_of(Worker(bench.env)).sweep(time.time())
        assert path.exists()
    partials_of(Worker(bench.env)).sweep(time.time())
    assert not path.exists()


@pytest.mark.spec("3.1")
@pytest.mark.fault("W9")
def test_a_full_disk_in_a_part_gives_its_room_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with small_disk(bench.data, 256):
        assert put(bench, 0, PACKED[: 3 * PART])["next_offset"] == 3 * PART
        assert refused(bench, 3 * PART, os.urandom(4 * PART))[0] == "NO_SPACE"
        assert stored(bench) == []


def test_a_lease_that_is_over_adds_nothing(bench: Bench) -> None:
    body = PACKED[:PART]
    code, _ = refused(bench, 0, body, lease_id="lease-000001", fence=1)
    assert code == "LEASE_EXPIRED"
    assert stored(bench) == []
