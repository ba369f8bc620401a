"""Small streams and long headers that would become gigabytes where they are read as a whole."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from support import tars
from support.sets import ArtifactSet, a_job, compressed, header_of, places_of, right_set

from rch.contract import worker_envelope
from rch.contract.attested import Known
from rch.contract.errors import Failure
from rch.contract.framing import count_values
from rch.contract.junit_names import MAX_NAMES, names_in
from rch.contract.manifest import MAX_ERROR_CHARS, MAX_ERRORS, shortly, sort_entries
from rch.contract.records import Entry, Manifest
from rch.contract.set_limits import MAX_SMALL_BYTES, MAX_VALUES
from rch.contract.sets import Found, examine
from rch.contract.tar_names import TarError
from rch.contract.tar_reader import Limits, TarReader
from rch.contract.worker_envelope import MAX_SET_ENTRIES, decode_fetch_header
from rch.files.sets import read_records, read_set, with_records
from rchd.edges import artifacts
from rchd.edges.artifacts import Mismatch, Places

ID = "r" * 12
JOB = a_job().job_id


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """What is done takes no more than `most` bytes more at any time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, peak


def stuffed(size: int, name: str = "attestation.json") -> ArtifactSet:
    """A right set but for a member of so many bytes in one record, which a listed file makes room for."""
    made = right_set()
    listed = [*made.entries(), Entry(path="zz.bin", type="file", size=size, sha256="0" * 64)]
    made.put_manifest(sort_entries(listed))
    made.put_attestation()
    made.put_index()
    made.files[name] = made.files[name].rstrip()[:-1] + b',"zz":[' + b"[]," * (size // 3) + b"[]]}"
    return made


@pytest.fixture
def at(tmp_path: Path) -> Places:
    found = places_of(tmp_path, a_job())
    artifacts.prepare(found)
    return found


@pytest.mark.spec("8")
@pytest.mark.fault("Z1")
@pytest.mark.parametrize("name", ["attestation.json", "job_index.json", "manifest.json"])
def test_room_that_is_announced_for_a_file_is_no_room_for_another(at: Places, name: str) -> None:
    made = stuffed(8 << 20, name)
    stream = compressed(made.tar())
    assert len(stream) < 64 << 10
    at.stream.write_bytes(stream)
    header = header_of(msgspec.json.decode(right_manifest(made), type=Manifest), stream)
    with little_memory(16 << 20), pytest.raises(Mismatch) as caught:
        artifacts.unpack_and_verify(at, header, Known(job=a_job()), max_bytes=1 << 30, now="x")
    assert f"{name!r} has " in caught.value.errors[0]
    assert "that it may have" in caught.value.errors[0]


def right_manifest(made: ArtifactSet) -> bytes:
    data = made.files["manifest.json"]
    return data if b'"zz":' not in data else data[: data.index(b',"zz":[')] + b"}"


@pytest.mark.spec("10")
def test_a_set_on_disk_is_read_within_the_same_bounds(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for size, why in (
        (2 * MAX_SMALL_BYTES, "attestation.json: is no file that can be read"),
        (3 * MAX_VALUES, f"attestation.json: has more than {MAX_VALUES} values"),
    ):
        for name, data in stuffed(size).files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        with little_memory(16 << 20):
            looked = examine(read_set(folder), Known())
        assert why in [*looked.errors, *looked.distrust]


def header(extra: bytes) -> bytes:
    told = msgspec.json.encode(header_of(right_set().sealed(), b""))
    told = json.dumps({**json.loads(told), "protocol_version": 1, "request_id": ID, "ok": True}).encode()
    return told[:-1] + b',"x":[' + extra + b"]}"


@pytest.mark.spec("3.2")
@pytest.mark.parametrize(
    "extra",
    [b"[]," * MAX_SET_ENTRIES * 2 + b"[]", b"{}," * MAX_SET_ENTRIES * 2 + b"{}"],
    ids=["lists", "objects"],
)
def test_a_header_of_more_than_a_set_can_have_is_a_break_of_the_protocol(extra: bytes) -> None:
    line = header(extra)
    with little_memory(1 << 20), pytest.raises(Failure) as caught:
        decode_fetch_header(line, ID, JOB)
    assert caught.value.subkind == "PROTOCOL_ERROR"


@pytest.mark.spec("3.2")
def test_what_a_long_header_holds_beside_is_passed_over() -> None:
    line = header(b"[[],{}]," * 100_000 + b"1," * 1_000_000 + b"0")
    assert len(line) > 2 << 20
    with little_memory(1 << 20):
        assert decode_fetch_header(line, ID, JOB).manifest == right_set().sealed()
    for broken in (
        line[:-1],
        line.replace(ID.encode(), b"another-one1"),
        line.replace(b'"ok": true', b'"ok": 1'),
    ):
        with pytest.raises(Failure) as caught:
            decode_fetch_header(broken, ID, JOB)
        assert caught.value.subkind == "PROTOCOL_ERROR"
    huge = line.replace(b'"size": 8,', b'"size": 9007199254740993,')
    assert huge != line
    with pytest.raises(Failure, match="2\\^53"):
        decode_fetch_header(huge, ID, JOB)


@pytest.mark.spec("10")
def test_of_many_test_names_only_those_that_are_told_are_kept() -> None:
    junit = b"<r>" + b'<testcase classname="a" name="b"/>' * 100_000 + b"</r>"
    with little_memory(4 << 20):
        found = names_in(junit)
    assert found is not None
    assert (len(found.passed), found.left_out) == (MAX_NAMES, 100_000 - MAX_NAMES)


@pytest.mark.spec("8")
def test_of_many_things_that_are_wrong_the_first_are_told_and_in_short_lines(at: Places) -> None:
    made = right_set()
    strange = [
        Entry(path=f"f{number:05}\x1b[31m" + "<b>" * 300, type="file", size=1, sha256="0" * 64)
        for number in range(5000)
    ]
    manifest = made.put_manifest(sort_entries([*made.entries(), *strange]))
    made.put_attestation()
    made.put_index({f"x{number}": "nowhere\n" for number in range(5000)})
    stream = compressed(made.tar())
    at.stream.write_bytes(stream)
    with pytest.raises(Mismatch) as caught:
        artifacts.unpack_and_verify(
            at, header_of(manifest, stream), Known(job=a_job()), max_bytes=1 << 30, now="x"
        )
    errors = caught.value.errors
    assert f"and {5000 - MAX_ERRORS} more" in errors
    assert len(errors) < 3 * MAX_ERRORS
    assert all(len(line) <= MAX_ERROR_CHARS + 1 and line.isprintable() for line in errors)


@pytest.mark.spec("8")
@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "a\x7f", "a\x9bm"])
def test_a_name_with_a_control_character_is_not_published(at: Places, name: str) -> None:
    made = right_set()
    made.files[f"result.xcresult/{name}"] = b"x"
    manifest = made.seal()
    stream = compressed(made.tar())
    at.stream.write_bytes(stream)
    with pytest.raises(Mismatch, match="holds a control character") as caught:
        artifacts.unpack_and_verify(
            at, header_of(manifest, stream), Known(job=a_job()), max_bytes=1 << 30, now="x"
        )
    assert all(line.isprintable() for line in caught.value.errors)


