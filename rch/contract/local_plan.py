"""The local socket's methods that say what a run would be, and run nothing (spec sections 7, 12)."""

from __future__ import annotations

from typing import Any

import msgspec

from rch.contract.forms import (
    Action,
    ExitCode,
    FailureKind,
    Sha256,
    Subkind,
)


class ExplainParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The project of the folder `start`, as `runs.submit` would take it."""

    start: str
    actions: tuple[str, ...] | None = None
    overrides: dict[str, Any] = {}
    simulate: bool = False


class FailureView(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the failure registry."""

    kind: FailureKind
    subkind: Subkind | None
    exit_code: ExitCode
    message: str
    hint: str | None = None


class CandidateView(msgspec.Struct, frozen=True, kw_only=True):
    """One worker for a run: whether it could serve, and why or why not.

    `rank` counts those that could, 0 being asked first. `snapshot` is fresh, cached or none, and
    `age_seconds` its age. `destination_value` is what `-destination` says there.
    """

    worker: str
    host: str
    priority: int
    tags: tuple[str, ...]
    serves: bool
    reason: str
    rank: int | None = None
    snapshot: str = "none"
    age_seconds: int | None = None
    system: str | None = None
    toolchain: dict[str, str] | None = None
    xcode_version: str | None = None
    destination: dict[str, str] | None = None
    destination_value: str | None = None
    udid: str | None = None
    warnings: tuple[str, ...] = ()
    capacity: dict[str, int] | None = None
    limits: dict[str, int] | None = None


class WorkersPlanView(msgspec.Struct, frozen=True, kw_only=True):
    """Who would serve, in the order of selection; `failure` where nobody would.

    `simulated`: the run asks for stand-in tools.
    """

    project: str
    root: str
    backend: str
    actions: tuple[str, ...]
    selection_mode: str
    tags: tuple[str, ...]
    toolchain: dict[str, str]
    destination: str | None
    workers: tuple[CandidateView, ...]
    chosen: str | None
    embedded: bool
    failure: FailureView | None = None
    simulated: bool = False


class PlannedStepView(msgspec.Struct, frozen=True, kw_only=True):
    """One step as it would be handed over; `argv` has its tool first, as the worker would start it.

    The worker adds the flags that are its own. A rejected step has `reasons` and no job.
    """

    index: int
    action: Action
    original_argv: tuple[str, ...]
    argv: tuple[str, ...] = ()
    job_key: Sha256 | None = None
    job_key_inputs: dict[str, Any] | None = None
    udid: str | None = None
    reasons: tuple[dict[str, str], ...] = ()
    scope: tuple[str, ...] = ()


class RunPlanView(msgspec.Struct, frozen=True, kw_only=True):
    """What `runs.submit` would make of the same parameters now. Times are in seconds."""

    selection: WorkersPlanView
    steps: tuple[PlannedStepView, ...]
    source: dict[str, Any]
    timeouts: dict[str, int]
    artifact_profile: str
    queue: bool
    warnings: tuple[str, ...] = ()
    failure: FailureView | None = None
