"""JSON-RPC between stdin and stdout and the daemon's socket, in lines or with `Content-Length`.

An editor's library speaks over the pipes of a child. The socket is given lines, whose answers are
framed as what was asked last. Neither side is read
while the other one does not take what is there, so that no buffer grows beyond a few messages.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time

from rch.contract.errors import Failure, Kind
from rch.contract.framing import FrameError, LineReader
from rch.contract.messages import MessageReader, in_kind

MAX_MESSAGE = 1 << 20
"""Of a request, in bytes, as the daemon takes it; it closes the connection upon a longer one."""
MAX_ANSWER = 16 << 20
EOF_SECONDS = 30.0
"""How long answers are waited for after the end of stdin, counted from the last that came."""
_READ = 1 << 16
_MOST_UNSENT = 4 * _READ


class Incoming:
    """What comes from stdin, as lines for the socket.

    `framed`: the last message had a header block, and whoever sent it reads such. `awaited` counts the
    requests that have no answer yet.
    """

    def __init__(self) -> None:
        self._messages = MessageReader(MAX_MESSAGE)
        self.framed = False
        self.awaited = 0

    def feed(self, data: bytes) -> bytes:
        """The whole messages in it, a line each; `FrameError` where that cannot be told."""
        self._messages.feed(data)
        found: list[bytes] = []
        while (message := self._messages.message()) is not None:
            if not message.body.strip():
                continue
            self.framed = message.framed
            self._count(message.body)
            # Between the tokens of JSON a line's end is a space; inside of a text it cannot stand.
            found.append(message.body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
        return b"".join(found)

    def end(self) -> bytes:
        """What is left at the end of stdin: the last line may have no end, a framed message has to."""
        if not self._messages.framed:
            return self.feed(b"\n")
        if self._messages.pending:
            raise FrameError("the last message has no end")
        return b""

    def _count(self, message: bytes) -> None:
        """All but notifications have an answer to come; what is no message is refused, which is one."""
        try:
            value = json.loads(message)
        except (ValueError, RecursionError):
            value = None
        if not (isinstance(value, dict) and "method" in value and value.get("id") is None):
            self.awaited += 1


class Outgoing:
    """What comes from the socket, framed as stdin is."""

    def __init__(self, incoming: Incoming) -> None:
        self._lines = LineReader(MAX_ANSWER)
        self._incoming = incoming

    def feed(self, data: bytes) -> bytes:
        """The whole messages in it."""
        self._lines.feed(data)
        found: list[bytes] = []
        while (line := self._lines.line()) is not None:
            if self._incoming.awaited and not _is_notification(line):
                self._incoming.awaited -= 1
            found.append(in_kind(line + b"\n", framed=self._incoming.framed))
        return b"".join(found)


def _is_notification(line: bytes) -> bool:
    """Most can be told without taking them apart: the method stands near the beginning."""
    if b'"method"' not in line[:200]:
        return False
    try:
        return "method" in json.loads(line)
    except (ValueError, RecursionError, TypeError):
        return False


class Bridge:
    """Copies until stdin is at its end and all is answered, the daemon hangs up, or stdout is gone."""

    def __init__(self, sock: socket.socket, stdin: int, stdout: int) -> None:
        self._sock = sock
        self._stdin, self._stdout = stdin, stdout
        self._incoming = Incoming()
        self._outgoing = Outgoing(self._incoming)
        self._up, self._down = bytearray(), bytearray()
        self._at_end = False
        self._last = time.monotonic()

    def run(self) -> None:
        """`Failure` USAGE for bytes that are no messages, DAEMON where the daemon leaves something open."""
        self._sock.setblocking(False)
        try:
            while not self._is_done():
                self._turn()
        except FrameError as error:
            raise Failure(Kind.USAGE, f"stdin: {error}", hint="rchctl rpc --help") from error
        except BrokenPipeError:
            return  # whoever asked is gone

    def _is_done(self) -> bool:
        if not self._at_end or self._up or self._down:
            return False
        if self._incoming.awaited and time.monotonic() - self._last > EOF_SECONDS:
            raise Failure(Kind.DAEMON, f"the daemon did not answer within {EOF_SECONDS:.0f} s")
        return not self._incoming.awaited

    def _turn(self) -> None:
        reads: list[int | socket.socket] = []
        writes: list[int | socket.socket] = []
        if not self._at_end and len(self._up) < _MOST_UNSENT:
            reads.append(self._stdin)
        if len(self._down) < _MOST_UNSENT:
            reads.append(self._sock)
        writes += [self._sock] if self._up else []
        writes += [self._stdout] if self._down else []
        readable, writable, _ = select.select(reads, writes, [], 1.0)
        if self._stdout in writable:
            # A pipe that can be written to takes so much without blocking.
            del self._down[: os.write(self._stdout, self._down[: select.PIPE_BUF])]
        if self._sock in writable:
            self._send()
        if self._sock in readable:
            self._receive()
        if self._stdin in readable:
            data = os.read(self._stdin, _READ)
            self._at_end, self._last = not data, time.monotonic()
            self._up += self._incoming.feed(data) if data else self._incoming.end()

    def _send(self) -> None:
        try:
            del self._up[: self._sock.send(self._up[:_READ])]
        except BlockingIOError:
            return
        except OSError:  # it hung up: what it said before is still to be read
            self._up.clear()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._flush()
            if self._at_end and not self._incoming.awaited:
                return
            raise Failure(Kind.DAEMON, "the daemon closed the connection", hint="rchctl daemon status")
        self._last = time.monotonic()
        try:
            self._down += self._outgoing.feed(data)
        except FrameError as error:
            raise Failure(Kind.DAEMON, f"the daemon's answer is not understood: {error}") from error

    def _flush(self) -> None:
        """Write what is left, however long its reader takes."""
        while self._down:
            del self._down[: os.write(self._stdout, self._down)]
