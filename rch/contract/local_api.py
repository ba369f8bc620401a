"""The local socket: JSON-RPC 2.0, its methods and their shapes (spec section 12).

The thin client speaks in plain dicts of these shapes; the daemon decodes into the Structs.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.forms import (
    Action,
    CancelReason,
    ExitCode,
    FailureKind,
    Id,
    Natural,
    NewsType,
    OnDisconnect,
    RunWord,
    Sha256,
    StepStatus,
    Subkind,
    Timestamp,
)
from rch.contract.local_door import (
    AddressParams,
    ExamineParams,
    ExamineView,
    KeysParams,
    KeysView,
    ScanView,
    TryView,
)
from rch.contract.local_gc import HostGcParams, HostGcView, WorkersGcParams, WorkersGcView
from rch.contract.local_plan import ExplainParams, RunPlanView, WorkersPlanView
from rch.contract.local_setup import InstallParams, InstallView, LookParams, LookView
from rch.contract.local_workers import WorkerDrainParams, WorkerDrainView, WorkerListView
from rch.contract.records import Narrowing

PROTOCOL = (1, 1)
MAX_MESSAGE = 1 << 20
FEATURES = (
    "watch",
    "log_text",
    "drain_exit",
    "plan",
    "cancel_token",
    "rerun",
    "door",
    "content_length",
    "setup",
)


class Params(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A method's parameters; an unknown name is refused."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a method answers with."""


