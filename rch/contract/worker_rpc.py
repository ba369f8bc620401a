"""The worker protocol: features, error codes, operation payloads (spec section 3)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from rch.contract.forms import (
    CANCEL_WORDS,
    ArchiveFormat,
    CancelReason,
    Compression,
    EventType,
    ExitCode,
    Id,
    JobWord,
    Natural,
    Ordinal,
    Sha256,
    Timestamp,
)
from rch.contract.records import Capabilities, ClassifierPolicyRecord, Invocation, Job, Manifest

LANE_VERSION = "1"
PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
PROBE_PROTOCOL = 0
REQUIRED_FEATURES = frozenset({"upload"})


class Feature(StrEnum):
    """What a worker may offer beyond the one-shot core."""

    SESSION = "session"
    UPLOAD = "upload"
    TAIL = "tail"
    LEASE = "lease"
    LEASE_RENEW = "lease_renew"
    FETCH_RESUME = "fetch_resume"
    UPLOAD_RESUMABLE = "upload_resumable"
    UPLOAD_THIN = "upload_thin"
    GC = "gc"
    ATTESTATION_SIGNING = "attestation_signing"
    RESULT_CACHE = "result_cache"
    BACKEND_XCODEBUILD = "backend_xcodebuild"


class Code(StrEnum):
    """Error codes of a response."""

    INVALID_REQUEST = "INVALID_REQUEST"
    UNSUPPORTED_PROTOCOL = "UNSUPPORTED_PROTOCOL"
    UNKNOWN_OPERATION = "UNKNOWN_OPERATION"
    FEATURE_MISSING = "FEATURE_MISSING"
    BUSY = "BUSY"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    SOURCE_MISSING = "SOURCE_MISSING"
    BASE_MISSING = "BASE_MISSING"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    JOB_KEY_MISMATCH = "JOB_KEY_MISMATCH"
    CLASSIFIER_REJECTED = "CLASSIFIER_REJECTED"
    TOOLCHAIN_CHANGED = "TOOLCHAIN_CHANGED"
    ARTIFACTS_GONE = "ARTIFACTS_GONE"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    NO_SPACE = "NO_SPACE"
    INTERNAL = "INTERNAL"


class RpcError(Exception):
    """A refusal by the worker. `data` is a JSON object; `message` is one line."""

    def __init__(self, code: Code, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message.replace("\n", " ")
        self.data = data or {}


MAX_NUMBER = 1 << 53  # what every JSON reader and every store holds exactly

Seq = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
MAX_CURSOR = 1024
Cursor = Annotated[str, msgspec.Meta(max_length=MAX_CURSOR)]


# --- payloads -------------------------------------------------------------------------


class Payload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request's payload or a response's; unknown members are ignored."""


class Stream(Payload, frozen=True, kw_only=True, omit_defaults=False):
    """What follows the header line: `content_length` raw bytes with that SHA-256.

    All four members stand on the wire: a peer need not know our defaults.
    """

    content_length: Natural
    content_sha256: Sha256
    compression: Compression = "zstd"
    format: ArchiveFormat = "tar"


class ProbeRequest(Payload, frozen=True, kw_only=True):
    """Nothing is asked beyond the question."""


class ProbeResult(Payload, frozen=True, kw_only=True):
    """Protocol range, features and capabilities."""

    rch_xcode_lane_version: str
    protocol_min: int
    protocol_max: int
    features: tuple[str, ...]
    capabilities: Capabilities


class HeardProbe(ProbeResult, frozen=True, kw_only=True):
    """What a host keeps of a probe's answer.

    `capabilities_sha256` is over the capabilities as they stood on the wire; empty where they have no
    digest, or where an older host kept the answer.
    """

    capabilities_sha256: str = ""


class ReserveRequest(Payload, frozen=True, kw_only=True):
    """A slot for `run_id`; with `lease_id` and `fence` a renewal."""

    run_id: Id
    host_id: str
    ttl_seconds: Ordinal | None = None
    lease_id: Id | None = None
    fence: int | None = None


class ReserveResult(Payload, frozen=True, kw_only=True):
    """The lease. `expires_at` is for people; its life is counted by the worker."""

    lease_id: Id
    fence: Count
    ttl_seconds: Positive
    expires_at: Timestamp
    slots_total: Count
    slots_free: Count


class ReleaseRequest(Payload, frozen=True, kw_only=True):
    """The end of a lease."""

    lease_id: Id
    fence: int


class Empty(Payload, frozen=True, kw_only=True):
    """`{}`."""


class HasSourceRequest(Payload, frozen=True, kw_only=True):
    """Whether a source is stored; under a lease it is pinned."""

    source_sha256: Sha256
    lease_id: Id | None = None


class HasSourceResult(Payload, frozen=True, kw_only=True):
    """The answer."""

    exists: bool


class Resume(Payload, frozen=True, kw_only=True):
    """Which part of a stream follows: the bytes from `offset` on. The totals come with the `last` one.

    `upload_id` is the host's name for these very bytes on their way to this source. An empty part
    that is not the last asks how many bytes are there.
    """

    upload_id: Id
    offset: Natural
    last: bool
    total_length: Natural | None = None
    total_sha256: Sha256 | None = None


class Base(Payload, frozen=True, kw_only=True):
    """The stored source that a stream goes into: of it `removed` is left out, sorted by their bytes.

    The stream is then a canonical tar of the members that are new or changed, and of nothing else.
    """

    source_sha256: Sha256
    removed: tuple[str, ...] = ()


