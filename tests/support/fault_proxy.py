"""A TCP line between a client and a server on loopback that can be made bad while it is in use.

    async with fault_proxy(server.port) as line:
        line.port                                       # where the client dials
        line.set(CutAfter(70_000, UP))                  # replaces the faults that stood before
        await line.struck()                             # it was cut; the next connection is good
    with line_to(server.port) as line: ...              # the same for a test that is no coroutine

Bytes pass in order and unchanged but for the faults. `CutAfter` and `FlipBit` count from the
moment at which they were set, over all connections, and strike once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

PATIENCE = 60.0
_PART = 256 << 10
_TICKS = 50  # a throttled line hands on this many parts a second
_RESET = struct.pack("ii", 1, 0)


class Direction(Enum):
    """UP is from the client to the server."""

    UP = "up"
    DOWN = "down"


UP, DOWN = Direction.UP, Direction.DOWN
Ending = Literal["rst", "fin"]


@dataclass(frozen=True, slots=True)
class Delay:
    """What has arrived waits `seconds` before it is handed on; what comes meanwhile goes with the next."""

    seconds: float
    direction: Direction | None = None


@dataclass(frozen=True, slots=True)
class Throttle:
    """All connections together are handed on at `bytes_per_second` a direction."""

    bytes_per_second: int
    direction: Direction | None = None


@dataclass(frozen=True, slots=True)
class CutAfter:
    """The connection that carries byte number `bytes` ends right after it, both ways (0: before the next).

    With `again` it happens after every so many bytes.
    """

    bytes: int
    direction: Direction
    how: Ending = "rst"
    again: bool = False


@dataclass(frozen=True, slots=True)
class FlipBit:
    """One bit of byte number `at` (from 0) is the other way round."""

    at: int
    direction: Direction
    bit: int = 0


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """Whatever is sent vanishes, and nobody is told.

    A connection that lost bytes so carries none any more, even when the fault is taken away;
    one that was idle goes on then.
    """


@dataclass(frozen=True, slots=True)
class Refuse:
    """New connections are reset at once."""


Fault = Delay | Throttle | CutAfter | FlipBit | HalfOpen | Refuse


@dataclass(slots=True, eq=False)
class _Armed:
    fault: Fault
    base: int = 0
    spent: bool = False


@dataclass(slots=True, eq=False)
class _Link:
    """One connection's two sockets."""

    near: socket.socket
    far: socket.socket | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ending: Ending = "fin"
    dead: bool = False


