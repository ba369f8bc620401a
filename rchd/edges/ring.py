"""What the daemon always records: the newest part of its history, in a few files of bounded size.

Each file is a transcript (`rchd.core.transcript`) that begins with all that the core remembers, and so
stands by itself when the ones before are gone. A new one is begun at a start, when no run is live, and
in the midst of live runs where a core made from what can be written down is equal to the real one. The
oldest go first. Recording never stands in a run's way: whatever goes wrong is logged and told as a
trouble, and nothing is recorded until a part can be begun again, which is tried whenever a run begins or
ends.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog

import rch
from rch.files.durable import make_dirs
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.core.transcript import Header, encode_batch, encode_line, header_of, standing_header
from rchd.edges.unrecorded import note_failure

log = structlog.get_logger("rchd.ring")

PART_BYTES = 4 * 1024 * 1024
"""From this size on a part ends at the next moment without a live run; at twice that among live ones."""
_PARTS = 8
"""At least so many parts are what is kept: with one of them a small share of it goes."""
FEW_RUNS = 500
"""With more live runs no part begins: they are some KiB each, and a start is to be quick."""
SUFFIX = ".jsonl"
_MOST_DIGITS = 18


class Ring:
    """Called with each batch, and told when it is done; never has more than `keep_bytes` in `folder`.

    `trouble` says why nothing is recorded; `on`: it is, as far as is known.
    """

    def __init__(self, folder: Path, keep_bytes: int, *, part_bytes: int = PART_BYTES) -> None:
        self._folder = folder
        self._keep = keep_bytes
        self._part = min(part_bytes, max(1, keep_bytes // _PARTS))
        self._file: BinaryIO | None = None
        self._path = folder
        self._older: list[tuple[Path, int]] = []
        self._size = 0  # of this part, or of what came since there is none
        self._due = 0  # the size at which it is tried to begin a part among live runs
        self.on = True
        self.trouble: str | None = None
        self._closed = False
        self._gap = False  # since the last part something was not recorded
        self._tried_at = -1  # how many runs were live when it was last tried to go on

    def begin(self, core: Core) -> None:
        """A part that begins with all that `core` has, where that is not too much."""
        self._guarded(lambda: self._begin(core))

    def _begin(self, core: Core) -> None:
        make_dirs(self._folder)
        note_failure(self._folder, None)
        few = len(core.runs) <= FEW_RUNS
        self._next(header_of(core, version=rch.__version__) if few else None)

    def __call__(self, events: list[ev.Event], effects: list[fx.Effect]) -> None:
        """One batch, with the system before this returns, so that it outlives a kill."""
        if self.on:
            self._guarded(lambda: self._write(encode_batch(events, effects)))

    def rest(self, core: Core) -> None:
        """The batch is done, and the ended runs are forgotten: a new part may begin here."""
        if self.on:
            self._guarded(lambda: self._turn(core))
        elif not self._closed and self._tried_at != len(core.runs):
            self._tried_at = len(core.runs)
            self._guarded(lambda: self._come_back(core))

    def _come_back(self, core: Core) -> None:
        """After a trouble: a part is begun as soon as one can be."""
        make_dirs(self._folder)
        self.on = True
        self._turn(core)

    def close(self) -> None:
        """No more is written."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        self.on = False
        file, self._file = self._file, None
        self._size = self._due = 0
        with suppress(OSError):
            if file is not None:
                file.close()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            trouble = f"no transcripts are recorded in {self._folder}: {_said(error)}"
            if trouble != self.trouble:  # who tries in vain again and again says so once
                log.exception("transcripts.failed", folder=str(self._folder))
            self.trouble, self._gap = trouble, True
            note_failure(self._folder, trouble)
            self._stop()

    def _turn(self, core: Core) -> None:
        if core.is_idle and (self._file is None or self._size >= self._part):
            self._next(header_of(core, version=rch.__version__))
        elif self._size >= self._due:
            self._go_on(core)

    def _go_on(self, core: Core) -> None:
        """A part among live runs; where it cannot begin now, that is tried again some batches later."""
        header = standing_header(core, rch.__version__) if len(core.runs) <= FEW_RUNS else None
        if header is None or len(encode_line(header)) > self._part:
            self._due = self._size + max(1, self._part // 4)
            return
        if self._file is not None:
            header = msgspec.structs.replace(header, continued=True)
        self._next(header)

    def _next(self, header: Header | None) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._size, self._due = None, 0, self._part * 2
        self._older = [(path, path.stat().st_size) for path in parts_of(self._folder)]
        self._has_room(0)
        if header is not None:
            self._first(msgspec.structs.replace(header, gaps=True) if self._gap else header)

    def _first(self, header: Header) -> None:
        """Begin a part, or leave nothing of it."""
        self._file = self._opened()
        try:
            self._write(encode_line(header))
        except Exception:
            self._path.unlink(missing_ok=True)
            raise
        self._gap = False
        if self.trouble is not None:
            log.info("transcripts.go_on", path=str(self._path))
            self.trouble, self._tried_at = None, -1
            note_failure(self._folder, None)

    def _opened(self) -> BinaryIO:
        number = 1 + max(_numbers(self._folder), default=0)
        self._path = self._folder / f"{number:08d}{SUFFIX}"
        if len(str(number)) > _MOST_DIGITS:
            raise ValueError(f"{self._path.name} would be no name of a part: remove the file before it")
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "wb")

    def _has_room(self, more: int) -> bool:
        """Whether so many bytes fit; as many of the oldest parts are removed as are in their way."""
        others = sum(size for _, size in self._older)
        while others + self._size + more > self._keep and self._older:
            path, size = self._older.pop(0)
            path.unlink(missing_ok=True)
            others -= size
        return others + self._size + more <= self._keep

    def _write(self, line: bytes) -> None:
        if self._file is not None and not self._has_room(len(line)):
            self._give_up(self._file)
        elif self._file is not None:
            self._file.write(line)
            self._file.flush()
        self._size += len(line)

    def _give_up(self, file: BinaryIO) -> None:
        """One part alone is too much: without its beginning it is nothing, and another one begins later."""
        log.warning("transcripts.too_large", path=str(self._path), limit=self._keep)
        file.close()
        self._path.unlink(missing_ok=True)
        self._file, self._size, self._due = None, 0, 0


def _said(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def number_of(path: Path) -> int | None:
    """Which part a file is by its name; None: none."""
    digits = path.name.removesuffix(SUFFIX)
    named = path.name.endswith(SUFFIX) and digits.isascii() and digits.isdecimal()
    return int(digits) if named and len(digits) <= _MOST_DIGITS else None


def _numbers(folder: Path) -> Iterator[int]:
    """All that are taken, by whatever."""
    for path in folder.iterdir():
        if (number := number_of(path)) is not None:
            yield number


def parts_of(folder: Path) -> list[Path]:
    """The parts in `folder`, oldest first. What is no file of its own is none of them."""
    found = list[tuple[int, Path]]()
    try:
        names = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    for path in names:
        number = number_of(path)
        with suppress(FileNotFoundError):
            if number is not None and stat.S_ISREG(path.lstat().st_mode):
                found.append((number, path))
    return [path for _, path in sorted(found)]


@contextmanager
def ring(folder: Path, keep_bytes: int, core: Core) -> Iterator[Ring | None]:
    """A ring of `core` in `folder`; None, and nothing left there, where none is kept."""
    if keep_bytes == 0:
        with suppress(OSError):
            for path in parts_of(folder):
                path.unlink()
        yield None
        return
    kept = Ring(folder, keep_bytes)
    kept.begin(core)
    try:
        yield kept
    finally:
        kept.close()
