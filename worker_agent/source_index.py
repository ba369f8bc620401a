"""What a stored source holds, member by member, and where in its tar (spec section 5).

    sources/<sha256>.index   made when the source is verified, from the very bytes that were

Whoever needs one file, or the difference between two sources, reads this and no tar.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

_PIECE = 1 << 20


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


Index = tuple[SourceMember, ...]
"""All members of a source, sorted by the bytes of their path."""

_DECODER = msgspec.msgpack.Decoder(Index)


def encode_index(members: Index) -> bytes:
    """The bytes of an `.index` file."""
    return msgspec.msgpack.encode(members)


def decode_index(data: bytes) -> Index:
    """The members in an `.index` file; `msgspec.DecodeError` for anything else."""
    return _DECODER.decode(data)


class SourceReader:
    """The bytes of a stored source: `read` gives the tar from its beginning, `content` one file's."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, size: int, /) -> bytes:
        """Up to `size` more bytes of the tar; b"" at its end."""
        return self._file.read(size)

    def content(self, member: SourceMember) -> Iterator[bytes]:
        """The pieces of a file's content, as long as it says; `OSError` if the store is cut short."""
        at, left = member.content, member.size
        while left:
            piece = os.pread(self._file.fileno(), min(left, _PIECE), at)
            if not piece:
                raise OSError(f"the stored source ends at {at} bytes")
            yield piece
            at, left = at + len(piece), left - len(piece)
