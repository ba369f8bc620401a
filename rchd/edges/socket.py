"""The Unix socket: who may connect, messages in, messages out (spec section 12; faults C1-C6, H6, H7)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable

import anyio
import structlog
from anyio.abc import TaskGroup

from rch.contract.errors import Failure, Kind
from rch.contract.framing import FrameError
from rch.contract.local_api import MAX_MESSAGE, RunEvent
from rch.contract.messages import Message, MessageReader, in_kind
from rchd.core.session import Call, Refusal, Session, event_line, refusal_line, result_line
from rchd.edges.door import Door, overload, unasked
from rchd.edges.exhaustion import is_exhausted
from rchd.edges.hub import Lines
from rchd.edges.listener import Listener

log = structlog.get_logger("rchd.socket")

MAX_CONNECTIONS = 1024
HALF_LINE_SECONDS = 10.0
MAX_UNREAD_BYTES = 1 << 20  # times the clients that do not read, of whom there may be hundreds
SEND_BYTES = 64 << 10
LOOK_SECONDS = 2.0

Answer = Callable[[Call, "Connection"], Awaitable[object]]


def peer_uid(sock: socket.socket) -> int:
    """The uid at the other end."""
    if sys.platform == "darwin":
        return int(struct.unpack("II", sock.getsockopt(0, 1, 8))[1])
    return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])


class Connection(asyncio.Protocol):
    """One client. Calls run as tasks of `group`; a slow reader gets a gap, never a queue without end."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.session = Session()
        self._reader = MessageReader(MAX_MESSAGE)
        self._transport: asyncio.Transport | None = None
        self._half_line: asyncio.TimerHandle | None = None
        self._gapped: set[int] = set()
        self._last: RunEvent | None = None
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._at_close: dict[int, Callable[[], None]] = {}
        self._hung_up = False

    @property
    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look who it is before a byte is read."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (what a stream server gives)
        self._transport = transport
        try:
            uid = peer_uid(transport.get_extra_info("socket"))
        except OSError:  # it has left again
            uid = -1
        if uid != os.geteuid():
            log.warning("peer.refused", uid=uid)
            transport.abort()
            return
        cap = min(MAX_CONNECTIONS, self._server.cap)
        if len(self._server.connections) >= cap:
            self._hang_up_with(overload(f"over {cap} connections to the daemon"))
            return
        transport.set_write_buffer_limits(high=MAX_UNREAD_BYTES // 4)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End its subscriptions; calls under way go on, their answers fall away."""
        if exc is not None and not self._hung_up:
            self._read_on()
        self._server.connections.discard(self)
        self._transport = None
        self._stop_clock()
        while self._at_close:
            self._at_close.popitem()[1]()

    def _read_on(self) -> None:
        """Take in what a client said last, where writing to it showed first that it is gone."""
        if self._transport is None or self not in self._server.connections:
            return
        with contextlib.suppress(OSError, FrameError):
            while data := os.read(self._transport.get_extra_info("socket").fileno(), MAX_MESSAGE):
                self._reader.feed(data)
                while (message := self._reader.message()) is not None:
                    self._take(message)

    def at_close(self, number: int, callback: Callable[[], None]) -> None:
        """Call back when the client is gone: at once where it is already."""
        if self._transport is None:
            callback()
        else:
            self._at_close[number] = callback

    def not_at_close(self, number: int) -> None:
        """What stands under `number` is over before the connection is."""
        self._at_close.pop(number, None)

    def data_received(self, data: bytes) -> None:
        """Take whole messages; nothing after a refusal that hangs up."""
        self._reader.feed(data)
        try:
            while self._open and (message := self._reader.message()) is not None:
                self._stop_clock()
                self._take(message)
        except FrameError as error:
            self._refuse(str(error))
        self._start_clock()

    def _start_clock(self) -> None:
        """A half message has a deadline, which more bytes of it do not move."""
        if self._half_line is None and self._reader.pending and self._open:
            loop = asyncio.get_running_loop()
            message = f"a message was not ended within {HALF_LINE_SECONDS:g} s"
            self._half_line = loop.call_later(HALF_LINE_SECONDS, self._refuse, message)

    def _stop_clock(self) -> None:
        if self._half_line is not None:
            self._half_line.cancel()
            self._half_line = None

    def _take(self, message: Message) -> None:
        said = self.session.receive(message.body)
        if isinstance(said, Refusal):
            self.write(in_kind(said.line, framed=message.framed))
            if said.close:
                self._close()
        elif said is not None:
            self._server.group.start_soon(self._answer, said, message.framed)

    async def _answer(self, call: Call, framed: bool) -> None:  # noqa: FBT001  (a task group names none)
        try:
            line = result_line(call, await self._server.answer(call, self))
        except Failure as failure:
            line = refusal_line(call, failure)
        except Exception as error:
            log.exception("call.failed", method=call.method)
            message = f"{call.method} failed: {' '.join(str(error).split())[:300]}"
            short = is_exhausted(error)
            line = refusal_line(call, overload(message) if short else Failure(Kind.INTERNAL, message))
        self.session.answered()
        if not call.notification:
            self.write(in_kind(line, framed=framed))

    def _refuse(self, message: str) -> None:
        """Say what is wrong with what came, and hang up."""
        self._hang_up_with(Failure(Kind.USAGE, message))

    def _hang_up_with(self, failure: Failure) -> None:
        if self._transport is not None:
            self._tell_unasked(unasked(failure))
            self._close()

    def _tell_unasked(self, line: bytes) -> None:
        """Send what answers no message, in the kind of the client's last one."""
        self.write(in_kind(line, framed=self._reader.framed))

    def write(self, line: bytes) -> None:
        """Send a message, if anyone is there; what is told in one turn of the loop goes out as one."""
        if not self._open:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send)
        self._unsent.append(line)
        self._unsent_bytes += len(line)
        if self._unsent_bytes > SEND_BYTES:
            self._send()

    def _send(self) -> None:
        data, self._unsent, self._unsent_bytes = b"".join(self._unsent), [], 0
        if data and self._transport is not None and self._open:
            self._transport.write(data)

    def _close(self) -> None:
        self._hung_up = True
        self._send()
        if self._transport is not None:
            self._transport.close()

    def tell(self, event: RunEvent) -> None:
        """Send news; where the client does not read, remember that there is a gap instead."""
        if self._transport is None:
            return
        self._last = event
        if self._transport.get_write_buffer_size() + self._unsent_bytes > MAX_UNREAD_BYTES:
            self._gapped.add(event.subscription)
            return
        if event.subscription in self._gapped:
            self._tell_gap(event, event.subscription)
        self._tell_unasked(self._server.lines.of(event))

    def hang_up(self) -> None:
        """Close after what is written has gone out."""
        self._close()

    def pause_writing(self) -> None:
        """The client does not read: it is asked for nothing more, so that answers do not pile up."""
        self._stop_clock()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again: it is told at once what it missed."""
        for subscription in sorted(self._gapped):
            if self._last is not None:
                self._tell_gap(self._last, subscription)
        if self._transport is not None:
            self._transport.resume_reading()
        self._start_clock()

    def _tell_gap(self, event: RunEvent, subscription: int) -> None:
        self._gapped.discard(subscription)
        gap = RunEvent(subscription=subscription, seq=event.seq, type="gap", run_id=None, at=event.at)
        self._tell_unasked(event_line(gap))


class Server:
    """All connections of the daemon. `answer` gives a call's result or raises `Failure`.

    No more than `cap` connections are kept, whatever `MAX_CONNECTIONS` allows.
    """

    def __init__(self, group: TaskGroup, answer: Answer, cap: int = MAX_CONNECTIONS) -> None:
        self.group = group
        self.answer = answer
        self.cap = cap
        self.connections: set[Connection] = set()
        self.lines = Lines()

    async def serve(self, listener: Listener, started: Callable[[], None]) -> None:
        """Accept until cancelled; a socket whose name is gone is made anew, connections stay."""
        async with anyio.create_task_group() as accepting:
            door = self._let_in(accepting, listener.sock)
            try:
                started()
                while True:
                    await asyncio.sleep(LOOK_SECONDS)
                    if not listener.is_lost():
                        continue
                    try:
                        fresh = listener.renew()
                    except (Failure, OSError) as error:
                        log.warning("socket.lost", path=str(listener.path), error=str(error))
                        continue
                    log.warning("socket.renewed", path=str(listener.path))
                    door.close()
                    door = self._let_in(accepting, fresh)
            finally:
                door.close()
                for connection in list(self.connections):
                    connection.hang_up()

    def _let_in(self, accepting: TaskGroup, sock: socket.socket) -> Door:
        door = Door(sock, lambda: Connection(self))
        accepting.start_soon(door.stand)
        return door
