"""Carries out the core's outward effects, each answered by one event.

Every refusal and every broken line comes back as an event too: nothing raises past here but
defects, which the driver turns into an answer of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import msgspec
import structlog

from rch.contract.attested import Known
from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rch.contract.worker_envelope import failure_of, protocol_error, reasons_of
from rch.contract.worker_rpc import (
    CancelRequest,
    HasSourceRequest,
    JobEvent,
    ReleaseRequest,
    ReserveRequest,
    RpcError,
    SubmitRequest,
    TailRequest,
)
from rch.files.durable import is_no_space
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.select import still_pinned
from rchd.edges import artifacts
from rchd.edges.pace import Pace
from rchd.edges.pool import WorkerPool
from rchd.edges.prober import Prober, deadline, ms_since
from rchd.edges.shortage import Shortage
from rchd.edges.uploads import Upload
from rchd.edges.worker_client import WorkerClient

log = structlog.get_logger("rchd.worker")

TAIL_WAIT_SECONDS = 20.0
TAIL_MAX_BYTES = 256 << 10
CALL_SECONDS = 30.0
PROGRESS_SECONDS = 0.1
MAX_RETRY_AFTER_SECONDS = 600.0
MAX_EVENT_BYTES = 512 << 10
"""Of a worker's events in one answer: each goes to every follower."""

Post = Callable[[ev.Event], None]


