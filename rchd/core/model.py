"""A run as the core holds and persists it.

A run's `phase` is one value and holds what belongs to it. Every phase but `Waiting`, `Coalescing`
and `Ended` awaits exactly one answer, to the effect numbered `Run.op`; an answer to an older
effect is ignored. Exits on cancel and on a broken line stand in `rchd.core.run`.
"""

from __future__ import annotations

from enum import Enum, StrEnum

import msgspec

from rch.contract.records import (
    Accepted,
    CancelIntent,
    Capabilities,
    Invocation,
    Job,
    ProbeFailure,
    Reason,
    Summary,
    Weighed,
)
from rch.contract.states import JobState, RunState
from rch.contract.worker_rpc import HeardProbe

UNREACHABLE = "worker_unreachable"
"""What `Run.waiting` says while nobody knows what the run's worker does."""


class Phase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Where a run is."""


class Waiting(Phase, frozen=True, kw_only=True):
    """In the queue. `reason` says why; with `timer`, a busy worker is not asked before it fires."""

    reason: str
    timer: bool = False


class Selecting(Phase, frozen=True, kw_only=True):
    """Workers are probed; with `fresh`, no snapshot will do.

    `spared` are the workers that runs before this one in the queue wait for.
    """

    fresh: bool = False
    spared: tuple[str, ...] = ()


class Reserving(Phase, frozen=True, kw_only=True):
    """A lease is asked of candidate `index`.

    `busy` is what the first one before it said that had no free slot, `after` the fewest seconds
    after which one of these wants to be asked again.
    """

    index: int = 0
    busy: str | None = None
    after: float = 0.0


class Coalescing(Phase, frozen=True, kw_only=True):
    """Run `run_id` executes one of its jobs where it would be next; it has no slot and awaits no answer."""

    run_id: str


class CheckingSource(Phase, frozen=True, kw_only=True):
    """The worker is asked whether it has the source."""


class Uploading(Phase, frozen=True, kw_only=True):
    """The bundle is on its way."""


class Rechecking(Phase, frozen=True, kw_only=True):
    """After a start, the worker is probed anew: it may have become another one.

    Then `step` is handed over, or with null the source is looked for.
    """

    step: int | None = None


class Submitting(Phase, frozen=True, kw_only=True):
    """Step `step` is handed over."""

    step: int


class Rereserving(Phase, frozen=True, kw_only=True):
    """The lease had expired; one new one is asked for before step `step` is handed over again."""

    step: int


class Cancelling(Phase, frozen=True, kw_only=True):
    """Step `step` may or may not be on the worker; its cancel is on its way."""

    step: int


class Following(Phase, frozen=True, kw_only=True):
    """Step `step` runs; its log is read from `cursor` on.

    With `unsure` nobody knows whether it was ever handed over: the worker is asked by its log.
    """

    step: int
    cursor: str | None = None
    unsure: bool = False


class Fetching(Phase, frozen=True, kw_only=True):
    """Step `step` ended on the worker; its artifacts are fetched and verified."""

    step: int
    again: bool = False


class WorkersEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's word about a job's end, every byte of it verified."""

    summary: Summary
    state: JobState
    seq: int


class Publishing(Phase, frozen=True, kw_only=True):
    """Step `step`'s verified set is moved to its place; then `end` is the step's."""

    step: int
    end: WorkersEnd
    again: bool = False


class Releasing(Phase, frozen=True, kw_only=True):
    """All steps are over; the lease is given back."""


class Ended(Phase, frozen=True, kw_only=True):
    """Nothing follows."""


AnyPhase = (
    Waiting
    | Selecting
    | Reserving
    | Coalescing
    | CheckingSource
    | Uploading
    | Rechecking
    | Submitting
    | Rereserving
    | Cancelling
    | Following
    | Fetching
    | Publishing
    | Releasing
    | Ended
)


class Terms(StrEnum):
    """How a lease lives: a short while and renewed, or for the whole run at once (section 3.4)."""

    RENEWED = "renewed"
    WHOLE = "whole"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A claim on a worker's slot."""

    lease_id: str
    fence: int
    ttl_seconds: int
    terms: Terms = Terms.RENEWED


class Unleased(Enum):
    """In a lease's place: the run is at a worker that gives none, where each job needs a free slot."""

    UNLEASED = "unleased"


