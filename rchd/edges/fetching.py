"""The artifact set in, from where an earlier fetch of it was cut (spec sections 3.2, 8, fault S6).

Bytes that came lie beside their place, named by the digest of the set that they begin, so that
nothing else need be remembered. What the set's digest does not cover is never taken for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio import to_thread

from rch.contract.errors import Failure, Kind
from rch.contract.framing import MAX_FETCH_HEADER
from rch.contract.ids import is_sha256
from rch.contract.worker_envelope import (
    check_version,
    decode_fetch_header,
    decode_response,
    encode_request,
    protocol_error,
)
from rch.contract.worker_rpc import FetchHeader, FetchRequest, JobRequest, RpcError, StatusResult
from rchd.edges.channels import LineCut
from rchd.edges.transfers import Progress, Way
from rchd.edges.wire import Wire, within

SETS_IN_A_CALL = 2
_END_WAIT = 2.0
_PIECE = 1 << 20
_SUFFIX = ".part"
_LINE_FAULTS = frozenset({Kind.SSH, Kind.TRANSFER})
"""What ends a fetch without a word about the bytes that came: they are kept."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The first `length` bytes of the set `set_sha256`, in a file."""

    path: Path
    set_sha256: str
    length: int


def begun(into: Path) -> Begun | None:
    """What an earlier fetch to `into` left; of several nothing is used."""
    found = list(into.parent.glob(f"{into.name}.*{_SUFFIX}"))
    if len(found) == 1:
        path = found[0]
        digest = path.name.removeprefix(f"{into.name}.").removesuffix(_SUFFIX)
        if is_sha256(digest) and (length := path.stat().st_size):
            return Begun(path, digest, length)
    forget(into)
    return None


def forget(into: Path) -> None:
    """Remove what fetches to `into` left."""
    for path in into.parent.glob(f"{into.name}.*{_SUFFIX}"):
        path.unlink(missing_ok=True)


async def fetch(
    way: Way,
    job_id: str,
    into: Path,
    max_bytes: int,
    progress: Progress | None,
    *,
    resumable: bool,
    seconds: float = 0,
) -> FetchHeader:
    """Receive a job's set into the file `into`; `resumable`: the worker goes on at an offset.

    The bytes of a stream have `seconds` to come (0: no bound).
    """
    for _ in range(SETS_IN_A_CALL):
        earlier = await to_thread.run_sync(begun, into) if resumable else None
        header = await _fetch_once(way, job_id, into, max_bytes, progress, earlier, seconds or inf)
        if header is not None:
            return header
    raise protocol_error(f"worker {way.worker}: the artifacts of {job_id} change while they are fetched")


async def _fetch_once(
    way: Way,
    job_id: str,
    into: Path,
    max_bytes: int,
    progress: Progress | None,
    earlier: Begun | None,
    longest: float,
) -> FetchHeader | None:
    """One stream, or None where an earlier one was begun that is no more."""
    seconds = way.patience.call
    request = FetchRequest(job_id=job_id, offset=earlier.length if earlier else None)
    async with way.open(MAX_FETCH_HEADER) as wire:
        request_id = way.new_id()
        line = encode_request("fetch", request_id, request, way.version)
        after = _After(way, job_id) if way.standing else None
        with within(seconds, f"worker {way.worker} did not answer fetch within {seconds:g} s"):
            answer = await wire.ask(line + (after.line if after else b""), last=not way.standing)
        try:
            header = await receive_artifacts(
                wire,
                answer,
                request_id,
                job_id,
                into,
                way.patience.stall,
                max_bytes,
                progress,
                earlier=earlier,
                after=after,
                version=way.version,
                longest=longest,
            )
        except RpcError as refusal:
            # Only a refusal of the offset names the set.
            if earlier is None or "set_length" not in refusal.data:
                raise
            await to_thread.run_sync(forget, into)
            return None
        wire.clean = way.standing and header is not None
        return header


class _After:
    """A `status` that goes out with the fetch: its answer comes right after the set's last byte.

    So a standing wire shows where the stream ends, without its end and without a round trip.
    """

    def __init__(self, way: Way, job_id: str) -> None:
        self._request_id = way.new_id()
        self._seconds = way.patience.call
        self._worker = way.worker
        self.line = encode_request("status", self._request_id, JobRequest(job_id=job_id), way.version)

    async def follows(self, wire: Wire) -> bool:
        """Whether the answer is the next thing on the wire, and nothing is behind it."""
        message = f"worker {self._worker} did not answer status within {self._seconds:g} s"
        with within(self._seconds, message):
            line = await wire.read_line()
        try:
            decode_response(line, self._request_id, StatusResult)
        except RpcError:
            pass  # an answer all the same
        except Failure:
            return False
        return await wire.at_end(0)


