"""Two-way byte channels to a worker, and what all of their kinds share.

A `Transport` opens channels; each channel carries the worker protocol of one process at the
far end. Reading is paced (nothing piles up beyond `HIGH_WATER`), stderr keeps its last
`STDERR_KEPT` bytes alone, and a line that breaks says so with `LineCut`, never with silence.
"""

from __future__ import annotations

from typing import Protocol

import anyio

HIGH_WATER = 1 << 20
STDERR_KEPT = 8 << 10
PART = 256 << 10


class LineCut(Exception):  # noqa: N818  (an event of the line, not a mistake)
    """The connection under a channel is gone, or the far end reads no more."""


class Channel(Protocol):
    """One process at the far end. One task reads and one writes at a time."""

    @property
    def stderr_tail(self) -> str:
        """The last of what the far end wrote to stderr, at most `STDERR_KEPT` bytes."""

    async def send(self, data: bytes) -> None:
        """Send all of `data`, at the peer's pace; `LineCut` if the peer takes no more."""

    async def send_eof(self) -> None:
        """End our side; reading goes on."""

    async def receive(self, max_bytes: int = PART) -> bytes:
        """What has arrived, at least one byte; b"" at the end; `LineCut` if it came abruptly."""

    async def exit_status(self, wait_seconds: float = 1.0) -> int | None:
        """How the far process ended: its code, negative for a signal, None where that is not known."""

    async def close(self) -> None:
        """End the channel and its process; may be called twice, and under cancellation."""


class Transport(Protocol):
    """The way to one worker. `open` raises `Failure` of kind SSH when there is no way."""

    @property
    def host(self) -> str:
        """The machine's name for records."""

    async def open(self) -> Channel:
        """A new channel."""

    async def close(self) -> None:
        """End every channel and the connection under them."""


class StderrTail:
    """Keeps the last `limit` bytes of a stream however long it gets."""

    def __init__(self, limit: int = STDERR_KEPT) -> None:
        self._kept = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> None:
        """Take more of the stream."""
        self._kept += data[-self._limit :]
        del self._kept[: -self._limit]

    @property
    def text(self) -> str:
        """What is kept; bytes that are no UTF-8 are replaced."""
        return self._kept.decode("utf-8", "replace")


class PacedChannel:
    """The half of a channel that callbacks fill: subclasses tell how to pause the source."""

    def __init__(self) -> None:
        self._stderr = StderrTail()
        self._inbox = bytearray()
        self._news = anyio.Event()
        self._over = False
        self._cut: str | None = None
        self._source_paused = False
        self._may_write = anyio.Event()
        self._may_write.set()
        self._exit_code: int | None = None
        self._exited = anyio.Event()

    # --- what a subclass supplies ---------------------------------------------------------

    def _pause_source(self) -> None:
        """Stop the callbacks of arriving data."""

    def _resume_source(self) -> None:
        """Let them come again."""

    # --- callbacks ------------------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        self._inbox += data
        self._news.set()
        if len(self._inbox) > HIGH_WATER and not self._source_paused:
            self._source_paused = True
            self._pause_source()

    def _ended(self, cut: str | None = None) -> None:
        """No more will arrive; `cut` tells that the line broke rather than ended."""
        if not self._over:
            self._over = True
            self._cut = cut
        self._news.set()
        if cut is not None:
            self._exited.set()
        self._may_write.set()

    def _finished(self, exit_code: int | None) -> None:
        self._exit_code = exit_code
        self._exited.set()

    def pause_writing(self) -> None:
        """The buffer towards the peer is full."""
        if not self._over and self._may_write.is_set():
            self._may_write = anyio.Event()

    def resume_writing(self) -> None:
        """The buffer towards the peer has room."""
        self._may_write.set()

    # --- the reader's side ----------------------------------------------------------------

    @property
    def stderr_tail(self) -> str:
        """See `Channel`."""
        return self._stderr.text

    async def receive(self, max_bytes: int = PART) -> bytes:
        """See `Channel`."""
        while not self._inbox:
            if self._over:
                if self._cut is not None:
                    raise LineCut(self._cut)
                return b""
            self._news = anyio.Event()
            await self._news.wait()
        data = bytes(self._inbox[:max_bytes])
        del self._inbox[:max_bytes]
        if self._source_paused and len(self._inbox) < HIGH_WATER // 2:
            self._source_paused = False
            self._resume_source()
        return data

    async def exit_status(self, wait_seconds: float = 1.0) -> int | None:
        """See `Channel`."""
        with anyio.move_on_after(wait_seconds):
            await self._exited.wait()
        return self._exit_code
