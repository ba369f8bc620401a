"""The operations of section 3.3, each from its payload to its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from rch.contract.worker_envelope import Request
from rch.contract.worker_rpc import (
    LANE_VERSION,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    CancelRequest,
    Code,
    Empty,
    Feature,
    FetchRequest,
    GcRequest,
    HasSourceRequest,
    HasSourceResult,
    JobRequest,
    ProbeResult,
    ReleaseRequest,
    ReserveRequest,
    ReserveResult,
    RpcError,
    SubmitRequest,
    TailRequest,
    UploadRequest,
    UploadResult,
)
from worker_agent.backends import offers_xcodebuild
from worker_agent.clock import in_seconds, now
from worker_agent.source_words import Readable
from worker_agent.worker import Worker

if TYPE_CHECKING:
    from worker_agent.leases import Granted

FEATURES = (
    Feature.SESSION,
    Feature.UPLOAD,
    Feature.TAIL,
    Feature.LEASE,
    Feature.LEASE_RENEW,
    Feature.FETCH_RESUME,
    Feature.UPLOAD_RESUMABLE,
    Feature.UPLOAD_THIN,
    Feature.GC,
    Feature.ATTESTATION_SIGNING,
)
"""What every worker offers; one with an Xcode offers that backend too."""


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One request and what its operation may need of the channel.

    `body` is what follows a framed request, empty for others; `pause` sleeps, or waits for a
    descriptor, and says whether the caller is gone.
    """

    worker: Worker
    request: Request
    body: Readable
    pause: Callable[..., bool]

    @property
    def payload(self) -> Any:
        """The decoded payload; its type follows from the operation."""
        return self.request.payload


def perform(call: Call) -> Any:
    """The result of one operation: a Struct, or `Packed` for `fetch`; `RpcError` for a refusal."""
    return _OPERATIONS[call.request.op](call)


def _probe(call: Call) -> msgspec.Struct:
    worker, features = call.worker, [*FEATURES]
    here = worker.capabilities()
    if worker.config.results_cache:
        features.append(Feature.RESULT_CACHE)
    if offers_xcodebuild(here.toolchains):
        features.append(Feature.BACKEND_XCODEBUILD)
    return ProbeResult(
        rch_xcode_lane_version=LANE_VERSION,
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        features=tuple(map(str, features)),
        capabilities=here,
    )


def _reserve(call: Call) -> msgspec.Struct:
    asked, leases = cast("ReserveRequest", call.payload), call.worker.leases
    if (asked.lease_id is None) != (asked.fence is None):
        raise RpcError(Code.INVALID_REQUEST, "lease_id and fence go together")
    if asked.lease_id is not None and asked.fence is not None:
        granted = leases.renew(asked.run_id, asked.lease_id, asked.fence, asked.ttl_seconds)
    else:
        granted = _granted(call.worker, asked)
    return ReserveResult(
        lease_id=granted.lease.lease_id,
        fence=granted.lease.fence,
        ttl_seconds=granted.lease.ttl_seconds,
        expires_at=in_seconds(granted.lease.ttl_seconds),
        slots_total=call.worker.config.max_concurrent_jobs,
        slots_free=granted.slots_free,
    )


def _granted(worker: Worker, asked: ReserveRequest) -> Granted:
    """A lease that is the run's own; a disk that is too full for it is swept, for the next one."""
    try:
        return worker.leases.reserve(asked.run_id, asked.host_id, asked.ttl_seconds)
    except RpcError as refusal:
        if refusal.code is Code.NO_SPACE:
            from worker_agent.launch import sweep_later

            sweep_later(worker)
        raise


def _release(call: Call) -> msgspec.Struct:
    asked, jobs = cast("ReleaseRequest", call.payload), call.worker.jobs
    for job_id in call.worker.leases.release(asked.lease_id, asked.fence):
        if not jobs.standing(job_id).terminal:
            jobs.request_cancel(job_id, "USER", now())
    from worker_agent.launch import sweep_later

    sweep_later(call.worker)
    return Empty()


def _has_source(call: Call) -> msgspec.Struct:
    asked = cast("HasSourceRequest", call.payload)
    if asked.lease_id is not None:  # first: what is pinned and there stays
        call.worker.leases.pin(asked.lease_id, asked.source_sha256)
    exists = call.worker.sources.exists(asked.source_sha256)
    if exists:
        call.worker.sources.touch(asked.source_sha256)
    return HasSourceResult(exists=exists)


def _upload_source(call: Call) -> msgspec.Struct:
    asked, worker, body = cast("UploadRequest", call.payload), call.worker, call.body
    worker.sources.check_announced(asked.stream, asked.base)
    lease = worker.leases.require(asked.lease_id, asked.fence)
    if asked.lease_id is not None:  # first: what is pinned and there stays
        bases = () if asked.base is None else (asked.base.source_sha256,)
        worker.leases.pin(asked.lease_id, asked.source_sha256, *bases)
    if asked.resume is not None:
        from worker_agent.sources_parts import partials_of

        return partials_of(worker).take(asked, lease.host_id if lease else "", body)
    if worker.sources.exists(asked.source_sha256):
        worker.sources.drop(asked.stream, body)
    else:
        worker.sources.require_base(asked.base)
        worker.sources.receive(asked.source_sha256, asked.stream, body, asked.base)
    return UploadResult(stored=True)


def _submit(call: Call) -> msgspec.Struct:
    from worker_agent.submit import submit

    return submit(call.worker, cast("SubmitRequest", call.payload))


def _status(call: Call) -> msgspec.Struct:
    from worker_agent.status import status

    return status(call.worker.jobs, cast("JobRequest", call.payload).job_id)


def _tail(call: Call) -> msgspec.Struct:
    from worker_agent.tail import tail

    worker = call.worker
    return tail(worker.jobs, cast("TailRequest", call.payload), call.pause, lambda: worker.watch)


def _cancel(call: Call) -> msgspec.Struct:
    from worker_agent.status import cancel

    return cancel(call.worker, cast("CancelRequest", call.payload))


def _fetch(call: Call) -> Any:
    from worker_agent.artifacts import fetch

    return fetch(
        call.worker.jobs,
        cast("FetchRequest", call.payload),
        request_id=call.request.request_id,
        protocol_version=call.request.protocol_version,
    )


def _gc(call: Call) -> msgspec.Struct:
    from worker_agent.gc import gc

    return gc(call.worker, cast("GcRequest", call.payload))


_OPERATIONS: Mapping[str, Callable[[Call], Any]] = {
    "probe": _probe,
    "reserve": _reserve,
    "release": _release,
    "has_source": _has_source,
    "upload_source": _upload_source,
    "submit": _submit,
    "status": _status,
    "tail": _tail,
    "cancel": _cancel,
    "fetch": _fetch,
    "gc": _gc,
}
