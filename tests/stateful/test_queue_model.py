"""The queue against a naive one: whatever comes, goes, is sent back or started anew, at any time.

What must hold: two of a group are never active at once; a turn goes to the most urgent, within an
origin to the oldest, past nobody whom a busy worker has sent back; between two turns of an origin
that waits each other one has at most one; and when no more comes, every run has had its turn.
A run that stood aside for an equal one comes back to the place that it had.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stateful.histories import TIMEOUT, bounded, one_of
from support.playbook import T0, accepted, caching

from rch.contract.ids import timestamp
from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.edges.core_rows import decode_run, encode_run

Lane = tuple[int, str]
SERVED = (m.CheckingSource, m.Rechecking, m.Releasing)


def lane_of(run: m.Run) -> Lane:
    return run.accepted.options.priority, run.accepted.origin


def age(run: m.Run) -> str:
    """Runs are numbered as they come; what the clock says of it is no matter."""
    return run.run_id


class Line(RuleBasedStateMachine):
    """Runs of three origins in and out of the queue; what follows a lease is one refusal."""

    @initialize()
    def begin(self) -> None:
        self.core = Core("/artifacts")
        self.at = T0
        self.count = 0
        self.rows: dict[str, bytes] = {}
        self.looked: set[str] = set()
        self.first_look: dict[str, int] = {}
        self.stood_aside: set[str] = set()
        self.since: dict[Lane, Counter[Lane]] = {}

    # --- what is seen of the runs, naively ----------------------------------------------

    def live(self, *phases: type[m.Phase]) -> list[m.Run]:
        runs = [run for run in self.core.runs.values() if not is_terminal(run.state)]
        return sorted([run for run in runs if not phases or isinstance(run.phase, phases)], key=age)

    def mates(self, run: m.Run) -> list[m.Run]:
        group = run.accepted.group
        return [each for each in self.live() if each is not run and group and each.accepted.group == group]

    def may_look(self, run: m.Run, beside: m.Run | None = None) -> bool:
        """Whether nobody of its group but `beside` is active or more urgent than it."""
        for mate in self.mates(run):
            if mate is beside:
                continue
            earlier = (mate.accepted.options.priority, age(mate)) < (lane_of(run)[0], age(run))
            if not isinstance(mate.phase, m.Waiting) or earlier:
                return False
        return True

    def contending(self) -> set[Lane]:
        found = {lane_of(run) for run in self.live(m.Selecting, m.Reserving) if run.accepted.options.queue}
        waiting = [run for run in self.live(m.Waiting) if run.accepted.options.queue]
        return found | {lane_of(run) for run in waiting if self.may_look(run)}

    # --- what the driver does -----------------------------------------------------------

    def feed(self, event: ev.Event) -> None:
        self.at += 0.01
        looking = {run.run_id: run for run in self.live(m.Selecting, m.Reserving)}
        effects = self.core.handle(event)
        for run_id, run in looking.items():
            if not isinstance(run.phase, m.Waiting | m.Selecting | m.Reserving | m.Coalescing):
                self._had_its_turn(run_id, run)
        for effect in effects:
            if isinstance(effect, fx.Probe) and effect.worker is None:
                self.first_look.setdefault(effect.run_id, len(self.first_look))
                self._check_turn(self.core.runs[effect.run_id])
        self.stood_aside |= {run.run_id for run in self.live(m.Coalescing)}
        for run in self.core.take_dirty():
            self.rows[run.run_id] = encode_run(run)
            if is_terminal(run.state):
                self.core.forget(run.run_id)
        lanes = self.contending()
        self.since = {lane: self.since.get(lane, Counter()) for lane in lanes}

    def _had_its_turn(self, run_id: str, run: m.Run) -> None:
        self.looked.add(run_id)
        if run.cancel is not None or not run.accepted.options.queue:
            return
        lane = lane_of(run)
        for other, turns in self.since.items():
            if other[0] == lane[0] and other != lane:
                turns[lane] += 1
                assert turns[lane] <= 1, f"{lane} has two turns while {other} waits"
        self.since.pop(lane, None)

    def _check_turn(self, run: m.Run) -> None:
        if not run.accepted.options.queue:
            return
        for other in self.live(m.Waiting, m.Selecting, m.Reserving):
            if other is run or not self.may_look(other, beside=run) or not other.accepted.options.queue:
                continue
            (urgency, origin), (own_urgency, own_origin) = lane_of(other), lane_of(run)
            if isinstance(other.phase, m.Waiting) and not other.phase.timer:
                assert urgency >= own_urgency, "a more urgent run waits"
                older = age(other) < age(run) and (urgency, origin) == (own_urgency, own_origin)
                assert not older, "an older run of its origin waits"
            else:
                was_before = self._came_back_to_its_place_before(run, other)
                assert urgency > own_urgency or was_before, "it overtakes a run that looks or was sent back"

    def _came_back_to_its_place_before(self, run: m.Run, other: m.Run) -> bool:
        """Whether it stood aside for an equal run, and the other one looked only meanwhile or later."""
        came_back = run.run_id in self.stood_aside
        return came_back and self.first_look[run.run_id] < self.first_look[other.run_id]

    # --- what happens -------------------------------------------------------------------

    @precondition(lambda self: len(self.core.runs) < 12)
    @rule(
        origin=st.sampled_from("abc"),
        priority=st.sampled_from([100, 100, 100, 1]),
        group=st.sampled_from([None, None, "g", "h"]),
        supersede=st.booleans(),
        queue=st.sampled_from([True, True, True, False]),
        results=st.booleans(),
        jump=st.sampled_from([0, 0, 0, 86_400, -86_400]),
    )
    def accept(
        self,
        origin: str,
        priority: int,
        group: str | None,
        *,
        supersede: bool,
        queue: bool,
        results: bool,
        jump: int,
    ) -> None:
        self.count += 1
        self.at += jump
        run = msgspec.structs.replace(
            accepted(f"run-{self.count:08d}", ("build",), priority=priority, queue=queue, results=results),
            origin=origin,
            group=group,
            supersede=supersede and group is not None,
            created_at=timestamp(self.at),
        )
        older = [each for each in self.live() if group and each.accepted.group == group]
        self.feed(ev.RunAccepted(at=self.at, accepted=run))
        if run.supersede:
            assert all(each.cancel is not None for each in older)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run = one_of(data, self.live())
        self.feed(ev.CancelAsked(at=self.at, run_id=run.run_id, reason="USER"))

    @precondition(lambda self: self.live(m.Selecting, m.Reserving))
    @rule(data=st.data(), busy=st.booleans())
    def worker_answers(self, data: st.DataObject, *, busy: bool) -> None:
        self._answer(one_of(data, self.live(m.Selecting, m.Reserving)), busy=busy)

    def _answer(self, run: m.Run, *, busy: bool) -> None:
        base: dict[str, Any] = {"at": self.at, "run_id": run.run_id, "op": run.op}
        if isinstance(run.phase, m.Selecting):
            self.feed(ev.Probed(**base, reports=(caching(),), embedded=False))
        elif busy:
            self._refuse(run, "BUSY")
        else:
            granted: dict[str, Any] = {
                "worker": "mac",
                "lease_id": f"lease-{run.run_id}",
                "fence": 1,
                "ttl_seconds": 90,
            }
            self.feed(ev.Reserved(**base, **granted))

    def _refuse(self, run: m.Run, code: str) -> None:
        words: dict[str, Any] = {
            "operation": "x",
            "code": code,
            "message": code,
            "kind": "EXECUTOR",
            "subkind": None,
        }
        self.feed(ev.WorkerRefused(at=self.at, run_id=run.run_id, op=run.op, **words))

    @precondition(lambda self: self.live(*SERVED))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self._end(one_of(data, self.live(*SERVED)))

    def _end(self, run: m.Run) -> None:
        if not isinstance(run.phase, m.Releasing):
            self._refuse(run, "INTERNAL")
        self.feed(ev.Released(at=self.at, run_id=run.run_id, op=run.op))

    def held(self) -> list[m.Run]:
        return [run for run in self.live(m.Waiting) if isinstance(run.phase, m.Waiting) and run.phase.timer]

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def pause_is_over(self, data: st.DataObject) -> None:
        run = one_of(data, self.held())
        self.feed(ev.TimerFired(at=self.at, run_id=run.run_id, name="busy", op=run.op))

    @rule()
    def restart(self) -> None:
        runs = [decode_run(row) for row in self.rows.values()]
        live = [run for run in runs if not is_terminal(run.state)]
        self.core = Core("/artifacts", live, last_seq=self.core.seq)
        self.feed(ev.Started(at=self.at))

    # --- what must hold -----------------------------------------------------------------

    @invariant()
    def two_of_a_group_are_never_active_at_once(self) -> None:
        active = [run.accepted.group for run in self.live() if not isinstance(run.phase, m.Waiting)]
        assert all(many == 1 for group, many in Counter(active).items() if group is not None)

    @invariant()
    def somebody_looks_or_there_is_a_reason(self) -> None:
        waiting = [run for run in self.live(m.Waiting) if run not in self.held() and self.may_look(run)]
        assert not waiting or self.live(m.Selecting, m.Reserving) or self.held()

    @invariant()
    def every_run_that_waits_for_others_says_for_whom(self) -> None:
        for run in self.live(m.Waiting):
            told = self.core.view(run).waiting or ""
            if run.accepted.options.queue and not self.may_look(run) and run not in self.held():
                assert told.startswith("after run ")

    def teardown(self) -> None:
        """Nothing more comes: each run that waits has its turn, and ends."""
        if not hasattr(self, "core"):
            return
        waiting = {run.run_id for run in self.live(m.Waiting)}
        for _ in range(200):
            if looking := self.live(m.Selecting, m.Reserving):
                self._answer(looking[0], busy=False)
            elif served := self.live(*SERVED):
                self._end(served[0])
            elif held := self.held():
                self.feed(ev.TimerFired(at=self.at, run_id=held[0].run_id, name="busy", op=held[0].op))
            else:
                break
        assert not self.live()
        assert waiting <= self.looked


Line.TestCase.settings = bounded(histories=60, steps=30)
TestQueue = TIMEOUT(pytest.mark.spec("12")(Line.TestCase))
