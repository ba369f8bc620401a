"""What an honest mock worker answers to each operation (spec section 3.3).

Its jobs go by the scenario's `[job]`. It checks what a worker checks but for one thing: it does not
classify a command line again, since it runs none.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from rch.contract.canonical import jcs_sha256
from rch.contract.ids import timestamp
from rch.contract.records import Capabilities
from rch.contract.toolchain import (
    first_difference,
    host_destination_inputs,
    toolchain_change,
)
from rch.contract.worker_envelope import Request
from rch.contract.worker_rpc import (
    LANE_VERSION,
    CancelRequest,
    CancelResult,
    Code,
    Empty,
    HasSourceRequest,
    HasSourceResult,
    ProbeResult,
    ReleaseRequest,
    ReserveRequest,
    ReserveResult,
    RpcError,
    SubmitRequest,
    SubmitResult,
    UploadRequest,
    UploadResult,
)
from rch_conformance.mock.life import Life, life_of
from rch_conformance.mock.mac import FEATURES, FROZEN, mac
from rch_conformance.mock.scenario import Scenario
from rch_conformance.mock.state import Folder, JobState, Lease, WorkerState

RETRY_SECONDS = 1


class Readable(Protocol):
    """The body of an upload."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MockWorker:
    """One worker: what it does, where its state lies, and what it says of itself.

    `frozen`: every time that it tells is `FROZEN`. `simulated`: what it makes says so.
    """

    scenario: Scenario
    folder: Folder
    frozen: bool = False
    simulated: bool = True

    @property
    def features(self) -> tuple[str, ...]:
        """What it offers."""
        return tuple(str(each) for each in FEATURES if each not in self.scenario.worker.without)

    @property
    def signs(self) -> bool:
        """Whether it signs its attestations."""
        return "attestation_signing" in self.features

    def now(self) -> str:
        """The wall clock's time."""
        return FROZEN if self.frozen else timestamp(time.time())

    def capabilities(self, state: WorkerState) -> Capabilities:
        """What it says of itself now."""
        slots = self.scenario.worker.slots
        return mac(
            self.scenario.worker.capabilities,
            simulated=self.simulated,
            signs=self.signs,
            slots=(slots, max(0, slots - len(state.leases))),
            probed_at=self.now(),
        )

    def life(self, job_id: str) -> Life:
        """Where a job stands now; `RpcError` for one that nobody submitted."""
        job = self.folder.job(job_id)
        if job is None or job.submit is None:
            raise RpcError(Code.JOB_NOT_FOUND, f"job {job_id} is not known")
        return life_of(job, self.scenario.job, time.monotonic())

    def answer(self, request: Request, body: Readable) -> msgspec.Struct:
        """The result of one operation but `tail` and `fetch`; `RpcError` for a refusal."""
        if request.op in {"reserve", "release"} and "lease" not in self.features:
            raise RpcError(Code.UNKNOWN_OPERATION, f"op {request.op!r} is not known")
        return _OPERATIONS[request.op](self, request.payload, body)


def _probe(worker: MockWorker, _payload: Any, _body: Readable) -> msgspec.Struct:
    with worker.folder.changing() as state:
        told = worker.capabilities(state)
    return ProbeResult(
        rch_xcode_lane_version=LANE_VERSION,
        protocol_min=worker.scenario.worker.protocol_min,
        protocol_max=worker.scenario.worker.protocol_max,
        features=worker.features,
        capabilities=told,
    )