async def receive_artifacts(
    wire: Wire,
    line: bytes,
    request_id: str,
    job_id: str,
    into: Path,
    stall: float,
    max_bytes: int,
    progress: Progress | None = None,
    *,
    earlier: Begun | None = None,
    after: _After | None = None,
    version: int | None = None,
    longest: float = inf,
) -> FetchHeader | None:
    """Write the stream that follows the header `line` to the file `into`, checked.

    The next bytes have `stall` seconds to come, all of them `longest`.

    `earlier` is what the request's offset speaks of; None comes back when the header is that of
    another set, which has to be asked for from its beginning. `after` was asked right behind the
    fetch; without it the wire ends with the stream. See `WorkerClient.fetch` for the failures.
    """
    header = await to_thread.run_sync(decode_fetch_header, line, request_id, job_id)
    if version is not None:
        check_version(header.protocol_version, version)
    _check_header(header, max_bytes)
    if earlier is not None and (not header.offset or header.set_sha256 != earlier.set_sha256):
        forget(into)
        if header.offset:
            return None
    elif header.offset != (earlier.length if earlier else 0):
        length = header.stream.content_length
        raise protocol_error(f"the worker announced {length} bytes from {header.offset} on")
    resumable = is_sha256(header.set_sha256)
    target = into.with_name(f"{into.name}.{header.set_sha256}{_SUFFIX}") if resumable else into
    try:
        with await to_thread.run_sync(target.open, "ab" if header.offset else "wb") as file:
            digest = await to_thread.run_sync(_digest_of, target)
            late = f"the artifacts of {job_id} did not come within {longest:g} s"
            with within(longest, late):
                await _drain(wire, header, file, digest, stall, progress)
        _check_digest(header, digest.hexdigest())
        await _check_end(wire, header, after)
        target.replace(into)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise Failure(
            Kind.ARTIFACTS,
            f"the artifacts of {job_id} cannot be written to {into}: {error.strerror}",
            hint="free space on this machine, then run the same command again",
        ) from error
    except Failure as failure:
        if not resumable or failure.kind not in _LINE_FAULTS:
            target.unlink(missing_ok=True)
        raise
    except BaseException:
        if not resumable:
            target.unlink(missing_ok=True)
        raise
    return header


def _check_header(header: FetchHeader, max_bytes: int) -> None:
    length, offset = header.stream.content_length, header.offset
    if length < 0 or offset < 0 or (header.set_sha256 and header.set_length != offset + length):
        told = f"{length} bytes from {offset} on of {header.set_length}"
        raise protocol_error(f"the worker announced {told}")
    if max_bytes and offset + length > max_bytes:
        raise Failure(
            Kind.ARTIFACTS,
            f"the artifacts of {header.job_id} have {offset + length} bytes,"
            f" over the {max_bytes} that are taken",
            subkind="SIZE_EXCEEDED",
        )


def _digest_of(path: Path) -> hashlib._Hash:
    """The running SHA-256 of the bytes that are there."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_PIECE):
            digest.update(data)
    return digest


async def _drain(
    wire: Wire,
    header: FetchHeader,
    target: BinaryIO,
    digest: hashlib._Hash,
    stall: float,
    progress: Progress | None,
) -> None:
    done, total = header.offset, header.offset + header.stream.content_length
    if done and progress is not None:
        progress(done, total)
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
            if progress is not None:
                progress(done, total)


def _too_short(header: FetchHeader, done: int, why: str) -> Failure:
    total = header.offset + header.stream.content_length
    return Failure(
        Kind.TRANSFER, f"the artifacts of {header.job_id} ended at {done} of {total} bytes: {why}"
    )


def _check_digest(header: FetchHeader, seen: str) -> None:
    """The whole is held against the whole: of a set that was gone on with, against the set's digest."""
    announced = header.set_sha256 if header.offset else header.stream.content_sha256
    if seen != announced:
        raise Failure(
            Kind.ARTIFACTS,
            f"the artifacts of {header.job_id} have SHA-256 {seen}, not the announced {announced[:64]}",
            subkind="INTEGRITY_MISMATCH",
        )


async def _check_end(wire: Wire, header: FetchHeader, after: _After | None) -> None:
    ended = await (wire.at_end(_END_WAIT) if after is None else after.follows(wire))
    if not ended:
        total = header.offset + header.stream.content_length
        raise protocol_error(f"the worker sent more than the {total} announced bytes of {header.job_id}")
