"""The worker protocol on one channel: a request goes out, its answer comes back.

A wire knows whose it is, so that every refusal names the worker. It tells apart a shell that
talks before the protocol, a process that ended, and a line that was cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from rch.contract.errors import Failure, Kind
from rch.contract.framing import FrameError, LineReader
from rch.contract.worker_envelope import protocol_error
from rchd.edges.channels import PART, Channel, LineCut

MAX_ANSWER = 2 << 20
MAX_PROBE_ANSWER = 512 << 10
"""What a worker says of itself is kept with each of its runs, and told to whoever lists the workers."""
_SHOWN = 160
_NOT_STARTED = frozenset({126, 127})  # what a shell says of a command that it cannot start
_LAST_OWN_EXIT = 128  # above it a shell tells of a signal, and ssh of itself

_NO_COMMAND = "the path in command= of authorized_keys there is wrong: give that of rch-worker in full"


def unreachable(message: str) -> Failure:
    """The worker cannot be reached, or no longer (exit 20)."""
    return Failure(Kind.SSH, message, subkind="UNREACHABLE")


@contextmanager
def within(seconds: float, message: str) -> Iterator[anyio.CancelScope]:
    """A deadline; when it is over, `Failure` SSH / UNREACHABLE with `message`.

    The scope is given, so that progress can move the deadline.
    """
    with anyio.move_on_after(seconds) as scope:
        yield scope
    if scope.cancelled_caught:
        raise unreachable(message)


class Wire:
    """A channel with the protocol's framing. `worker` is the name that refusals use."""

    def __init__(self, channel: Channel, worker: str, *, max_line: int = MAX_ANSWER) -> None:
        self._channel = channel
        self._worker = worker
        self._reader = LineReader(max_line)
        self._fresh = True
        # Whether the last answer was whole and nothing follows it: the wire can carry another request.
        self.clean = False

    @property
    def max_line(self) -> int:
        """How long a line of the far end may be."""
        return self._reader.max_line

    @max_line.setter
    def max_line(self, size: int) -> None:
        self._reader.max_line = size

    async def send(self, data: bytes) -> None:
        """Send bytes; `LineCut` when the far end takes no more."""
        await self._channel.send(data)

    async def send_eof(self) -> None:
        """Tell the far end that no more requests come."""
        await self._channel.send_eof()

    async def ask(self, line: bytes, *, last: bool) -> bytes:
        """Send one request line and await the answer's; `last` ends our side of the channel."""
        try:
            await self.send(line)
            if last:
                await self.send_eof()
        except LineCut:
            # Whoever refuses early has answered before it hung up: the answer tells more.
            pass
        return await self.read_line()

    async def read_line(self) -> bytes:
        """The next line; `Failure` when there is none, `EndedEarly` when nothing came at all."""
        while True:
            try:
                line = self._reader.line()
            except FrameError as error:
                raise protocol_error(f"worker {self._worker}: {error}") from error
            if line is not None:
                return line
            await self._fill()

    async def read_body(self, wanted: int) -> bytes:
        """Some bytes of a body, at most `wanted`; b"" when the far end stopped sending."""
        if self._reader.pending:
            return self._reader.body(min(wanted, PART))
        return await self._channel.receive(min(wanted, PART))

    async def at_end(self, wait_seconds: float) -> bool:
        """Whether nothing follows; a far end that stays open and silent counts as the end."""
        if not self._reader.pending:
            with anyio.move_on_after(wait_seconds):
                try:
                    self._reader.feed(await self._channel.receive(1))
                except LineCut:
                    return True
        return not self._reader.pending

    async def close(self) -> None:
        """End the channel, under cancellation too."""
        with anyio.CancelScope(shield=True):
            await self._channel.close()

    async def _fill(self) -> None:
        try:
            data = await self._channel.receive()
        except LineCut as error:
            raise EndedEarly(self._worker, str(error)) from error
        if not data:
            raise await self._how_it_ended()
        if self._fresh:
            self._fresh = False
            if not data.startswith(b"{"):
                raise self._noise(data)
        self._reader.feed(data)

    def _noise(self, data: bytes) -> Failure:
        first = data.strip().partition(b"\n")[0][:_SHOWN].decode("utf-8", "replace").strip()
        return Failure(
            Kind.EXECUTOR,
            f"worker {self._worker}: something printed before the protocol began: {first!r}",
            subkind="PROTOCOL_ERROR",
            hint="make the worker's shell rc files (.bashrc, .zshenv) print nothing when not interactive",
        )

    async def _how_it_ended(self) -> Failure:
        if self._reader.pending:
            return EndedEarly(self._worker, "it ended in the middle of an answer")
        status = await self._channel.exit_status()
        if status is None or not 0 <= status <= _LAST_OWN_EXIT:
            return EndedEarly(self._worker, "the worker process was ended")
        said = self._channel.stderr_tail.strip().rpartition("\n")[2][:_SHOWN]
        ended = EndedEarly(self._worker, f"exit {status}" + (f": {said}" if said else ""))
        ended.by_itself = protocol_error(
            f"worker {self._worker}: the worker command ended with exit {status} and no answer"
            + (f": {said}" if said else ""),
            hint=_NO_COMMAND if status in _NOT_STARTED else None,
        )
        return ended


class EndedEarly(Failure):
    """The line ended where an answer was due.

    `by_itself` is what to say instead when the worker's command simply ended on a fresh channel.
    """

    def __init__(self, worker: str, why: str) -> None:
        super().__init__(Kind.SSH, f"the line to {worker} was cut: {why}", subkind="UNREACHABLE")
        self.by_itself: Failure | None = None
