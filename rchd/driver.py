"""The one task that owns the core's state.

It drains whatever events wait, lets the core decide, commits all changes in one
transaction, writes the projections, and only then replies, announces and acts. Answers of
the edge come back as events. So a crash at any point leaves a store from which the same
effects are asked for again.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import structlog
from anyio.abc import TaskGroup

from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.core.projections import projections
from rchd.edges.artifacts import forget_fetches
from rchd.edges.core_rows import decode_run, rows_of
from rchd.edges.exhaustion import is_exhausted
from rchd.edges.hub import Hub
from rchd.edges.performer import Performer
from rchd.edges.projector import Projector
from rchd.edges.store import StateStore
from rchd.edges.timers import Timers

log = structlog.get_logger("rchd.driver")

RETRY_SECONDS = 1.0
MADE_GOOD_RUNS = 200  # how many of the last ended runs are looked at when the daemon starts
SYNC_SECONDS = 0.5  # how long files may wait for their sync: many transitions share one
SETTLE_SECONDS = 5.0  # how long a reader waits for the batch that is at work
LOOKED_AT = 50  # how many waiting runs' files are looked at between two batches: some milliseconds


class Record(Protocol):
    """Who writes down what happens, and has no say in it. `trouble`: why it does not."""

    @property
    def trouble(self) -> str | None:
        """None: all that is asked for is written down."""

    def __call__(self, events: list[ev.Event], effects: list[fx.Effect], /) -> None:
        """A batch was committed."""

    def rest(self, core: Core, /) -> None:
        """The batch is done, and its ended runs are forgotten."""


class Watcher(Protocol):
    """Who is told what the driver does, and has no say in it."""

    def committed(self, runs: Collection[m.Run], seconds: float) -> None:
        """These runs are durable as they are now; their commit took so long."""

    def not_committed(self) -> None:
        """There was no space for a commit; it is tried again."""

    def told(self, event: ev.Event) -> None:
        """An effect that is under way tells of its progress."""

    def acted(self, effect: fx.Outward, event: ev.Answer) -> None:
        """An effect was answered."""

    def ended(self, run: m.Run) -> None:
        """A run is over, and that is durable."""


class Driver:
    """Drains events, calls the core, persists, performs.

    `reply` hands a `Reply` to whoever waits for it; `record` is told of every batch that is committed,
    `watcher` of what is worth counting.
    """

    def __init__(
        self,
        *,
        core: Core,
        store: StateStore,
        performer: Performer,
        hub: Hub,
        artifacts: Path,
        reply: Callable[[fx.Reply], None],
        record: Record | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.core = core
        self._watcher = watcher
        self.turns = 0
        self._store = store
        self._performer = performer
        self._hub = hub
        self._artifacts = artifacts
        self._projector = Projector(artifacts)
        # Whose files a start has still to look at: who waits on changes nothing by that, however long.
        self._unseen = deque(run.run_id for run in core.runs.values() if isinstance(run.phase, m.Waiting))
        self._reply = reply
        self._record = record
        self._events: deque[ev.Event] = deque()
        self._news = anyio.Event()
        self._timers = Timers(self.post)
        self._scopes: dict[str, set[anyio.CancelScope]] = {}
        self._held: str | None = None
        self._told: str | None = None
        self.seq = core.seq  # of the last event that is durable
        self._at_work: Collection[str] = ()
        self._settled = anyio.Event()

    @property
    def trouble(self) -> str | None:
        """Why nothing goes on, or what cannot be written; None: all is well."""
        return self._held or self._projector.trouble

    @property
    def unrecorded(self) -> str | None:
        """Why no transcripts are recorded; None: they are, or need not be. No run suffers by that."""
        return None if self._record is None else self._record.trouble

    @property
    def in_hand(self) -> frozenset[str]:
        """The runs that are not over, or not written yet: nobody else may touch their files."""
        return self._projector.late_runs.union(self.core.runs)

    def is_settled(self, run_id: str) -> bool:
        """Whether what memory says of a run is durable and its files are written."""
        return run_id not in self._at_work

    async def settled(self, run_id: str) -> None:
        """Wait until it is, or until it is plain that it cannot be yet.

        Who asks for a run is told nothing that a crash could take back. While nothing can be
        committed nobody waits: the store has what is true.
        """
        with anyio.move_on_after(SETTLE_SECONDS):
            while not self.is_settled(run_id) and self._held is None:
                await self._settled.wait()

    def nudge(self) -> None:
        """Have the loop turn once more, so that `turns` rises where it lives."""
        self._news.set()

    def post(self, event: ev.Event) -> None:
        """Hand in an event; callable from any task of the loop."""
        self._events.append(event)
        self._news.set()

    async def run(self) -> None:
        """Drive until cancelled; `Failure` where the store takes nothing more."""
        await anyio.to_thread.run_sync(self._make_good)
        async with anyio.create_task_group() as group:
            group.start_soon(self._sync_files)
            try:
                while True:
                    if not self._unseen:
                        await self._wait(RETRY_SECONDS if self._projector.is_late else None)
                    await self._batch(group)
                    await self._look_on()
            finally:
                self._timers.stop()
                group.cancel_scope.cancel()

    async def _sync_files(self) -> None:
        """Files are synced beside the work: their rows are durable, and a start makes them good."""
        try:
            while True:
                await anyio.sleep(SYNC_SECONDS)
                if paths := self._projector.take_unsynced():
                    await anyio.to_thread.run_sync(self._projector.sync, paths)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._projector.sync, self._projector.take_unsynced())

    async def _wait(self, seconds: float | None) -> None:
        """Until there is an event, or `seconds` are over."""
        if not self._events:
            with anyio.move_on_after(seconds):
                await self._news.wait()
        self._news = anyio.Event()

    async def _batch(self, group: TaskGroup) -> None:
        """All waiting events, one commit, the files, and only then what is to be done.

        While the disk is full, everything is held back; a cancel that comes meanwhile joins in.
        """
        events: list[ev.Event] = []
        effects: list[fx.Effect] = []
        dirty: dict[str, m.Run] = {}
        while True:
            self.turns += 1  # also while the disk is full: nobody is served by a restart then
            while self._events:
                events.append(self._events.popleft())
                effects += self.core.handle(events[-1])
            dirty |= {run.run_id: run for run in self.core.take_dirty()}
            self._at_work = dirty.keys()
            if not dirty or await self._commit(dirty.values(), effects):
                break
            self._tell_trouble()
            await self._wait(RETRY_SECONDS)
        if self._record is not None and events:
            self._record(events, effects)
        writes = {effect.path: effect.data for effect in effects if isinstance(effect, fx.WriteRecord)}
        if writes or self._projector.is_late:
            await anyio.to_thread.run_sync(self._projector.write, writes)
        self._tell_trouble()
        self._forget(dirty.values())
        self._settle()
        # What is to be done begins first: hundreds may follow, and all of them are told in one go.
        for effect in sorted(effects, key=lambda effect: isinstance(effect, fx.Announce)):
            self._act(effect, group)

    def _forget(self, dirty: Iterable[m.Run]) -> None:
        """Who is over leaves memory; then what is recorded may begin anew."""
        for run in dirty:
            if is_terminal(run.state):
                if self._watcher is not None:
                    self._watcher.ended(run)
                self.core.forget(run.run_id)
        if self._record is not None:
            self._record.rest(self.core)

    def _settle(self) -> None:
        """What memory says is true again: who waited for that may read."""
        self.seq, self._at_work = self.core.seq, ()
        self._settled.set()
        self._settled = anyio.Event()

    def _tell_trouble(self) -> None:
        """Followers hear of trouble as it comes and as it goes, not at the next heartbeat."""
        if (trouble := self.trouble) != self._told:
            self._told = trouble
            self._hub.heartbeat(self.seq, timestamp(time.time()), trouble)

    async def _commit(self, dirty: Collection[m.Run], effects: list[fx.Effect]) -> bool:
        """Commit; False where there is no space or no thread now. Another failure is fatal."""
        # Cancels and ends may use the last space: they are what gives space back.
        urgent = any(run.cancel is not None or is_terminal(run.state) for run in dirty)
        commit = partial(self._store.commit, rows_of(dirty, effects), urgent=urgent)
        began = time.monotonic()
        try:
            await anyio.to_thread.run_sync(commit)
        except (Failure, RuntimeError) as error:
            if not (is_exhausted(error) or (isinstance(error, Failure) and error.subkind == "NO_SPACE")):
                raise
            if self._held is None:
                log.warning("state.held", message=str(error))
            self._held = str(error)
            if self._watcher is not None:
                self._watcher.not_committed()
            return False
        self._held = None
        if self._watcher is not None:
            self._watcher.committed(dirty, time.monotonic() - began)
        return True

    async def _look_on(self) -> None:
        """Make good the files of the next few runs that have waited since before the start."""
        ids = [self._unseen.popleft() for _ in range(min(LOOKED_AT, len(self._unseen)))]
        runs = [run for run_id in ids if (run := self.core.runs.get(run_id)) is not None]
        # Made here and written before the next batch: never older than what that writes.
        # Who has left the queue meanwhile had all its files written by that.
        files = {run.run_id: projections(run) if isinstance(run.phase, m.Waiting) else {} for run in runs}
        if files:
            await anyio.to_thread.run_sync(self._projector.look_over, files)

    def _make_good(self) -> None:
        """The files of runs that ended just before the daemon did."""
        try:
            rows = self._store.runs(MADE_GOOD_RUNS)
        except Failure as failure:
            log.warning("projection.not_looked_at", message=failure.message)
        else:
            self._projector.make_good(decode_run(row.doc) for row in rows if is_terminal(row.state))

    def _act(self, effect: fx.Effect, group: TaskGroup) -> None:
        match effect:
            case fx.Reply():
                self._reply(effect)
            case fx.Announce():
                self._hub.announce(effect)
            case fx.StartTimer():
                seconds = effect.seconds * (1 + effect.spread * random.random())  # noqa: S311  (jitter)
                self._timers.start(effect.run_id, effect.name, seconds, effect.op)
            case fx.StopTimers():
                self._timers.stop_run(effect.run_id)
            case fx.Abort():
                for scope in self._scopes.pop(effect.run_id, set()):
                    scope.cancel()
            case fx.DropFetches():
                group.start_soon(self._drop_fetches, effect.run_id)
            case fx.Forget():
                self._performer.forget_probe(effect.worker)
            case fx.Outward():
                group.start_soon(self._perform, effect)

    async def _drop_fetches(self, run_id: str) -> None:
        """What cannot be removed now goes with the run's folder."""
        with suppress(OSError, RuntimeError):
            await anyio.to_thread.run_sync(forget_fetches, self._artifacts, run_id)

    async def _perform(self, effect: fx.Outward) -> None:
        scopes = self._scopes.setdefault(effect.run_id, set())
        with anyio.CancelScope() as scope:
            if effect.op >= 0:
                scopes.add(scope)
            try:
                event: ev.Answer = await self._performer.perform(effect, self._progress)
            except Exception as error:
                log.exception("effect.failed", effect=type(effect).__name__, run_id=effect.run_id)
                event = ev.LineCut(
                    at=time.time(),
                    run_id=effect.run_id,
                    op=effect.op,
                    operation=type(effect).__name__.lower(),
                    kind=Kind.INTERNAL,
                    subkind=None,
                    message=f"{type(effect).__name__} failed here: {error}",
                )
            finally:
                scopes.discard(scope)
                if not scopes and self._scopes.get(effect.run_id) is scopes:
                    del self._scopes[effect.run_id]
            if not scope.cancel_called:
                if self._watcher is not None:
                    self._watcher.acted(effect, event)
                self.post(event)

    def _progress(self, event: ev.Event) -> None:
        if self._watcher is not None:
            self._watcher.told(event)
        self.post(event)
