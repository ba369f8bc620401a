"""Artifacts of job scope (spec section 8)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

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

    source_sha256: str
    sanitized_argv: tuple[str, ...]
    toolchain: dict[str, str]
    destination: dict[str, str]


class Job(JobRecord, frozen=True, kw_only=True):
    """What is to be done: the body of `submit` and of `job.json`.

    `xcode_version` and `udid`, the name of an Xcode's build and the device to use, are for the worker
    alone: they tell nothing that the key does not hold already.
    """

    action: str
    job_key_inputs: JobKeyInputs
    effective_config: dict[str, Any]
    artifact_profile: str
    original_constraint: str | None
    schema_id: str = "rch-xcode/job@1"
    xcode_version: str | UnsetType = UNSET
    udid: str | UnsetType = UNSET


class JobStateRecord(JobRecord, frozen=True, kw_only=True):
    """Projection of a job's state."""

    state: str
    seq: int
    updated_at: str
    schema_id: str = "rch-xcode/job_state@1"
    simulated: bool | UnsetType = UNSET


class Invocation(JobRecord, frozen=True, kw_only=True):
    """The command line as asked and as accepted."""

    original_argv: tuple[str, ...]
    sanitized_argv: tuple[str, ...]
    accepted_action: str | None
    rejected_flags: tuple[str, ...]
    classifier_policy_sha256: str
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
    created_at: str
    deleted_at: str | None
    cleanup_ok: bool


class Destination(JobRecord, frozen=True, kw_only=True):
    """Where the job ran; `ephemeral` where a device was made for it."""

    platform: str
    name: str
    os_version: str
    provisioning: str
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

    status: str
    failure_kind: str | None
    exit_code: int
    attempts: int
    backend: str
    human_summary: str
    duration_ms: int
    artifact_profile: str
    simulated: bool
    schema_id: str = "rch-xcode/summary@1"
    failure_subkind: str | UnsetType = UNSET
    backend_exit_code: int | UnsetType = UNSET
    backend_term_signal: int | UnsetType = UNSET
    verdict: Verdict | UnsetType = UNSET
    cached_from_job_id: str | UnsetType = UNSET
    rejection_reasons: tuple[Reason, ...] | UnsetType = UNSET
    rejection_reason: str | UnsetType = UNSET
    integrity_errors: tuple[str, ...] | UnsetType = UNSET
    ephemeral_cleanup_failed: bool | UnsetType = UNSET
    log_truncated: bool | UnsetType = UNSET
    scope: tuple[str, ...] | UnsetType = UNSET


class Metrics(JobRecord, frozen=True, kw_only=True):
    """Durations of the worker's stages in milliseconds, and counts."""

    stages_ms: dict[str, int]
    counts: dict[str, int]
    host_timings: dict[str, int]
    schema_id: str = "rch-xcode/metrics@1"
    simulated: bool | UnsetType = UNSET


class HostMetrics(JobRecord, frozen=True, kw_only=True):
    """Durations of the host's stages in milliseconds, and bytes moved."""

    stages_ms: dict[str, int]
    counts: dict[str, int]
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
    artifact_root_sha256: str
    schema_id: str = "rch-xcode/manifest@1"
    simulated: bool | UnsetType = UNSET


class Attestation(JobRecord, frozen=True, kw_only=True):
    """Who made the set, from what; the signature members are unset where a worker does not sign.

    `dsse` says the same for other tools, statement by statement (`rch.contract.provenance`); a worker
    that is older has none.
    """

    source_sha256: str
    worker: dict[str, str | None]
    capabilities_sha256: str
    backend: dict[str, str]
    manifest_sha256: str
    host_nonce: str
    simulated: bool
    schema_id: str = "rch-xcode/attestation@1"
    public_key: str | UnsetType = UNSET
    public_key_fingerprint: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    dsse: tuple[DsseEnvelope, ...] | UnsetType = UNSET


class AttestationVerification(JobRecord, frozen=True, kw_only=True):
    """What the host found of an attestation. `result` as in `rch.contract.attestation.Trust`.

    The digests are of the three files that no manifest lists, as they were when they were verified;
    `statements` are the types of what the envelopes hold.
    """

    result: str
    detail: str
    manifest_sha256: str
    schema_id: str = "rch-xcode/attestation_verification@1"
    attestation_sha256: str | UnsetType = UNSET
    job_index_sha256: str | UnsetType = UNSET
    fingerprint: str | UnsetType = UNSET
    statements: tuple[str, ...] | UnsetType = UNSET
    notes: tuple[str, ...] | UnsetType = UNSET
    simulated: bool | UnsetType = UNSET


class JobIndex(JobRecord, frozen=True, kw_only=True):
    """The commit marker and entry point of a job: paths relative to the job's folder."""

    artifact_profile: str
    files: dict[str, str]
    schema_id: str = "rch-xcode/job_index@1"
    simulated: bool | UnsetType = UNSET


class BuildSummary(JobRecord, frozen=True, kw_only=True):
    """What the build said. `targets` are those that a message names."""

    succeeded: bool
    error_count: int
    warning_count: int
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

    total: int
    passed: int
    failed: int
    skipped: int
    failures: tuple[TestFailure, ...]
    duration_ms: int
    schema_id: str = "rch-xcode/test_summary@1"
    expected_failures: int = 0
    flaky: tuple[TestNote, ...] = ()
    skips: tuple[TestNote, ...] = ()
    expected: tuple[TestNote, ...] = ()
    slowest: tuple[TestNote, ...] = ()
    devices: tuple[TestDevice, ...] = ()
    simulated: bool | UnsetType = UNSET
