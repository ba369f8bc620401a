"""What the daemon tells of itself: one line a run, one a call, and the numbers behind the metrics.

The observer is told what has happened and changes nothing. Everything runs in the loop's thread.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path

import anyio
import structlog

import rch
from rch.contract.errors import Failure, Kind
from rch.contract.ids import parse_timestamp
from rch.contract.local_api import SubmitParams
from rch.contract.records import Accepted
from rch.contract.states import RunState
from rch.files.durable import write_whole
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.account import account, stages_ms
from rchd.core.daemon import Core
from rchd.core.ends import duration_ms
from rchd.core.session import Call
from rchd.edges.exposition import load, text_of
from rchd.edges.intake import Intake, Tell
from rchd.edges.meters import Meters
from rchd.edges.socket import Connection

log = structlog.get_logger("rchd")
calls = structlog.get_logger("rchd.rpc")

LAG_SECONDS = 5.0
SLOW_MS = 1000
# What changes something is told; what only looks (health, polls of a list) is told on request.
TOLD = frozenset(
    {
        "runs.submit",
        "runs.rerun",
        "runs.cancel",
        "daemon.drain",
        "daemon.shutdown",
        "daemon.gc",
        "workers.probe",
        "workers.gc",
        "workers.drain",
        "workers.install",
    }
)
# These take as long as a worker or a disk does, which is nothing to wonder at.
_LONG = frozenset({"runs.plan", "workers.explain", "workers.look"})

Answer = Callable[[Call, Connection], Awaitable[object]]


class Observer:
    """Counts into `meters`, and writes the lines; `on_end` is called with each run that is over."""

    def __init__(
        self, meters: Meters | None = None, on_end: Callable[[m.Run], None] = lambda _run: None
    ) -> None:
        self.meters = meters or Meters()
        self._on_end = on_end
        self._bundle_ms: dict[str, int] = {}
        self._queue_ms: dict[str, int] = {}
        self._moved: dict[str, dict[str, int]] = {}
        self._at: dict[tuple[str, str], int] = {}
        self.meters.set("rch_build_info", 1, rch.__version__)
        self.meters.set("rch_start_time_seconds", round(time.time(), 3))

    # --- what the driver tells (rchd.driver.Watcher) ------------------------------------

    def committed(self, runs: Collection[m.Run], seconds: float) -> None:
        """These runs are durable as they are now; their commit took so long."""
        self.meters.observe("rch_commit_duration_seconds", seconds)
        for run in runs:
            if run.state == RunState.RUNNING and run.run_id not in self._queue_ms:
                waited = parse_timestamp(run.updated_at) - parse_timestamp(run.created_at)
                self._queue_ms[run.run_id] = max(0, round(waited * 1000))
                self.meters.observe("rch_run_queue_seconds", max(0.0, waited))

    def knows(self, runs: Collection[m.Run]) -> None:
        """Runs that were taken up at a start: when they began is not known any more."""
        for run in runs:
            if run.state == RunState.RUNNING:
                self._queue_ms[run.run_id] = -1

    def not_committed(self) -> None:
        """There was no space for a commit."""
        self.meters.add("rch_commit_failures_total")

    def told(self, event: ev.Event) -> None:
        """Progress of a transfer is bytes that went over the line."""
        if not isinstance(event, ev.StageNews) or event.unit != "bytes":
            return
        if event.stage not in {"upload", "fetch"}:
            return
        key = (event.run_id, event.stage)
        before = self._at.get(key, 0)
        self._at[key] = event.done
        # What begins anew, as the next step's set does, counts from nothing.
        more = event.done - before if event.done >= before else event.done
        moved = self._moved.setdefault(event.run_id, {})
        moved[event.stage] = moved.get(event.stage, 0) + more
        self.meters.add("rch_transfer_bytes_total", event.stage, by=more)

    def acted(self, effect: fx.Outward, event: ev.Answer) -> None:
        """An effect was answered."""
        if isinstance(effect, fx.Fetch | fx.Upload):
            self._at.pop((effect.run_id, type(effect).__name__.lower()), None)
        if not isinstance(effect, fx.WorkerCall | fx.Probe) or isinstance(effect, fx.Tail):
            return
        call = type(effect).__name__.lower()
        self.meters.observe("rch_worker_call_duration_seconds", event.ms / 1000, call)
        if isinstance(event, ev.LineCut | ev.WorkerRefused):
            self.meters.add("rch_worker_call_failures_total", call, str(event.kind))

    def ended(self, run: m.Run) -> None:
        """A run is over and that is durable: its line, once."""
        queue_ms = self._queue_ms.pop(run.run_id, None)
        bundle_ms = self._bundle_ms.pop(run.run_id, None)
        moved = self._moved.pop(run.run_id, {})
        for stage in ("upload", "fetch"):
            self._at.pop((run.run_id, stage), None)
        whole = account(
            run, queue_ms=None if queue_ms == -1 else queue_ms, bundle_ms=bundle_ms, moved=moved
        )
        log.info("run.ended", **whole)
        self._count(run, int(str(whole.get("cached", 0))))
        self._on_end(run)

    def _count(self, run: m.Run, cached: int) -> None:
        meters, state = self.meters, str(run.state)
        meters.add("rch_runs_total", state, "none" if run.trouble is None else str(run.trouble.kind))
        meters.observe("rch_run_duration_seconds", duration_ms(run) / 1000, state)
        meters.add("rch_jobs_cached_total", by=cached)
        meters.add("rch_source_bytes_total", by=run.accepted.source.compressed_bytes)
        for stage, ms in stages_ms(run).items():
            meters.observe("rch_stage_duration_seconds", ms / 1000, stage)

    # --- what the socket and the intake tell --------------------------------------------

    def around(self, answer: Answer) -> Answer:
        """The same answers, each counted and told."""
        return partial(self._answered, answer)

    async def _answered(self, answer: Answer, call: Call, connection: Connection) -> object:
        began = time.monotonic()
        outcome = "ok"
        try:
            return await answer(call, connection)
        except Failure as failure:
            outcome = str(failure.kind)
            raise
        except Exception:
            outcome = str(Kind.INTERNAL)
            raise
        except BaseException:
            outcome = str(Kind.CANCELLED)
            raise
        finally:
            seconds = time.monotonic() - began
            self.meters.add("rch_rpc_total", call.method, outcome)
            self.meters.observe("rch_rpc_duration_seconds", seconds, call.method)
            _tell(call, connection, outcome, round(seconds * 1000))

    def taken(self, run_id: str, seconds: float) -> None:
        """The source of a run was bundled."""
        self._bundle_ms[run_id] = round(seconds * 1000)
        self.meters.observe("rch_stage_duration_seconds", seconds, "bundle")

    def collected(self, runs: int, count: int) -> None:
        """So many runs were removed, and bytes of theirs."""
        self.meters.add("rch_gc_runs_total", by=runs)
        self.meters.add("rch_gc_bytes_total", by=count)

    # --- what is asked of it ------------------------------------------------------------

    def look(self, core: Core, *, connections: int, held: bool) -> None:
        """Bring the gauges to what is now."""
        meters = self.meters
        for state in (RunState.QUEUED, RunState.RUNNING):
            meters.set("rch_runs", sum(run.state == state for run in core.runs.values()), str(state))
        meters.set("rch_workers", core.fleet.known)
        meters.set("rch_workers_aside", len(core.fleet.spared()))
        meters.set("rch_connections", connections)
        meters.set("rch_state_held", held)
        meters.set("rch_draining", core.draining)

    async def feel_lag(self) -> None:
        """See how late the loop is for a timer, again and again."""
        while True:
            due = time.monotonic() + LAG_SECONDS
            await anyio.sleep(LAG_SECONDS)
            self.meters.observe("rch_loop_lag_seconds", max(0.0, time.monotonic() - due))


class ObservedIntake(Intake):
    """An intake that tells how long a source took to be bundled."""

    observer: Observer

    async def take(self, params: SubmitParams, tell: Tell | None = None) -> Accepted:
        """See `Intake.take`."""
        began = time.monotonic()
        accepted = await super().take(params, tell)
        self.observer.taken(accepted.run_id, time.monotonic() - began)
        return accepted


def _tell(call: Call, connection: Connection, outcome: str, ms: int) -> None:
    slow = ms >= SLOW_MS and call.method not in _LONG
    tell = calls.info if call.method in TOLD or slow else calls.debug
    if outcome == Kind.INTERNAL:
        tell = calls.warning
    tell("rpc.answered", method=call.method, outcome=outcome, ms=ms, client=connection.session.client)


async def keep_textfile(path: Path, seconds: float, look: Callable[[], Meters]) -> None:
    """Write the metrics to `path` again and again: whole or not at all, and never an end of the daemon."""
    failed = False
    await anyio.to_thread.run_sync(load)
    while True:
        try:
            # The text is made here, between two turns of the loop, and so of one moment.
            text = text_of(look())
            await anyio.to_thread.run_sync(partial(write_whole, path, text.encode()))
            failed = False
        except OSError as error:
            if not failed:
                log.warning("metrics.not_written", path=str(path), error=error.strerror or str(error))
            failed = True
        await anyio.sleep(seconds)
