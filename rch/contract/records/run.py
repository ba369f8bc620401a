"""Artifacts of run scope (spec section 8)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from rch.contract.forms import (
    Action,
    Backend,
    ExitCode,
    FailureKind,
    Id,
    Natural,
    OnBusy,
    Ordinal,
    Profile,
    Provisioning,
    RelativePath,
    RunWord,
    SelectionMode,
    Sha256,
    SnapshotSource,
    Status,
    Subkind,
    Timestamp,
)
from rch.contract.records.base import RunRecord
from rch.contract.records.capabilities import Capabilities
from rch.contract.records.parts import (
    CancelIntent,
    Candidate,
    ConfigSource,
    CurrentStep,
    Git,
    PlannedStep,
    ProbeFailure,
    Reason,
    SourceEntry,
    StepOutcome,
    StepPointer,
)


class RunIndex(RunRecord, frozen=True, kw_only=True):
    """The entry point of a run: relative paths, null until the file exists."""

    schema_id: str = "rch-xcode/run_index@1"
    accepted: RelativePath | None = None
    run_summary: RelativePath | None = None
    run_plan: RelativePath | None = None
    run_state: RelativePath | None = None
    worker_selection: RelativePath | None = None
    capabilities: RelativePath | None = None
    source_manifest: RelativePath | None = None
    steps: tuple[StepPointer, ...] = ()
    simulated: bool | UnsetType = UNSET


class RunSummary(RunRecord, frozen=True, kw_only=True):
    """How a run ended."""

    status: Status
    exit_code: ExitCode
    step_count: Natural
    steps_succeeded: Natural
    steps_failed: Natural
    steps_cancelled: Natural
    steps_skipped: Natural
    steps_rejected: Natural
    duration_ms: Natural
    human_summary: str
    failure_kind: FailureKind | None
    steps: tuple[StepOutcome, ...]
    git: Git | None
    simulated: bool
    schema_id: str = "rch-xcode/run_summary@1"
    failure_subkind: Subkind | UnsetType = UNSET
    scope: tuple[str, ...] | UnsetType = UNSET
    worker: str | None = None
    embedded_worker: bool = False


class RunPlan(RunRecord, frozen=True, kw_only=True):
    """Which jobs belong to a run, and who serves it."""

    steps: tuple[PlannedStep, ...]
    selected_worker: str | None
    selected_worker_host: str | None
    continue_on_failure: bool
    protocol_version: Ordinal | None
    schema_id: str = "rch-xcode/run_plan@1"
    simulated: bool | UnsetType = UNSET


class RunStateRecord(RunRecord, frozen=True, kw_only=True):
    """Projection of a run's state."""

    state: RunWord
    seq: Ordinal
    updated_at: Timestamp
    current_step: CurrentStep | None
    schema_id: str = "rch-xcode/run_state@1"
    resumed_at: Timestamp | UnsetType = UNSET
    lease_renewed: bool | UnsetType = UNSET
    cancel: CancelIntent | UnsetType = UNSET
    waiting: str | UnsetType = UNSET
    simulated: bool | UnsetType = UNSET


class WorkerSelection(RunRecord, frozen=True, kw_only=True):
    """Who was asked, who serves, and why."""

    negotiated_protocol_version: Ordinal | None
    worker_protocol_range: dict[str, int] | None
    selected_worker: str | None
    selected_worker_host: str | None
    selection_mode: SelectionMode
    candidate_count: Natural
    probe_failures: tuple[ProbeFailure, ...]
    snapshot_age_seconds: Natural
    snapshot_source: SnapshotSource
    candidates: tuple[Candidate, ...]
    schema_id: str = "rch-xcode/worker_selection@1"
    simulated: bool | UnsetType = UNSET


class CapabilitiesRecord(RunRecord, frozen=True, kw_only=True):
    """The snapshot that the selection used.

    `capabilities_sha256` is over the capabilities as the worker said them, before what is unknown here
    was dropped; an older host left it out.
    """

    worker: str
    capabilities: Capabilities
    capabilities_sha256: Sha256 | UnsetType = UNSET
    schema_id: str = "rch-xcode/capabilities@1"
    simulated: bool | UnsetType = UNSET


class AcceptedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step as accepted; `sanitized_argv` is null for a rejected one."""

    index: Natural
    action: Action
    job_id: Id
    host_nonce: str
    original_argv: tuple[str, ...]
    sanitized_argv: tuple[str, ...] | None
    rejected_flags: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    scope: tuple[str, ...] = ()


class Narrowing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What makes a run less than its plan; only the test steps heed it.

    `only_testing` and `skip_testing` are identifiers for xcodebuild, `filters` and `skips`
    expressions for swift. `by_step` has for each test step of the plan, in order, what alone is run
    of it, in the words of the backend; a step with nothing is left out.
    """

    only_testing: tuple[str, ...] = ()
    skip_testing: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    skips: tuple[str, ...] = ()
    by_step: tuple[tuple[str, ...], ...] = ()


class AcceptedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, as far as the accepted run does not show it: what a rerun asks for again.

    `withheld` names the overrides whose values are secrets, which are not written down.
    """

    actions: tuple[Action, ...] | None = None
    argv: tuple[str, ...] | None = None
    overrides: dict[str, Any] = {}
    narrowing: Narrowing | None = None
    withheld: tuple[str, ...] = ()


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What of the config steers the host itself; times in seconds.

    `actions` are those of the steps, each once: what a worker must be able to serve. `results`: earlier
    results may stand for its jobs, and those for others; what older versions wrote does not say. With
    `simulate` simulated workers serve, and no others.
    """

    backend: Backend
    artifact_profile: Profile
    continue_on_failure: bool
    queue: bool
    priority: int
    tags: tuple[str, ...]
    on_busy: OnBusy
    max_wait_seconds: Natural
    probe_ttl_seconds: Natural
    overall_seconds: Natural
    idle_log_seconds: Natural
    connect_timeout_seconds: Natural
    toolchain: dict[str, str]
    destination: str | None
    actions: tuple[Action, ...] = ()
    selection_mode: SelectionMode = "deterministic"
    results: bool = False
    simulate: bool = False
    provisioning: Provisioning = "existing"


class SourceBase(msgspec.Struct, frozen=True, kw_only=True):
    """The whole bundle that a thin one goes into; of its members `removed` are left out."""

    source_sha256: Sha256
    content_sha256: Sha256
    spool_name: str
    tar_bytes: Natural
    compressed_bytes: Natural
    removed: tuple[str, ...] = ()


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The spooled bundle: its identity, its transport digest and sizes in bytes.

    With a `base` what is spooled is thin: the tar of the members that are new or changed alone.
    `tar_bytes` and `files` are those of the whole source either way.
    """

    source_sha256: Sha256
    content_sha256: Sha256
    spool_name: str
    tar_bytes: Natural
    compressed_bytes: Natural
    files: Natural
    base: SourceBase | None = None


class Accepted(RunRecord, frozen=True, kw_only=True):
    """The request as accepted: all that the run needs from then on.

    `bundle_ms`: how long reading and bundling its source took, before it was accepted.
    """

    project: str
    root: str
    origin: str
    client_token: str | None
    steps: tuple[AcceptedStep, ...]
    options: RunOptions
    source: Source
    git: Git | None
    effective_config: dict[str, Any]
    config_sources: tuple[ConfigSource, ...]
    redactions: tuple[str, ...]
    policy: dict[str, Any]
    policy_sha256: Sha256
    warnings: tuple[str, ...] = ()
    request_sha256: Sha256 | None = None
    group: str | None = None
    supersede: bool = False
    request: AcceptedRequest | None = None
    schema_id: str = "rch-xcode/accepted@1"
    bundle_ms: Natural | UnsetType = UNSET


class SourceManifest(RunRecord, frozen=True, kw_only=True):
    """What the bundle holds, sorted by the bytes of `path`."""

    source_sha256: Sha256
    entries: tuple[SourceEntry, ...]
    schema_id: str = "rch-xcode/source_manifest@1"
