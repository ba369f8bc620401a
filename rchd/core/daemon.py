"""The core as a whole: routes events to run machines and lets the queue take turns.

Only `handle` changes state. It returns the effects, and `take_dirty` the runs whose rows
are to be committed before any effect is carried out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rch.contract.local_api import RunView
from rch.contract.states import RunState, is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ends import fail
from rchd.core.fleet import FLEET, Fleet, breaks
from rchd.core.lanes import ticket
from rchd.core.needs import Needs
from rchd.core.origin import Origin, Standing
from rchd.core.placing import Placing
from rchd.core.projections import projections
from rchd.core.queue import Queue
from rchd.core.resume import resume
from rchd.core.run import accept, on_event, take_turn
from rchd.core.select import nobody, select
from rchd.core.upkeep import give_back
from rchd.core.views import run_view
from rchd.core.worth import durable

Effects = list[fx.Effect]

MAX_WARNINGS = 20
_TOLD = ev.Submitted | ev.TailNews | ev.Fetched | ev.FetchRefused | ev.Reserved
"""Answers that are well formed, and may still say what cannot be; a `LineCut` is counted by itself."""


class Core:
    """All live runs. `artifacts` is the artifacts' root as clients see it.

    A daemon starts one from its live `runs` and the number of the last event; a transcript may begin
    later, with the `origin` that says the rest.
    """

    def __init__(
        self, artifacts: str, runs: Iterable[m.Run] = (), last_seq: int = 0, origin: Origin | None = None
    ) -> None:
        origin = origin or Origin()
        self.artifacts = artifacts
        self.runs: dict[str, m.Run] = {run.run_id: run for run in runs}
        self.tokens = {
            run.accepted.client_token: run.run_id for run in self.runs.values() if run.accepted.client_token
        }
        self.seq = last_seq
        self._number = max([origin.number, *(run.number for run in self.runs.values())])
        self.draining = origin.draining
        self.fleet = Fleet(origin.fleet)
        self._needs = Needs()
        self._queue = Queue(self.runs.values(), self.fleet.reach)
        self._placing = Placing()
        self._dirty: set[str] = set()
        self._written: dict[str, dict[str, bytes]] = {}
        if origin.standing is not None:
            self._stand(origin.standing)

    def _stand(self, standing: Standing) -> None:
        """As another core stood with these runs."""
        self._queue.next_place = standing.next_place
        for run_id in standing.waiting:
            self._needs.update(self.runs[run_id])
        for run in self.runs.values():
            self._placing.update(run)
        for run in self.runs.values():
            if isinstance(run.phase, m.Coalescing) and run.phase.run_id in self.runs:
                self._placing.twins.wait(run, self.runs[run.phase.run_id])
        for run_id in standing.written:
            self._written[run_id] = _digests(projections(self.runs[run_id]))

    @property
    def origin(self) -> Origin:
        """What it remembers beside its live runs."""
        return Origin(number=self._number, draining=self.draining, fleet=self.fleet.state)

    @property
    def standing(self) -> Origin:
        """The same in the midst of its runs. Whether a core of both is equal, `memory` tells."""
        standing = Standing(
            waiting=self._needs.waiting,
            written=tuple(sorted(self._written)),
            next_place=self._queue.next_place,
        )
        return msgspec.structs.replace(self.origin, standing=standing)

    @property
    def memory(self) -> object:
        """All that decides of what comes: cores with equal ones decide the same. Compare it at once."""
        runs = msgspec.json.encode(list(self.runs.values()))
        asked = self.is_asking
        queue, placing = self._queue.memory, self._placing.memory
        return runs, self.seq, self.standing, self._written, asked, queue, placing, self.tokens

    @property
    def is_idle(self) -> bool:
        """Whether another core could go on from the `origin` of this one alone."""
        return not self.runs and not self.is_asking

    @property
    def is_asking(self) -> bool:
        """Whether the workers are asked for runs that none could serve: no other core shares that."""
        return self._needs.is_asking

    def handle(self, event: ev.Event) -> Effects:
        """What is to be done about `event`."""
        match event:
            case ev.RunAccepted():
                effects = self._accept(event) + self._turns(event.at)
                return effects + self._needs.settle(self.fleet)
            case ev.Started():
                for worker, reason in event.drained.items():
                    self.fleet.drain(worker, reason)
                return self._start(event.at) + self._turns(event.at)
            case ev.DrainAsked():
                self.draining = not event.off
                running = sum(run.state == RunState.RUNNING for run in self.runs.values())
                told = [] if event.reply is None else [fx.Reply(reply=event.reply, running=running)]
                return [*told, *self._turns(event.at)]
            case ev.StageNews():
                return self._stage(event)
            case ev.WorkerProbed() | ev.WorkerDrained():
                return self._worker_news(event)
            case ev.RunEvent(run_id=run_id) if run_id == FLEET:
                return self._fleet_event(event) + self._turns(event.at)
            case ev.RunEvent():
                return self._run_event(event) + self._turns(event.at)
            case _:
                raise TypeError(f"{type(event).__name__} is no event of this vocabulary")

    def take_dirty(self) -> list[m.Run]:
        """The runs that changed since the last call."""
        dirty = [self.runs[run_id] for run_id in sorted(self._dirty)]
        self._dirty.clear()
        return dirty

    def forget(self, run_id: str) -> None:
        """Drop an ended run from memory; the store has it."""
        run = self.runs.get(run_id)
        if run is not None and is_terminal(run.state):
            del self.runs[run_id]
            self.tokens.pop(run.accepted.client_token or "", None)

    def _accept(self, event: ev.RunAccepted) -> Effects:
        accepted = event.accepted
        now = timestamp(event.at)
        run = m.Run(
            accepted=accepted,
            number=self._next_number(),
            state=RunState.QUEUED,
            seq=1,
            created_at=accepted.created_at,
            updated_at=now,
            phase=m.Waiting(reason="accepted"),
            steps=[m.StepRun() for _ in accepted.steps],
        )
        self.runs[run.run_id] = run
        if accepted.client_token:
            self.tokens[accepted.client_token] = run.run_id
        effects = accept(run)
        # It stands in line before those that it supersedes leave, and so in their place.
        self._moved(run)
        superseded = self._supersede(event) if accepted.supersede else []
        if not is_terminal(run.state):
            effects += self._not_beside(run, now)
            self._moved(run)
        effects = [*superseded, *self._changed(run, now), *effects]
        if event.reply is not None:
            effects.append(fx.Reply(reply=event.reply, view=self.view(run)))
        return effects

    def _next_number(self) -> int:
        """Rises for ever, over restarts too: at least the number of the event that tells of the run."""
        self._number = max(self._number, self.seq) + 1
        return self._number

    def _supersede(self, event: ev.RunAccepted) -> Effects:
        """Cancel the older live runs of the group, in the same commit."""
        effects: Effects = []
        for run_id in self._queue.mates(event.accepted):
            effects += self._run_event(ev.CancelAsked(at=event.at, run_id=run_id, reason="SUPERSEDED"))
        return effects

    def _not_beside(self, run: m.Run, now: str) -> Effects:
        """A run that may not wait does not wait for its group either."""
        mate = None if run.accepted.options.queue else self._queue.blocker(run.accepted)
        if mate is None:
            return []
        message = f"run {mate} of group {run.accepted.group} is not over"
        return fail(run, now, Failure(Kind.WORKER_BUSY, message))

    def _start(self, at: float) -> Effects:
        effects: Effects = []
        for run in sorted(self.runs.values(), key=ticket):
            if not is_terminal(run.state):
                before = run.phase
                more = resume(run, at)
                self._moved(run)
                if isinstance(before, m.Waiting) and isinstance(run.phase, m.Waiting):
                    # It waits on: nothing to commit or to tell, however many they are. The driver
                    # looks at its files beside its work.
                    effects += more
                else:
                    effects += [*self._changed(run, timestamp(at)), *more]
        return effects

    def _run_event(self, event: ev.RunEvent) -> Effects:
        run = self.runs.get(event.run_id)
        if run is None:
            return self._orphaned(event)
        beside = self._slept(event) if isinstance(event, ev.TimerFired) and event.slept else []
        beside += self.fleet.heard(run, event)
        if isinstance(event, ev.Probed) and isinstance(run.phase, m.Selecting):
            event = msgspec.structs.replace(event, reports=self.fleet.screened(event.reports))
        before, waited = durable(run), (run.queued_seconds, run.waited_seconds)
        phase = run.phase
        broken = breaks(run)
        effects = [*beside, *(self.fleet.sparing(effect) for effect in on_event(run, event))]
        if isinstance(event, _TOLD) and len(broken) < len(found := breaks(run)):
            effects += self.fleet.struck_by(run, *found[-1], event.at)
        effects = self._placing.place(run, phase, effects, timestamp(event.at))
        self._moved(run)
        if (run.queued_seconds, run.waited_seconds) != waited:
            # A start goes on counting from here; it is no news.
            self._dirty.add(run.run_id)
        if durable(run) != before:
            effects = [*self._changed(run, timestamp(event.at)), *effects]
        if isinstance(run.phase, m.Ended) and run.chosen is not None:
            self._wake(run.worker)
        if isinstance(event, ev.CancelAsked) and event.reply is not None:
            effects.append(fx.Reply(reply=event.reply, view=self.view(run)))
        if isinstance(event, ev.Probed):
            effects += self._needs.settle(self.fleet)
        return [self._numbered(effect) for effect in effects]

    def _free(self, run: m.Run) -> None:
        """What it waited for runs no more: it takes its turn again, which is news enough."""
        if isinstance(run.phase, m.Coalescing):
            run.phase = m.Waiting(reason=f"run {run.phase.run_id} runs the same job no more")
            run.op += 1
            self._moved(run)

    # --- the fleet --------------------------------------------------------------------

    def _worker_news(self, event: ev.WorkerProbed | ev.WorkerDrained) -> Effects:
        """Somebody looked after a worker, which may serve again if it answers well, or drains it."""
        if isinstance(event, ev.WorkerDrained):
            self.fleet.drain(event.worker, event.reason)
            if event.reason is None:
                self._wake(event.worker, f"worker {event.worker} is drained no more")
            return self._turns(event.at)
        effects = self.fleet.probed([event.report], event.at, whole=False)
        if event.report.result is not None:
            self.fleet.served(event.report.worker)
        return effects + self._needs.settle(self.fleet)

    def _fleet_event(self, event: ev.RunEvent) -> Effects:
        """A worker may be chosen again, or the workers were asked for runs that none could serve."""
        match event:
            case ev.TimerFired():
                self.fleet.timer(event)
            case ev.Probed():
                effects = self.fleet.probed(event.reports, event.at, whole=True)
                return [*effects, *self._end_unservable(event), *self._needs.settle(self.fleet)]
            case ev.LineCut():
                self._needs.answered()
        return []

    def _end_unservable(self, event: ev.Probed) -> Effects:
        """Just asked, no worker has what these runs need: they do not wait their turn to be told."""
        effects: Effects = []
        for run_id in self._needs.given_up(self.fleet):
            run = self.runs[run_id]
            failure = nobody(select(run.accepted.options, event.reports), event.reports)
            ended = fail(run, timestamp(event.at), failure)
            self._moved(run)
            effects += [*self._changed(run, timestamp(event.at)), *ended]
        return effects

    def _slept(self, event: ev.TimerFired) -> Effects:
        """This machine slept: leases may have run out, which whoever has a worker should know."""
        effects: Effects = []
        for run in self.runs.values():
            if run.hold is not None and len(run.warnings) < MAX_WARNINGS:
                run.warnings.append(f"this machine slept for {event.slept} s while the run was under way")
                effects += self._changed(run, timestamp(event.at))
        return effects

    def _wake(self, worker: str | None, why: str = "a slot is free") -> None:
        """This worker may have a free slot: nobody waits out its timer any longer who may get it."""
        for run in self._queue.held():
            reach = self.fleet.reach(run.accepted.options)
            if reach is None or worker in reach:
                run.phase = m.Waiting(reason=why)
                run.op += 1
                self._moved(run)

    def _moved(self, run: m.Run) -> None:
        """Tell the queue; where places changed, their runs' rows are due, and nothing else of them."""
        self._dirty |= {each.run_id for each in self._queue.update(run)} & self.runs.keys()
        self._needs.update(run)
        for waiting in self._placing.update(run):
            self._free(waiting)

    def _orphaned(self, event: ev.RunEvent) -> Effects:
        """An event of a run that has left memory: a late grant is given back."""
        return [give_back(event)] if isinstance(event, ev.Reserved) else []

    def _turns(self, at: float) -> Effects:
        """Let whoever is next look for a worker: one run for each that no run before it waits for."""
        effects: Effects = []
        while not self.draining and (turn := self._queue.next_turn()) is not None:
            asked = [self.fleet.sparing(effect) for effect in take_turn(turn.run, turn.spared)]
            self._moved(turn.run)
            effects += [*self._changed(turn.run, timestamp(at)), *asked]
        return effects

    def _stage(self, event: ev.StageNews) -> Effects:
        known = ("stage", "done", "total", "unit", "detail", "rate", "left_seconds")
        data = {name: value for name in known if (value := getattr(event, name)) is not None}
        now = timestamp(event.at)
        return [fx.Announce(type="stage", run_id=event.run_id, seq=self.seq, at=now, data=data)]

    def _numbered(self, effect: fx.Effect) -> fx.Effect:
        """Passing news carries the number of the last durable event."""
        if isinstance(effect, fx.Announce) and effect.seq == 0:
            return fx.Announce(
                type=effect.type, run_id=effect.run_id, seq=self.seq, at=effect.at, data=effect.data
            )
        return effect

    def _changed(self, run: m.Run, now: str) -> Effects:
        """The run's row, its files where they differ, and the news of it."""
        self._dirty.add(run.run_id)
        self.seq += 1
        news = fx.Announce(type="run", run_id=run.run_id, seq=self.seq, at=now, view=self.view(run))
        return [*self._files(run), news]

    def _files(self, run: m.Run) -> Effects:
        """The run's files that differ from what was last written of it, or came back."""
        before, files = self._written.pop(run.run_id, {}), projections(run)
        written = _digests(files)
        if not is_terminal(run.state):
            self._written[run.run_id] = written
        return [
            fx.WriteRecord(path=path, data=data)
            for path, data in files.items()
            if before.get(path) != written[path]
        ]

    def view(self, run: m.Run) -> RunView:
        """The run as clients see it, with its position in the queue as it is now."""
        waiting = None
        if isinstance(run.phase, m.Waiting | m.Coalescing):
            waiting = "the daemon is draining" if self.draining else self._queue.why(run)
        servable = self.fleet.servable(run.accepted.options) if run.state == RunState.QUEUED else None
        return run_view(run, self.artifacts, waiting, servable)


def _digests(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: hashlib.sha256(data).digest() for path, data in files.items()}
