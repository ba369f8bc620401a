"""Each limit of what reads strangers' bytes: what meets it passes, what is one beyond it does not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from support import hostile_frames as frames
from support import tars
from support.sets import right_set

from rch.contract import tar_names
from rch.contract.framing import (
    MAX_DEPTH,
    MAX_FETCH_HEADER,
    MAX_LINE,
    FrameError,
    LineReader,
    decode_object,
)
from rch.contract.manifest import sort_entries
from rch.contract.records import Entry, Manifest
from rch.contract.tar import TarError
from rch.contract.tar_names import MAX_HOPS, MAX_NAME, MAX_PATH, Names, safe_path, safe_target
from rch.contract.tar_reader import MAX_PAX, MAX_TAIL, Limits, TarReader
from rch.contract.worker_envelope import MAX_REQUEST_ID_ECHO, decode_request, request_id_to_echo
from rch.contract.worker_rpc import MAX_NUMBER, RpcError
from rch.files.extract import ExtractError, extract
from rch.files.unzstd import (
    MAX_EMPTY_BLOCKS,
    MAX_WINDOW,
    DecodeError,
    TooLargeError,
    bounded_reader,
    stream_reader,
)
from rchd.core.session import MAX_ID, MAX_IN_FLIGHT, MAX_SUBSCRIPTIONS, Call, Refusal, Session
from rchd.edges import artifacts
from rchd.edges.artifacts import UNLISTED_BYTES, Mismatch
from worker_agent import source_check, source_thin
from worker_agent.source_check import MAX_CONFIG_BYTES, Contents
from worker_agent.source_index import Index

MANY = Limits(max_entries=1000, max_bytes=1 << 30)


def read(data: bytes, limits: Limits = MANY, *, canonical: bool = False) -> None:
    reader = TarReader(limits=limits, canonical=canonical)
    reader.feed(data)
    reader.close()


def named(path: bytes) -> None:
    """Through both readers, at once."""
    data = tars.pax(tars.record(b"path", path)) + tars.file(path[:100]) + tars.END
    read(data)
    read(data, canonical=True)


def linked(links: int) -> None:
    names = Names()
    for number in range(links + 1):
        names.add_link(f"{number:03}", f"{number + 1:03}")
    names.check_links()


def line(length: int, most: int = MAX_LINE) -> None:
    reader = LineReader(most)
    reader.feed(b"x" * length)
    reader.line()
    reader.feed(b"\n")
    assert len(reader.line() or b"") == length


def zeros_behind(size: int) -> None:
    read(tars.file(b"a") + tars.END + bytes(size))


def pax(size: int) -> None:
    """An entry of that many bytes: one comment that is not used, and a name."""
    name = tars.record(b"path", b"n" * 101)
    rest = size - len(name)
    comments = (tars.record(b"mtime", b"1" * digits) for digits in range(rest - 14, rest))
    comment = next(made for made in comments if len(made) == rest)
    read(tars.pax(comment + name) + tars.file(b"n" * 100) + tars.END)


def unzstd(data: bytes) -> None:
    reader = bounded_reader(io.BytesIO(data), max_output=1 << 20)
    while reader.read(1 << 16):
        pass


def empty_blocks(count: int) -> None:
    unzstd(
        frames.header()
        + frames.block(frames.RAW, 0, b"") * count
        + frames.block(frames.RLE, 3, b"x", last=True)
    )


def window(extra: int) -> None:
    """2^27 bytes, and the next size that a header can name."""
    descriptor = bytes([0, (27 - 10) << 3 | extra])
    unzstd(frames.MAGIC + descriptor + frames.block(frames.RLE, 3, b"x", last=True))
    assert MAX_WINDOW == 1 << 27


def block(size: int) -> None:
    unzstd(frames.header() + frames.block(frames.RAW, size, bytes(size), last=True))


def nested(depth: int) -> None:
    decode_object(b'{"a":' * depth + b"1" + b"}" * depth)


def numbered(value: int) -> None:
    payload = {"job_id": "job-000000001", "x": [value, -value]}
    request = {"protocol_version": 1, "op": "status", "request_id": "request-0001", "payload": payload}
    decode_request(json.dumps(request).encode())


def content(data: bytes) -> Index:
    contents = Contents()
    contents.take(data)
    contents.facts()
    return contents.index()


def config(size: int) -> None:
    content(tars.file(b".rch/xcode.toml", b"#" * size) + tars.END)


def target_parts(count: int) -> None:
    safe_target("l", "/".join(["n"] * count))


def call_id(length: int) -> None:
    call = {"jsonrpc": "2.0", "id": "x" * length, "method": "daemon.health"}
    said = Session().receive(json.dumps(call).encode())
    if isinstance(said, Refusal):
        raise FrameError(said.line.decode())
    assert isinstance(said, Call)


def in_flight(count: int) -> None:
    session = Session()
    for number in range(count):
        said = session.receive(b'{"jsonrpc":"2.0","id":%d,"method":"daemon.health"}' % number)
        if isinstance(said, Refusal):
            raise FrameError(said.line.decode())


# name: (what meets or breaks it, the limit, one beyond, what is raised, what it says)
Row = tuple[Callable[[int], None], int, int, type[Exception], str]
ROWS: dict[str, Row] = {
    "a line": (line, MAX_LINE, MAX_LINE + 1, FrameError, "over 1048576 bytes"),
    "a fetch header": (
        lambda size: line(size, MAX_FETCH_HEADER),
        MAX_FETCH_HEADER,
        MAX_FETCH_HEADER + 1,
        FrameError,
        "over 67108864 bytes",
    ),
    "nesting": (nested, MAX_DEPTH, MAX_DEPTH + 1, FrameError, "nested deeper than 64"),
    "a number": (numbered, MAX_NUMBER, MAX_NUMBER + 1, RpcError, "beyond 2^53"),
    "a name": (lambda size: named(b"n" * size), MAX_NAME, MAX_NAME + 1, TarError, "part over 255 bytes"),
    "a path": (
        lambda size: named((b"n" * 200 + b"/") * 20 + b"n" * (size - 4020)),
        MAX_PATH,
        MAX_PATH + 1,
        TarError,
        "over 4095 bytes",
    ),
    "folders of a path": (
        lambda depth: safe_path("/".join(["n"] * depth)),
        tar_names.MAX_DEPTH,
        tar_names.MAX_DEPTH + 1,
        TarError,
        "over 128 folders deep",
    ),
    "parts of a target": (
        target_parts,
        tar_names.MAX_DEPTH,
        tar_names.MAX_DEPTH + 1,
        TarError,
        "over 128 parts long",
    ),
    "links on the way": (linked, MAX_HOPS, MAX_HOPS + 1, TarError, "more than 40 links"),
    "a PAX entry": (pax, MAX_PAX, MAX_PAX + 1, TarError, "16385 bytes is not between 1 and 16384"),
    "zeros behind a set": (zeros_behind, MAX_TAIL, MAX_TAIL + 1, TarError, "after the end"),
    "entries": (
        lambda count: read(
            b"".join(tars.file(b"%d" % n) for n in range(count)) + tars.END,
            Limits(max_entries=5, max_bytes=0),
        ),
        5,
        6,
        TarError,
        "more than 5 entries",
    ),
    "folders in names": (
        lambda count: read(tars.file(b"d/" * count + b"f") + tars.END, Limits(max_entries=5, max_bytes=0)),
        5,
        6,
        TarError,
        "more than 5 folders",
    ),
    "bytes of content": (
        lambda size: read(tars.file(b"a", bytes(size)) + tars.END, Limits(max_entries=5, max_bytes=1000)),
        1000,
        1001,
        TarError,
        "more than 1000 bytes of content",
    ),
    "a zstd window": (window, 0, 1, DecodeError, "window of 150994944 bytes is over 134217728"),
    "a zstd block": (block, 128 << 10, (128 << 10) + 1, DecodeError, "malformed"),
    "zstd blocks without content": (
        empty_blocks,
        MAX_EMPTY_BLOCKS,
        MAX_EMPTY_BLOCKS + 1,
        DecodeError,
        "more than 1024 zstd blocks without content",
    ),
    "the config of a source": (
        config,
        MAX_CONFIG_BYTES,
        MAX_CONFIG_BYTES + 1,
        TarError,
        "over 1048576 bytes",
    ),
    "the id of a call": (call_id, MAX_ID, MAX_ID + 1, FrameError, "not a JSON-RPC 2.0 request"),
    "calls in flight": (
        in_flight,
        MAX_IN_FLIGHT,
        MAX_IN_FLIGHT + 1,
        FrameError,
        "over 64 requests in flight",
    ),
}


@pytest.mark.spec("3.2")
@pytest.mark.parametrize("name", ROWS)
def test_what_meets_a_limit_passes(name: str) -> None:
    feed, limit, _, _, _ = ROWS[name]
    feed(limit)


@pytest.mark.spec("3.2")
@pytest.mark.parametrize("name", ROWS)
def test_what_is_one_beyond_a_limit_is_refused_in_its_words(name: str) -> None:
    feed, _, beyond, error, said = ROWS[name]
    with pytest.raises(error, match=said.replace("^", r"\^")):
        feed(beyond)


def test_the_names_of_a_set_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_names, "MAX_NAMES_BYTES", 20)
    fits = tars.file(b"dd/eeeee") + tars.link(b"ffff", b"gggggg")  # 8, "dd", 4 and 6 bytes
    read(fits + tars.END, canonical=True)
    with pytest.raises(TarError, match="names of the set are over 20 bytes"):
        read(fits + tars.file(b"z") + tars.END, canonical=True)


def test_a_request_s_id_is_echoed_up_to_its_limit() -> None:
    for length, echoed in ((MAX_REQUEST_ID_ECHO, True), (MAX_REQUEST_ID_ECHO + 1, False)):
        asked = json.dumps({"request_id": "x" * length}).encode()
        assert (request_id_to_echo(asked) is not None) == echoed


def test_subscriptions_of_a_connection_are_bounded() -> None:
    from rch.contract.errors import Failure

    session = Session()
    session.subscriptions |= set(range(MAX_SUBSCRIPTIONS - 1))
    session.may_follow()
    session.subscriptions.add(MAX_SUBSCRIPTIONS)
    with pytest.raises(Failure, match="over 64 subscriptions"):
        session.may_follow()


@pytest.mark.spec("5")
@pytest.mark.parametrize("limit", ["MAX_ENTRIES", "MAX_UNPACKED_BYTES"])
def test_a_source_and_a_spliced_source_have_the_same_bounds(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (source_check, source_thin):
        monkeypatch.setattr(module, limit, 3)
    parts = [tars.file(b"%d" % number, b"x") for number in range(4)]
    three, four = b"".join(parts[:3]) + tars.END, b"".join(parts) + tars.END
    source_thin.check_whole([(0, content(three))], None)
    with pytest.raises(TarError, match="more than 3"):
        content(four)
    monkeypatch.setattr(source_check, limit, 4)
    with pytest.raises(TarError, match="more than 3"):
        source_thin.check_whole([(0, content(four))], None)


@pytest.mark.spec("5")
def test_a_spliced_source_s_folders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_thin, "MAX_ENTRIES", 3)
    source_thin.check_whole([(0, content(tars.file(b"a/b/c/d") + tars.END))], None)
    with pytest.raises(TarError, match="more than 3 folders"):
        source_thin.check_whole([(0, content(tars.file(b"a/b/c/d/e") + tars.END))], None)


@pytest.mark.spec("8")
def test_a_set_may_hold_a_few_more_entries_than_its_manifest_lists(tmp_path: Path) -> None:
    listed = len(right_set().sealed().entries)
    limits = Limits(max_entries=listed + artifacts.EXTRA_ENTRIES, max_bytes=0)
    parts = [tars.file(b"%04d" % number) for number in range(limits.max_entries + 1)]
    extract(io.BytesIO(b"".join(parts[:-1]) + tars.END), tmp_path / "at", limits=limits, canonical=False)
    with pytest.raises(ExtractError, match=f"more than {limits.max_entries} entries"):
        extract(io.BytesIO(b"".join(parts) + tars.END), tmp_path / "beyond", limits=limits, canonical=False)


@pytest.mark.spec("8")
def test_what_a_manifest_announces_is_bounded_by_what_is_taken() -> None:
    def manifest(size: int) -> Manifest:
        made = right_set()
        huge = Entry(path="huge", type="file", size=size, sha256="0" * 64)
        return made.put_manifest(sort_entries([huge]))

    artifacts._bounds(manifest(1000 + UNLISTED_BYTES), 1000)
    with pytest.raises(Mismatch, match="over the 1000 that are taken"):
        artifacts._bounds(manifest(1001 + UNLISTED_BYTES), 1000)


@pytest.mark.fault("Z1")
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_stream_has_the_same_bound_whether_or_not_it_is_compressed(compression: str) -> None:
    data = bytes(1000)
    raw = data if compression == "none" else zstandard.ZstdCompressor().compress(data)
    assert stream_reader(io.BytesIO(raw), compression, max_output=1000).read(1000) == data
    with pytest.raises(TooLargeError):
        stream_reader(io.BytesIO(raw), compression, max_output=999).read(1000)
