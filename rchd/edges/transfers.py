"""Bodies on a wire: the source bundle out, the artifact set in (spec section 3.2)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio import to_thread

from rch.contract.errors import Failure, Kind
from rch.contract.worker_envelope import decode_fetch_header, protocol_error
from rch.contract.worker_rpc import FetchHeader
from rchd.edges.channels import PART, LineCut
from rchd.edges.wire import Wire, within

Progress = Callable[[int, int], None]

_END_WAIT = 2.0


def _quiet(done: int, total: int) -> None:
    del done, total


# --- out ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `offset` to `offset + length` of the bundle `path`, which has `total` of them."""

    path: Path
    offset: int
    length: int
    total: int


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: `stall` bounds each part's way out, `digest` the wait for the answer after the last."""

    stall: float
    digest: float


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
            problem = await self._pour(line, last=last)
            if problem is not None and self._outcome is None:
                self._outcome = problem
                tasks.cancel_scope.cancel()
            self._scope.deadline = anyio.current_time() + self._patience.digest
        if isinstance(self._outcome, bytes):
            return self._outcome, self._whole
        raise self._outcome or AssertionError

    async def _pour(self, line: bytes, *, last: bool) -> Failure | None:
        piece, done = self._piece, 0
        try:
            await self._wire.send(line)
            while done < piece.length:
                part = await to_thread.run_sync(self._source.read, min(PART, piece.length - done))
                if not part:
                    return Failure(
                        Kind.TRANSFER, f"the spooled bundle ended at {piece.offset + done} bytes"
                    )
                await self._wire.send(part)
                done += len(part)
                self._scope.deadline = anyio.current_time() + self._patience.stall
                self._progress(piece.offset + done, piece.total)
            if last:
                await self._wire.send_eof()
        except OSError as error:
            return Failure(Kind.TRANSFER, f"the spooled bundle cannot be read: {error.strerror}")
        except LineCut:
            # The worker hung up: what it said before, or how it ended, is for the listener to tell.
            return None
        self._whole = True
        return None


# --- in -------------------------------------------------------------------------------


async def receive_artifacts(
    wire: Wire,
    line: bytes,
    request_id: str,
    job_id: str,
    into: Path,
    stall: float,
    max_bytes: int,
    progress: Progress | None = None,
) -> FetchHeader:
    """Write the stream that follows the header `line` to the file `into`, checked.

    On any failure `into` is removed. See `WorkerClient.fetch` for the failures.
    """
    header = await to_thread.run_sync(decode_fetch_header, line, request_id, job_id)
    _check_header(header, max_bytes)
    try:
        with await to_thread.run_sync(into.open, "wb") as target:
            seen = await _drain(wire, header, target, stall, progress or _quiet)
        _check_digest(header, seen)
        await _check_end(wire, header)
    except OSError as error:
        _remove(into)
        raise Failure(
            Kind.ARTIFACTS,
            f"the artifacts of {job_id} cannot be written to {into}: {error.strerror}",
            hint="free space on this machine, then run the same command again",
        ) from error
    except BaseException:
        _remove(into)
        raise
    return header


def _check_header(header: FetchHeader, max_bytes: int) -> None:
    length = header.stream.content_length
    if length < 0 or header.offset != 0:
        raise protocol_error(f"the worker announced {length} bytes from {header.offset} on")
    if max_bytes and length > max_bytes:
        raise Failure(
            Kind.ARTIFACTS,
            f"the artifacts of {header.job_id} have {length} bytes, over the {max_bytes} that are taken",
            subkind="SIZE_EXCEEDED",
        )


async def _drain(
    wire: Wire, header: FetchHeader, target: BinaryIO, stall: float, progress: Progress
) -> str:
    digest = hashlib.sha256()
    done, total = 0, header.stream.content_length
    with within(stall, f"the artifacts of {header.job_id} stalled for {stall:g} s") as scope:
        while done < total:
            try:
                part = await wire.read_body(total - done)
            except LineCut as error:
                raise _too_short(header, done, str(error)) from error
            if not part:
                raise _too_short(header, done, "the worker stopped")

            def take(data: bytes = part) -> None:
                digest.update(data)
                target.write(data)

            await to_thread.run_sync(take)
            done += len(part)
            scope.deadline = anyio.current_time() + stall
            progress(done, total)
    return digest.hexdigest()


def _too_short(header: FetchHeader, done: int, why: str) -> Failure:
    total = header.stream.content_length
    return Failure(
        Kind.TRANSFER, f"the artifacts of {header.job_id} ended at {done} of {total} bytes: {why}"
    )


def _check_digest(header: FetchHeader, seen: str) -> None:
    if seen != header.stream.content_sha256:
        raise Failure(
            Kind.ARTIFACTS,
            f"the artifacts of {header.job_id} have SHA-256 {seen},"
            f" not the announced {header.stream.content_sha256[:64]}",
            subkind="INTEGRITY_MISMATCH",
        )


async def _check_end(wire: Wire, header: FetchHeader) -> None:
    if not await wire.at_end(_END_WAIT):
        total = header.stream.content_length
        raise protocol_error(f"the worker sent more than the {total} announced bytes of {header.job_id}")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
