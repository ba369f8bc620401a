"""Uploads in parts, which go on where they were cut (feature `upload_resumable`, spec section 5).

The worker alone knows where to go on, so it is asked first; nothing about an upload is kept here,
and a daemon that died meanwhile goes on as one that lost its line. A line that is cut after
a part arrived is dialled again at once: such a cut uses up none of the run's tries.
"""

from __future__ import annotations

import hashlib
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import anyio
import structlog
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from rch.contract.errors import Failure, Kind
from rch.contract.worker_envelope import decode_response, encode_request, protocol_error
from rch.contract.worker_rpc import Code, Resume, RpcError, Stream, UploadRequest, UploadResult
from rchd.edges.channels import LineCut
from rchd.edges.transfers import Piece, Progress, Way, send_piece, slices
from rchd.edges.wire import MAX_ANSWER, Wire, within

log = structlog.get_logger("rchd.worker")

PART_BYTES = 8 << 20
"""What may be on its way without an answer, and so is sent again after a cut at most; a bundle up to
it goes in one piece. It is two parts, so that the line is never idle while the worker checks one."""
SPARE = 3
"""How many answers may leave an upload where it was, or behind, before it is given up."""


def upload_id_of(host_id: str, run_id: str, source_sha256: str, content_sha256: str) -> str:
    """The name of these very bytes on their way; other bytes, another run or host, another name."""
    named = f"{host_id}\n{run_id}\n{source_sha256}\n{content_sha256}"
    return "upload-" + hashlib.sha256(named.encode()).hexdigest()[:32]


async def upload(
    way: Way, request: UploadRequest, body: Path, upload_id: str | None, progress: Progress | None
) -> UploadResult:
    """Send the file `body`: in parts if it is large and the upload has an id, else in one piece."""
    if upload_id is not None and request.stream.content_length > PART_BYTES:
        try:
            return await PartedUpload(way, request, body, upload_id, progress).run()
        except RpcError as refusal:
            # It takes none now, or never did: a probe can be older than the worker.
            if refusal.code is not Code.FEATURE_MISSING:
                raise
    total = request.stream.content_length
    async with way.open(MAX_ANSWER) as wire:
        request_id = way.new_id()
        line = encode_request("upload_source", request_id, request, way.version)
        piece = Piece(body, 0, total, total)
        answer, whole = await send_piece(wire, line, piece, way.patience, progress, last=not way.standing)
        result = decode_response(answer, request_id, UploadResult, way.version)
        if not result.stored:
            raise protocol_error(f"worker {way.worker}: it took all of an upload and stored nothing")
        wire.clean = whole
        return result


