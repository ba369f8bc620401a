"""The queue over several workers against a naive fleet: whatever comes, goes, is busy or started anew.

What must hold: on each worker nobody passes a run that looked for one before it and may get this
one, but for an origin that has had its turn there since; a run waits only while each worker that it
may get is awaited by another one; and when no more comes, every run has had its turn.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stateful.histories import TIMEOUT, bounded, one_of
from support.playbook import T0, accepted, report

from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.edges.core_rows import decode_run, encode_run

TAGS = {"wa": ("a", "x"), "wb": ("a", "y"), "wc": ("x", "y")}
SLOTS = {"wa": 1, "wb": 1, "wc": 2}
REPORTS = tuple(report(worker, tags=tags) for worker, tags in TAGS.items())
WANTED = [(), ("x",), ("y",), ("a",), ("a", "x"), ("a", "y"), ("x", "y")]


def reach(run: m.Run) -> set[str]:
    return {worker for worker, tags in TAGS.items() if set(run.accepted.options.tags) <= set(tags)}


def origin(run: m.Run) -> str:
    return run.accepted.origin


def urgency(run: m.Run) -> int:
    return run.accepted.options.priority


class Crowd(RuleBasedStateMachine):
    """Runs of two origins for three workers, each of which grants what it has."""

    @initialize()
    def begin(self) -> None:
        self.core = Core("/artifacts")
        self.at = T0
        self.count = 0
        self.turns = 0
        self.rows: dict[str, bytes] = {}
        self.first_turn: dict[str, int] = {}
        self.asked_for: dict[str, set[str]] = {}
        self.granted_at: dict[tuple[str, str, int], int] = {}
        self.served: set[str] = set()
        self.heard = False

    def live(self, *phases: type[m.Phase]) -> list[m.Run]:
        runs = [run for run in self.core.runs.values() if not is_terminal(run.state)]
        return sorted(
            [run for run in runs if not phases or isinstance(run.phase, phases)],
            key=lambda each: each.run_id,
        )

    def held(self) -> list[m.Run]:
        return [run for run in self.live(m.Waiting) if isinstance(run.phase, m.Waiting) and run.phase.timer]

    def feed(self, event: ev.Event) -> None:
        self.at += 0.01
        effects = self.core.handle(event)
        for effect in effects:
            if isinstance(effect, fx.Probe) and effect.run_id in self.core.runs:
                self.turns += 1
                self._looks(self.core.runs[effect.run_id])
        for run in self.core.take_dirty():
            self.rows[run.run_id] = encode_run(run)
            if is_terminal(run.state):
                self.core.forget(run.run_id)

    def _looks(self, run: m.Run) -> None:
        if run.run_id not in self.first_turn and isinstance(run.phase, m.Selecting):
            self.first_turn[run.run_id] = self.turns
            self.asked_for[run.run_id] = reach(run).difference(run.phase.spared)

    # --- what happens -------------------------------------------------------------------

    @precondition(lambda self: len(self.live()) < 10)
    @rule(
        who=st.sampled_from("ab"),
        tags=st.sampled_from(WANTED),
        priority=st.sampled_from([100, 100, 100, 1]),
        actions=st.sampled_from([("build",), ("build", "test")]),
    )
    def accept(self, who: str, tags: tuple[str, ...], priority: int, actions: tuple[str, ...]) -> None:
        self.count += 1
        run = accepted(f"run-{self.count:08d}", ("build",), priority=priority, tags=tags)
        options = msgspec.structs.replace(run.options, actions=actions)
        self.feed(
            ev.RunAccepted(at=self.at, accepted=msgspec.structs.replace(run, origin=who, options=options))
        )

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run = one_of(data, self.live())
        self.feed(ev.CancelAsked(at=self.at, run_id=run.run_id, reason="USER"))

    @precondition(lambda self: self.live(m.Selecting, m.Reserving))
    @rule(data=st.data())
    def worker_answers(self, data: st.DataObject) -> None:
        self._answer(one_of(data, self.live(m.Selecting, m.Reserving)))

    def _answer(self, run: m.Run) -> None:
        base: dict[str, Any] = {"at": self.at, "run_id": run.run_id, "op": run.op}
        if isinstance(run.phase, m.Selecting):
            self.heard = True
            self.feed(ev.Probed(**base, reports=REPORTS, embedded=False))
            return
        assert isinstance(run.phase, m.Reserving)
        assert run.selection is not None
        worker = run.selection.choices[run.phase.index].worker
        taken = sum(each.worker == worker for each in self.live())
        if taken >= SLOTS[worker]:
            self._refuse(run, "BUSY")
            return
        self._check_grant(run, worker)
        if run.cancel is None:
            self.served.add(run.run_id)
            # While nobody knows who could serve whom, a turn at one worker counts for all.
            for each in [worker] if self.heard else TAGS:
                self.granted_at[each, origin(run), urgency(run)] = self.turns
        words = {"worker": worker, "lease_id": f"lease-{run.run_id}", "fence": 1, "ttl_seconds": 90}
        self.feed(ev.Reserved(**{**base, **words}))

    def _check_grant(self, run: m.Run, worker: str) -> None:
        for other in self.live(m.Waiting, m.Selecting, m.Reserving):
            if other is run or worker not in reach(other) or urgency(other) > urgency(run):
                continue
            looked = self.first_turn.get(other.run_id)
            since = max(
                (self.granted_at.get((each, origin(other), urgency(other)), -1) for each in reach(other)),
                default=-1,
            )
            before = looked is not None and looked < self.first_turn[run.run_id]
            if looked is not None and before and worker in self.asked_for[other.run_id]:
                assert since >= looked, f"{run.run_id} passes {other.run_id} on {worker}"
            same = origin(other) == origin(run) and other.accepted.options == run.accepted.options
            assert not same or other.run_id > run.run_id, "an older one of its origin waits for the same"

    def _refuse(self, run: m.Run, code: str) -> None:
        words: dict[str, Any] = {"operation": "x", "code": code, "message": code, "kind": "EXECUTOR"}
        self.feed(ev.WorkerRefused(at=self.at, run_id=run.run_id, op=run.op, subkind=None, **words))

    def under_way(self) -> list[m.Run]:
        return self.live(m.CheckingSource, m.Rechecking, m.Releasing)

    @precondition(lambda self: self.under_way())
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self._end(one_of(data, self.under_way()))

    def _end(self, run: m.Run) -> None:
        if not isinstance(run.phase, m.Releasing):
            self._refuse(run, "INTERNAL")
        self.feed(ev.Released(at=self.at, run_id=run.run_id, op=run.op))

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def pause_is_over(self, data: st.DataObject) -> None:
        self._wake(one_of(data, self.held()))

    def _wake(self, run: m.Run) -> None:
        self.feed(ev.TimerFired(at=self.at, run_id=run.run_id, name="busy", op=run.op))

    @rule()
    def restart(self) -> None:
        runs = [decode_run(row) for row in self.rows.values()]
        self.core = Core("/artifacts", [run for run in runs if not is_terminal(run.state)], self.core.seq)
        self.heard = False
        self.feed(ev.Started(at=self.at))

    # --- what must hold -----------------------------------------------------------------

    @invariant()
    def nobody_waits_for_a_worker_that_no_other_run_awaits(self) -> None:
        awaiting = [*self.live(m.Selecting, m.Reserving), *self.held()]
        awaited = set().union(*(reach(run) for run in awaiting))
        for run in self.live(m.Waiting):
            if run in awaiting:
                continue
            assert awaiting
            assert not self.heard or reach(run) <= awaited, f"{run.run_id} is held up by others' workers"

    @invariant()
    def a_run_that_waits_names_one_that_may_want_the_same_worker(self) -> None:
        for run in self.live(m.Waiting):
            told = self.core.view(run).waiting or ""
            if self.heard and told.startswith("behind "):
                assert reach(run) & reach(self.core.runs[told.split()[-1]])

    @invariant()
    def no_worker_is_asked_for_two_runs_of_one_urgency_at_once(self) -> None:
        asked: Counter[tuple[str, int]] = Counter()
        for run in self.live(m.Reserving):
            asked.update((choice.worker, urgency(run)) for choice in (run.selection or _NONE).choices)
        assert all(many == 1 for many in asked.values())

    def teardown(self) -> None:
        """Nothing more comes: each run that waits has its turn, and ends."""
        if not hasattr(self, "core"):
            return
        waiting = {run.run_id for run in self.live(m.Waiting)}
        for _ in range(600):
            if looking := self.live(m.Selecting, m.Reserving):
                self._answer(looking[0])
            elif under_way := self.under_way():
                self._end(under_way[0])
            elif held := self.held():
                self._wake(held[0])
            else:
                break
        assert not self.live()
        assert waiting <= self.served


_NONE = m.Selection(choices=(), refused={}, hosts={}, probe_failures=())

Crowd.TestCase.settings = bounded(histories=60, steps=40)
TestQueueOverWorkers = TIMEOUT(pytest.mark.spec("3.4")(Crowd.TestCase))
