"""Reading a peer's zstd within bounds (spec section 3.2; faults Z1, Z2).

The frame is taken block by block: a block makes at most 128 KiB, so that no input, however
small, makes more than that before the bound is looked at again. Walking the blocks also tells
where the frame ends, so that what is cut short or stands behind it is seen for certain.
"""

from __future__ import annotations

import hashlib
import io
from typing import Protocol

import zstandard

MAX_WINDOW = 1 << 27
_MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_BLOCK = 128 << 10
MAX_EMPTY_BLOCKS = 1024
"""How many blocks without content may follow one another: three bytes each, they would cost time alone."""
_RLE = 1
_COMPRESSED = 2
_RESERVED = 3


class Readable(Protocol):
    """Whatever gives bytes: at most `size`, and none only at its end."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""


class DecodeError(ValueError):
    """The compressed bytes are not one whole zstd frame within the bounds."""


class TooLargeError(DecodeError):
    """The content is more than the caller's bound."""


class HashingReader:
    """Passes bytes through and keeps their SHA-256 and count."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._hash = hashlib.sha256()
        self.count = 0

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes of the stream beneath."""
        data = self._raw.read(size)
        self._hash.update(data)
        self.count += len(data)
        return data

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""
        return self._hash.hexdigest()


class PlainReader:
    """Bytes that are not compressed, at most `max_output` of them; `TooLargeError` for more."""

    def __init__(self, raw: Readable, *, max_output: int) -> None:
        self._raw = raw
        self._left = self._max_output = max_output

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        data = self._raw.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise TooLargeError(f"the stream has more than {self._max_output} bytes")
        return data


class BoundedReader(io.RawIOBase):
    """The content of one zstd frame, at most `max_output` bytes of it.

    `read` raises `DecodeError` for: no zstd, a skippable frame, a dictionary, a window over
    `max_window`, a declared size that is not the real one, a frame cut short, any byte after it,
    block upon block without content; `TooLargeError` for too much output. The end is looked at
    before the last bytes are given out.
    """

    def __init__(self, raw: Readable, *, max_output: int, max_window: int = MAX_WINDOW) -> None:
        super().__init__()
        self._raw = raw
        self._max_output = max_output
        self._decoder = zstandard.ZstdDecompressor(max_window_size=max_window).decompressobj()
        self._max_window = max_window
        self._declared: int | None = None
        self._has_checksum = False
        self._begun = False
        self._ended = False
        self._produced = 0
        self._empty = 0
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Exactly `size` bytes unless the end comes first; all of them for a negative `size`."""
        wanted = self._max_output + 1 if size is None or size < 0 else size
        pieces: list[memoryview] = []
        while wanted and (self._ready or self._refill()):
            piece = self._ready[:wanted]
            self._ready = self._ready[len(piece) :]
            wanted -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's Buffer is 3.12's
        """Fill `buffer` as far as there are bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _refill(self) -> bool:
        """Decode blocks until there is content; False at the end."""
        if not self._begun:
            self._begin()
        while not self._ready and not self._ended:
            self._take_block()
        return bool(self._ready)

    def _begin(self) -> None:
        self._begun = True
        start = self._exactly(5)
        if start[:4] != _MAGIC:
            raise DecodeError("the stream does not begin with a zstd frame")
        descriptor = start[4]
        single = descriptor >> 5 & 1
        size_bytes = (single, 2, 4, 8)[descriptor >> 6]
        header = start + self._exactly((0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + size_bytes)
        try:
            frame = zstandard.get_frame_parameters(header)
        except zstandard.ZstdError as error:
            raise DecodeError(f"the zstd frame header is bad: {error}") from None
        if frame.dict_id:
            raise DecodeError("the zstd frame asks for a dictionary")
        if frame.window_size > self._max_window:
            raise DecodeError(f"the zstd window of {frame.window_size} bytes is over {self._max_window}")
        if frame.content_size != zstandard.CONTENTSIZE_UNKNOWN:
            self._declared = frame.content_size
            if frame.content_size > self._max_output:
                raise TooLargeError(
                    f"the stream unpacks to {frame.content_size} bytes, over {self._max_output}"
                )
        self._has_checksum = frame.has_checksum
        self._decode(header)

    def _take_block(self) -> None:
        head = self._exactly(3)
        bits = int.from_bytes(head, "little")
        last, kind, size = bool(bits & 1), bits >> 1 & 3, bits >> 3
        # A compressed block of nothing passes zstd where its bytes come in pieces, and not where at once.
        if kind == _RESERVED or size > _MAX_BLOCK or (kind == _COMPRESSED and not size):
            raise DecodeError("a zstd block is malformed")
        tail = 4 if last and self._has_checksum else 0
        made = self._decode(head + self._exactly((1 if kind == _RLE else size) + tail))
        self._produced += len(made)
        self._empty = 0 if made else self._empty + 1
        if self._empty > MAX_EMPTY_BLOCKS:
            raise DecodeError(f"more than {MAX_EMPTY_BLOCKS} zstd blocks without content")
        if self._produced > self._max_output:
            raise TooLargeError(f"the stream unpacks to more than {self._max_output} bytes")
        if last:
            self._finish()
        self._ready, self._ended = memoryview(made), last

    def _decode(self, data: bytes) -> bytes:
        try:
            return self._decoder.decompress(data)
        except zstandard.ZstdError as error:
            raise DecodeError(f"the zstd stream is bad: {error}") from None

    def _finish(self) -> None:
        if not self._decoder.eof or (self._declared is not None and self._declared != self._produced):
            raise DecodeError("the zstd frame does not hold what it declares")
        if self._raw.read(1):
            raise DecodeError("bytes stand after the zstd frame")

    def _exactly(self, size: int) -> bytes:
        data = self._raw.read(size)
        while len(data) < size:
            more = self._raw.read(size - len(data))
            if not more:
                raise DecodeError("the zstd stream is cut short")
            data += more
        return data


def bounded_reader(raw: Readable, *, max_output: int, max_window: int = MAX_WINDOW) -> BoundedReader:
    """The content of the one zstd frame in `raw`, within bounds; see `BoundedReader`."""
    return BoundedReader(raw, max_output=max_output, max_window=max_window)


def stream_reader(raw: Readable, compression: str, *, max_output: int) -> Readable:
    """The content of a stream that says `none` or `zstd`, within the same bound (spec section 3.2)."""
    if compression == "none":
        return PlainReader(raw, max_output=max_output)
    if compression == "zstd":
        return bounded_reader(raw, max_output=max_output)
    raise DecodeError(f"stream.compression {compression[:40]!r} is neither none nor zstd")
