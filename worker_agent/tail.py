"""`tail`: a job's log and events while they grow (spec section 3.3).

A cursor is `generation:offset:events`: which execution wrote the log, the byte up to which it
was read, and the byte up to which `events.jsonl` was read. It means nothing to anybody else.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import UNSET

from rch.contract.decoding import decode_json
from rch.contract.worker_rpc import Code, JobEvent, RpcError, TailRequest, TailResult
from worker_agent.filewatch import FileWatch
from worker_agent.jobs import Jobs
from worker_agent.status import require_known

# A byte becomes at most six in JSON; an answer has to fit into a line of 1 MiB.
MAX_CHUNK_BYTES = 128 << 10
MAX_EVENT_BYTES = 128 << 10
MAX_EVENTS = 1000
MAX_WAIT_SECONDS = 60.0
_MOST_BYTES_OF_A_CHARACTER = 4
# How often it is looked where nothing tells of changes; the other is the net below what does.
_LOOK_SECONDS = 0.01
_NET_SECONDS = 0.25
_OWNER_LOOK_SECONDS = 0.25
_CURSOR = re.compile(r"(\d{1,9}):(\d{1,18}):(\d{1,18})", re.ASCII)
_CONTINUATION = range(0x80, 0xC0)


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a reader is."""

    generation: int
    offset: int = 0
    events: int = 0

    def __str__(self) -> str:
        return f"{self.generation}:{self.offset}:{self.events}"


class Pause(Protocol):
    """Sleeps; True says that nobody waits for the answer any more."""

    def __call__(self, seconds: float, wake: int = ..., /) -> bool:
        """Sleep so long, or until the descriptor `wake` can be read."""


def tail(
    jobs: Jobs, request: TailRequest, pause: Pause, watch: Callable[[], FileWatch | None] = lambda: None
) -> TailResult:
    """The news of a job from the cursor on; holds the answer until there is some or the time is up.

    `watch` is asked where the answer has to be held: `pause` is woken by it.
    """
    reader = _Reader(jobs, request)
    deadline = time.monotonic() + _wait_seconds(request)
    result, news = reader.read()
    ears = _Ears(reader, pause, None if news else watch())
    while not news and (left := deadline - time.monotonic()) > 0:
        if ears.wait(left):
            break
        if reader.stirred():
            result, news = reader.read()
    return result


class _Ears:
    """Waits for something to look at; without a watch a moment at a time."""

    def __init__(self, reader: _Reader, pause: Pause, heard: FileWatch | None) -> None:
        self._reader = reader
        self._pause = pause
        self._watch = heard

    def wait(self, most: float) -> bool:
        """Until there may be news, at most so many seconds; True when nobody waits for them any more."""
        watch = self._watch
        if watch is not None:
            try:
                if watch.follow(*self._reader.places()):
                    return False  # what happened before was not heard: it is looked at once more
            except OSError:  # no watch is left, or what was there has gone
                watch = None
        if watch is None:
            return self._pause(min(most, _LOOK_SECONDS))
        gone = self._pause(min(most, _NET_SECONDS), watch.fd)
        watch.clear()
        return gone