class Performer:
    """Does the core's outward work."""

    def __init__(
        self,
        *,
        pool: WorkerPool,
        prober: Prober,
        host_id: str,
        artifacts_root: Path,
        spool: Path,
    ) -> None:
        self._pool = pool
        self._prober = prober
        self._host_id = host_id
        self._artifacts = artifacts_root
        self._spool = spool
        self._offsets: dict[str, int] = {}

    def forget_probe(self, worker: str) -> None:
        """The snapshot of `worker` is not to be used again."""
        self._prober.forget(worker)

    async def perform(self, effect: fx.Outward, post: Post) -> ev.Answer:
        """The event that answers `effect`."""
        operation = type(effect).__name__.lower()
        began = time.monotonic()
        try:
            event = await self._dispatch(effect, post)
        except RpcError as error:
            damage = _DAMAGED.get(str(error.data.get("reason")))
            if damage is None:
                event = _refused(effect, operation, error)
            else:
                event = _cut(effect, operation, Failure(Kind.TRANSFER, error.message, subkind=damage))
        except Failure as failure:
            event = _cut(effect, operation, _as_out_of_reach(effect, failure))
        except OSError as error:
            if not isinstance(effect, _KEEPING):
                raise
            event = _cut(effect, operation, _not_kept(error))
        ms = ms_since(began)
        if not isinstance(effect, fx.Tail):
            log.info("rpc", op=operation, run_id=effect.run_id, answer=type(event).__name__, ms=ms)
        return msgspec.structs.replace(event, ms=ms)

    async def _dispatch(self, effect: fx.Outward, post: Post) -> ev.Answer:
        match effect:
            case fx.Probe():
                return await self._prober.probed(effect)
            case fx.Publish():
                return await self._publish(effect, post)
            case fx.Reserve():
                return await self._reserve(effect)
            case fx.Upload():
                return await self._upload(effect, post)
            case fx.Tail():
                return await self._tail(effect, post)
            case fx.Fetch():
                return await self._fetch(effect, post)
            case _:
                return await self._call(effect)

    # --- short calls ------------------------------------------------------------------

    def _client(self, effect: fx.WorkerCall) -> WorkerClient:
        return self._pool.client(effect.target.worker)

    async def _reserve(self, effect: fx.Reserve) -> ev.Reserved:
        request = ReserveRequest(
            run_id=effect.run_id,
            host_id=self._host_id,
            ttl_seconds=effect.ttl_seconds,
            lease_id=effect.lease_id,
            fence=effect.fence,
        )
        with deadline(effect.target.deadline, effect.target.worker):
            lease = await self._client(effect).reserve(request)
        return ev.Reserved(
            at=time.time(),
            run_id=effect.run_id,
            op=effect.op,
            worker=effect.target.worker,
            lease_id=lease.lease_id,
            fence=lease.fence,
            ttl_seconds=lease.ttl_seconds,
            renewal=effect.lease_id is not None,
        )

    async def _call(self, effect: fx.Outward) -> ev.Answer:
        if not isinstance(effect, fx.WorkerCall):
            raise TypeError(f"{type(effect).__name__} is no effect that this edge knows")
        if isinstance(effect, fx.Release) and effect.op >= 0:
            await anyio.to_thread.run_sync(artifacts.forget_fetches, self._artifacts, effect.run_id)
        client = self._client(effect)
        with deadline(effect.target.deadline + CALL_SECONDS, effect.target.worker):
            match effect:
                case fx.HasSource():
                    return await _has_source(client, effect)
                case fx.Submit():
                    return await _submit(client, effect)
                case fx.CancelJob():
                    return await _cancel(client, effect)
                case fx.Release():
                    return await _release(client, effect)
        raise TypeError(f"{type(effect).__name__} is no effect that this edge knows")

    # --- long ones --------------------------------------------------------------------

    async def _upload(self, effect: fx.Upload, post: Post) -> ev.Uploaded:
        tell = _Progress(effect.run_id, "upload", post)
        upload = Upload(
            self._client(effect), effect, host_id=self._host_id, spool=self._spool, progress=tell
        )
        await upload.run()
        return ev.Uploaded(at=time.time(), run_id=effect.run_id, op=effect.op)

    async def _tail(self, effect: fx.Tail, post: Post) -> ev.TailNews:
        request = TailRequest(
            job_id=effect.job_id,
            cursor=effect.cursor,
            max_bytes=TAIL_MAX_BYTES,
            wait_seconds=TAIL_WAIT_SECONDS,
        )
        result = await self._client(effect).tail(request)
        text = result.log_chunk.encode("utf-8", "replace")
        _refuse_too_much(effect.target.worker, text, result.events)
        if effect.cursor is None or result.reset is True:
            self._offsets[effect.job_id] = 0
        offset = self._offsets.get(effect.job_id, 0)
        if text or result.reset is True:
            path = self._artifacts / effect.log_path
            write = partial(artifacts.write_log, path, offset, text, anew=result.reset is True)
            await Shortage(effect.run_id, "log", post).outlast(write)
        if result.next_cursor is None:
            self._offsets.pop(effect.job_id, None)
        else:
            self._offsets[effect.job_id] = offset + len(text)
        return ev.TailNews(
            at=time.time(),
            run_id=effect.run_id,
            op=effect.op,
            state=result.state,
            seq=result.seq if isinstance(result.seq, int) else None,
            next_cursor=result.next_cursor,
            log_offset=offset,
            log_bytes=len(text),
            events=result.events,
            reset=result.reset is True,
        )

    async def _fetch(self, effect: fx.Fetch, post: Post) -> ev.Answer:
        """While the disk here is full, wait: the set stays at its worker (fault H12)."""
        shortage = Shortage(effect.run_id, "fetch", post)
        while True:
            try:
                return await self._fetch_now(effect, post, shortage)
            except Failure as failure:
                cause = failure.__cause__
                if not isinstance(cause, OSError) or not is_no_space(cause):
                    raise
                await shortage.pause(failure.message)

    async def _fetch_now(self, effect: fx.Fetch, post: Post, shortage: Shortage) -> ev.Answer:
        job = effect.job
        at = artifacts.places(self._artifacts, effect.run_id, effect.step_dir, job.job_id)
        await shortage.outlast(partial(artifacts.prepare, at))
        tell = _Progress(effect.run_id, "fetch", post)
        header = await self._client(effect).fetch(
            job.job_id, into=at.stream, max_bytes=effect.max_bytes, progress=tell, seconds=effect.seconds
        )
        known = Known(
            job=job,
            host_nonce=effect.host_nonce,
            capabilities_sha256=effect.capabilities_sha256,
            fingerprint=effect.fingerprint,
            pins=still_pinned(effect.pins, self._prober.pins(effect.target.worker)),
        )
        most, now = effect.max_bytes, timestamp(time.time())
        try:
            verified = await anyio.to_thread.run_sync(
                partial(artifacts.unpack_and_verify, at, header, known, max_bytes=most, now=now)
            )
        except artifacts.Mismatch as error:
            return ev.FetchRefused(
                at=time.time(), run_id=effect.run_id, op=effect.op, errors=error.errors, trust=error.trust
            )
        except OSError as error:
            raise Failure(
                Kind.TRANSFER if is_no_space(error) else Kind.ARTIFACTS,
                f"the artifacts of {job.job_id} cannot be unpacked: {error.strerror or error}",
                hint="mend or free the disk of this machine",
            ) from error
        return ev.Fetched(
            at=time.time(),
            run_id=effect.run_id,
            op=effect.op,
            summary=verified.summary,
            state=verified.state.state,
            seq=verified.state.seq,
            updated_at=verified.state.updated_at,
        )

    async def _publish(self, effect: fx.Publish, post: Post) -> ev.Published:
        at = artifacts.places(self._artifacts, effect.run_id, effect.step_dir, effect.job_id)
        found = await Shortage(effect.run_id, "publish", post).outlast(partial(artifacts.publish, at))
        return ev.Published(at=time.time(), run_id=effect.run_id, op=effect.op, found=found)


