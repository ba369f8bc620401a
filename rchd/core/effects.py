"""What the core wants done: one closed vocabulary.

The driver commits the rows of a batch first, then writes records, replies and announces,
and only then does anything outward. Every outward effect is idempotent by its ids, so that
it may be asked for again after a crash.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rch.contract.local_api import RunView
from rch.contract.records import ClassifierPolicyRecord, Invocation, Job, Source


class Effect(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="effect"):
    """Something is to be done."""


class WriteRecord(Effect, frozen=True, kw_only=True):
    """A projection: `data` at `path`, relative to the artifacts' root."""

    path: str
    data: bytes


class Reply(Effect, frozen=True, kw_only=True):
    """The answer to a waiting client: a view, or a refusal by registry place."""

    reply: int
    view: RunView | None = None
    refusal: tuple[str, str | None, str] | None = None
    running: int | None = None


class Announce(Effect, frozen=True, kw_only=True):
    """News for followers. A durable one has a `seq` of its own, a passing one the last."""

    type: str
    run_id: str
    seq: int
    at: str
    view: RunView | None = None
    data: dict[str, Any] = {}


class StartTimer(Effect, frozen=True, kw_only=True):
    """`TimerFired` after `seconds`; a timer of the same run and name is replaced.

    `spread` is how far the edge may stretch it at random, as a fraction. Time that this machine
    sleeps does not count, and no change of the wall clock does.
    """

    run_id: str
    name: str
    seconds: float
    op: int = 0
    spread: float = 0.0


class StopTimers(Effect, frozen=True, kw_only=True):
    """No timer of this run fires any more."""

    run_id: str


class Outward(Effect, frozen=True, kw_only=True):
    """Work at the edge, answered by an event with the same `op`."""

    run_id: str
    op: int


class Probe(Outward, frozen=True, kw_only=True):
    """Ask every worker with these tags whose snapshot is older than `max_age` seconds.

    With `worker`, that one alone. `aside` maps workers that are not to be asked to the mark of the
    inventory entry for which this holds. `simulate`: who stands by for simulations is asked too.
    """

    max_age: int
    tags: tuple[str, ...]
    deadline: float
    worker: str | None = None
    aside: dict[str, str] = {}
    simulate: bool = False


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Which worker, which protocol version, and the deadline in seconds for a new connection."""

    worker: str
    protocol: int
    deadline: float


class WorkerCall(Outward, frozen=True, kw_only=True):
    """Work at a worker."""

    target: Target


class Reserve(WorkerCall, frozen=True, kw_only=True):
    """Ask for a slot, or renew one."""

    lease_id: str | None = None
    fence: int | None = None
    ttl_seconds: int | None = None


class HasSource(WorkerCall, frozen=True, kw_only=True):
    """Ask whether the source is there; pins it."""

    source_sha256: str
    lease_id: str | None


class Upload(WorkerCall, frozen=True, kw_only=True):
    """Send the spooled bundle."""

    source: Source
    max_bytes: int
    lease_id: str | None
    fence: int | None


class Submit(WorkerCall, frozen=True, kw_only=True):
    """Hand a job over."""

    job: Job
    invocation: Invocation
    policy: ClassifierPolicyRecord
    job_state_seq: int
    host_nonce: str
    timings: dict[str, int]
    lease_id: str | None
    fence: int | None


class Tail(WorkerCall, frozen=True, kw_only=True):
    """Read on in a job's log, into `log_path` (relative to the artifacts' root)."""

    job_id: str
    cursor: str | None
    log_path: str


class CancelJob(WorkerCall, frozen=True, kw_only=True):
    """End a job."""

    job_id: str
    reason: str
    lease_id: str | None
    fence: int | None


class Fetch(WorkerCall, frozen=True, kw_only=True):
    """Fetch a job's set into staging and verify it against what was asked.

    `capabilities_sha256` and `fingerprint` are what the worker said of itself when it was selected,
    `pins` what the inventory said then;
    the set has to come within `seconds` (0: no bound).
    """

    job: Job
    host_nonce: str
    step_dir: str
    max_bytes: int
    capabilities_sha256: str | None = None
    fingerprint: str | None = None
    seconds: float = 0
    pins: tuple[str, ...] = ()


class Publish(Outward, frozen=True, kw_only=True):
    """Move a staged set to its place."""

    job_id: str
    step_dir: str


class Release(WorkerCall, frozen=True, kw_only=True):
    """Give a lease back."""

    lease_id: str
    fence: int


class Abort(Effect, frozen=True, kw_only=True):
    """Whatever is under way for this run at the edge is no longer wanted."""

    run_id: str


class DropFetches(Effect, frozen=True, kw_only=True):
    """What cut fetches of this run left here is no longer wanted; a `Release` says the same."""

    run_id: str


class Forget(Effect, frozen=True, kw_only=True):
    """The snapshot of this worker is stale."""

    worker: str


AnyEffect = (
    WriteRecord
    | Reply
    | Announce
    | StartTimer
    | StopTimers
    | Probe
    | Reserve
    | HasSource
    | Upload
    | Submit
    | Tail
    | CancelJob
    | Fetch
    | Publish
    | Release
    | Abort
    | DropFetches
    | Forget
)