@pytest.mark.spec("8")
def test_names_of_all_writing_systems_are_published(at: Places) -> None:
    made = right_set()
    for name in ("Ünïcode ñame", "日本語", "👩\u200d💻", "data.0~x_-=+@(1)"):
        made.files[f"result.xcresult/{name}"] = b"x"
    manifest = made.seal()
    stream = compressed(made.tar())
    at.stream.write_bytes(stream)
    known = Known(job=a_job(), host_nonce=made.nonce)
    artifacts.unpack_and_verify(at, header_of(manifest, stream), known, max_bytes=1 << 30, now="x")


# --- at the limits --------------------------------------------------------------------


def test_what_no_manifest_lists_is_as_long_as_the_limit_and_no_longer(tmp_path: Path) -> None:
    most_of = artifacts._most_of(right_set().sealed())
    for name in ("attestation.json", "job_index.json"):
        assert most_of(name) == MAX_SMALL_BYTES
        for size in (MAX_SMALL_BYTES, MAX_SMALL_BYTES + 1):
            (tmp_path / name).write_bytes(b"x" * size)
            assert (name in read_records(tmp_path)) is (size == MAX_SMALL_BYTES)
    limits = Limits(max_entries=9, max_bytes=1 << 20, most_of=lambda _name: 10)
    for size in (10, 11):
        reader = TarReader(limits=limits, canonical=False)
        data = tars.file(b"x", b"y" * size) + tars.END
        if size == 10:
            reader.feed(data)
            reader.close()
        else:
            with pytest.raises(TarError, match="over the 10 that it may have"):
                reader.feed(data)


def test_an_attestation_has_so_many_values_and_no_more() -> None:
    made = right_set()
    whole = made.files["attestation.json"].rstrip()[:-1] + b',"zz":['
    left = MAX_VALUES - count_values(whole, MAX_VALUES)
    for beyond in (0, 1):
        made.files["attestation.json"] = whole + b"1," * (left + beyond) + b"1]}"
        found = Found(with_records(made.entries(), made.files), made.files)
        said = " ".join([*(looked := examine(found, Known())).errors, *looked.distrust])
        assert (f"more than {MAX_VALUES} values" in said) is bool(beyond)


def test_lines_about_a_set_are_few_and_short() -> None:
    assert shortly(["x" * MAX_ERROR_CHARS] * MAX_ERRORS) == ["x" * MAX_ERROR_CHARS] * MAX_ERRORS
    told = shortly(["x" * MAX_ERROR_CHARS + "y"] * (MAX_ERRORS + 1))
    assert told == ["x" * MAX_ERROR_CHARS + "…"] * MAX_ERRORS + ["and 1 more"]


def test_a_header_announces_so_many_entries_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_envelope, "_AROUND_ENTRIES", 0)
    line = header(b"[],{}")
    count = line.count(b"[") + line.count(b"{")
    monkeypatch.setattr(worker_envelope, "MAX_SET_ENTRIES", count)
    assert decode_fetch_header(line, ID, JOB).job_id == JOB
    monkeypatch.setattr(worker_envelope, "MAX_SET_ENTRIES", count - 1)
    with pytest.raises(Failure, match=f"more than {count - 1} entries"):
        decode_fetch_header(line, ID, JOB)