class HelloParams(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, and which protocol range it speaks; unknown members are ignored.

    `agent`: the socket of the caller's SSH key agent, which is asked when a worker is dialled next.
    """

    client: str
    version: str
    protocol: tuple[int, int] = PROTOCOL
    features: tuple[str, ...] = ()
    agent: str | None = None


class HelloView(View, frozen=True, kw_only=True):
    """Who answers. `protocol` is the version in force."""

    server: str
    version: str
    protocol: int
    features: tuple[str, ...]
    instance: str
    limits: dict[str, int]


class NoParams(Params, frozen=True, kw_only=True):
    """`{}`."""


class DrainParams(Params, frozen=True, kw_only=True):
    """`exit`: end when nothing is awaited any more, or after `timeout_seconds`. `off`: drain no more."""

    off: bool = False
    exit: bool = False
    timeout_seconds: float | None = None


class AwaitedView(View, frozen=True, kw_only=True):
    """A run that a draining daemon waits for. `waiting` says why it does not move."""

    run_id: Id
    project: str
    phase: str
    action: Action | None = None
    worker: str | None = None
    waiting: str | None = None


class HealthView(View, frozen=True, kw_only=True):
    """What the daemon does now. `activity` is one line for people; `status` is `ok` or `draining`.

    While it drains: `exits` where it ends after that, and the runs that are `awaited`.
    `supervisor` is `systemd` or `launchd` where that keeps it alive, as its `unit`; else empty.
    """

    status: str
    pid: int
    version: str
    uptime_seconds: Natural
    runs_queued: Natural
    runs_running: Natural
    connections: Natural
    activity: str
    home: str
    log_path: str
    exits: bool = False
    awaited: tuple[AwaitedView, ...] = ()
    supervisor: str = ""
    unit: str = ""


class SubmitParams(Params, frozen=True, kw_only=True):
    """A run to be accepted.

    `start` is the folder that the caller stands in; `actions` narrows the plan to these, in
    order; `argv` is one command line instead of a plan, judged as it stands; `overrides` are
    config keys in dotted form. `client_token`: a retry is the same run.
    Origins (`origin` and project) take turns, a lower `priority` goes first. Of the runs of a
    `group`, a name within the project, one goes after another; `supersede` cancels the older ones.
    `on_disconnect`: `cancel` ties the run to the connection until the daemon is started anew.
    `narrowing` makes it less than its plan. `simulate`: stand-in tools serve it, and no others.
    """

    start: str
    actions: tuple[str, ...] | None = None
    argv: tuple[str, ...] | None = None
    overrides: dict[str, Any] = {}
    client_token: str | None = None
    origin: str = "terminal"
    priority: int = 100
    group: str | None = None
    supersede: bool = False
    on_disconnect: OnDisconnect = "keep"
    queue: bool = True
    progress: bool = False
    narrowing: Narrowing | None = None
    simulate: bool = False


class RerunParams(Params, frozen=True, kw_only=True):
    """What `run` asked for, asked again, of its project as it is now.

    `failed`: of each test step those tests alone that failed there. The rest as in `SubmitParams`.
    """

    run: str
    failed: bool = False
    client_token: str | None = None
    on_disconnect: OnDisconnect = "keep"
    progress: bool = False


class RunParams(Params, frozen=True, kw_only=True):
    """One run: its id, an unambiguous beginning of it, or `latest`."""

    run: str


class CancelParams(Params, frozen=True, kw_only=True):
    """The end of a run. `reason` as in the worker protocol.

    It is meant by `run`, or by the `client_token` of its submit, also while that is not answered
    yet: the run is then not accepted at all (`CANCELLED`), or accepted as cancelled.
    """

    run: str | None = None
    client_token: str | None = None
    reason: CancelReason = "USER"


class ListParams(Params, frozen=True, kw_only=True):
    """The newest `limit` runs, with `before` of those accepted before that run; `state` filters."""

    limit: int = 50
    state: RunWord | None = None
    before: str | None = None


class WatchParams(Params, frozen=True, kw_only=True):
    """News of `run` (or `all`) after event `after_seq`; `include` may ask for `log_text`."""

    run: str
    after_seq: Natural | None = None
    include: tuple[str, ...] = ()


class UnwatchParams(Params, frozen=True, kw_only=True):
    """The end of a subscription."""

    subscription: int


class WorkerParams(Params, frozen=True, kw_only=True):
    """One worker by name; none: all."""

    name: str | None = None


class StepView(View, frozen=True, kw_only=True):
    """One step. `state` is a job state, `PLANNED`, `SKIPPED` or `REJECTED`.

    `cached_from_job_id`: nothing was run for it, that job's result stands for it.
    """

    index: Natural
    action: Action
    job_id: Id
    state: str
    seq: int
    status: StepStatus | None = None
    exit_code: ExitCode | None = None
    human_summary: str = ""
    log_path: str | None = None
    cached_from_job_id: Id | None = None


class RunView(View, frozen=True, kw_only=True):
    """One run. `waiting` says why it does not move; `human_summary` is the failure as one line.

    While it waits in the queue `servable` is `yes`, `no` or `unknown`: whether any worker that is
    known could ever serve it, busy or not; `servable_why` names what is missing, or who is not known.
    `simulated`: stand-in tools make or made it. `scope`: the flags by which it is less than the gate.
    """

    run_id: Id
    state: RunWord
    seq: int
    phase: str
    created_at: Timestamp
    updated_at: Timestamp
    project: str
    root: str
    origin: str
    steps: tuple[StepView, ...]
    run_dir: str
    source_sha256: Sha256
    worker: str | None = None
    embedded_worker: bool = False
    simulated: bool = False
    waiting: str | None = None
    exit_code: ExitCode | None = None
    failure_kind: FailureKind | None = None
    failure_subkind: Subkind | None = None
    human_summary: str = ""
    hint: str | None = None
    warnings: tuple[str, ...] = ()
    cancel_requested: bool = False
    duration_ms: int | None = None
    servable: str | None = None
    servable_why: str = ""
    scope: tuple[str, ...] = ()
    group: str | None = None


class RunListView(View, frozen=True, kw_only=True):
    """Runs, newest first. `more`: the message was full; the others stand `before` the last one."""

    runs: tuple[RunView, ...]
    more: bool = False


class WatchView(View, frozen=True, kw_only=True):
    """A snapshot at `seq`; notifications `runs.event` go on from there.

    `more`: the message was full. The other runs are in `runs.list`, asked after this answer: of two
    views of a run the one with the higher `seq`, and of equals the later one, stands.
    """

    subscription: int
    seq: int
    runs: tuple[RunView, ...]
    more: bool = False


class RunEvent(View, frozen=True, kw_only=True):
    """One notification.

    `type`: `run` (a run's view changed, durable, with its own `seq`), `stage` (progress of a
    stage: `data {stage, done, total, unit, detail?, rate?, left_seconds?}`, the rate in units a
    second), `log` (`data {job_id, path, offset, length, text?}`), `job` (`data` is a worker
    event), `heartbeat`, `gap`, `end`.
    """

    subscription: int
    seq: int
    type: NewsType
    run_id: Id | None
    at: Timestamp
    run: RunView | None = None
    data: dict[str, Any] = {}


class DrainView(View, frozen=True, kw_only=True):
    """What goes on while the daemon drains: as in `HealthView`."""

    draining: bool
    runs_running: Natural
    exits: bool = False
    awaited: tuple[AwaitedView, ...] = ()


class SampleView(View, frozen=True, kw_only=True):
    """One number of the metrics."""

    name: str
    labels: dict[str, str]
    value: float


class MetricsView(View, frozen=True, kw_only=True):
    """The metrics: `text` in Prometheus' text format 0.0.4, `samples` the same as values."""

    content_type: str
    text: str
    samples: tuple[SampleView, ...]


METHODS: dict[str, tuple[type[msgspec.Struct], type[msgspec.Struct], str]] = {
    "hello": (HelloParams, HelloView, "who calls and who answers; every connection's first request"),
    "daemon.health": (NoParams, HealthView, "what the daemon does now"),
    "daemon.drain": (DrainParams, DrainView, "take no more runs, start none; or do so again"),
    "daemon.shutdown": (NoParams, DrainView, "exit now; running jobs stay on their workers"),
    "daemon.metrics": (NoParams, MetricsView, "the daemon's numbers, as Prometheus reads them"),
    "daemon.gc": (HostGcParams, HostGcView, "remove old runs from this machine, or name them"),
    "rpc.describe": (NoParams, View, "this table with JSON Schemas"),
    "runs.submit": (SubmitParams, RunView, "accept a run; answered when it is durable"),
    "runs.rerun": (RerunParams, RunView, "submit again what a run was, or what failed of it"),
    "runs.plan": (SubmitParams, RunPlanView, "what runs.submit would make of this now; runs nothing"),
    "runs.get": (RunParams, RunView, "one run"),
    "runs.list": (ListParams, RunListView, "the newest runs"),
    "runs.cancel": (CancelParams, RunView, "end a run; answered when the intent is durable"),
    "runs.watch": (WatchParams, WatchView, "a snapshot, then notifications runs.event"),
    "runs.unwatch": (UnwatchParams, View, "end a subscription"),
    "workers.list": (NoParams, WorkerListView, "the inventory"),
    "workers.probe": (WorkerParams, WorkerListView, "ask the workers now"),
    "workers.gc": (WorkersGcParams, WorkersGcView, "remove what is over on the workers, or name it"),
    "workers.scan": (AddressParams, ScanView, "the host keys that a machine shows; trusts none"),
    "workers.try": (AddressParams, TryView, "probe a worker that is in no inventory, over a pinned key"),
    "workers.keys": (KeysParams, KeysView, "the public keys that are offered to a worker"),
    "workers.examine": (ExamineParams, ExamineView, "probe the workers, and try what their keys open"),
    "workers.look": (LookParams, LookView, "what is at a machine that opens a shell, before a set-up"),
    "workers.install": (InstallParams, InstallView, "bring the worker's program there, and see it answer"),
    "workers.drain": (WorkerDrainParams, WorkerDrainView, "give a worker no new run, or do so again"),
    "workers.explain": (ExplainParams, WorkersPlanView, "who would serve a project, why not others"),
}

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
INVALID_PARAMS, INTERNAL_ERROR, REFUSED = -32602, -32603, -32000

S = TypeVar("S", bound=msgspec.Struct)


def decode_params(raw: object, kind: type[S]) -> S:
    """Parameters of a method; `Failure` USAGE names what is wrong."""
    try:
        return msgspec.convert({} if raw is None else raw, kind)
    except msgspec.ValidationError as error:
        raise Failure(Kind.USAGE, f"params: {error}") from error


def error_body(failure: Failure, code: int = REFUSED) -> dict[str, Any]:
    """The JSON-RPC error object of a refusal."""
    return {
        "code": code,
        "message": failure.message,
        "data": {
            "kind": str(failure.kind),
            "subkind": failure.subkind,
            "exit_code": failure.exit_code,
            "retryable": failure.retryable,
            "hint": failure.hint,
            **({"detail": failure.data} if failure.data else {}),
        },
    }
