"""Artifacts of job scope (spec section 8)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from rch.contract.forms import (
    Action,
    Backend,
    Base64,
    DestinationInputs,
    ExitCode,
    FailureKind,
    Fingerprint,
    Id,
    JobWord,
    Natural,
    Ordinal,
    Profile,
    Provisioning,
    RelativePath,
    Sha256,
    Status,
    Subkind,
    Timestamp,
    ToolchainInputs,
    TrustResult,
)
from rch.contract.records.base import JobRecord
from rch.contract.records.parts import (
    ConfigSource,
    Diagnostic,
    DsseEnvelope,
    Entry,
    Reason,
    TestDevice,
    TestFailure,
    TestNote,
    Verdict,
)


class JobKeyInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's identity is made of, and nothing operational; no envelope."""

    source_sha256: Sha256
    sanitized_argv: tuple[str, ...]
    toolchain: ToolchainInputs
    destination: DestinationInputs


class Job(JobRecord, frozen=True, kw_only=True):
    """What is to be done: the body of `submit` and of `job.json`.

    `xcode_version` and `udid`, the name of an Xcode's build and the device to use, are for the worker
    alone: they tell nothing that the key does not hold already.
    """

    action: Action
    job_key_inputs: JobKeyInputs
    effective_config: dict[str, Any]
    artifact_profile: Profile
    original_constraint: str | None
    schema_id: str = "rch-xcode/job@1"
    xcode_version: str | UnsetType = UNSET
    udid: str | UnsetType = UNSET


class JobStateRecord(JobRecord, frozen=True, kw_only=True):
    """Projection of a job's state."""

    state: JobWord
    seq: Ordinal
    updated_at: Timestamp
    schema_id: str = "rch-xcode/job_state@1"
    simulated: bool | UnsetType = UNSET


class Invocation(JobRecord, frozen=True, kw_only=True):
    """The command line as asked and as accepted."""

    original_argv: tuple[str, ...]
    sanitized_argv: tuple[str, ...]
    accepted_action: Action | None
    rejected_flags: tuple[str, ...]
    classifier_policy_sha256: Sha256
    schema_id: str = "rch-xcode/invocation@1"


class ClassifierPolicyRecord(JobRecord, frozen=True, kw_only=True):
    """The policy that the host classified with."""

    policy: dict[str, Any]
    schema_id: str = "rch-xcode/classifier_policy@1"


class EffectiveConfig(JobRecord, frozen=True, kw_only=True):
    """The config in force, secrets redacted."""

    config: dict[str, Any]
    sources: tuple[ConfigSource, ...]
    redactions: tuple[str, ...]
    schema_id: str = "rch-xcode/effective_config@1"
    simulated: bool | UnsetType = UNSET


class Toolchain(JobRecord, frozen=True, kw_only=True):
    """What the job was built with: the Xcode six or the Swift five, others left out."""

    arch: str
    schema_id: str = "rch-xcode/toolchain@1"
    xcode_version: str | UnsetType = UNSET
    xcode_build: str | UnsetType = UNSET
    developer_dir: str | UnsetType = UNSET
    macos_version: str | UnsetType = UNSET
    macos_build: str | UnsetType = UNSET
    swift_version: str | UnsetType = UNSET
    toolchain_dir: str | UnsetType = UNSET
    os_name: str | UnsetType = UNSET
    os_version: str | UnsetType = UNSET
    simulated: bool | UnsetType = UNSET


class Ephemeral(msgspec.Struct, frozen=True, kw_only=True):
    """The simulator that was made for one job; `deleted_at` is null where it could not be deleted."""

    udid: str
    created_at: Timestamp
    deleted_at: Timestamp | None
    cleanup_ok: bool


class Destination(JobRecord, frozen=True, kw_only=True):
    """Where the job ran; `ephemeral` where a device was made for it."""

    platform: str
    name: str
    os_version: str
    provisioning: Provisioning
    original_constraint: str | None
    schema_id: str = "rch-xcode/destination@1"
    sim_runtime_identifier: str | UnsetType = UNSET
    sim_runtime_build: str | UnsetType = UNSET
    device_type_identifier: str | UnsetType = UNSET
    udid: str | UnsetType = UNSET
    ephemeral: Ephemeral | UnsetType = UNSET
    simulated: bool | UnsetType = UNSET


class Summary(JobRecord, frozen=True, kw_only=True):
    """How a job ended, and why."""

    status: Status
    failure_kind: FailureKind | None
    exit_code: ExitCode
    attempts: Natural
    backend: Backend
    human_summary: str
    duration_ms: Natural
    artifact_profile: Profile
    simulated: bool
    schema_id: str = "rch-xcode/summary@1"
    failure_subkind: Subkind | UnsetType = UNSET
    backend_exit_code: int | UnsetType = UNSET
    backend_term_signal: Ordinal | UnsetType = UNSET
    verdict: Verdict | UnsetType = UNSET
    cached_from_job_id: Id | UnsetType = UNSET
    rejection_reasons: tuple[Reason, ...] | UnsetType = UNSET
    rejection_reason: str | UnsetType = UNSET
    integrity_errors: tuple[str, ...] | UnsetType = UNSET
    ephemeral_cleanup_failed: bool | UnsetType = UNSET
    log_truncated: bool | UnsetType = UNSET
    scope: tuple[str, ...] | UnsetType = UNSET


