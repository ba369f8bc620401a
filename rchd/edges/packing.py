"""Files into the bytes of one tar, each read once, straight into what is spooled (spec section 5)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Self

from rch.contract.tar import END, Member, member_header, padding
from rch.files.descent import Descent
from rchd.edges.spool import BUFFER, Chunk, Spool
from rchd.edges.walk import Found, SourceChangedError, read_failure, stamp_of

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
LFS_MAX = 1024


def _nobody(files: int, done: int) -> None:
    del files, done


def member_of(one: Found) -> Member:
    """The tar member that a file or link becomes."""
    return Member(path=one.path, kind=one.kind, size=one.size, executable=one.executable, target=one.target)


class TarWriter:
    """Fills the spool's buffers with a tar. `flushed(files, bytes)` is told after each buffer."""

    def __init__(self, spool: Spool, flushed: Callable[[int, int], None] = _nobody) -> None:
        self._spool = spool
        self._flushed = flushed
        self._buffer = spool.buffer()
        self._view = memoryview(self._buffer)
        self._at = 0
        self._pieces: list[tuple[int, int, int]] = []
        self._files = 0
        self._done = 0

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes of the tar."""
        rest = memoryview(data)
        while rest:
            if self._at == BUFFER:
                self._flush(more=True)
            piece = rest[: BUFFER - self._at]
            self._view[self._at : self._at + len(piece)] = piece
            self._at += len(piece)
            rest = rest[len(piece) :]

    def end(self) -> None:
        """The tar's end; the spool has all of it then."""
        self.write(END)
        self._flush()

    def _flush(self, *, more: bool = False) -> None:
        """Hand the buffer on, and take another one for what is still to come."""
        self._done += self._at
        self._spool.put(Chunk(self._buffer, self._at, tuple(self._pieces)))
        self._flushed(self._files, self._done)
        self._at, self._pieces = 0, []
        if more:
            self._buffer = self._spool.buffer()
            self._view = memoryview(self._buffer)


class Packer(TarWriter):
    """Writes the files and links of a tree in their order; `pointers` are the LFS pointers among them."""

    def __init__(self, spool: Spool, flushed: Callable[[int, int], None]) -> None:
        super().__init__(spool, flushed)
        self.pointers: list[str] = []

    def pack(self, root: int, found: Iterable[Found]) -> None:
        """All of `found` below the descriptor `root`, and the tar's end.

        `SourceChangedError` for a file that is not, or does not stay, what the walk saw.
        """
        with Descent(root) as descent:
            for number, one in enumerate(found):
                self.write(member_header(member_of(one)))
                if one.kind == "file":
                    self._read(number, one, descent)
                    self.write(padding(one.size))
                self._files += 1
        self.end()

    def _read(self, number: int, one: Found, descent: Descent) -> None:
        """The file's bytes, exactly as many as the walk saw."""
        if one.size <= LFS_MAX and BUFFER - self._at < one.size:
            self._flush(more=True)  # a pointer is looked for in one piece
        with opened(one, descent) as file:
            left = one.size
            while left:
                if self._at == BUFFER:
                    self._flush(more=True)
                begin = self._at
                got = file.into(self._view[begin : min(BUFFER, begin + left)])
                if left == one.size <= LFS_MAX and self._buffer.startswith(LFS_POINTER, begin):
                    self.pointers.append(one.path)
                self._pieces.append((number, begin, begin + got))
                self._at += got
                left -= got


class opened:  # noqa: N801  (used as a function)
    """A file as the walk saw it: on leaving, `SourceChangedError` unless it is and has stayed that."""

    def __init__(self, one: Found, descent: Descent) -> None:
        self._one = one
        folder, _, name = one.disk.rpartition("/")
        try:
            self._fd = os.open(name, _OPEN, dir_fd=descent.at(folder))
        except OSError as error:
            raise read_failure(one.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        del rest
        try:
            if kind is None and stamp_of(os.fstat(self._fd)) != self._one.stamp:
                raise SourceChangedError(self._one.path)
        finally:
            os.close(self._fd)

    def into(self, buffer: memoryview) -> int:
        """Read into `buffer`, at least a byte."""
        try:
            got = os.readv(self._fd, [buffer])
        except OSError as error:
            raise read_failure(self._one.path, error) from error
        if not got:
            raise SourceChangedError(self._one.path)
        return got

    def whole(self) -> bytes:
        """All of it, as long as the walk saw."""
        data = bytearray(self._one.size)
        view, at = memoryview(data), 0
        while at < len(data):
            at += self.into(view[at:])
        return bytes(data)