class FaultProxy:
    """See the module; made by `fault_proxy` or `line_to`.

    `handed_on` counts bytes by direction, `swallowed` those that vanished, `made` the
    connections so far, `strikes` how often a cut or a flipped bit happened.
    """

    def __init__(self, target: int, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.target = target
        self.handed_on = {UP: 0, DOWN: 0}
        self.swallowed = {UP: 0, DOWN: 0}
        self.made = 0
        self.strikes = 0
        self._listener = listener
        self._armed: list[_Armed] = []
        self._links: set[_Link] = set()
        self._news = anyio.Event()
        self._turns = {UP: anyio.Lock(), DOWN: anyio.Lock()}

    # --- what a test does -----------------------------------------------------------------

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._links)

    def set(self, *faults: Fault) -> None:
        """From now on these faults and no others."""
        self._armed = []
        for fault in faults:
            base = self.handed_on[fault.direction] if isinstance(fault, CutAfter | FlipBit) else 0
            self._armed.append(_Armed(fault, base))
        self._tell()

    def cut(self, how: Ending = "rst") -> int:
        """End every connection now; how many there were."""
        links = list(self._links)
        for link in links:
            _end(link, how)
        return len(links)

    async def connected(self, times: int = 1) -> None:
        """Until so many connections were made in all."""
        await self._until(lambda: self.made >= times)

    async def passed(self, count: int, direction: Direction) -> None:
        """Until `count` bytes were handed on in all."""
        await self._until(lambda: self.handed_on[direction] >= count)

    async def struck(self, times: int = 1) -> None:
        """Until cuts and flipped bits happened so often in all."""
        await self._until(lambda: self.strikes >= times)

    async def lost(self) -> None:
        """Until bytes have vanished."""
        await self._until(lambda: any(self.swallowed.values()))

    async def idle(self) -> None:
        """Until no connection is open."""
        await self._until(lambda: not self._links)

    async def _until(self, told: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not told():
                await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    # --- the line -------------------------------------------------------------------------

    async def serve(self) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as tasks:
            while True:
                near, _ = await loop.sock_accept(self._listener)
                self.made += 1
                link = _Link(near)
                self._links.add(link)
                self._tell()
                tasks.start_soon(self._serve, link)

    async def _serve(self, link: _Link) -> None:
        try:
            with link.scope, contextlib.suppress(OSError):
                if self._standing(Refuse):
                    link.ending = "rst"
                    return
                link.far = await _dial(self.target)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._pass, link, link.near, link.far, UP)
                    tasks.start_soon(self._pass, link, link.far, link.near, DOWN)
        finally:
            _close(link)
            self._links.discard(link)
            self._tell()

    async def _pass(
        self, link: _Link, source: socket.socket, sink: socket.socket, direction: Direction
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(source, self._part(direction)):
                if isinstance(delay := self._standing(Delay, direction), Delay):
                    await anyio.sleep(delay.seconds)
                await self._turn(len(data), direction)
                data, cut = self._spoil(link, data, direction)
                await loop.sock_sendall(sink, data)
                if cut is not None:
                    _end(link, cut)
            if not link.dead:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One end broke the line: so does the other.
            if not link.dead:
                _end(link, "rst")

    async def _turn(self, size: int, direction: Direction) -> None:
        """Wait until the line has carried `size` more bytes; connections take turns."""
        throttle = self._standing(Throttle, direction)
        if isinstance(throttle, Throttle):
            async with self._turns[direction]:
                await anyio.sleep(size / throttle.bytes_per_second)

    def _spoil(self, link: _Link, data: bytes, direction: Direction) -> tuple[bytes, Ending | None]:
        """What of `data` is handed on, and how the link ends after it, if it does."""
        if link.dead or self._standing(HalfOpen):
            link.dead = True
            self.swallowed[direction] += len(data)
            self._tell()
            return b"", None
        cut: Ending | None = None
        for armed in self._armed:
            fault, seen = armed.fault, self.handed_on[direction] - armed.base
            if armed.spent or getattr(fault, "direction", None) is not direction:
                continue
            if isinstance(fault, CutAfter) and seen + len(data) >= fault.bytes:
                data, cut = data[: fault.bytes - seen], fault.how
                armed.base += fault.bytes
                self._strike(armed, spent=not fault.again)
            elif isinstance(fault, FlipBit) and seen + len(data) > fault.at:
                at = fault.at - seen
                data = data[:at] + bytes([data[at] ^ (1 << fault.bit)]) + data[at + 1 :]
                self._strike(armed, spent=True)
        self.handed_on[direction] += len(data)
        self._tell()
        return data, cut

    def _strike(self, armed: _Armed, *, spent: bool) -> None:
        armed.spent = spent
        self.strikes += 1

    def _part(self, direction: Direction) -> int:
        throttle = self._standing(Throttle, direction)
        rate = throttle.bytes_per_second if isinstance(throttle, Throttle) else _PART * _TICKS
        return max(1, min(_PART, rate // _TICKS))

    def _standing(self, kind: type[Fault], direction: Direction | None = None) -> Fault | None:
        for armed in self._armed:
            wanted = getattr(armed.fault, "direction", None)
            if isinstance(armed.fault, kind) and (wanted is None or wanted is direction):
                return armed.fault
        return None


async def _dial(port: int) -> socket.socket:
    far = _plain(socket.socket())
    try:
        await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", port))
    except BaseException:
        far.close()
        raise
    return far


def _plain(one: socket.socket) -> socket.socket:
    one.setblocking(False)
    return one


def _end(link: _Link, how: Ending) -> None:
    link.ending = how
    link.scope.cancel()


def _close(link: _Link) -> None:
    for one in (link.near, link.far):
        if one is not None:
            if link.ending == "rst":
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.close()


@asynccontextmanager
async def fault_proxy(target: int, *faults: Fault, window: int | None = None) -> AsyncIterator[FaultProxy]:
    """A line to the port `target` of loopback. `window` bounds what the line itself holds, in bytes."""
    with socket.socket() as listener:
        if window is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        proxy = FaultProxy(target, _plain(listener))
        proxy.set(*faults)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(proxy.serve)
            try:
                yield proxy
            finally:
                tasks.cancel_scope.cancel()


# --- for tests that are no coroutines -----------------------------------------------------


class Line:
    """A `FaultProxy` that lives in a thread; the methods are its own."""

    def __init__(self, proxy: FaultProxy, portal: BlockingPortal) -> None:
        self.proxy = proxy
        self.port = proxy.port
        self._portal = portal

    def set(self, *faults: Fault) -> None:
        """See `FaultProxy.set`."""
        self._portal.call(self.proxy.set, *faults)

    def cut(self, how: Ending = "rst") -> int:
        """See `FaultProxy.cut`."""
        return self._portal.call(self.proxy.cut, how)

    def connected(self, times: int = 1) -> None:
        """See `FaultProxy.connected`."""
        self._portal.call(self.proxy.connected, times)

    def passed(self, count: int, direction: Direction) -> None:
        """See `FaultProxy.passed`."""
        self._portal.call(self.proxy.passed, count, direction)

    def struck(self, times: int = 1) -> None:
        """See `FaultProxy.struck`."""
        self._portal.call(self.proxy.struck, times)

    def lost(self) -> None:
        """See `FaultProxy.lost`."""
        self._portal.call(self.proxy.lost)

    def idle(self) -> None:
        """See `FaultProxy.idle`."""
        self._portal.call(self.proxy.idle)


@contextmanager
def line_to(target: int, *faults: Fault, window: int | None = None) -> Iterator[Line]:
    """A line to the port `target`, served by a thread."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(fault_proxy(target, *faults, window=window)) as proxy,
    ):
        yield Line(proxy, portal)
