"""What the daemon always records: the newest part of its history, in a few files of bounded size.

Each file is a transcript (`rchd.core.transcript`) that begins with all that the core remembers. So a
new one is begun where that is little: at a start, and when no run is live. Where runs are live for
ever, one that merely goes on with the one before is begun in the end. The oldest go first. Recording
never stands in a run's way: whatever goes wrong is logged, and nothing more is recorded.
"""

from __future__ import annotations

import os
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
from rchd.core.transcript import encode_batch, encode_line, header_of

log = structlog.get_logger("rchd.ring")

PART_BYTES = 4 * 1024 * 1024
"""From this size on a part ends at the next moment without a live run."""
LONGEST_PART_BYTES = 4 * PART_BYTES
FEW_RUNS = 500
"""With more live runs a part begins without them: they are some KiB each, and a start is to be quick."""
SUFFIX = ".jsonl"


class Ring:
    """Called with each batch, and told when it is done; keeps at most `keep_bytes` in `folder`."""

    def __init__(self, folder: Path, keep_bytes: int, *, part_bytes: int = PART_BYTES) -> None:
        self._folder = folder
        self._keep = keep_bytes
        self._part = min(part_bytes, max(1, keep_bytes // 4))
        self._longest = self._part * (LONGEST_PART_BYTES // PART_BYTES)
        self._file: BinaryIO | None = None
        self._size = 0
        self._whole = True
        self.on = True

    def begin(self, core: Core) -> None:
        """A part that begins with all that `core` has, where that is not too much."""
        self._guarded(lambda: self._next(core, whole=len(core.runs) <= FEW_RUNS))

    def __call__(self, events: list[ev.Event], effects: list[fx.Effect]) -> None:
        """One batch, with the system before this returns, so that it outlives a kill."""
        if self.on:
            self._guarded(lambda: self._write(encode_batch(events, effects)))

    def rest(self, core: Core) -> None:
        """The batch is done, and the ended runs are forgotten: a new part may begin here."""
        if not self.on:
            return
        if core.is_idle and (self._size >= self._part or not self._whole):
            self._guarded(lambda: self._next(core, whole=True))
        elif self._size >= self._longest:
            self._guarded(lambda: self._next(core, whole=False))

    def close(self) -> None:
        """No more is written."""
        self.on = False
        with suppress(OSError):
            if self._file is not None:
                self._file.close()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            log.exception("transcripts.failed", folder=str(self._folder))
            self.close()

    def _next(self, core: Core, *, whole: bool) -> None:
        if self._file is not None:
            self._file.close()
        parts = parts_of(self._folder)
        self._thin(parts)
        number = int(parts[-1].name.removesuffix(SUFFIX)) + 1 if parts else 1
        path = self._folder / f"{number:08d}{SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._size, self._whole = 0, whole
        header = header_of(core, version=rch.__version__)
        if not whole:
            header = msgspec.structs.replace(header, runs=(), continued=True)
        self._write(encode_line(header))

    def _thin(self, parts: list[Path]) -> None:
        """Remove the oldest, so that one more part has room."""
        left = sum(path.stat().st_size for path in parts)
        for path in parts:
            if left <= self._keep - self._part:
                return
            left -= path.stat().st_size
            path.unlink()

    def _write(self, line: bytes) -> None:
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
            self._size += len(line)


def parts_of(folder: Path) -> list[Path]:
    """The parts in `folder`, oldest first."""
    try:
        names = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
    except FileNotFoundError:
        return []
    return [path for path in names if path.name.removesuffix(SUFFIX).isdecimal()]


@contextmanager
def ring(folder: Path, keep_bytes: int, core: Core) -> Iterator[Ring | None]:
    """A ring of `core` in `folder`; None, and nothing left there, where none is kept."""
    if keep_bytes == 0:
        for path in parts_of(folder):
            with suppress(OSError):
                path.unlink()
        yield None
        return
    kept = Ring(folder, keep_bytes)
    try:
        make_dirs(folder)
    except OSError as error:
        log.error("transcripts.failed", folder=str(folder), message=str(error))  # noqa: TRY400  (no trace of use)
        yield None
        return
    kept.begin(core)
    try:
        yield kept
    finally:
        kept.close()
