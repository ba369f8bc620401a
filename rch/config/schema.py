"""Every key of the repo config with its type, bounds and default (spec sections 4 to 7).

The Structs are the one description of the keys: the layers take known keys, types and
bounds from them. A value that this version does not offer stands in `rch.config.offered`,
not here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rch.contract.policy import MAX_TIMEOUT_SECONDS, Action, Backend

MAX_WHOLE = 2**53 - 1
"""The largest whole number that every reader of JSON takes."""
MAX_STEPS = 100
"""Steps of a run."""
Names = tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...]
Seconds = Annotated[int, Meta(gt=0, le=MAX_TIMEOUT_SECONDS)]
Namespace = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Version = Annotated[str, Meta(pattern=r"^(>=|<=|>|<|==)?\d+(\.\d+){0,2}(,(>=|<=|>|<|==)\d+(\.\d+){0,2})*$")]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The manner of every table: immutable, by keyword, no unknown keys."""


class Project(Table, frozen=True, kw_only=True):
    """What is built. One of `workspace` and `project` for Xcode, `package` for SwiftPM."""

    workspace: str | None = None
    project: str | None = None
    package: str | None = None
    schemes: Names = ()
    configurations: Names = ()


class StepTable(Table, frozen=True, kw_only=True):
    """One `[[actions.step]]`; what it leaves out is the first of `[project]`."""

    action: Action
    scheme: str | None = None
    configuration: str | None = None
    only_testing: Names = ()


class Actions(Table, frozen=True, kw_only=True):
    """The steps of a run: `step` tables, or `verify` as their shorthand."""

    verify: Annotated[tuple[Action, ...], Meta(max_length=MAX_STEPS)] = ("build", "test")
    step: Annotated[tuple[StepTable, ...], Meta(max_length=MAX_STEPS)] = ()


class Destination(Table, frozen=True, kw_only=True):
    """Where an Xcode job runs: a constraint that is resolved against the chosen worker.

    `ephemeral`: a simulator is made for each job and deleted after it.
    """

    value: str | None = None
    provisioning: Literal["existing", "ephemeral"] = "existing"


class Toolchain(Table, frozen=True, kw_only=True):
    """What the job is built with; an exact build wins over a version range."""

    xcode_build: Annotated[str, Meta(pattern=r"^[0-9]{1,3}[A-Z][0-9]{1,5}[a-z]?$")] | None = None
    xcode_version: Version | None = None
    swift_version: Version | None = None


class Timeouts(Table, frozen=True, kw_only=True):
    """Bounds of one job, in seconds (section 4)."""

    overall_seconds: Seconds = 1800
    idle_log_seconds: Seconds = 300
    connect_timeout_seconds: Annotated[int, Meta(gt=0, le=300)] = 30


class Bundle(Table, frozen=True, kw_only=True):
    """What of the tree goes into the source bundle; `max_bytes` 0: what a worker takes."""

    mode: Literal["worktree", "git_index"] = "worktree"
    symlinks: Literal["preserve", "dereference"] = "preserve"
    gitignore: bool = False
    max_bytes: Annotated[int, Meta(ge=0, le=MAX_WHOLE)] = 0


class Cache(Table, frozen=True, kw_only=True):
    """What a worker may keep between jobs; without a `namespace` it keeps nothing shared."""

    namespace: Namespace | None = None
    derived_data: Literal["off", "per_job", "run", "shared"] = "run"
    spm: Literal["off", "shared"] = "shared"
    workspace: Literal["off", "warm"] = "off"
    results: bool = True


class Run(Table, frozen=True, kw_only=True):
    """How a run goes on and what counts; `retry_tests` is the most runs of one failing test.

    `retry_infrastructure`: how often a job begins anew whose runner, not whose tests, broke.
    """

    continue_on_failure: bool = False
    artifact_profile: Literal["minimal", "rich"] = "rich"
    allow_no_tests: bool = False
    allow_narrowing: bool = False
    retry_tests: Annotated[int, Meta(ge=0, le=5)] = 0
    retry_infrastructure: Annotated[int, Meta(ge=0, le=1)] = 0


class Selection(Table, frozen=True, kw_only=True):
    """Which worker serves (section 7)."""

    tags: Names = ()
    mode: Literal["deterministic", "adaptive"] = "deterministic"
    on_busy: Literal["next", "wait"] = "next"
    probe_ttl_seconds: Annotated[int, Meta(ge=0, le=MAX_TIMEOUT_SECONDS)] = 300


class Queue(Table, frozen=True, kw_only=True):
    """How long a run may wait for a worker, in seconds."""

    max_wait_seconds: Annotated[int, Meta(ge=0, le=7 * MAX_TIMEOUT_SECONDS)] = 3600


class NamespaceRow(Table, frozen=True, kw_only=True):
    """One `[[policy.namespace]]`: a cache namespace that only projects in or below `root` may use."""

    name: Namespace
    root: Annotated[str, Meta(pattern=r"^/")]


class Policy(Table, frozen=True, kw_only=True):
    """The host's own table: keys that repo and command line may not change, flags that it permits.

    A cache namespace that `namespace` has a row of is for the roots of its rows alone.
    """

    lock: Names = ()
    allow_flags: Names = ()
    namespace: tuple[NamespaceRow, ...] = ()


class Config(Table, frozen=True, kw_only=True):
    """The whole config in force."""

    schema_version: Literal[1] = 1
    backend: Backend
    project: Project = Project()
    actions: Actions = Actions()
    destination: Destination = Destination()
    toolchain: Toolchain = Toolchain()
    timeouts: Timeouts = Timeouts()
    bundle: Bundle = Bundle()
    cache: Cache = Cache()
    run: Run = Run()
    selection: Selection = Selection()
    queue: Queue = Queue()
    policy: Policy = Policy()
