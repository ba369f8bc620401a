"""Writes a transcript of the core while the daemon runs (docs/transcripts.md).

A recording never stands in a run's way: whatever goes wrong is logged, and recording is off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import structlog

import rch
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.core.transcript import encode_batch, encode_header
from rchd.edges.ring import Ring, ring

log = structlog.get_logger("rchd.recorder")

LIMIT_BYTES = 256 * 1024 * 1024
MAX_SIBLINGS = 9


class Recorder:
    """Called with each batch; off, for good, after `limit` bytes or the first error, as the log says."""

    trouble: str | None = None

    def __init__(self, file: BinaryIO, path: str, *, limit: int = LIMIT_BYTES) -> None:
        self._file = file
        self._path = path
        self._limit = limit
        self._size = 0
        self.on = True

    def begin(self, core: Core) -> None:
        """The header: the core as it stands before its first event."""
        self._guarded(lambda: encode_header(core, version=rch.__version__))

    def __call__(self, events: list[ev.Event], effects: list[fx.Effect]) -> None:
        """One batch, handed to the system before this returns, so that it outlives a kill."""
        self._guarded(lambda: encode_batch(events, effects))

    def rest(self, _core: Core) -> None:
        """It is one file, whatever comes."""

    def close(self) -> None:
        """No more is written."""
        self.on = False
        with suppress(OSError):
            self._file.close()

    def _guarded(self, encode: Callable[[], bytes]) -> None:
        if not self.on:
            return
        try:
            self._write(encode())
        except Exception:
            log.exception("recording.failed", path=self._path)
            self.close()

    def _write(self, line: bytes) -> None:
        if self._size + len(line) > self._limit:
            log.warning("recording.full", path=self._path, bytes=self._size, limit=self._limit)
            self.close()
            return
        self._file.write(line)
        self._file.flush()
        self._size += len(line)


class Both:
    """Two who write down what happens."""

    def __init__(self, *records: Recorder | Ring) -> None:
        self._records = records

    @property
    def trouble(self) -> str | None:
        """Why what is always recorded is not; None: it is, or need not be."""
        return next((each.trouble for each in self._records if each.trouble), None)

    def __call__(self, events: list[ev.Event], effects: list[fx.Effect]) -> None:
        """Each is told."""
        for record in self._records:
            record(events, effects)

    def rest(self, core: Core) -> None:
        """Each is told."""
        for record in self._records:
            record.rest(core)


@contextmanager
def recordings(path: Path | None, folder: Path, keep_bytes: int, core: Core) -> Iterator[Both]:
    """What is always recorded, up to `keep_bytes` in `folder`, and at `path` where that was asked for."""
    with recording(path, core) as asked, ring(folder, keep_bytes, core) as kept:
        yield Both(*(each for each in (asked, kept) if each is not None))


@contextmanager
def recording(path: Path | None, core: Core) -> Iterator[Recorder | None]:
    """A recorder of `core` at `path`, or `path.1` to `path.9`: nothing is overwritten.

    None without a path, or where none of them can be made, which is logged.
    """
    recorder = None if path is None else _open(path)
    if recorder is None:
        yield None
        return
    recorder.begin(core)
    try:
        yield recorder
    finally:
        recorder.close()


def _open(path: Path) -> Recorder | None:
    siblings = (path.with_name(f"{path.name}.{number}") for number in range(1, MAX_SIBLINGS + 1))
    for place in (path, *siblings):
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        except OSError as error:
            log.error("recording.failed", path=str(place), message=str(error))  # noqa: TRY400  (no trace of use)
            return None
        log.info("recording.on", path=str(place), limit=LIMIT_BYTES)
        return Recorder(os.fdopen(descriptor, "wb"), str(place))
    log.error("recording.failed", path=str(path), message=f"it and its {MAX_SIBLINGS} siblings exist")
    return None
