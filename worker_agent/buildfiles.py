"""What a job writes while it runs: `build.log` within its bound, and `events.jsonl` (sections 3.3, 11).

`build.log` only ever grows, so that a reader's offset stays good. Over `max_bytes` the log
stands still at its head, the last part is kept in memory, and at the end a line that says how
much is missing and that last part are appended: the middle is cut.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from rch.contract.shown import Piece
from rch.contract.worker_rpc import JobEvent

_MOST_TAIL = 256 << 10
_MARKER_ROOM = 128
_MOST_EVENT = 64 << 10
_CONTINUATION = range(0x80, 0xC0)


class BuildLog:
    """The growing log. Bytes go in as the tools write them, UTF-8 comes to rest in the file."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """`max_bytes` 0 sets no bound."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        room = max(0, max_bytes - _MARKER_ROOM)
        self._tail_room = min(_MOST_TAIL, room // 4)
        self._head_room = room - self._tail_room if max_bytes else None
        self._written = os.fstat(self._fd).st_size
        self._tail = bytearray()
        self._cut = 0

    @property
    def truncated(self) -> bool:
        """Whether the middle was cut."""
        return self._cut > 0

    def write(self, data: bytes, *, final: bool = False) -> bytes:
        """Take bytes; gives them as UTF-8, whole characters alone. They are in the file on return."""
        text = self._decoder.decode(data, final).encode()
        head = text
        if self._head_room is not None:
            head = _whole(text, max(0, self._head_room - self._written)) if not self._overflown else b""
            self._keep(text[len(head) :])
        self._append(head)
        return text

    def close(self) -> None:
        """Append what was kept of the end; the file is at rest then."""
        if self.truncated:
            self._append(b"\n[rch-worker: %d bytes of the log are cut here]\n" % self._cut)
        self._append(bytes(self._tail))
        os.close(self._fd)

    @property
    def _overflown(self) -> bool:
        return bool(self._tail) or self._cut > 0

    def _keep(self, text: bytes) -> None:
        self._tail += text
        excess = len(self._tail) - self._tail_room
        if excess > 0:
            while excess < len(self._tail) and self._tail[excess] in _CONTINUATION:
                excess += 1
            del self._tail[:excess]
            self._cut += excess

    def _append(self, data: bytes) -> None:
        self._written += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


class EventFile:
    """`events.jsonl`: one event a line, in the file on return."""

    def __init__(self, path: Path, now: Callable[[], str]) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._now = now
        self._n = 0

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """Append one event; `kind` is stage, test, failure, diagnostic or note."""
        self._n += 1
        event = JobEvent(n=self._n, at=self._now(), type=kind, data=data)
        line = msgspec.json.encode(event)
        if len(line) > _MOST_EVENT:
            line = msgspec.json.encode(msgspec.structs.replace(event, data={"cut": True}))
        os.write(self._fd, line + b"\n")

    def close(self) -> None:
        """No more events."""
        os.close(self._fd)


class Redactor:
    """Takes known secrets out of a byte stream, also where a chunk's border cuts one in two.

    A stage of `rch.contract.redact.Scrubber`. Secrets that overlap are taken out as one. Only what
    may be the beginning of a secret is held back, until more comes or the end.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = sorted({secret for secret in secrets if secret})
        self._held = b""
        self._at = 0  # of the first byte that is held
        self._covered = 0  # the first bytes of what is held belong to what was taken out already

    def pieces(self, data: bytes, *, last: bool = False) -> list[Piece]:
        """What is safe to pass on; with `last` what was held back as well, which begins no secret."""
        data = self._held + data
        kept = 0 if last else max((_overlap(data, secret) for secret in self._secrets), default=0)
        return self._pass_on(data, len(data) - kept)

    def _pass_on(self, data: bytes, end: int) -> list[Piece]:
        """The first `end` bytes, the rest is held; a secret that begins before `end` is whole."""
        passed, at, base = list[Piece](), self._covered, self._at
        for start, stop in sorted(place for secret in self._secrets for place in _places(data, secret)):
            if start >= end:
                break
            if start >= at:
                passed.append(Piece(base + at, data[at:start]))
                passed.append(Piece(base + start, b"[REDACTED]", put=True))
            at = max(at, stop)
        passed.append(Piece(base + at, data[at:end]))
        self._held, self._covered, self._at = data[end:], max(0, at - end), base + end
        return [piece for piece in passed if piece.data]


def _places(data: bytes, secret: bytes) -> Iterator[tuple[int, int]]:
    """Where a secret begins and ends in the data, each time."""
    start = data.find(secret)
    while start >= 0:
        yield start, start + len(secret)
        start = data.find(secret, start + 1)


def _overlap(data: bytes, secret: bytes) -> int:
    """How many of the last bytes of `data` may be the first ones of `secret`."""
    for size in range(min(len(data), len(secret) - 1), 0, -1):
        if data.endswith(secret[:size]):
            return size
    return 0


def _whole(text: bytes, size: int) -> bytes:
    """The first `size` bytes, less what would be half a character."""
    if size >= len(text):
        return text
    while size > 0 and text[size] in _CONTINUATION:
        size -= 1
    return text[:size]