class _Reader:
    """One reader's view of a job."""

    def __init__(self, jobs: Jobs, request: TailRequest) -> None:
        self._jobs = jobs
        self._job_id = request.job_id
        self._most_bytes, self._most_events = _limits(request)
        self._given = _cursor(request.cursor)
        self._folder = jobs.folder(request.job_id)
        self._first_state: str | None = None
        self._seen: tuple[object, ...] = ()
        self._owner_look = 0.0

    def stirred(self) -> bool:
        """Whether a file has changed, or it is time to see whether the job still has an owner."""
        return self._marks() != self._seen or time.monotonic() >= self._owner_look

    def places(self) -> tuple[list[Path], list[Path]]:
        """The folders and the files where news come up; what is not there yet is missing."""
        log = self._log(self._generation)
        folders, files = [self._folder, log.parent.parent, log.parent], [log, log.with_name("events.jsonl")]
        return [each for each in folders if each.exists()], [each for each in files if each.exists()]

    def _marks(self) -> tuple[object, ...]:
        return tuple(map(_mark, self._files))

    def read(self) -> tuple[TailResult, bool]:
        """What there is now, and whether it is news. The state is read first: a terminal one has all."""
        standing = require_known(self._jobs, self._job_id)
        state = standing.state
        self._owner_look = time.monotonic() + _OWNER_LOOK_SECONDS
        self._generation = standing.attempt
        log = self._log(self._generation)
        self._files = (
            str(log),
            str(log.with_name("events.jsonl")),
            str(self._folder / "state.json"),
            str(self._folder / "attempt.json"),
        )
        self._seen = self._marks()
        cursor, reset = self._place()
        log = self._log(cursor.generation)
        data = _characters(_slice(log, cursor.offset, self._most_bytes), final=standing.terminal)
        lines = _lines(log.with_name("events.jsonl"), cursor.events, self._most_events)
        after = Cursor(
            generation=cursor.generation,
            offset=cursor.offset + len(data),
            events=cursor.events + sum(map(len, lines)),
        )
        whole = standing.terminal and not ((data or lines) and self._more(after))
        result = TailResult(
            log_chunk=data.decode("utf-8", "replace"),
            events=tuple(_events(lines)),
            next_cursor=None if whole else str(after),
            state=state.state,
            seq=state.seq,
            reset=True if reset else UNSET,
        )
        self._first_state = self._first_state or state.state
        news = bool(data or lines) or reset or standing.terminal or state.state != self._first_state
        return result, news

    def _place(self) -> tuple[Cursor, bool]:
        """The cursor for the log that is there now, and whether it had to begin anew."""
        given = self._given
        if given is None:
            return Cursor(generation=self._generation), False
        if given.generation == self._generation and given.offset <= _size(self._log(given.generation)):
            return given, False
        return Cursor(generation=self._generation), True

    def _more(self, after: Cursor) -> bool:
        log = self._log(after.generation)
        return _size(log) > after.offset or _size(log.with_name("events.jsonl")) > after.events

    def _log(self, generation: int) -> Path:
        return self._jobs.attempt_folder(self._job_id, generation) / "artifacts" / "build.log"


def _limits(request: TailRequest) -> tuple[int, int]:
    most_bytes = MAX_CHUNK_BYTES if request.max_bytes is None else request.max_bytes
    most_events = MAX_EVENTS if request.max_events is None else request.max_events
    if most_bytes < 1 or most_events < 0:
        raise RpcError(
            Code.INVALID_REQUEST, f"max_bytes {most_bytes} or max_events {most_events} is too small"
        )
    return max(_MOST_BYTES_OF_A_CHARACTER, min(most_bytes, MAX_CHUNK_BYTES)), min(most_events, MAX_EVENTS)


def _wait_seconds(request: TailRequest) -> float:
    wait = request.wait_seconds or 0.0
    if not math.isfinite(wait) or wait < 0:
        raise RpcError(Code.INVALID_REQUEST, f"wait_seconds {wait} is negative or no number")
    return min(wait, MAX_WAIT_SECONDS)


def _cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise RpcError(Code.INVALID_REQUEST, f"cursor {text[:80]!r} is none of ours")
    return Cursor(generation=int(match[1]), offset=int(match[2]), events=int(match[3]))


def _slice(path: Path, offset: int, size: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def _characters(data: bytes, *, final: bool) -> bytes:
    """The data without the half of a character at its end, which is whole with the next bytes.

    `final`: nothing follows, so that what is half stays half and is replaced.
    """
    for back in range(1, min(_MOST_BYTES_OF_A_CHARACTER, len(data)) + 1):
        byte = data[-back]
        if byte in _CONTINUATION:
            continue
        length = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        cut = data[:-back] if length > back else data
        return data if final and not cut else cut
    return data


def _lines(path: Path, offset: int, most: int) -> list[bytes]:
    """Whole lines alone: the last one may be on its way still."""
    if not most:
        return []
    data = _slice(path, offset, MAX_EVENT_BYTES)
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)[:most]


def _events(lines: list[bytes]) -> Iterator[JobEvent]:
    for line in lines:
        with suppress(msgspec.DecodeError):  # a full disk may have torn one
            yield decode_json(line, JobEvent)


def _mark(path: str) -> tuple[int, int, int]:
    """What differs once a file was written to or replaced."""
    try:
        stat = os.stat(path)  # noqa: PTH116  (asked at each look)
    except FileNotFoundError:
        return 0, 0, 0
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
