"""Structs that several artifacts hold."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file or directory of an artifact set; a directory has size 0 and no digest."""

    path: str
    type: str
    size: int
    sha256: str | None


class SourceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a source bundle. `type` is file or symlink."""

    path: str
    type: str
    size: int
    sha256: str | None
    symlink_target: str | UnsetType = UNSET


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why an invocation was rejected."""

    code: str
    subject: str
    message: str


class CurrentStep(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run is."""

    index: int
    job_id: str
    action: str


class CancelIntent(msgspec.Struct, frozen=True, kw_only=True):
    """That a run is to end, and why."""

    reason: str
    requested_at: str


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of `run_plan.json`."""

    index: int
    action: str
    job_id: str
    rejected: bool = False


class StepPointer(msgspec.Struct, frozen=True, kw_only=True):
    """One step of `run_index.json`; paths are relative to the run, null until they exist."""

    index: int
    action: str
    job_id: str
    job_index_path: str | None = None
    status: str | None = None
    exit_code: int | None = None
    live_log_path: str | None = None
    host_metrics_path: str | None = None
    host_summary_path: str | None = None
    attestation_verification_path: str | None = None


class StepOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One step of `run_summary.json`. `status` is a summary status or `skipped`.

    `cached_from_job_id`: nothing was run for it, that job's result stands for it.
    """

    index: int
    action: str
    job_id: str
    status: str
    exit_code: int | None
    failure_kind: str | None = None
    failure_subkind: str | None = None
    human_summary: str = ""
    cached_from_job_id: str | UnsetType = UNSET


class ConfigSource(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that the config came from."""

    origin: str
    sha256: str
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
    """The worker's decision (spec section 9). `outcome` is `PASSED` or a failure subkind."""

    outcome: str
    evidence: tuple[Evidence, ...]


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """One compiler message; `path` is relative to the repository where it lies in it."""

    path: str | None
    line: int | None
    column: int | None
    severity: str
    message: str


class TestFailure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed test."""

    __test__ = False

    name: str
    suite: str
    message: str
    path: str | None = None
    line: int | None = None
    identifier: str | UnsetType = UNSET
    device: str | UnsetType = UNSET
    duration_ms: int | UnsetType = UNSET


class TestNote(msgspec.Struct, frozen=True, kw_only=True):
    """One test that is worth a word: flaky, skipped, failed as expected, or slow."""

    __test__ = False

    name: str
    suite: str
    message: str = ""
    duration_ms: int = 0
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
    probe_duration_ms: int


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """What broke a tie between workers of one priority; `load_milli` is the load in thousandths."""

    slots_free: int
    load_milli: int
    cpus: int
    disk_free_bytes: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that was looked at, and why it does or does not serve."""

    worker: str
    host: str
    chosen: bool
    reason: str
    weighed: Weighed | UnsetType = UNSET


class DsseSignature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature of an envelope, in base64; `keyid` is the fingerprint of the worker's key."""

    keyid: str
    sig: str


class DsseEnvelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A DSSE envelope; `payload` is in base64."""

    payload: str
    payload_type: str
    signatures: tuple[DsseSignature, ...]
