"""One SSH session that runs the worker's command.

It has the callbacks of the library's session without being made from it, so that this module
loads at once.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anyio import lowlevel

from rchd.edges.channels import LineCut, PacedChannel

if TYPE_CHECKING:
    import asyncssh

_EXTENDED_DATA_STDERR = 1  # RFC 4254, section 5.2


class SshChannel(PacedChannel):
    """A session of the worker's command."""

    def __init__(self, released: Callable[[], None]) -> None:
        super().__init__()
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
        try:
            self._channel.write(data)
        except OSError as error:
            raise LineCut(str(error)) from error
        await self._may_write.wait()
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
