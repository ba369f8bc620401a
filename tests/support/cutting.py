"""A way to a worker that counts what goes up, and breaks at a chosen byte of it.

way = CuttingTransport(LocalTransport(...), cut=lambda channel: os.kill(channel.pid, 9))
way.cut_at(70_000)            # after that many bytes more, over all channels
way.sent, way.edges           # all bytes so far; where each send of the client ended
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rchd.edges.channels import Channel, LineCut, Transport


class CuttingTransport:
    """`cut` is called with the channel that carries a chosen byte, right after it was sent."""

    def __init__(self, inner: Transport, cut: Callable[[Any], object]) -> None:
        self.inner = inner
        self.sent = 0
        self.opened = 0
        self.edges: list[int] = []
        self.lines: list[bytes] = []
        self.cut = cut
        self._cuts: list[int] = []

    @property
    def host(self) -> str:
        """See `Transport`."""
        return self.inner.host

    def cut_at(self, *counts: int) -> None:
        """Break after each of these numbers of bytes, counted from now."""
        self._cuts = sorted(self.sent + count for count in counts)

    async def open(self) -> Channel:
        """See `Transport`."""
        self.opened += 1
        return _Channel(self, await self.inner.open())

    async def close(self) -> None:
        """See `Transport`."""
        await self.inner.close()

    async def pass_on(self, channel: Channel, data: bytes) -> None:
        """Send, up to the chosen byte."""
        if data.startswith(b'{"') and data.endswith(b"}\n"):  # noise may begin with a brace, too
            self.lines.append(data)
        at = self._cuts[0] if self._cuts else None
        if at is None or self.sent + len(data) < at:
            await channel.send(data)
            self.sent += len(data)
            self.edges.append(self.sent)
            return
        del self._cuts[0]
        if at > self.sent:
            await channel.send(data[: at - self.sent])
        self.sent = at
        self.cut(channel)
        raise LineCut("it was cut")


class _Channel:
    def __init__(self, way: CuttingTransport, inner: Channel) -> None:
        self._way, self._inner = way, inner

    @property
    def stderr_tail(self) -> str:
        return self._inner.stderr_tail

    async def send(self, data: bytes) -> None:
        await self._way.pass_on(self._inner, data)

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def receive(self, max_bytes: int = 256 << 10) -> bytes:
        return await self._inner.receive(max_bytes)

    async def exit_status(self, wait_seconds: float = 1.0) -> int | None:
        return await self._inner.exit_status(wait_seconds)

    async def close(self) -> None:
        await self._inner.close()
