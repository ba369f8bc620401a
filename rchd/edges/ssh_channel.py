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
FIRST_WINDOW, LAST_WINDOW = 32 << 10, 2 << 20
QUICK_SECONDS = 0.1
_PART = 16 << 10


class Flow:
    """What the channels of one connection know of its line.

    `round_trip` is the shortest time in seconds that an answer took.
    """

    def __init__(self) -> None:
        self.round_trip = 0.5
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


class SshChannel(PacedChannel):
    """A session of the worker's command."""

    def __init__(self, released: Callable[[], None], flow: Flow | None = None) -> None:
        super().__init__()
        self._flow = flow or Flow()
        self._window = FIRST_WINDOW
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
        for start in range(0, len(data), _PART):
            try:
                self._channel.write(data[start : start + _PART])
            except OSError as error:
                raise LineCut(str(error)) from error
            await self._may_write.wait()
            await self._flow.clear()
            if self._gone:
                raise LineCut("the session is closed")

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
