"""What can happen to the core: one closed vocabulary.

`at` is wall-clock seconds, stamped by the driver, so that a recorded history replays to
the byte. `op` is the number of the effect that an event answers.
"""

from __future__ import annotations

import msgspec

from rch.contract.records import Accepted, Reason, Summary
from rch.contract.worker_rpc import HeardProbe, JobEvent


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Something happened."""

    at: float


class RunEvent(Event, frozen=True, kw_only=True):
    """Something happened to a run."""

    run_id: str


class RunAccepted(Event, frozen=True, kw_only=True):
    """A snapshot is spooled and classified: a run is to be. `reply` names who waits for it."""

    accepted: Accepted
    reply: int | None = None


class CancelAsked(RunEvent, frozen=True, kw_only=True):
    """A client wants a run to end."""

    reason: str
    reply: int | None = None


class Started(Event, frozen=True, kw_only=True):
    """The daemon is up; what it loaded goes on. `drained` says by worker why it is given no new run."""

    drained: dict[str, str] = {}


class DrainAsked(Event, frozen=True, kw_only=True):
    """No more runs are taken and none is started; with `off`, they are again."""

    off: bool = False
    reply: int | None = None


class TimerFired(RunEvent, frozen=True, kw_only=True):
    """A timer of the core's own is over: `name` is retry, renew, max_wait, busy, overall, idle or cancel.

    One of `fleet` instead of a run bears a worker's name. `slept` seconds, where they are more than
    a few, this machine slept since the timer before: no timer counts them.
    """

    name: str
    op: int = 0
    slept: int = 0


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What asking one worker gave: a result, an error with its registry place, or neither: not asked.

    `pins`: the keys of which the inventory says that this worker must sign with one. `mark` tells
    its inventory entry from any other. `skew_seconds` is how far its clock is ahead of this machine's,
    null within half a minute. `broken`: its answer broke the protocol. `aside`: not asked, for it is
    set aside. `standby`: it is there for runs that ask with `--simulate`, and for no others.
    `drained`: it is given no new run, and why, where a run is told of it.
    """

    worker: str
    host: str
    priority: int
    tags: tuple[str, ...]
    duration_ms: int
    age_seconds: int
    fresh: bool
    pins: tuple[str, ...] = ()
    mark: str = ""
    skew_seconds: int | None = None
    broken: bool = False
    aside: bool = False
    standby: bool = False
    drained: str | None = None
    result: HeardProbe | None = None
    error: str | None = None
    error_kind: str | None = None
    error_subkind: str | None = None
    hint: str | None = None


class WorkerProbed(Event, frozen=True, kw_only=True):
    """Somebody asked this worker beside any run."""

    report: ProbeReport


class WorkerDrained(Event, frozen=True, kw_only=True):
    """Somebody wants this worker to get no new run, for a `reason`, maybe empty; null: it may again."""

    worker: str
    reason: str | None


class Answer(RunEvent, frozen=True, kw_only=True):
    """The answer to effect `op` of a run, which took `ms` at the edge."""

    op: int
    ms: int = 0


class Probed(Answer, frozen=True, kw_only=True):
    """What the workers say, or their snapshots where they are young enough.

    `whole`: a report of every worker of the inventory.
    """

    reports: tuple[ProbeReport, ...]
    embedded: bool
    whole: bool = True


class Reserved(Answer, frozen=True, kw_only=True):
    """A lease was granted or renewed by `worker`."""

    worker: str
    lease_id: str
    fence: int
    ttl_seconds: int
    renewal: bool = False


class SourceKnown(Answer, frozen=True, kw_only=True):
    """Whether the worker has the source."""

    exists: bool


class Uploaded(Answer, frozen=True, kw_only=True):
    """The worker has stored the source."""


class Submitted(Answer, frozen=True, kw_only=True):
    """The worker has the job."""

    state: str
    seq: int


class TailNews(Answer, frozen=True, kw_only=True):
    """The job's log grew by `log_bytes` on this machine, or something was told of it.

    `reset`: the worker began its log anew.
    """

    state: str
    seq: int | None
    next_cursor: str | None
    log_offset: int
    log_bytes: int
    events: tuple[JobEvent, ...] = ()
    reset: bool = False


class CancelNoted(Answer, frozen=True, kw_only=True):
    """The worker knows of the cancel."""

    state: str


class Fetched(Answer, frozen=True, kw_only=True):
    """The set is staged and every digest is right. `state` and `seq` are its `job_state.json`'s."""

    summary: Summary
    state: str
    seq: int
    updated_at: str


class FetchRefused(Answer, frozen=True, kw_only=True):
    """The set is not what it says. `trust` where its attestation is what failed."""

    errors: tuple[str, ...]
    trust: bool = False


class Published(Answer, frozen=True, kw_only=True):
    """The set is at its place. `found` is false where there was nothing staged to move."""

    found: bool


class Released(Answer, frozen=True, kw_only=True):
    """The lease is gone."""


class WorkerRefused(Answer, frozen=True, kw_only=True):
    """The worker said no. `retry_after` in seconds where it is busy; `reasons`: of a command line."""

    operation: str
    code: str
    message: str
    kind: str
    subkind: str | None
    retry_after: float | None = None
    hint: str | None = None
    reasons: tuple[Reason, ...] = ()


class LineCut(Answer, frozen=True, kw_only=True):
    """The worker could not be reached, or broke the protocol (`kind` tells)."""

    operation: str
    kind: str
    subkind: str | None
    message: str
    hint: str | None = None


class StageNews(RunEvent, frozen=True, kw_only=True):
    """Progress of a long stage, for followers alone; `rate` in units a second where it is known."""

    stage: str
    done: int
    total: int
    unit: str
    detail: str | None = None
    rate: float | None = None
    left_seconds: float | None = None


AnyEvent = (
    RunAccepted
    | CancelAsked
    | Started
    | DrainAsked
    | TimerFired
    | WorkerProbed
    | WorkerDrained
    | Probed
    | Reserved
    | SourceKnown
    | Uploaded
    | Submitted
    | TailNews
    | CancelNoted
    | Fetched
    | FetchRefused
    | Published
    | Released
    | WorkerRefused
    | LineCut
    | StageNews
)