def _reserve(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    asked, limits = cast("ReserveRequest", payload), worker.scenario.worker
    if (asked.lease_id is None) != (asked.fence is None):
        raise RpcError(Code.INVALID_REQUEST, "lease_id and fence go together")
    ttl = min(limits.lease_seconds, asked.ttl_seconds or limits.lease_seconds)
    with worker.folder.changing() as state:
        lease = next((each for each in state.leases if each.run_id == asked.run_id), None)
        if asked.lease_id is not None:
            lease = _live(state, asked.lease_id, asked.fence)
        elif lease is None:
            lease = _granted(state, asked.run_id, limits.slots)
        lease.until = time.monotonic() + ttl
        free = max(0, limits.slots - len(state.leases))
    return ReserveResult(
        lease_id=lease.lease_id,
        fence=lease.fence,
        ttl_seconds=ttl,
        expires_at=FROZEN if worker.frozen else timestamp(time.time() + ttl),
        slots_total=limits.slots,
        slots_free=free,
    )


def _granted(state: WorkerState, run_id: str, slots: int) -> Lease:
    if len(state.leases) >= slots:
        data = {"retry_after_seconds": RETRY_SECONDS}
        raise RpcError(Code.BUSY, f"{len(state.leases)} of {slots} slots are taken", data)
    state.fence += 1
    lease = Lease(lease_id=f"lease-{state.fence:08d}", run_id=run_id, fence=state.fence, until=0)
    state.leases.append(lease)
    return lease


def _live(state: WorkerState, lease_id: str, fence: int | None) -> Lease:
    """The lease, if it is live and the fence its own."""
    for lease in state.leases:
        if lease.lease_id == lease_id and lease.fence == fence:
            return lease
    raise RpcError(Code.LEASE_EXPIRED, f"lease {lease_id} with fence {fence} is not live")


def _require_lease(worker: MockWorker, lease_id: str | None, fence: int | None) -> None:
    if lease_id is not None:
        with worker.folder.changing() as state:
            _live(state, lease_id, fence)


def _release(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    asked = cast("ReleaseRequest", payload)
    with worker.folder.changing() as state:
        gone = (asked.lease_id, asked.fence)
        state.leases = [each for each in state.leases if (each.lease_id, each.fence) != gone]
    return Empty()


def _has_source(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    asked = cast("HasSourceRequest", payload)
    with worker.folder.changing() as state:
        return HasSourceResult(exists=asked.source_sha256 in state.sources)


def _upload(worker: MockWorker, payload: Any, body: Readable) -> msgspec.Struct:
    """Its bytes are held against both digests and thrown away: nothing is built of them."""
    from rch_conformance.mock.source import take_source

    asked = cast("UploadRequest", payload)
    take_source(asked, body, worker.scenario.worker.capabilities)
    _require_lease(worker, asked.lease_id, asked.fence)
    with worker.folder.changing() as state:
        if asked.source_sha256 not in state.sources:
            state.sources.append(asked.source_sha256)
    return UploadResult(stored=True)


def _submit(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    asked = cast("SubmitRequest", payload)
    job, known = asked.job, worker.folder.job(asked.job.job_id)
    if known is not None and known.submit is not None:
        if known.submit.job.job_key != job.job_key:
            raise RpcError(Code.JOB_KEY_MISMATCH, f"job {job.job_id} is known with another job_key")
        return _standing(worker, job.job_id)
    _require_lease(worker, asked.lease_id, asked.fence)
    if job.job_key != jcs_sha256(job.job_key_inputs):
        raise RpcError(Code.JOB_KEY_MISMATCH, f"job_key {str(job.job_key)[:80]} is not that of its inputs")
    with worker.folder.changing() as state:
        stored, here = job.job_key_inputs.source_sha256 in state.sources, worker.capabilities(state)
    if not stored:
        raise RpcError(Code.SOURCE_MISSING, f"source {job.job_key_inputs.source_sha256} is not stored")
    if (change := _change(here, job.job_key_inputs.toolchain, job.job_key_inputs.destination)) is not None:
        raise RpcError(Code.TOOLCHAIN_CHANGED, change)
    made = JobState(created_at=worker.now(), begun=time.monotonic(), submit=asked)
    if known is not None:  # it was cancelled before it came
        made.cancelled_at, made.reason = made.begun, known.reason
    worker.folder.put_job(job.job_id, made)
    return _standing(worker, job.job_id)


def _change(here: Capabilities, toolchain: dict[str, str], destination: dict[str, str]) -> str | None:
    changed = toolchain_change(here, toolchain)
    if changed is None and "swift_version" in toolchain:
        return first_difference(destination, host_destination_inputs(here))
    from rch.contract.destinations import destination_change  # a start is quicker without

    return changed or destination_change(here, destination)


def _standing(worker: MockWorker, job_id: str) -> SubmitResult:
    life = worker.life(job_id)
    return SubmitResult(state=life.state, seq=life.seq)


def _status(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    return worker.life(payload.job_id).status(worker.now())


def _cancel(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    asked = cast("CancelRequest", payload)
    job = worker.folder.job(asked.job_id)
    if job is None:
        tombstone = JobState(created_at=worker.now(), begun=time.monotonic(), reason=asked.reason)
        worker.folder.put_job(asked.job_id, tombstone)
        return CancelResult(state="CANCELLED")
    if job.submit is None:
        return CancelResult(state="CANCELLED")
    life = worker.life(asked.job_id)
    if life.over:
        return CancelResult(state=life.state)
    job.cancelled_at, job.reason = time.monotonic(), asked.reason
    worker.folder.put_job(asked.job_id, job)
    return CancelResult(state="CANCEL_REQUESTED")


_OPERATIONS: dict[str, Callable[[MockWorker, Any, Readable], msgspec.Struct]] = {
    "probe": _probe,
    "reserve": _reserve,
    "release": _release,
    "has_source": _has_source,
    "upload_source": _upload,
    "submit": _submit,
    "status": _status,
    "cancel": _cancel,
}


def default_state(name: str) -> Path:
    """Where a worker's state lies when nobody says: a folder of this user's temporary files."""
    import os
    import tempfile

    word = hashlib.sha256(name.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"rch-mock-worker-{os.getuid()}-{word}"