class Metrics(JobRecord, frozen=True, kw_only=True):
    """Durations of the worker's stages in milliseconds, and counts."""

    stages_ms: dict[str, Natural]
    counts: dict[str, Natural]
    host_timings: dict[str, Natural]
    schema_id: str = "rch-xcode/metrics@1"
    simulated: bool | UnsetType = UNSET


class HostMetrics(JobRecord, frozen=True, kw_only=True):
    """Durations of the host's stages in milliseconds, and bytes moved."""

    stages_ms: dict[str, Natural]
    counts: dict[str, Natural]
    schema_id: str = "rch-xcode/host_metrics@1"
    simulated: bool | UnsetType = UNSET


class ExecutorEnv(JobRecord, frozen=True, kw_only=True):
    """Names, never values, of the environment that the tool saw."""

    keys: tuple[str, ...]
    schema_id: str = "rch-xcode/executor_env@1"
    simulated: bool | UnsetType = UNSET


class Manifest(JobRecord, frozen=True, kw_only=True):
    """Every file and directory of the set, sorted by the bytes of `path`."""

    entries: tuple[Entry, ...]
    artifact_root_sha256: Sha256
    schema_id: str = "rch-xcode/manifest@1"
    simulated: bool | UnsetType = UNSET


class Attestation(JobRecord, frozen=True, kw_only=True):
    """Who made the set, from what; the signature members are unset where a worker does not sign.

    `dsse` says the same for other tools, statement by statement (`rch.contract.provenance`); a worker
    that is older has none.
    """

    source_sha256: Sha256
    worker: dict[str, str | None]
    capabilities_sha256: Sha256
    backend: dict[str, str]
    manifest_sha256: Sha256
    host_nonce: str
    simulated: bool
    schema_id: str = "rch-xcode/attestation@1"
    public_key: Base64 | UnsetType = UNSET
    public_key_fingerprint: Fingerprint | UnsetType = UNSET
    signature: Base64 | UnsetType = UNSET
    dsse: tuple[DsseEnvelope, ...] | UnsetType = UNSET


class AttestationVerification(JobRecord, frozen=True, kw_only=True):
    """What the host found of an attestation. `result` as in `rch.contract.attestation.Trust`.

    The digests are of the three files that no manifest lists, as they were when they were verified;
    `statements` are the types of what the envelopes hold.
    """

    result: TrustResult
    detail: str
    manifest_sha256: Sha256
    schema_id: str = "rch-xcode/attestation_verification@1"
    attestation_sha256: Sha256 | UnsetType = UNSET
    job_index_sha256: Sha256 | UnsetType = UNSET
    fingerprint: Fingerprint | UnsetType = UNSET
    statements: tuple[str, ...] | UnsetType = UNSET
    notes: tuple[str, ...] | UnsetType = UNSET
    simulated: bool | UnsetType = UNSET


class JobIndex(JobRecord, frozen=True, kw_only=True):
    """The commit marker and entry point of a job: paths relative to the job's folder."""

    artifact_profile: Profile
    files: dict[str, RelativePath]
    schema_id: str = "rch-xcode/job_index@1"
    simulated: bool | UnsetType = UNSET


class BuildSummary(JobRecord, frozen=True, kw_only=True):
    """What the build said. `targets` are those that a message names."""

    succeeded: bool
    error_count: Natural
    warning_count: Natural
    diagnostics: tuple[Diagnostic, ...]
    first_error: Diagnostic | None
    schema_id: str = "rch-xcode/build_summary@1"
    targets: tuple[str, ...] = ()
    failed_commands: tuple[str, ...] = ()
    simulated: bool | UnsetType = UNSET


class TestSummary(JobRecord, frozen=True, kw_only=True):
    """What the tests said; counts come from counted elements, never from attributes.

    `flaky` passed only on a retry and count as passed; `expected` failed as the test said it
    would; `skips` tell why; `slowest` are the ten that took longest, slowest first. Lists of
    tests hold the first 500.
    """

    __test__ = False

    total: Natural
    passed: Natural
    failed: Natural
    skipped: Natural
    failures: tuple[TestFailure, ...]
    duration_ms: Natural
    schema_id: str = "rch-xcode/test_summary@1"
    expected_failures: Natural = 0
    flaky: tuple[TestNote, ...] = ()
    skips: tuple[TestNote, ...] = ()
    expected: tuple[TestNote, ...] = ()
    slowest: tuple[TestNote, ...] = ()
    devices: tuple[TestDevice, ...] = ()
    simulated: bool | UnsetType = UNSET
