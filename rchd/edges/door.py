"""Lets clients in, also where this process has no descriptor left for them (fault H13).

Who comes then waits a moment in the kernel's queue. If there is still none after it, each is let
in on a descriptor that is kept for that, told why, and sent away.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable

import anyio
import msgspec
import structlog

from rch.contract.errors import Failure, Kind
from rch.contract.local_api import INVALID_REQUEST, error_body
from rchd.edges.exhaustion import is_exhausted

log = structlog.get_logger("rchd.socket")

PAUSE_SECONDS = 0.5


def unasked(failure: Failure) -> bytes:
    """The line of an error that answers no request."""
    body = error_body(failure, INVALID_REQUEST)
    return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": body}) + b"\n"


def overload(message: str) -> Failure:
    """A refusal that is not the client's fault and passes by itself."""
    return Failure(Kind.DAEMON, message, hint="close clients that idle, or try again a little later")


class Door:
    """One listening socket, closed with `close`. `make` gives the protocol of a new connection."""

    def __init__(self, sock: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        self._sock = sock
        self._make = make
        self._spare = _spare()
        self._scope = anyio.CancelScope()

    def close(self) -> None:
        """Let nobody in any more; the socket goes at once."""
        self._scope.cancel()
        self._sock.close()

    async def stand(self) -> None:
        """Let clients in until closed."""
        try:
            with self._scope:
                while True:
                    try:
                        await self._one()
                    except OSError as error:
                        await self._short_of(error)
        finally:
            self._give_spare()

    async def _one(self) -> None:
        loop = asyncio.get_running_loop()
        sock, _ = await loop.sock_accept(self._sock)
        try:
            await loop.connect_accepted_socket(self._make, sock)
        except BaseException:
            sock.close()
            raise

    async def _short_of(self, error: OSError) -> None:
        """Wait for who is inside to leave; then answer, one by one, whoever waits outside."""
        if error.errno in {errno.ECONNABORTED, errno.EPROTO}:
            return
        log.warning("socket.takes_nobody", error=error.strerror or str(error))
        await anyio.sleep(PAUSE_SECONDS)
        if not is_exhausted(error):
            return
        while (sent := self._send_away()) is not False:  # noqa: ASYNC110  (the kernel tells nobody)
            # Each turn takes one client off the queue, so this ends with the queue.
            await anyio.sleep(0 if sent else PAUSE_SECONDS)

    def _send_away(self) -> bool | None:
        """True: one was told and sent away; None: nobody waits; False: there is a descriptor again."""
        if (again := _spare()) is not None:
            os.close(again)
            return False
        self._give_spare()
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return None
        else:
            with sock, contextlib.suppress(OSError):
                sock.setblocking(False)
                sock.send(unasked(overload("the daemon has no file descriptor left for another client")))
            return True
        finally:
            self._spare = _spare()

    def _give_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)


def _spare() -> int | None:
    """A descriptor to give up when one is needed; None where there is none."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
