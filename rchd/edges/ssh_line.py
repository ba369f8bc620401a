"""What a connection's packets go through on their way to the socket, beside what the library does.

It has no hooks for this: `ssh.py` puts these in the places of its methods.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# What may wait in the kernel before it is on its way; more would wait before the next question, too.
_UNSENT = 16 << 10
_BATCH = 256 << 10
_MSG_IGNORE = 2  # RFC 4253, section 12


class Batch:
    """Puts the packets of one turn of the loop together: one send, where each had one of its own."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._packets: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Take a packet; it is sent before the loop turns twice."""
        if not self._packets:
            asyncio.get_running_loop().call_soon(self._flush)
        self._packets.append(data)
        self._size += len(data)
        if self._size >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        packets, self._packets, self._size = self._packets, [], 0
        if packets:
            self._send(b"".join(packets))


def without_padding(send: Callable[..., None]) -> Callable[..., None]:
    """Leave out the empty packet that the library puts before each: a write and a wake-up of the server.

    It protects ciphers in CBC mode, of which none is offered (`CIPHERS`).
    """

    def send_packet(kind: int, *args: bytes, **options: Any) -> None:
        if kind != _MSG_IGNORE:
            send(kind, *args, **options)

    return send_packet


def limiter(of_buffer: Callable[[int], None], own: socket.socket | None) -> Callable[[int], None]:
    """Sets what may wait for the line: as much in the kernel as on this side, but some in any case."""

    def limit(high: int) -> None:
        of_buffer(high)
        if own is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with suppress(OSError):  # it is closed, and nothing waits for it any more
                own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, max(high, _UNSENT))

    return limit
