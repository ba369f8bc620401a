"""One SSH session that runs the worker's command.

It has the callbacks of the library's session without being made from it, so that this module
loads at once.
"""

from __future__ import annotations

import signal as signals
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
from anyio import lowlevel

from rchd.edges.channels import LineCut, PacedChannel

if TYPE_CHECKING:
    import asyncssh

_EXTENDED_DATA_STDERR = 1  # RFC 4254, section 5.2

# A channel may have so many bytes on their way to us: few at first, more while they come quickly,
# so that on a slow line no answer waits long behind a log or an artifact of another channel.
FIRST_WINDOW, LAST_WINDOW = 16 << 10, 2 << 20
QUICK_SECONDS = 0.05
# Likewise what is given to the line at a time: what it carries in `_PACE_SECONDS`, where it is quick.
FIRST_PART, QUICK_PART, LAST_PART = 8 << 10, 64 << 10, 256 << 10
_PACE_SECONDS = 0.05


class Flow:
    """What the channels of one connection know of its line.

    `round_trip` is the shortest time in seconds that an answer took; `limit` sets how many bytes
    may wait for the line before it pauses us.
    """

    def __init__(self) -> None:
        self.round_trip = 0.5
        self.limit: Callable[[int], None] = _no_limit
        self._clear = anyio.Event()
        self._clear.set()

    def pause(self) -> None:
        """The line takes no more for now."""
        if self._clear.is_set():
            self._clear = anyio.Event()

    def resume(self) -> None:
        """It takes more, or is gone."""
        self._clear.set()

    async def clear(self) -> None:
        """Until it takes more."""
        await self._clear.wait()


def _no_limit(high: int) -> None:
    del high


class SshChannel(PacedChannel):
    """A session of the worker's command."""

    def __init__(self, released: Callable[[], None], flow: Flow | None = None) -> None:
        super().__init__()
        self._flow = flow or Flow()
        self._window = FIRST_WINDOW
        self._part = FIRST_PART
        self._sent, self._sent_since = 0, time.monotonic()
        self._since, self._counted = 0.0, 0
        self._asked: float | None = None
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._released: Callable[[], None] | None = released
        self._gone = False

    # --- the library's callbacks ----------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The session is open."""
        self._channel = chan

    def session_started(self) -> None:
        """The command runs."""

    def xon_xoff_requested(self, client_can_do: bool) -> None:  # noqa: FBT001  (the library's signature)
        """The server speaks of a terminal; there is none."""

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes of stdout, or of stderr."""
        self._measure(len(data))
        if datatype == _EXTENDED_DATA_STDERR:
            self._stderr.feed(data)
        else:
            self._arrived(data)

    def eof_received(self) -> bool:
        """The far end's stdout is at its end; our side stays open."""
        self._ended()
        return True

    def exit_status_received(self, status: int) -> None:
        """The command ended by itself."""
        self._finished(status)

    def exit_signal_received(self, signal: str, *rest: Any) -> None:
        """The command was ended by a signal."""
        del rest
        self._finished(-getattr(signals, f"SIG{signal}", signals.SIGKILL))

    def connection_lost(self, exc: Exception | None) -> None:
        """The session is over, with or without its connection."""
        self._gone = True
        self._ended(None if exc is None else str(exc) or type(exc).__name__)
        self._exited.set()

    # --- Channel --------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """See `Channel`."""
        if self._channel is None or self._gone:
            raise LineCut("the session is closed")
        self._asked = time.monotonic()
        done = 0
        while done < len(data):
            part = data[done : done + self._part]
            try:
                self._channel.write(part)
            except OSError as error:
                raise LineCut(str(error)) from error
            await self._may_write.wait()
            await self._flow.clear()
            if self._gone:
                raise LineCut("the session is closed")
            done += len(part)
            self._pace(len(part))

    async def send_eof(self) -> None:
        """See `Channel`."""
        if self._channel is not None and not self._gone and not self._channel.is_closing():
            self._channel.write_eof()

    async def close(self) -> None:
        """Leave the session; its command sees the end of its stdin."""
        released, self._released = self._released, None
        if released is None:
            return
        self._ended()
        if self._channel is not None and not self._gone:
            self._channel.abort()
        released()
        await lowlevel.checkpoint()

    def _pause_source(self) -> None:
        if self._channel is not None:
            self._channel.pause_reading()

    def _resume_source(self) -> None:
        if self._channel is not None and not self._gone:
            self._channel.resume_reading()

    def _pace(self, size: int) -> None:
        """Give larger parts to a line that took much of late."""
        self._sent += size
        now = time.monotonic()
        if (lasted := now - self._sent_since) < 2 * _PACE_SECONDS:
            return
        part = int(self._sent / lasted * _PACE_SECONDS)
        self._part = FIRST_PART if part < QUICK_PART else min(part, LAST_PART)
        self._flow.limit(0 if part < QUICK_PART else self._part)
        self._sent, self._sent_since = 0, now

    def _measure(self, size: int) -> None:
        """Widen the window while half of it comes more quickly than it would queue up."""
        now = time.monotonic()
        if self._asked is not None:
            self._flow.round_trip = min(self._flow.round_trip, now - self._asked)
            self._asked, self._since, self._counted = None, now, 0
        self._counted += size
        if self._counted < self._window // 2:
            return
        quick = now - self._since < QUICK_SECONDS + self._flow.round_trip
        self._since, self._counted = now, 0
        if quick and self._window < LAST_WINDOW and self._channel is not None:
            self._window *= 2
            # The library has no name for it; it tops the far end up to this number.
            self._channel._init_recv_window = self._window  # noqa: SLF001
