"""One worker as the daemon sees it: typed calls over a transport's channels (spec section 3).

Control calls share one standing channel where the worker offers `session`; a tail keeps a
channel of its own per job; uploads and fetches take one each, a spare one where one waits. Every
await has a deadline, and a call that fails or is cancelled closes its channel, so that no answer
meets the wrong question.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec
import uuid_utils
from anyio import to_thread

from rch.contract.worker_envelope import decode_response, encode_request, negotiate
from rch.contract.worker_rpc import (
    PROBE_PROTOCOL,
    CancelRequest,
    CancelResult,
    Empty,
    Feature,
    FetchHeader,
    GcRequest,
    GcResult,
    HasSourceRequest,
    HasSourceResult,
    HeardProbe,
    JobRequest,
    Payload,
    ProbeRequest,
    ReleaseRequest,
    ReserveRequest,
    ReserveResult,
    RpcError,
    StatusResult,
    SubmitRequest,
    SubmitResult,
    TailRequest,
    TailResult,
    UploadRequest,
    UploadResult,
)
from rchd.edges import fetching, parts
from rchd.edges.channels import Transport
from rchd.edges.polled import polled
from rchd.edges.spares import Spares, Stale
from rchd.edges.transfers import Patience, Progress, Way
from rchd.edges.wire import MAX_ANSWER, MAX_PROBE_ANSWER, EndedEarly, Wire, unreachable, within

P = TypeVar("P", bound=msgspec.Struct)
T = TypeVar("T")

MAX_SIDE_CHANNELS = 24
MAX_IDLE_TAILS = 8
LONG_ANSWER = 64 << 10
"""Bytes from which on an answer is read in a thread: whatever stands in it, the others are served."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the daemon waits for a worker, in seconds.

    `connect` is for a channel to open, `probe` and `call` for an answer, `stall` for the next
    bytes of a transfer, `digest` for the worker to check a whole upload or to remove what is over,
    and `tail_grace` comes on top of a tail's own `wait_seconds`.
    """

    connect: float = 30.0
    probe: float = 60.0
    call: float = 60.0
    stall: float = 60.0
    digest: float = 600.0
    tail_grace: float = 30.0


class WorkerClient:
    """Calls to one worker.

    Each raises `RpcError` for the worker's refusal, `Failure` SSH / UNREACHABLE for a line that
    is cut or silent, and `Failure` EXECUTOR / PROTOCOL_ERROR for a broken protocol.
    """

    def __init__(self, name: str, transport: Transport, *, deadlines: Deadlines | None = None) -> None:
        self.name = name
        self._transport = transport
        self._deadlines = deadlines or Deadlines()
        self._probed: HeardProbe | None = None
        self._control: Wire | None = None
        self._control_lock = anyio.Lock()
        self._tails: dict[str, Wire] = {}
        self._spares = Spares()
        self._side = anyio.Semaphore(MAX_SIDE_CHANNELS)

    @property
    def host(self) -> str:
        """The machine's name for records."""
        return self._transport.host

    @property
    def probed(self) -> HeardProbe | None:
        """What the last probe said."""
        return self._probed

    # --- probe and negotiation ------------------------------------------------------------

    async def probe(self) -> HeardProbe:
        """Ask on a channel of its own what the worker is; what it says holds from now on."""
        async with self._side:
            result, wire = await self._call(
                None, "probe", ProbeRequest(), HeardProbe, self._deadlines.probe, PROBE_PROTOCOL
            )
        if wire is not None:
            await wire.close()
        self._probed = _result(result)
        return self._probed

    async def protocol_version(self) -> int:
        """The highest common version, after a probe if there was none.

        `Failure` WORKER_INCOMPATIBLE when there is no common one or a required feature is missing.
        """
        return negotiate(self._probed or await self.probe())

    def offers(self, feature: Feature) -> bool:
        """Whether the last probe named `feature`."""
        return self._probed is not None and feature in self._probed.features

    # --- control calls --------------------------------------------------------------------

    async def reserve(self, request: ReserveRequest) -> ReserveResult:
        """A slot, or its renewal; `RpcError` BUSY carries `retry_after_seconds`."""
        return await self._control_call("reserve", request, ReserveResult)

    async def release(self, request: ReleaseRequest) -> None:
        """The end of a lease."""
        await self._control_call("release", request, Empty)

    async def has_source(self, request: HasSourceRequest) -> HasSourceResult:
        """Whether a source is there already."""
        return await self._control_call("has_source", request, HasSourceResult)

    async def submit(self, request: SubmitRequest) -> SubmitResult:
        """Start a job, or learn where it stands: `job_id` makes it idempotent."""
        return await self._control_call("submit", request, SubmitResult)

    async def status(self, request: JobRequest) -> StatusResult:
        """Where a job stands."""
        return await self._control_call("status", request, StatusResult)

    async def cancel(self, request: CancelRequest) -> CancelResult:
        """End a job."""
        return await self._control_call("cancel", request, CancelResult)

    async def gc(self, request: GcRequest) -> GcResult:
        """Have the worker remove what is over, or name it: a channel of its own, for it takes a while."""
        version = await self.protocol_version()
        async with self._side:
            result, wire = await self._call(None, "gc", request, GcResult, self._deadlines.digest, version)
        if wire is not None:
            await wire.close()
        return _result(result)

    async def _control_call(self, op: str, payload: Payload, kind: type[P]) -> P:
        version = await self.protocol_version()
        async with self._control_lock:
            kept, self._control = self._control, None
            result, self._control = await self._call(kept, op, payload, kind, self._deadlines.call, version)
        return _result(result)

    # --- tail -----------------------------------------------------------------------------

    async def tail(self, request: TailRequest) -> TailResult:
        """News of a job, held by the worker up to `wait_seconds`.

        The job keeps its channel until its last news; `forget_tail` ends it before that.
        """
        version = await self.protocol_version()
        if not self.offers(Feature.TAIL):
            return await polled(self.status, request)
        seconds = (request.wait_seconds or 0.0) + self._deadlines.tail_grace
        kept = self._tails.pop(request.job_id, None) or self._spares.take(MAX_ANSWER)
        async with self._side:
            result, wire = await self._call(kept, "tail", request, TailResult, seconds, version)
        done = isinstance(result, TailResult) and result.next_cursor is None
        if wire is not None:
            await self._keep_tail(request.job_id, wire, done=done)
        return _result(result)

    async def forget_tail(self, job_id: str) -> None:
        """Close the job's idle tail channel, if there is one."""
        if (wire := self._tails.pop(job_id, None)) is not None:
            await wire.close()

    async def _keep_tail(self, job_id: str, wire: Wire, *, done: bool) -> None:
        if done or job_id in self._tails:
            await self._spares.give(wire)
            return
        self._tails[job_id] = wire
        while len(self._tails) > MAX_IDLE_TAILS:
            await self.forget_tail(next(iter(self._tails)))

    # --- transfers ------------------------------------------------------------------------

    async def upload(
        self,
        request: UploadRequest,
        body: Path,
        progress: Progress | None = None,
        *,
        upload_id: str | None = None,
    ) -> UploadResult:
        """Send the file `body` as the announced stream; `progress(done, total)` is in bytes.

        With an `upload_id` a large one goes in parts, if the worker takes them, and one that was cut
        goes on where the worker says. A worker that refuses early is heard before all is sent.
        `Failure` TRANSFER when `body` is not what `request.stream` announces.
        """
        version = await self.protocol_version()
        in_parts = upload_id if self.offers(Feature.UPLOAD_RESUMABLE) else None
        async with self._side:
            return await self._on_a_spare(
                version, lambda way: parts.upload(way, request, body, in_parts, progress)
            )

    async def fetch(
        self,
        job_id: str,
        into: Path,
        progress: Progress | None = None,
        *,
        max_bytes: int = 0,
        seconds: float = 0,
    ) -> FetchHeader:
        """Receive a job's artifact stream into the file `into`, its digest checked.

        `max_bytes` bounds the set's length, `seconds` how long its bytes may take to come, however
        steadily they do (0: no bound). `Failure` SSH / UNREACHABLE when that is over, TRANSFER when it
        ends too early, ARTIFACTS / INTEGRITY_MISMATCH for another digest, ARTIFACTS / SIZE_EXCEEDED
        for too long a stream; `into` is not there then. What a cut line left beside it is gone on with
        by the next call, as long as the worker's set is the same.
        """
        version = await self.protocol_version()
        resumable = self.offers(Feature.FETCH_RESUME)
        async with self._side:
            return await self._on_a_spare(
                version,
                lambda way: fetching.fetch(
                    way, job_id, into, max_bytes, progress, resumable=resumable, seconds=seconds
                ),
            )

    async def _on_a_spare(self, version: int, transfer: Callable[[Way], Awaitable[T]]) -> T:
        """A transfer; on a new channel where the spare one that it was given had died."""
        try:
            return await transfer(self._way(version))
        except Stale:
            return await transfer(self._way(version, anew=True))

    def _way(self, version: int, *, anew: bool = False) -> Way:
        limits = self._deadlines
        return Way(
            worker=self.name,
            open=partial(self._own_wire, anew=anew),
            new_id=new_request_id,
            version=version,
            standing=self.offers(Feature.SESSION),
            patience=Patience(call=limits.call, stall=limits.stall, digest=limits.digest),
        )

    # --- the ground -----------------------------------------------------------------------

    async def close(self) -> None:
        """End every channel and the transport."""
        control, self._control = self._control, None
        for wire in (control, *self._tails.values()):
            if wire is not None:
                await wire.close()
        self._tails.clear()
        await self._spares.close()
        await self._transport.close()

    async def _call(
        self, kept: Wire | None, op: str, payload: Payload, kind: type[P], seconds: float, version: int
    ) -> tuple[P | RpcError, Wire | None]:
        """One question and its answer, and the wire if it can carry another.

        A kept wire may have died while it idled: then one new wire is tried, for every
        operation is idempotent by its ids.
        """
        request_id = new_request_id()
        line = encode_request(op, request_id, payload, version)
        last = version == PROBE_PROTOCOL or not self.offers(Feature.SESSION)
        if kept is not None:
            try:
                return await self._exchange(
                    kept, line, request_id, kind, op, seconds, version, last=False
                ), kept
            except EndedEarly:
                pass
        wire = await self._open(MAX_PROBE_ANSWER if version == PROBE_PROTOCOL else MAX_ANSWER)
        try:
            answer = await self._exchange(wire, line, request_id, kind, op, seconds, version, last=last)
        except EndedEarly as error:
            raise (error.by_itself or error) from error
        if last:
            await wire.close()
        return answer, None if last else wire

    async def _exchange(
        self,
        wire: Wire,
        line: bytes,
        request_id: str,
        kind: type[P],
        op: str,
        seconds: float,
        version: int,
        *,
        last: bool,
    ) -> P | RpcError:
        try:
            with within(seconds, self._silent(op, seconds)):
                answer = await wire.ask(line, last=last)
            if len(answer) < LONG_ANSWER:
                return decode_response(answer, request_id, kind, version)
            return await to_thread.run_sync(decode_response, answer, request_id, kind, version)
        except RpcError as refusal:
            return refusal
        except BaseException:
            await wire.close()
            raise

    async def _open(self, max_line: int = MAX_ANSWER) -> Wire:
        seconds = self._deadlines.connect
        with within(seconds, f"worker {self.name} ({self.host}): no channel within {seconds:g} s"):
            return Wire(await self._transport.open(), self.name, max_line=max_line)
        raise unreachable(f"worker {self.name}: no channel")  # for the type checker: `within` raised

    @asynccontextmanager
    async def _own_wire(self, max_line: int, *, anew: bool) -> AsyncIterator[Wire]:
        """A wire for one transfer; one that is left clean is a spare from then on."""
        spare = None if anew else self._spares.take(max_line)
        wire = spare or await self._open(max_line)
        wire.clean = False
        try:
            yield wire
        except EndedEarly as error:
            if spare is not None:
                raise Stale(self.name, "the spare channel was gone") from error
            raise (error.by_itself or error) from error
        finally:
            if wire.clean:
                await self._spares.give(wire)
            else:
                await wire.close()

    def _silent(self, op: str, seconds: float) -> str:
        return f"worker {self.name} did not answer {op} within {seconds:g} s"


def new_request_id() -> str:
    """A sortable id for one request."""
    return uuid_utils.uuid7().hex


def _result(answer: P | RpcError) -> P:
    if isinstance(answer, RpcError):
        raise answer
    return answer