UNLEASED = Unleased.UNLEASED


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that could serve, and what it would be with.

    `toolchain` and `destination` enter the jobs' keys; `concrete` is what `-destination` says there, and
    `udid` the device that is used, which enters nothing. `pins` are the keys that might sign then.
    """

    worker: str
    host: str
    protocol: int
    probe: HeardProbe
    age_seconds: int
    fresh: bool
    toolchain: dict[str, str]
    destination: dict[str, str]
    warnings: tuple[str, ...] = ()
    xcode_version: str | None = None
    concrete: str | None = None
    udid: str | None = None
    skew_seconds: int | None = None
    pins: tuple[str, ...] = ()

    @property
    def capabilities(self) -> Capabilities:
        """The snapshot."""
        return self.probe.capabilities


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Who could serve, in order, and why others could not.

    `kinds` has the registry's subkind of a refusal, `weighed` what a tie was broken by. `drained`: who
    could serve, or might, and is given no new run for now.
    """

    choices: tuple[Choice, ...]
    refused: dict[str, str]
    hosts: dict[str, str]
    probe_failures: tuple[ProbeFailure, ...]
    kinds: dict[str, str] = {}
    weighed: dict[str, Weighed] = {}
    drained: tuple[str, ...] = ()


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run or a step failed: a place in the failure registry; `reasons` of a refused command line."""

    kind: str
    message: str
    subkind: str | None = None
    hint: str | None = None
    reasons: tuple[Reason, ...] = ()


class StepRun(msgspec.Struct, kw_only=True):
    """One step's progress. `state` is null until its turn comes.

    `told` is the highest `seq` that the worker has named: above 0 the job was on the worker. `over` is
    the end that it told of, before its set was verified; `resets` counts how often its log began anew,
    `rises` how often its `seq` rose.
    `empty` counts quick answers in a row that told nothing, `overdue` time-outs told in vain.
    `lease_renewed`: this hand-over of it has had its one new lease.
    """

    state: JobState | None = None
    seq: int = 0
    created_at: str | None = None
    updated_at: str | None = None
    job: Job | None = None
    invocation: Invocation | None = None
    summary: Summary | None = None
    host_made: bool = False
    resubmitted: bool = False
    lease_renewed: bool = False
    handovers: int = 0
    told: int = 0
    over: JobState | None = None
    resets: int = 0
    rises: int = 0
    empty: int = 0
    overdue: int = 0
    timings: dict[str, int] = {}
    followed: bool = False


class Run(msgspec.Struct, kw_only=True):
    """One run: what was accepted, and all that became of it.

    `number` is that of its acceptance; `place` is where its origin stands in the queue's round, held by
    the origin's first waiting run. `passed` has why a worker that could serve granted no lease.
    `queued_seconds` is what it waited in the queue, in whole slices of a timer, and for slots of a worker
    without leases. `unchecked`: taken up after a start, and the worker not probed since. `hold` is what it
    has of its worker, from the choice to the end: a lease, or that there is none to be had; its row calls
    it `lease`.
    """

    accepted: Accepted
    state: RunState
    seq: int
    created_at: str
    updated_at: str
    phase: AnyPhase
    steps: list[StepRun]
    number: int = 0
    op: int = 0
    tries: int = 0
    busy_tries: int = 0
    selection: Selection | None = None
    chosen: int | None = None
    passed: dict[str, str] = {}
    embedded: bool = False
    hold: Lease | Unleased | None = msgspec.field(default=None, name="lease")
    lease_renewed: bool = False
    cancel: CancelIntent | None = None
    cancel_told: bool = False
    cancel_bare: bool = False
    waiting: str | None = None
    waited_seconds: float = 0.0
    queued_seconds: float = 0.0
    resumed_at: str | None = None
    unchecked: bool = False
    trouble: Trouble | None = None
    exit_code: int | None = None
    place: int = 0
    human_summary: str = ""
    ended_at: str | None = None
    warnings: list[str] = []
    timings: dict[str, int] = {}

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.accepted.run_id

    @property
    def lease(self) -> Lease | None:
        """Its lease, where it has one."""
        return self.hold if isinstance(self.hold, Lease) else None

    @property
    def choice(self) -> Choice | None:
        """The worker that serves, once one does."""
        if self.selection is None or self.chosen is None:
            return None
        return self.selection.choices[self.chosen]

    @property
    def worker(self) -> str | None:
        """The name of the worker that serves."""
        choice = self.choice
        return None if choice is None else choice.worker