class PartedUpload:
    """One bundle on its way; `request` describes all of it, `body` is the spooled file."""

    def __init__(
        self, way: Way, request: UploadRequest, body: Path, upload_id: str, progress: Progress | None
    ) -> None:
        self.way = way
        self._request = request
        self.body = body
        self._upload_id = upload_id
        self._progress = progress
        self._total = request.stream.content_length
        self._offset: int | None = None  # the worker's own word, None before it was asked
        self._reached = 0
        self._cut_at = 0
        self._spare = SPARE
        self._told: int | None = None

    async def run(self) -> UploadResult:
        """Send what is missing. `RpcError` and `Failure` as `WorkerClient.upload`."""
        while True:
            try:
                async with self.way.open(MAX_ANSWER) as wire:
                    before = self._offset
                    answer, whole = await self._send(wire)
                    self.take(answer, before)
                    if not answer.stored and whole and self.way.standing:
                        answer = await _Stream(self, wire).run()
                    if answer.stored:
                        return answer
            except RpcError as refusal:
                self._take_correction(refusal)
            except Failure as failure:
                if failure.subkind != "UNREACHABLE" or self._reached <= self._cut_at:
                    raise
                log.info("upload.goes_on", source_sha256=self._request.source_sha256, after=failure.message)
                self._offset, self._cut_at = None, self._reached

    def take(self, answer: UploadResult, before: int | None) -> None:
        """Take the worker's word after a part that began at `before`; None: after the question."""
        if answer.stored:
            return
        self._go_on_at(answer.next_offset)
        if before is not None and self._reached <= before:
            self._use_up()

    async def _send(self, wire: Wire) -> tuple[UploadResult, bool]:
        """One part, or the question where to go on."""
        way = self.way
        piece = Piece(self.body, 0, 0, self._total) if self._offset is None else self.piece(self._offset)
        _, digest = await to_thread.run_sync(_load, piece)
        request_id, line = self.header(piece, digest, asks=self._offset is None)
        answer, whole = await send_piece(
            wire, line, piece, way.patience, self._progress, last=not way.standing
        )
        return decode_response(answer, request_id, UploadResult, way.version), whole

    def piece(self, offset: int) -> Piece:
        """The part that begins at `offset`."""
        return Piece(self.body, offset, min(PART_BYTES // 2, self._total - offset), self._total)

    def header(self, piece: Piece, digest: str, *, asks: bool = False) -> tuple[str, bytes]:
        """The id and the line of the request that goes before a part."""
        request_id = self.way.new_id()
        last = not asks and piece.offset + piece.length == self._total
        payload = self._described(piece, digest, last=last)
        return request_id, encode_request("upload_source", request_id, payload, self.way.version)

    def _described(self, piece: Piece, digest: str, *, last: bool) -> UploadRequest:
        whole = self._request.stream
        resume = Resume(
            upload_id=self._upload_id,
            offset=piece.offset,
            last=last,
            total_length=self._total if last else None,
            total_sha256=whole.content_sha256 if last else None,
        )
        return UploadRequest(
            source_sha256=self._request.source_sha256,
            stream=Stream(
                content_length=piece.length,
                content_sha256=digest,
                compression=whole.compression,
                format=whole.format,
            ),
            lease_id=self._request.lease_id,
            fence=self._request.fence,
            base=self._request.base,
            resume=resume,
        )

    def _take_correction(self, refusal: RpcError) -> None:
        """Go where the worker says that it is; raises any other refusal."""
        offset = refusal.data.get("next_offset")
        if not isinstance(offset, int):
            raise refusal
        self._use_up()
        self._go_on_at(offset)

    def _go_on_at(self, offset: int | None) -> None:
        """Take the worker's word."""
        if offset is None or not 0 <= offset <= self._total:
            raise protocol_error(f"the worker has {offset} of {self._total} bytes and wants more")
        self._offset = self._reached = offset
        self.tell(offset)

    def tell(self, done: int) -> None:
        """Tell who follows, never less than before: answers come later than bytes go."""
        if self._progress is not None:
            self._told = done if self._told is None else max(done, self._told)
            self._progress(self._told, self._total)

    @property
    def offset(self) -> int:
        """Where to go on, by the worker's last word."""
        return self._reached

    def _use_up(self) -> None:
        """A part has brought us no further."""
        self._spare -= 1
        if self._spare < 0:
            raise protocol_error(f"the upload comes no further than {self._reached} bytes")


class _Stream:
    """All parts from where the upload stands, on one wire, with two of them unanswered at most.

    Outcomes are values: a task group would wrap exceptions.
    """

    def __init__(self, upload: PartedUpload, wire: Wire) -> None:
        self._upload = upload
        self._wire = wire
        self._patience = upload.way.patience
        self._pending: deque[tuple[str, Piece]] = deque()
        self._answered = anyio.Event()
        self._scope = anyio.CancelScope()

    async def run(self) -> UploadResult:
        """The answer that ends the stream: it is stored, or is to go on elsewhere."""
        heard: list[UploadResult | Failure | RpcError] = []
        seconds = self._patience.stall
        with within(seconds, f"the upload of {self._upload.body.name} stalled for {seconds:g} s") as scope:
            self._scope = scope
            async with anyio.create_task_group() as tasks:

                async def hear() -> None:
                    heard.append(await self._hear())
                    tasks.cancel_scope.cancel()

                tasks.start_soon(hear)
                sending, loaded = anyio.create_memory_object_stream[_Loaded | Failure](1)
                tasks.start_soon(self._load_ahead, sending)
                with loaded:
                    problem = await self._pour(loaded)
                if problem is not None:
                    heard.append(problem)
                    tasks.cancel_scope.cancel()
                self._wait(self._patience.digest)
        outcome = heard[0]
        if isinstance(outcome, UploadResult):
            return outcome
        raise outcome

    async def _hear(self) -> UploadResult | Failure | RpcError:
        try:
            while True:
                line = await self._wire.read_line()
                if not self._pending:
                    return protocol_error("the worker answers what nobody asked")
                request_id, piece = self._pending[0]
                answer = decode_response(line, request_id, UploadResult, self._upload.way.version)
                self._upload.take(answer, piece.offset)
                if answer.stored or answer.next_offset != piece.offset + piece.length:
                    return answer
                self._pending.popleft()
                self._answered.set()
        except (Failure, RpcError) as error:
            return error

    async def _load_ahead(self, loaded: MemoryObjectSendStream[_Loaded | Failure]) -> None:
        """Read and digest one part while the one before it is on its way."""
        offset = self._upload.offset
        with loaded, suppress(anyio.BrokenResourceError):
            while True:
                piece = self._upload.piece(offset)
                try:
                    data, digest = await to_thread.run_sync(_load, piece)
                except Failure as failure:
                    await loaded.send(failure)
                    return
                await loaded.send(_Loaded(piece, data, digest))
                offset += piece.length
                if offset == piece.total:
                    return

    async def _pour(self, loaded: MemoryObjectReceiveStream[_Loaded | Failure]) -> Failure | None:
        try:
            async for part in loaded:
                if isinstance(part, Failure):
                    return part
                await self._send(part)
        except LineCut:
            # The worker hung up: what it said before, or how it ended, is for the listener to tell.
            return None
        return None

    async def _send(self, part: _Loaded) -> None:
        piece = part.piece
        request_id, line = self._upload.header(piece, part.digest)
        while len(self._pending) > 1:
            self._answered = anyio.Event()
            self._wait(self._patience.digest)
            await self._answered.wait()
        self._wait(self._patience.stall)
        self._pending.append((request_id, piece))
        await self._wire.send(line)
        done = 0
        for data in slices(part.data):
            await self._wire.send(data)
            done += len(data)
            self._wait(self._patience.stall)
            self._upload.tell(piece.offset + done)

    def _wait(self, seconds: float) -> None:
        self._scope.deadline = anyio.current_time() + seconds


class _Loaded(NamedTuple):
    """A part in memory, and its SHA-256."""

    piece: Piece
    data: bytes
    digest: str


def _load(piece: Piece) -> tuple[bytes, str]:
    """The bytes of a piece and their SHA-256; `Failure` TRANSFER when they cannot be read."""
    try:
        with piece.path.open("rb") as file:
            file.seek(piece.offset)
            data = file.read(piece.length)
    except OSError as error:
        message = f"the spooled bundle {piece.path.name}: {error.strerror}"
        raise Failure(Kind.TRANSFER, message) from error
    if len(data) < piece.length:
        raise Failure(Kind.TRANSFER, f"the spooled bundle ended at {piece.offset + len(data)} bytes")
    return data, hashlib.sha256(data).hexdigest()