class UploadRequest(Payload, frozen=True, kw_only=True):
    """A source bundle; `base` and `resume` need features of their own."""

    source_sha256: Sha256
    stream: Stream
    lease_id: Id | None = None
    fence: int | None = None
    base: Base | None = None
    resume: Resume | None = None


class UploadResult(Payload, frozen=True, kw_only=True):
    """Whether the whole source is stored now; of a part that is not the last, where to go on."""

    stored: bool
    next_offset: Count | None = None


class SubmitRequest(Payload, frozen=True, kw_only=True):
    """One job. `job_state_seq` is the host's last `seq` of it."""

    job: Job
    invocation: Invocation
    job_state_seq: Ordinal
    host_nonce: str
    classifier_policy: ClassifierPolicyRecord | None = None
    lease_id: Id | None = None
    fence: int | None = None
    host_timings: dict[str, int] = {}


class SubmitResult(Payload, frozen=True, kw_only=True):
    """Where the job stands."""

    state: JobWord
    seq: Seq


class JobRequest(Payload, frozen=True, kw_only=True):
    """`status`."""

    job_id: Id


class StatusResult(Payload, frozen=True, kw_only=True):
    """Where a job stands. `exit_code` is the summary's, once terminal."""

    state: JobWord
    seq: Seq
    job_key: Sha256 | None
    created_at: Timestamp
    updated_at: Timestamp
    log_bytes: Count
    artifacts_available: bool
    exit_code: ExitCode | None = None


class TailRequest(Payload, frozen=True, kw_only=True):
    """News of a job from `cursor` on, held up to `wait_seconds`."""

    job_id: Id
    cursor: str | None = None
    max_bytes: Natural | None = None
    max_events: Natural | None = None
    wait_seconds: float | None = None


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `events.jsonl`. `n` counts from 1; `type` is stage, test, failure, diagnostic or note.

    A `diagnostic` is told while the build goes on: `data {path, line, column, severity, message}`; a
    `failure` is one failed assertion: `data {framework, name, message, path, line}`.
    """

    n: Ordinal
    at: Timestamp
    type: EventType
    data: dict[str, Any] = {}


class TailResult(msgspec.Struct, frozen=True, kw_only=True):
    """News. `next_cursor` is null only when the job is terminal and all of it is read."""

    log_chunk: str
    events: tuple[JobEvent, ...]
    next_cursor: Cursor | None
    state: JobWord
    seq: Seq | UnsetType = UNSET
    reset: bool | UnsetType = UNSET


class CancelRequest(Payload, frozen=True, kw_only=True):
    """The end of a job, for `reason` USER, SIGNAL, TIMEOUT_OVERALL, TIMEOUT_IDLE or SUPERSEDED."""

    job_id: Id
    reason: CancelReason
    lease_id: Id | None = None
    fence: int | None = None


class CancelResult(Payload, frozen=True, kw_only=True):
    """Where the job stands after the intent was noted."""

    state: JobWord


class FetchRequest(Payload, frozen=True, kw_only=True):
    """The artifact set, from byte `offset` of its stream on."""

    job_id: Id
    offset: Natural | None = None


class FetchHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The header line of a `fetch` answer, which is the response itself.

    `stream` describes the bytes that follow; `set_sha256` and `set_length` the whole stream.
    """

    protocol_version: Ordinal
    request_id: Id
    ok: bool
    job_id: Id
    manifest: Manifest
    stream: Stream
    offset: Natural = 0
    set_sha256: str = ""
    set_length: Natural = 0


class GcRequest(Payload, frozen=True, kw_only=True, omit_defaults=False):
    """What is over is removed now; `dry_run`: it is only named."""

    dry_run: bool


class GcEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that went, or would go. `name` is unique within its `kind`; the sizes are in bytes.

    `kind`: source, upload, job, run, cache or workspace. `age_seconds`: since its last use.
    """

    kind: str
    name: str
    bytes: Count
    age_seconds: Count
    reason: str


class GcTotal(msgspec.Struct, frozen=True, kw_only=True):
    """How many of a kind, and their bytes."""

    kind: str
    entries: Count
    bytes: Count


class GcResult(Payload, frozen=True, kw_only=True, omit_defaults=False):
    """The largest entries and the totals of all. `more`: not every entry is listed."""

    dry_run: bool
    entries: tuple[GcEntry, ...]
    totals: tuple[GcTotal, ...]
    more: bool = False


OPERATIONS: dict[str, type[Payload]] = {
    "probe": ProbeRequest,
    "reserve": ReserveRequest,
    "release": ReleaseRequest,
    "has_source": HasSourceRequest,
    "upload_source": UploadRequest,
    "submit": SubmitRequest,
    "status": JobRequest,
    "tail": TailRequest,
    "cancel": CancelRequest,
    "fetch": FetchRequest,
    "gc": GcRequest,
}
RESULTS: dict[str, type[msgspec.Struct]] = {
    "probe": ProbeResult,
    "reserve": ReserveResult,
    "release": Empty,
    "has_source": HasSourceResult,
    "upload_source": UploadResult,
    "submit": SubmitResult,
    "status": StatusResult,
    "tail": TailResult,
    "cancel": CancelResult,
    "fetch": FetchHeader,
    "gc": GcResult,
}
"""What answers each operation: the payload of its result, and of `fetch` the whole header line."""
CANCEL_REASONS = frozenset(CANCEL_WORDS)
