"""What an honest mock worker answers to each operation (spec section 3.3).

Its jobs go by the scenario's `[job]`. It checks what a worker checks but for one thing: it does not
classify a command line again, since it runs none.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from rch.contract.canonical import jcs_sha256
from rch.contract.ids import timestamp
from rch.contract.records import Capabilities
from rch.contract.worker_envelope import Request
from rch.contract.worker_rpc import (
    CANCEL_REASONS,
    LANE_VERSION,
    CancelRequest,
    CancelResult,
    Code,
    Empty,
    Feature,
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
from rch_conformance.mock.leasing import granted, live, require_slot, taken
from rch_conformance.mock.life import Life, life_of
from rch_conformance.mock.mac import FEATURES, FROZEN, mac
from rch_conformance.mock.scenario import Scenario
from rch_conformance.mock.sense import change, contradiction
from rch_conformance.mock.state import Folder, JobState, WorkerState


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
        told = self.scenario.worker
        offered = (*FEATURES, Feature.UPLOAD_THIN) if told.forgets_bases else FEATURES
        return tuple(str(each) for each in offered if each not in told.without)

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
            slots=(slots, max(0, slots - self.taken(state))),
            probed_at=self.now(),
        )

    def taken(self, state: WorkerState) -> int:
        """How many slots are not free."""
        return taken(state, lambda job_id: self.life(job_id).over)

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
    if asked.lease_id is not None and "lease_renew" not in worker.features:
        raise RpcError(Code.FEATURE_MISSING, "leases are not renewed here (lease_renew)")
    if (asked.lease_id is None) != (asked.fence is None):
        raise RpcError(Code.INVALID_REQUEST, "lease_id and fence go together")
    ttl = min(limits.lease_seconds, asked.ttl_seconds or limits.lease_seconds)
    with worker.folder.changing() as state:
        lease = next((each for each in state.leases if each.run_id == asked.run_id), None)
        if asked.lease_id is not None:
            lease = live(state, asked.lease_id, asked.fence)
        elif lease is None:
            require_slot(worker.taken(state), limits.slots)
            lease = granted(state, asked.run_id)
        lease.until = time.monotonic() + ttl
        free = max(0, limits.slots - worker.taken(state))
    return ReserveResult(
        lease_id=lease.lease_id,
        fence=lease.fence,
        ttl_seconds=ttl,
        expires_at=FROZEN if worker.frozen else timestamp(time.time() + ttl),
        slots_total=limits.slots,
        slots_free=free,
    )


def _require_lease(
    worker: MockWorker, lease_id: str | None, fence: int | None, run_id: str | None = None
) -> None:
    """`LEASE_EXPIRED` unless the lease is live, its fence right, and its run `run_id` if that is told."""
    if lease_id is not None:
        with worker.folder.changing() as state:
            lease = live(state, lease_id, fence)
            if run_id is not None and lease.run_id != run_id:
                raise RpcError(Code.LEASE_EXPIRED, f"lease {lease_id} is of another run")


def _release(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    """The lease is gone, and what runs under it ends."""
    asked = cast("ReleaseRequest", payload)
    gone = (asked.lease_id, asked.fence)
    with worker.folder.changing() as state:
        was_live = any((each.lease_id, each.fence) == gone for each in state.leases)
        state.leases = [each for each in state.leases if (each.lease_id, each.fence) != gone]
    for job_id, job in worker.folder.jobs() if was_live else ():
        if job.submit is not None and (job.submit.lease_id, job.submit.fence) == gone:
            _end(worker, job_id, job, "USER")
    return Empty()


def _has_source(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    asked = cast("HasSourceRequest", payload)
    with worker.folder.changing() as state:
        return HasSourceResult(exists=asked.source_sha256 in state.sources)


def _upload(worker: MockWorker, payload: Any, body: Readable) -> msgspec.Struct:
    """Its bytes are held against both digests and thrown away: nothing is built of them."""
    from rch_conformance.mock.source import take_source

    asked = cast("UploadRequest", payload)
    if asked.base is not None and "upload_thin" in worker.features:
        raise RpcError(Code.BASE_MISSING, f"base {asked.base.source_sha256} is not stored")
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
    if job.job_key != jcs_sha256(job.job_key_inputs):
        raise RpcError(Code.JOB_KEY_MISMATCH, f"job_key {str(job.job_key)[:80]} is not that of its inputs")
    if (wrong := contradiction(asked)) is not None:
        raise RpcError(Code.INVALID_REQUEST, wrong)
    _require_lease(worker, asked.lease_id, asked.fence, job.run_id)
    with worker.folder.changing() as state:
        stored, here = job.job_key_inputs.source_sha256 in state.sources, worker.capabilities(state)
    if not stored:
        raise RpcError(Code.SOURCE_MISSING, f"source {job.job_key_inputs.source_sha256} is not stored")
    if (changed := change(here, job.job_key_inputs.toolchain, job.job_key_inputs.destination)) is not None:
        raise RpcError(Code.TOOLCHAIN_CHANGED, changed)
    made = JobState(created_at=worker.now(), begun=time.monotonic(), submit=asked)
    if known is not None:  # it was cancelled before it came
        made.cancelled_at, made.reason = made.begun, known.reason
    with worker.folder.changing() as state:
        if asked.lease_id is None and made.cancelled_at is None:
            # Whoever has no lease takes a free slot, and has it until the job is over.
            require_slot(worker.taken(state), worker.scenario.worker.slots)
            state.unleased.append(job.job_id)
        worker.folder.put_job(job.job_id, made)
    if made.cancelled_at is not None:
        return _standing(worker, job.job_id)
    return SubmitResult(state="RUNNING", seq=asked.job_state_seq + 1)  # it may be over a moment later


def _standing(worker: MockWorker, job_id: str) -> SubmitResult:
    life = worker.life(job_id)
    return SubmitResult(state=life.state, seq=life.seq)


def _status(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    return worker.life(payload.job_id).status(worker.now())


def _cancel(worker: MockWorker, payload: Any, _body: Readable) -> msgspec.Struct:
    asked = cast("CancelRequest", payload)
    if asked.reason not in CANCEL_REASONS:
        raise RpcError(Code.INVALID_REQUEST, f"reason {asked.reason[:40]!r} is none")
    _require_lease(worker, asked.lease_id, asked.fence)
    job = worker.folder.job(asked.job_id)
    if job is None:
        job = JobState(created_at=worker.now(), begun=time.monotonic(), reason=asked.reason)
        worker.folder.put_job(asked.job_id, job)  # so that a late submit of it ends cancelled
    if job.submit is None:
        return CancelResult(state="CANCELLED")
    return CancelResult(state=_end(worker, asked.job_id, job, asked.reason))


def _end(worker: MockWorker, job_id: str, job: JobState, reason: str) -> str:
    """Cancel a job if it runs; where it stands then."""
    life = worker.life(job_id)
    if life.over:
        return life.state
    job.cancelled_at, job.reason = time.monotonic(), reason
    worker.folder.put_job(job_id, job)
    return "CANCEL_REQUESTED"


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
    """Where a worker's state lies when nobody says: a folder of this user's among the temporary files.

    `Failure` CONFIG where something else has its name: the place can be guessed.
    """
    import os
    import stat
    import tempfile

    from rch.contract.errors import Failure, Kind

    word = hashlib.sha256(name.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"rch-mock-worker-{os.getuid()}-{word}"
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as error:
        raise Failure(Kind.CONFIG, f"{folder}: {error.strerror}: name another with --state") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Failure(Kind.CONFIG, f"{folder} is no folder of yours: name another with --state")
    return folder
