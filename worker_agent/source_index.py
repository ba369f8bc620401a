"""What a stored source holds, member by member, and where in its tar (spec section 5).

    sources/<sha256>.index   made when the source is verified, from the very bytes that were

Whoever needs one file, or the difference between two sources, reads this and no tar.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from types import TracebackType
from typing import BinaryIO, Literal, Self

import msgspec

_PIECE = 1 << 20
_HASHED = 256 << 10
_DIGEST_BYTES = 32


class SourceMember(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file or link. `offset` is where its first header byte stands in the tar, `content` its first own.

    `sha256` is that of a file's content, `target` a link's.
    """

    path: str
    kind: Literal["file", "symlink"]
    size: int
    executable: bool
    target: str | None
    sha256: str | None
    offset: int
    content: int

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.content + self.size + -self.size % 512

    def moved(self, by: int) -> SourceMember:
        """The same member `by` bytes further on."""
        return SourceMember(
            self.path,
            self.kind,
            self.size,
            self.executable,
            self.target,
            self.sha256,
            self.offset + by,
            self.content + by,
        )


Index = tuple[SourceMember, ...]
"""All members of a source, sorted by the bytes of their path."""

_DECODER = msgspec.msgpack.Decoder(Index)


def encode_index(members: Index) -> bytes:
    """The bytes of an `.index` file: a SHA-256 of the rest stands first."""
    return sealed(msgspec.msgpack.encode(members))


def decode_index(data: bytes) -> Index:
    """The members in an `.index` file; `msgspec.DecodeError` for anything else."""
    return _DECODER.decode(unsealed(data))


def sealed(data: bytes) -> bytes:
    """Bytes that tell by themselves whether they are whole."""
    return hashlib.sha256(data).digest() + data


def unsealed(data: bytes) -> memoryview:
    """What `sealed` was given; `msgspec.DecodeError` where a byte of it is another."""
    rest = memoryview(data)[_DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != data[:_DIGEST_BYTES]:
        raise msgspec.DecodeError("the bytes are not those that were written")
    return rest


class Segment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`length` bytes from `offset` on in a source's first file (0, a tar) or its second (1, a delta)."""

    file: Literal[0, 1]
    offset: int
    length: int


class CutShort(OSError):  # noqa: N818  (it says what is so)
    """A file of the store is shorter than it was."""


class SourceReader:
    """The bytes of a stored source: `read` gives the tar from its beginning, `content` one file's.

    They stand in `files`, which are closed with the reader, in the order of `segments`. `CutShort`
    where a file ends before.
    """

    def __init__(self, files: Sequence[BinaryIO], segments: Sequence[Segment]) -> None:
        self._files = files
        self._segments = segments
        self._starts = [0, *accumulate(each.length for each in segments)]
        self._at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the files go."""
        for file in self._files:
            file.close()

    @property
    def size(self) -> int:
        """How long the tar is."""
        return self._starts[-1]

    def read(self, size: int, /) -> bytes:
        """`size` more bytes of the tar, fewer at its end alone."""
        data = self.read_at(self._at, size)
        self._at += len(data)
        return data

    def read_at(self, at: int, size: int) -> bytes:
        """`size` bytes from `at` on, fewer at the end alone. Good for several threads at once."""
        pieces, left = [], size
        while left > 0 and (piece := self._piece(at, left)):
            at, left = at + len(piece), left - len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pieces(self) -> Iterator[bytes]:
        """All of the tar."""
        at = 0
        while piece := self._piece(at, _PIECE):
            yield piece
            at += len(piece)

    def content(self, member: SourceMember) -> Iterator[bytes]:
        """The pieces of a file's content, as long as it says."""
        at, left = member.content, member.size
        while left:
            piece = self._piece(at, min(left, _PIECE))
            if not piece:
                raise CutShort(f"the stored source ends at {at} bytes")
            yield piece
            at, left = at + len(piece), left - len(piece)

    def _piece(self, at: int, size: int) -> bytes:
        """Up to `size` bytes from `at` on, none at the end alone."""
        if at >= self.size or size <= 0:
            return b""
        place = bisect_right(self._starts, at) - 1
        segment, into = self._segments[place], at - self._starts[place]
        length = min(size, segment.length - into)
        piece = os.pread(self._files[segment.file].fileno(), length, segment.offset + into)
        if not piece:
            raise CutShort(f"the stored source ends at {at} bytes")
        return piece

    def sha256(self) -> str:
        """The digest of the tar, read anew. It holds the interpreter for moments only."""
        digest, buffer = hashlib.sha256(), memoryview(bytearray(_HASHED))
        for segment in self._segments:
            fd, at, left = self._files[segment.file].fileno(), segment.offset, segment.length
            while left:
                got = os.preadv(fd, [buffer[: min(left, _HASHED)]], at)
                if not got:
                    raise CutShort(f"the stored source ends at {at} bytes")
                digest.update(buffer[:got])
                at, left = at + got, left - got
        return digest.hexdigest()