class _Progress:
    """Passes progress on, a few times a second and at the end."""

    def __init__(self, run_id: str, stage: str, post: Post) -> None:
        self._run_id, self._stage, self._post = run_id, stage, post
        self._last = 0.0
        self._pace = Pace()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        speed = self._pace.at(done, total)
        self._post(
            ev.StageNews(
                at=time.time(),
                run_id=self._run_id,
                stage=self._stage,
                done=done,
                total=total,
                unit="bytes",
                rate=None if speed.rate is None else round(speed.rate),
                left_seconds=None if speed.left is None else round(speed.left, 1),
            )
        )


def _refuse_too_much(worker: str, text: bytes, events: tuple[JobEvent, ...]) -> None:
    """`Failure` PROTOCOL_ERROR for an answer to `tail` that holds more than was asked for."""
    if len(text) > TAIL_MAX_BYTES:
        raise protocol_error(f"worker {worker}: {len(text)} bytes of log, asked for {TAIL_MAX_BYTES}")
    if events and (size := len(msgspec.json.encode(events))) > MAX_EVENT_BYTES:
        raise protocol_error(f"worker {worker}: {size} bytes of events, over {MAX_EVENT_BYTES}")


async def _has_source(client: WorkerClient, effect: fx.HasSource) -> ev.Answer:
    request = HasSourceRequest(source_sha256=effect.source_sha256, lease_id=effect.lease_id)
    found = await client.has_source(request)
    return ev.SourceKnown(at=time.time(), run_id=effect.run_id, op=effect.op, exists=found.exists)


async def _submit(client: WorkerClient, effect: fx.Submit) -> ev.Answer:
    request = SubmitRequest(
        job=effect.job,
        invocation=effect.invocation,
        classifier_policy=effect.policy,
        job_state_seq=effect.job_state_seq,
        host_nonce=effect.host_nonce,
        host_timings=effect.timings,
        lease_id=effect.lease_id,
        fence=effect.fence,
    )
    result = await client.submit(request)
    return ev.Submitted(
        at=time.time(), run_id=effect.run_id, op=effect.op, state=result.state, seq=result.seq
    )


async def _cancel(client: WorkerClient, effect: fx.CancelJob) -> ev.Answer:
    request = CancelRequest(
        job_id=effect.job_id, reason=effect.reason, lease_id=effect.lease_id, fence=effect.fence
    )
    result = await client.cancel(request)
    return ev.CancelNoted(at=time.time(), run_id=effect.run_id, op=effect.op, state=result.state)


async def _release(client: WorkerClient, effect: fx.Release) -> ev.Answer:
    await client.release(ReleaseRequest(lease_id=effect.lease_id, fence=effect.fence))
    return ev.Released(at=time.time(), run_id=effect.run_id, op=effect.op)


# A bundle that was damaged on its way is sent again, as after a cut line.
_DAMAGED = {"transport_digest": "TRANSPORT_DIGEST", "bundle_digest": "BUNDLE_DIGEST"}


# What writes to this machine's disk: a log, a set.
_KEEPING = fx.Tail | fx.Fetch | fx.Publish


def _not_kept(error: OSError) -> Failure:
    """The disk of this machine fails, and not for want of space."""
    where = f"{error.filename}: " if error.filename else ""
    return Failure(
        Kind.ARTIFACTS,
        f"what the worker sent cannot be kept on this machine: {where}{error.strerror or error}",
        hint="mend the disk of this machine",
    )


def _as_out_of_reach(effect: fx.Outward, failure: Failure) -> Failure:
    """A worker that left the inventory in the middle of a run may come back with the next edit."""
    if failure.kind is not Kind.CONFIG or not isinstance(effect, fx.WorkerCall):
        return failure
    return Failure(Kind.SSH, failure.message, subkind="UNREACHABLE", hint="put it back into workers.toml")


def _cut(effect: fx.Outward, operation: str, failure: Failure) -> ev.LineCut:
    return ev.LineCut(
        at=time.time(),
        run_id=effect.run_id,
        op=effect.op,
        operation=operation,
        kind=failure.kind,
        subkind=failure.subkind,
        message=failure.message,
        hint=failure.hint,
    )


def _pause_of(wait: object) -> float | None:
    """Seconds that a busy worker asks for, within what makes sense."""
    if isinstance(wait, bool) or not isinstance(wait, int | float):
        return None
    return min(max(float(wait), 0.0), MAX_RETRY_AFTER_SECONDS)


def _refused(effect: fx.Outward, operation: str, error: RpcError) -> ev.WorkerRefused:
    op = {"upload": "upload_source"}.get(operation, operation)
    failure = failure_of(error, op)
    wait = error.data.get("retry_after_seconds")
    return ev.WorkerRefused(
        at=time.time(),
        run_id=effect.run_id,
        op=effect.op,
        operation=op,
        code=error.code,
        message=failure.message,
        kind=failure.kind,
        subkind=failure.subkind,
        retry_after=_pause_of(wait),
        hint=failure.hint,
        reasons=reasons_of(error),
    )
