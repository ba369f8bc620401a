"""The bounded zstd reader: one whole frame within its bounds, or a refusal."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rch.files.unzstd import DecodeError, HashingReader, bounded_reader

TEXT = b"".join(b"line %d of a source\n" % n for n in range(40_000))
SKIPPABLE = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
RLE = 1


def squeeze(
    data: bytes, *, threads: int = 0, checksum: bool = False, size: bool = True, level: int = 3
) -> bytes:
    return zstandard.ZstdCompressor(
        level=level, threads=threads, write_checksum=checksum, write_content_size=size
    ).compress(data)


def unpack(data: bytes, *, max_output: int = 1 << 24, piece: int = 1 << 16) -> bytes:
    reader = bounded_reader(io.BytesIO(data), max_output=max_output)
    pieces = []
    while part := reader.read(piece):
        pieces.append(part)
    return b"".join(pieces)


class Trickle:
    """Gives one to three bytes at a time, as a slow channel may."""

    def __init__(self, data: bytes) -> None:
        self._raw = io.BytesIO(data)
        self._turn = 0

    def read(self, size: int, /) -> bytes:
        self._turn += 1
        return self._raw.read(min(size, 1 + self._turn % 3))


def block(kind: int, size: int, content: bytes, *, last: bool = False) -> bytes:
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content


def frame_header(*, window_log: int = 20, declared: int | None = None) -> bytes:
    """A frame header with a window descriptor and perhaps eight bytes of content size."""
    descriptor = 0 if declared is None else 0b11 << 6
    sized = b"" if declared is None else declared.to_bytes(8, "little")
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor, (window_log - 10) << 3]) + sized


@pytest.mark.spec("3.2")
@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        squeeze(TEXT),
        squeeze(TEXT, threads=2),
        squeeze(TEXT, checksum=True),
        squeeze(TEXT, size=False, checksum=True, level=19),
    ],
    ids=["plain", "threads", "checksum", "no size"],
)
def test_one_whole_frame_comes_out_as_it_went_in(data: bytes, piece: int) -> None:
    if piece > 1:
        assert unpack(data, piece=piece) == TEXT
    else:
        reader = bounded_reader(Trickle(data), max_output=len(TEXT))
        assert reader.read() == TEXT
        assert reader.read(1) == b""


@pytest.mark.spec("3.2")
def test_an_empty_content_and_other_writers_frames_pass() -> None:
    assert unpack(squeeze(b"")) == b""
    made = subprocess.run(["zstd", "-q", "-c"], input=TEXT, capture_output=True, check=True).stdout
    assert unpack(made) == TEXT
    noise = os.urandom(300_000)
    assert unpack(squeeze(noise)) == noise


@pytest.mark.spec("3.2")
def test_the_bound_passes_when_met_and_refuses_one_byte_more() -> None:
    for data in (squeeze(TEXT), squeeze(TEXT, size=False)):
        assert len(unpack(data, max_output=len(TEXT))) == len(TEXT)
        with pytest.raises(DecodeError, match=str(len(TEXT) - 1)):
            unpack(data, max_output=len(TEXT) - 1)


@pytest.mark.fault("Z1")
def test_one_read_never_makes_more_than_was_asked_for() -> None:
    bomb = frame_header() + block(RLE, 128 << 10, b"x") * 10
    reader = bounded_reader(io.BytesIO(bomb), max_output=1 << 30)
    assert len(reader.read(10)) == 10
    assert len(reader.read(200_000)) == 200_000


@pytest.mark.fault("Z1")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (frame_header(window_log=31) + block(RLE, 1, b"x", last=True), "window"),
        (frame_header(window_log=28) + block(RLE, 1, b"x", last=True), "window"),
        (SKIPPABLE + squeeze(TEXT), "begin with a zstd frame"),
        (squeeze(TEXT) + SKIPPABLE, "after the zstd frame"),
        (squeeze(TEXT) + squeeze(TEXT), "after the zstd frame"),
        (squeeze(TEXT) + b"\0", "after the zstd frame"),
        (squeeze(TEXT, checksum=True) + b"\0", "after the zstd frame"),
        (b"", "cut short"),
        (b"\x28\xb5\x2f\xfd", "cut short"),
        (b"PK\x03\x04 this is a zip", "begin with a zstd frame"),
        (TEXT, "begin with a zstd frame"),
        (b"\x27\xb5\x2f\xfd" + squeeze(TEXT)[4:], "begin with a zstd frame"),
        (frame_header() + block(3, 0, b"", last=True), "malformed"),
        (frame_header() + block(0, 200_000, bytes(200_000), last=True), "malformed"),
        (b"\x28\xb5\x2f\xfd\x08" + bytes(20), "header is bad"),
    ],
)
def test_what_is_no_single_whole_frame_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        unpack(data)


@pytest.mark.fault("Z1")
def test_a_dictionary_is_refused() -> None:
    samples: list[bytes | bytearray | memoryview] = [
        b"struct Thing%d { let name: String }\n" % n * 5 for n in range(2000)
    ]
    dictionary = zstandard.train_dictionary(4096, samples)
    data = zstandard.ZstdCompressor(dict_data=dictionary).compress(samples[0])
    with pytest.raises(DecodeError, match="dictionary"):
        unpack(data)


@pytest.mark.fault("Z1")
@pytest.mark.parametrize("checksum", [False, True])
def test_every_cut_is_noticed(*, checksum: bool) -> None:
    data = squeeze(TEXT, checksum=checksum)
    for end in [*range(30), len(data) // 2, *range(len(data) - 12, len(data))]:
        with pytest.raises(DecodeError, match="cut short"):
            unpack(data[:end])


@pytest.mark.fault("Z2")
def test_a_declared_size_that_lies_is_refused_both_ways() -> None:
    body = block(RLE, 1000, b"x", last=True)
    assert unpack(frame_header(declared=1000) + body) == b"x" * 1000
    for declared in (0, 999, 1001):
        with pytest.raises(DecodeError):
            unpack(frame_header(declared=declared) + body)
    with pytest.raises(DecodeError, match=f"unpacks to {1 << 40} bytes"):
        unpack(frame_header(declared=1 << 40) + body)


@pytest.mark.fault("Z1")
@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_changes_the_content_unnoticed(at: int, bit: int) -> None:
    data = bytearray(squeeze(TEXT, checksum=True))
    data[at % len(data)] ^= 1 << bit
    try:
        seen = unpack(bytes(data))
    except DecodeError:
        return
    assert seen == TEXT  # an unused bit, or a wider window


@pytest.mark.spec("3.2")
def test_the_hash_is_over_the_raw_bytes_that_passed() -> None:
    data = squeeze(TEXT)
    hashing = HashingReader(io.BytesIO(data))
    reader = bounded_reader(hashing, max_output=len(TEXT))
    assert reader.read() == TEXT
    assert hashing.count == len(data)
    assert hashing.hexdigest() == hashlib.sha256(data).hexdigest()


def test_it_is_a_raw_stream_that_others_may_wrap() -> None:
    with io.BufferedReader(bounded_reader(io.BytesIO(squeeze(TEXT)), max_output=len(TEXT))) as wrapped:
        assert wrapped.readable()
        assert wrapped.readline() == b"line 0 of a source\n"
        assert wrapped.read() == TEXT.split(b"\n", 1)[1]
