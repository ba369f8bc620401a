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
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from rch.contract.errors import Failure, Kind
from rch.contract.states import is_terminal
from rch.files.durable import write_atomic
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.edges.hub import Hub
from rchd.edges.performer import Performer
from rchd.edges.store import Batch, EventRow, JobRow, RunRow, StateStore
from rchd.edges.timers import Timers

log = structlog.get_logger("rchd.driver")

RETRY_COMMIT_SECONDS = 1.0


class Driver:
    """Drains events, calls the core, persists, performs.

    `reply` hands a `Reply` to whoever waits for it.
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
    ) -> None:
        self.core = core
        self._store = store
        self._performer = performer
        self._hub = hub
        self._artifacts = artifacts
        self._reply = reply
        self._events: deque[ev.Event] = deque()
        self._news = anyio.Event()
        self._timers = Timers(self.post)
        self._scopes: dict[str, set[anyio.CancelScope]] = {}
        self.trouble: str | None = None

    def post(self, event: ev.Event) -> None:
        """Hand in an event; callable from any task of the loop."""
        self._events.append(event)
        self._news.set()

    async def run(self) -> None:
        """Drive until cancelled."""
        async with anyio.create_task_group() as group:
            try:
                while True:
                    await self._news.wait()
                    self._news = anyio.Event()
                    while self._events:
                        await self._batch(group)
            finally:
                self._timers.stop()
                group.cancel_scope.cancel()

    async def _batch(self, group: TaskGroup) -> None:
        effects: list[fx.Effect] = []
        while self._events:
            effects += self.core.handle(self._events.popleft())
        dirty = self.core.take_dirty()
        if dirty:
            # Cancels and ends may use the last space: they are what gives space back.
            urgent = any(run.cancel is not None or is_terminal(run.state) for run in dirty)
            await self._commit(_rows(dirty, effects), urgent=urgent)
        writes = {effect.path: effect.data for effect in effects if isinstance(effect, fx.WriteRecord)}
        if writes:
            await anyio.to_thread.run_sync(self._write, writes)
        for run in dirty:
            if is_terminal(run.state):
                _log_end(run)
                self.core.forget(run.run_id)
        for effect in effects:
            self._act(effect, group)

    async def _commit(self, batch: Batch, *, urgent: bool) -> None:
        """Commit, or hold everything back until there is space again; another failure is fatal."""
        while True:
            try:
                await anyio.to_thread.run_sync(partial(self._store.commit, batch, urgent=urgent))
            except Failure as failure:
                if failure.subkind != "NO_SPACE":
                    raise
                if self.trouble is None:
                    log.warning("state.no_space", message=failure.message)
                self.trouble = failure.message
                await anyio.sleep(RETRY_COMMIT_SECONDS)
            else:
                self.trouble = None
                return

    def _write(self, writes: dict[str, bytes]) -> None:
        """Projections: made good at the next start where one could not be written."""
        for path, data in writes.items():
            target = self._artifacts / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(target, data)
            except OSError as error:
                log.warning("projection.failed", path=str(target), error=str(error))

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
            case fx.Forget():
                self._performer.forget_probe(effect.worker)
            case fx.Outward():
                group.start_soon(self._perform, effect)

    async def _perform(self, effect: fx.Outward) -> None:
        scopes = self._scopes.setdefault(effect.run_id, set())
        with anyio.CancelScope() as scope:
            if effect.op >= 0:
                scopes.add(scope)
            try:
                event: ev.Answer = await self._performer.perform(effect, self.post)
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
            if event is not None:
                self.post(event)


def encode_run(run: m.Run) -> bytes:
    """A run as its row holds it."""
    return msgspec.json.encode(run)


def decode_run(doc: bytes) -> m.Run:
    """A run from its row."""
    return msgspec.json.decode(doc, type=m.Run)


def _rows(dirty: Iterable[m.Run], effects: Iterable[fx.Effect]) -> Batch:
    runs: list[RunRow] = []
    jobs: list[JobRow] = []
    for run in dirty:
        runs.append(
            RunRow(
                run_id=run.run_id,
                seq=run.seq,
                state=run.state,
                created_at=run.created_at,
                updated_at=run.updated_at,
                client_token=run.accepted.client_token,
                doc=encode_run(run),
            )
        )
        jobs += [
            JobRow(
                job_id=run.accepted.steps[index].job_id,
                run_id=run.run_id,
                step_index=index,
                seq=step.seq,
                state=step.state,
                doc=msgspec.json.encode(step),
            )
            for index, step in enumerate(run.steps)
            if step.state is not None
        ]
    events = [
        EventRow(
            seq=effect.seq,
            run_id=effect.run_id,
            at=effect.at,
            type=effect.type,
            doc=msgspec.json.encode(effect.view),
        )
        for effect in effects
        if isinstance(effect, fx.Announce) and effect.type == "run"
    ]
    return Batch(runs=tuple(runs), jobs=tuple(jobs), events=tuple(events))


def _log_end(run: m.Run) -> None:
    log.info(
        "run.ended",
        run_id=run.run_id,
        state=str(run.state),
        exit_code=run.exit_code,
        worker=run.worker,
        summary=run.human_summary,
    )
