"""Structs that several artifacts hold."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from rch.contract.forms import (
    Action,
    Base64,
    CancelReason,
    EntryType,
    ExitCode,
    FailureKind,
    Fingerprint,
    Id,
    Natural,
    RejectionCode,
    RelativePath,
    Severity,
    Sha256,
    SourceEntryType,
    StepStatus,
    Subkind,
    Timestamp,
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file or directory of an artifact set; a directory has size 0 and no digest."""

    path: RelativePath
    type: EntryType
    size: Natural
    sha256: Sha256 | None


class SourceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a source bundle. `type` is file or symlink."""

    path: RelativePath
    type: SourceEntryType
    size: Natural
    sha256: Sha256 | None
    symlink_target: str | UnsetType = UNSET


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why an invocation was rejected."""

    code: RejectionCode
    subject: str
    message: str


class CurrentStep(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run is."""

    index: Natural
    job_id: Id
    action: Action


class CancelIntent(msgspec.Struct, frozen=True, kw_only=True):
    """That a run is to end, and why."""

    reason: CancelReason
    requested_at: Timestamp


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of `run_plan.json`."""

    index: Natural
    action: Action
    job_id: Id
    rejected: bool = False


class StepPointer(msgspec.Struct, frozen=True, kw_only=True):
    """One step of `run_index.json`; paths are relative to the run, null until they exist."""

    index: Natural
    action: Action
    job_id: Id
    job_index_path: RelativePath | None = None
    status: StepStatus | None = None
    exit_code: ExitCode | None = None
    live_log_path: RelativePath | None = None
    host_metrics_path: RelativePath | None = None
    host_summary_path: RelativePath | None = None
    attestation_verification_path: RelativePath | None = None


class StepOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One step of `run_summary.json`. `status` is a summary status or `skipped`.

    `cached_from_job_id`: nothing was run for it, that job's result stands for it.
    """

    index: Natural
    action: Action
    job_id: Id
    status: StepStatus
    exit_code: ExitCode | None
    failure_kind: FailureKind | None = None
    failure_subkind: Subkind | None = None
    human_summary: str = ""
    cached_from_job_id: Id | UnsetType = UNSET


class ConfigSource(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that the config came from."""

    origin: str
    sha256: Sha256
    path: str | UnsetType = UNSET


class Git(msgspec.Struct, frozen=True, kw_only=True):
    """Where the source stood in git."""

    commit: str
    branch: str | None
    dirty: bool


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One fact that a verdict rests on."""

    source: str
    fact: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's decision (spec section 9). `outcome` is `PASSED`, or the failure's subkind, or its kind.

    A worker says it of every job that it seals, a cancelled one too, whose evidence may be empty.
    """

    outcome: Subkind
    evidence: tuple[Evidence, ...]


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """One compiler message; `path` is relative to the repository where it lies in it."""

    path: str | None
    line: Natural | None
    column: Natural | None
    severity: Severity
    message: str


class TestFailure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed test."""

    __test__ = False

    name: str
    suite: str
    message: str
    path: str | None = None
    line: Natural | None = None
    identifier: str | UnsetType = UNSET
    device: str | UnsetType = UNSET
    duration_ms: Natural | UnsetType = UNSET


class TestNote(msgspec.Struct, frozen=True, kw_only=True):
    """One test that is worth a word: flaky, skipped, failed as expected, or slow."""

    __test__ = False

    name: str
    suite: str
    message: str = ""
    duration_ms: Natural = 0
    identifier: str | UnsetType = UNSET
    device: str | UnsetType = UNSET


class TestDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device that tests ran on."""

    __test__ = False

    name: str
    os_version: str
    platform: str = ""
    model: str = ""
    architecture: str = ""
    os_build: str = ""
    udid: str = ""


class ProbeFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that could not be asked."""

    worker: str
    probe_error: str
    probe_duration_ms: Natural


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """What broke a tie between workers of one priority; `load_milli` is the load in thousandths."""

    slots_free: Natural
    load_milli: Natural
    cpus: Natural
    disk_free_bytes: Natural


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that was looked at, and why it does or does not serve."""

    worker: str
    host: str
    chosen: bool
    reason: str
    weighed: Weighed | UnsetType = UNSET


class DsseSignature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature of an envelope, in base64; `keyid` is the fingerprint of the worker's key."""

    keyid: Fingerprint
    sig: Base64


class DsseEnvelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A DSSE envelope; `payload` is in base64."""

    payload: Base64
    payload_type: str
    signatures: tuple[DsseSignature, ...]
