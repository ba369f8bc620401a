"""What uploads and fetches share: the way to a worker, and a piece of a bundle out on it (section 3.2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from rch.contract.errors import Failure, Kind
from rchd.edges.channels import PART, LineCut
from rchd.edges.wire import Wire, within

Progress = Callable[[int, int], None]
BLOCK = 1 << 20
"""What is read of a bundle at a time: each read is a walk to another thread and back."""


def _quiet(done: int, total: int) -> None:
    del done, total


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `offset` to `offset + length` of the bundle `path`, which has `total` of them."""

    path: Path
    offset: int
    length: int
    total: int


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait: `call` for a header, `stall` for the next bytes, `digest` for an upload's answer."""

    call: float
    stall: float
    digest: float


@dataclass(frozen=True, slots=True)
class Way:
    """How requests reach a worker: a wire of its own that takes lines up to so long, a request's id.

    `standing`: a wire carries more than one request; `open` keeps one that is left `clean`.
    """

    worker: str
    open: Callable[[int], AbstractAsyncContextManager[Wire]]
    new_id: Callable[[], str]
    version: int
    standing: bool
    patience: Patience


def slices(block: bytes) -> Iterator[bytes]:
    """What is sent of a block at a time."""
    for at in range(0, len(block), PART):
        yield block[at : at + PART]


def unreadable(error: OSError) -> Failure:
    """The spool's disk fails."""
    return Failure(Kind.TRANSFER, f"the spooled bundle cannot be read: {error.strerror}")


async def send_piece(
    wire: Wire,
    line: bytes,
    piece: Piece,
    patience: Patience,
    progress: Progress | None = None,
    *,
    last: bool = True,
) -> tuple[bytes, bool]:
    """Send the request `line` and the bytes of `piece`; the answer's line, and whether all was sent.

    The answer may come before that, and then the wire carries no other request. `last` ends our
    side of it. `Failure` TRANSFER when the bundle is not as long as it should be.
    """
    try:
        source = await to_thread.run_sync(piece.path.open, "rb")
    except OSError as error:
        name = piece.path.name
        raise Failure(Kind.TRANSFER, f"the spooled bundle {name}: {error.strerror}") from error
    with source:
        size = await to_thread.run_sync(source.seek, 0, os.SEEK_END)
        if size != piece.total:
            name = piece.path.name
            raise Failure(Kind.TRANSFER, f"the spooled bundle {name} has {size} bytes, not {piece.total}")
        await to_thread.run_sync(source.seek, piece.offset)
        stalled = f"the upload of {piece.path.name} stalled for {patience.stall:g} s"
        with within(patience.stall, stalled) as scope:
            upload = _Upload(wire, source, piece, scope, patience, progress or _quiet)
            return await upload.run(line, last=last)
    raise AssertionError  # for the type checker: `within` raised


class _Upload:
    """Speaks and listens at once. Outcomes are values: a task group would wrap exceptions."""

    def __init__(
        self,
        wire: Wire,
        source: BinaryIO,
        piece: Piece,
        scope: anyio.CancelScope,
        patience: Patience,
        progress: Progress,
    ) -> None:
        self._wire = wire
        self._source = source
        self._piece = piece
        self._scope = scope
        self._patience = patience
        self._progress = progress
        self._outcome: bytes | Failure | None = None
        self._whole = False

    async def run(self, line: bytes, *, last: bool) -> tuple[bytes, bool]:
        async with anyio.create_task_group() as tasks:

            async def hear() -> None:
                try:
                    self._outcome = await self._wire.read_line()
                except Failure as failure:
                    self._outcome = failure
                tasks.cancel_scope.cancel()

            tasks.start_soon(hear)
            sending, blocks = anyio.create_memory_object_stream[bytes | Failure](1)
            tasks.start_soon(self._read_ahead, sending)
            with blocks:
                problem = await self._pour(line, blocks, last=last)
            if problem is not None and self._outcome is None:
                self._outcome = problem
                tasks.cancel_scope.cancel()
            self._scope.deadline = anyio.current_time() + self._patience.digest
        if isinstance(self._outcome, bytes):
            return self._outcome, self._whole
        raise self._outcome or AssertionError

    async def _read_ahead(self, blocks: MemoryObjectSendStream[bytes | Failure]) -> None:
        """Read one block while the one before it is on its way."""
        piece, done = self._piece, 0
        with blocks, suppress(anyio.BrokenResourceError):
            while done < piece.length:
                try:
                    block = await to_thread.run_sync(self._source.read, min(BLOCK, piece.length - done))
                except OSError as error:
                    await blocks.send(unreadable(error))
                    return
                if not block:
                    at = piece.offset + done
                    await blocks.send(Failure(Kind.TRANSFER, f"the spooled bundle ended at {at} bytes"))
                    return
                await blocks.send(block)
                done += len(block)

    async def _pour(
        self, line: bytes, blocks: MemoryObjectReceiveStream[bytes | Failure], *, last: bool
    ) -> Failure | None:
        piece, done = self._piece, 0
        try:
            await self._wire.send(line)
            async for block in blocks:
                if isinstance(block, Failure):
                    return block
                for part in slices(block):
                    await self._wire.send(part)
                    done += len(part)
                    self._scope.deadline = anyio.current_time() + self._patience.stall
                    self._progress(piece.offset + done, piece.total)
            if last:
                await self._wire.send_eof()
        except LineCut:
            # The worker hung up: what it said before, or how it ended, is for the listener to tell.
            return None
        self._whole = True
        return None
