"""Uploads in parts, which go on where they were cut (feature `upload_resumable`, spec section 5).

The worker alone knows where to go on, so it is asked first; nothing about an upload is kept here,
and a daemon that died meanwhile goes on as one that lost its line. A line that is cut after
a part arrived is dialled again at once: such a cut uses up none of the run's tries.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import structlog
from anyio import to_thread

from rch.contract.errors import Failure, Kind
from rch.contract.worker_envelope import decode_response, encode_request, protocol_error
from rch.contract.worker_rpc import Code, Resume, RpcError, Stream, UploadRequest, UploadResult
from rchd.edges.transfers import Piece, Progress, Way, send_piece
from rchd.edges.wire import MAX_ANSWER, Wire

log = structlog.get_logger("rchd.worker")

PART_BYTES = 8 << 20
"""What is sent at a time, and sent again after a cut at most; a bundle up to it goes in one piece."""
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
        answer, _ = await send_piece(wire, line, Piece(body, 0, total, total), way.patience, progress)
        return decode_response(answer, request_id, UploadResult)


class PartedUpload:
    """One bundle on its way; `request` describes all of it, `body` is the spooled file."""

    def __init__(
        self, way: Way, request: UploadRequest, body: Path, upload_id: str, progress: Progress | None
    ) -> None:
        self._way = way
        self._request = request
        self._body = body
        self._upload_id = upload_id
        self._progress = progress
        self._total = request.stream.content_length
        self._offset: int | None = None  # the worker's own word, None before it was asked
        self._reached = 0
        self._cut_at = 0
        self._spare = SPARE

    async def run(self) -> UploadResult:
        """Send what is missing. `RpcError` and `Failure` as `WorkerClient.upload`."""
        while True:
            try:
                async with self._way.open(MAX_ANSWER) as wire:
                    while True:
                        before = self._offset
                        answer, whole = await self._send(wire)
                        if answer.stored:
                            return answer
                        self._go_on_at(answer.next_offset)
                        if before is not None and self._reached <= before:
                            self._use_up()
                        if not whole or not self._way.standing:
                            break
            except RpcError as refusal:
                self._take_correction(refusal)
            except Failure as failure:
                if failure.subkind != "UNREACHABLE" or self._reached <= self._cut_at:
                    raise
                log.info("upload.goes_on", source_sha256=self._request.source_sha256, after=failure.message)
                self._offset, self._cut_at = None, self._reached

    async def _send(self, wire: Wire) -> tuple[UploadResult, bool]:
        """One part, or the question where to go on."""
        way, asks = self._way, self._offset is None
        offset = self._offset or 0
        length = 0 if asks else min(PART_BYTES, self._total - offset)
        last = not asks and offset + length == self._total
        piece = Piece(self._body, offset, length, self._total)
        request_id = way.new_id()
        payload = await self._described(piece, last=last)
        line = encode_request("upload_source", request_id, payload, way.version)
        answer, whole = await send_piece(
            wire, line, piece, way.patience, self._progress, last=not way.standing
        )
        return decode_response(answer, request_id, UploadResult), whole

    async def _described(self, piece: Piece, *, last: bool) -> UploadRequest:
        whole = self._request.stream
        resume = Resume(
            upload_id=self._upload_id,
            offset=piece.offset,
            last=last,
            total_length=self._total if last else None,
            total_sha256=whole.content_sha256 if last else None,
        )
        digest = await to_thread.run_sync(_digest, piece)
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
        if self._progress is not None:
            self._progress(offset, self._total)

    def _use_up(self) -> None:
        """A part has brought us no further."""
        self._spare -= 1
        if self._spare < 0:
            raise protocol_error(f"the upload comes no further than {self._reached} bytes")


def _digest(piece: Piece) -> str:
    """The SHA-256 of a piece; `Failure` TRANSFER when it cannot be read."""
    digest, left = hashlib.sha256(), piece.length
    try:
        with piece.path.open("rb") as file:
            file.seek(piece.offset)
            while left and (data := file.read(min(left, 1 << 20))):
                digest.update(data)
                left -= len(data)
    except OSError as error:
        message = f"the spooled bundle {piece.path.name}: {error.strerror}"
        raise Failure(Kind.TRANSFER, message) from error
    return digest.hexdigest()
