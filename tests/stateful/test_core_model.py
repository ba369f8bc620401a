"""The core against a naive world: any answer, any cut, any restart, at any time.

The world answers whatever the core asks for, well or badly, in any order; its worker goes, comes
back, is another one, or talks nonsense. What must hold: no lease leaks and none is given back twice,
no job is executed twice, nothing is handed over to a worker that is not known again after a start,
`seq` rises by one, terminal states are final, and when the world is kind again every run ends.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stateful.histories import TIMEOUT, bounded
from stateful.naive_worker import GOOD, TEMPERS, NaiveWorker, Refused, refusal
from support.playbook import T0, accepted

from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.core.fleet import FLEET
from rchd.edges.core_rows import decode_run, encode_run

MAX_RUNS = 4
PLANS = [("build",), ("build", "test")]
REFUSALS = ["LEASE_EXPIRED", "SOURCE_MISSING", "INTERNAL", "JOB_NOT_FOUND", "BUSY", "UNSUPPORTED_PROTOCOL"]
CUTS = [("SSH", "UNREACHABLE"), ("SSH", "HOST_KEY"), ("EXECUTOR", "PROTOCOL_ERROR"), ("TRANSFER", None)]
LEASED = fx.Reserve | fx.Release


class World(RuleBasedStateMachine):
    """One worker with one slot, and everything that can go wrong on the way to it."""

    leasing = True

    @initialize()
    def begin(self) -> None:
        self.core = Core("/artifacts")
        self.worker = NaiveWorker(leasing=self.leasing)
        self.at = T0
        self.pending: list[fx.Outward] = []
        self.timers: dict[tuple[str, str], tuple[float, fx.StartTimer]] = {}
        self.rows: dict[str, bytes] = {}
        self.history: dict[str, list[tuple[str, int]]] = {}
        self.ended: dict[str, m.Run] = {}
        self.cancels: set[str] = set()
        self.released: set[str] = set()
        self.unlucky: set[str] = set()
        self.count = 0
        self.drained: dict[str, str] = {}

    # --- what the driver does -----------------------------------------------------------

    def feed(self, event: ev.Event) -> None:
        self.at += 0.01
        effects = self.core.handle(event)
        for run in self.core.take_dirty():
            self.rows[run.run_id] = encode_run(run)
            seen = self.history.setdefault(run.run_id, [])
            if not seen or seen[-1] != (run.state, run.seq):
                if seen:
                    assert run.seq == seen[-1][1] + 1, "seq rises by exactly one a transition"
                    assert not is_terminal(seen[-1][0]), "a terminal state is final"
                seen.append((run.state, run.seq))
            if is_terminal(run.state):
                self.ended[run.run_id] = run
                self.core.forget(run.run_id)
        for effect in effects:
            self._act(effect)

    def _act(self, effect: fx.Effect) -> None:
        match effect:
            case fx.StartTimer():
                due = self.at + effect.seconds
                self.timers[effect.run_id, effect.name] = (due, effect)
            case fx.StopTimers():
                self.timers = {k: t for k, t in self.timers.items() if k[0] != effect.run_id}
            case fx.Abort():
                gone = [each for each in self.pending if each.run_id == effect.run_id and each.op >= 0]
                self._lose(gone)
            case fx.Outward():
                self._asked(effect)

    def _asked(self, effect: fx.Outward) -> None:
        if isinstance(effect, fx.Release):
            assert effect.lease_id not in self.released, "given back twice"
        if isinstance(effect, fx.Submit):
            run = self.core.runs[effect.run_id]
            assert not run.unchecked, "handed over to a worker that is not known again"
            assert run.cancel is None, "it came back to life"
        self.pending.append(effect)

    def _lose(self, effects: list[fx.Outward]) -> None:
        """Nobody will hear what becomes of these; a lease among them runs out by itself."""
        self.pending = [each for each in self.pending if each not in effects]
        self.unlucky |= {each.run_id for each in effects if isinstance(each, LEASED)}

    # --- what users do ------------------------------------------------------------------

    @precondition(lambda self: self.count < MAX_RUNS)
    @rule(
        actions=st.sampled_from(PLANS),
        queue=st.booleans(),
        go_on=st.booleans(),
        swift=st.sampled_from([None, None, None, "9"]),
        results=st.booleans(),
    )
    def submit(
        self, actions: tuple[str, ...], *, queue: bool, go_on: bool, swift: str | None, results: bool
    ) -> None:
        self.count += 1
        options: dict[str, Any] = {"queue": queue, "continue_on_failure": go_on, "max_wait_seconds": 600}
        options["results"] = results
        options["toolchain"] = {"swift_version": swift} if swift else {}
        run = accepted(f"run-{self.count:08d}", actions, **options)
        self.feed(ev.RunAccepted(at=self.at, accepted=run))

    @precondition(lambda self: self.core.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run_id = data.draw(st.sampled_from(sorted(self.core.runs)))
        self.cancels.add(run_id)
        self.feed(ev.CancelAsked(at=self.at, run_id=run_id, reason="USER"))

    @rule()
    def look_after_the_worker(self) -> None:
        probe = fx.Probe(run_id="", op=0, max_age=0, tags=(), deadline=1.0)
        self.feed(ev.WorkerProbed(at=self.at, report=self.worker.probe(probe)))

    @rule(reason=st.sampled_from([None, "", "a new Xcode"]))
    def take_the_worker_out_of_service(self, reason: str | None) -> None:
        self.drained = {} if reason is None else {"mac": reason}
        self.feed(ev.WorkerDrained(at=self.at, worker="mac", reason=reason))

    # --- what the machine does ----------------------------------------------------------

    @rule()
    def restart(self) -> None:
        """As kill -9: only committed rows and the worker are left."""
        # What a phase awaits is asked for again; what nobody awaits, or a run left behind, is not.
        self._lose([each for each in self.pending if each.op < 0 or each.run_id in self.ended])
        self.pending = []
        runs = [decode_run(row) for row in self.rows.values()]
        live = [run for run in runs if not is_terminal(run.state)]
        self.core = Core("/artifacts", live, last_seq=self.core.seq)
        self.timers = {}
        self.feed(ev.Started(at=self.at, drained=self.drained))

    @precondition(lambda self: self.timers)
    @rule(data=st.data(), slept=st.sampled_from([0, 0, 0, 600]))
    def timer(self, data: st.DataObject, *, slept: int) -> None:
        self._fire(data.draw(st.sampled_from(sorted(self.timers))), slept)

    def _fire(self, key: tuple[str, str], slept: int = 0) -> None:
        due, timer = self.timers.pop(key)
        self.at = max(self.at, due)
        self.feed(ev.TimerFired(at=self.at, run_id=key[0], name=key[1], op=timer.op, slept=slept))

    @rule(days=st.sampled_from([-1, 1]))
    def clock_jumps(self, days: int) -> None:
        self.at += days * 86_400
        # Timers count what passes, whatever the clock says.
        self.timers = {key: (due + days * 86_400, timer) for key, (due, timer) in self.timers.items()}

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), done=st.booleans(), why=st.sampled_from(CUTS))
    def line_is_cut(self, data: st.DataObject, *, done: bool, why: tuple[str, str | None]) -> None:
        """The answer is lost; the worker may or may not have acted."""
        effect = self._take(data)
        if done and isinstance(effect, fx.WorkerCall):
            self._made(effect)
            if isinstance(effect, fx.Release):
                # Who has not heard of it gives it back again.
                self.released.discard(effect.lease_id)
        if isinstance(effect, LEASED | fx.CancelJob):
            self.unlucky.add(effect.run_id)
        cut: dict[str, Any] = {"kind": why[0], "subkind": why[1], "message": "cut", "operation": "x"}
        self.feed(ev.LineCut(at=self.at, run_id=effect.run_id, op=effect.op, **cut))

    # --- what the worker does -----------------------------------------------------------

    @rule(temper=st.sampled_from(TEMPERS), taken=st.booleans())
    def worker_becomes(self, temper: str, *, taken: bool) -> None:
        self.worker.temper, self.worker.taken = temper, taken

    @rule()
    def leases_run_out(self) -> None:
        self.worker.leases.clear()

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), code=st.sampled_from(REFUSALS))
    def worker_refuses(self, data: st.DataObject, code: str) -> None:
        effect = self._take(data)
        if not isinstance(effect, fx.WorkerCall):
            self.pending.append(effect)
            return
        if isinstance(effect, LEASED | fx.CancelJob):
            self.unlucky.add(effect.run_id)
        self.feed(refusal(effect, code, self.at))

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), cached=st.booleans())
    def worker_answers(self, data: st.DataObject, *, cached: bool) -> None:
        self.feed(self._made(self._take(data), cached=cached))

    @precondition(lambda self: any(isinstance(e, fx.Tail | fx.Submit | fx.Fetch) for e in self.pending))
    @rule(
        data=st.data(),
        state=st.sampled_from(["QUEUED", "RUNNING", "SUCCEEDED", "CANCELLED", "NONSENSE"]),
        seq=st.sampled_from([0, 1, 2, 3, 99]),
        cursor=st.sampled_from([None, "c"]),
    )
    def worker_talks_nonsense(self, data: st.DataObject, state: str, seq: int, cursor: str | None) -> None:
        found = [each for each in self.pending if isinstance(each, fx.Tail | fx.Submit | fx.Fetch)]
        effect = data.draw(st.sampled_from(found))
        self.pending.remove(effect)
        base: dict[str, Any] = {"at": self.at, "run_id": effect.run_id, "op": effect.op}
        if isinstance(effect, fx.Tail):
            news: dict[str, Any] = {"next_cursor": cursor, "log_offset": 0, "log_bytes": 0}
            self.feed(ev.TailNews(**base, state=state, seq=seq or None, **news))
        elif isinstance(effect, fx.Submit):
            self.feed(ev.Submitted(**base, state=state, seq=seq))
        elif self.worker.jobs.get(effect.job.job_id) in {"SUCCEEDED", "FAILED"}:
            self.feed(self.worker.fetch(effect, self._run(effect), base, seq))
        else:
            self.feed(ev.FetchRefused(**base, errors=("x: bad",), trust=seq == 0))

    def _take(self, data: st.DataObject) -> fx.Outward:
        effect = self.pending[data.draw(st.integers(0, len(self.pending) - 1))]
        self.pending.remove(effect)
        return effect

    def _run(self, effect: fx.Outward) -> m.Run:
        return self.core.runs.get(effect.run_id) or self.ended[effect.run_id]

    def _made(self, effect: fx.Outward, *, cached: bool = False) -> ev.Event:
        """What comes of `effect` on a line that holds."""
        base: dict[str, Any] = {"at": self.at, "run_id": effect.run_id, "op": effect.op}
        if isinstance(effect, fx.Probe):
            told = self.worker.probe(effect, cached=cached and effect.max_age > 0)
            return ev.Probed(**base, reports=(told,), embedded=False, whole=effect.worker is None)
        if isinstance(effect, fx.Publish):
            return ev.Published(**base, found=True)
        assert isinstance(effect, fx.WorkerCall)
        try:
            if isinstance(effect, fx.Fetch):
                return self.worker.fetch(effect, self._run(effect), base)
            answer = self.worker.answer(effect, base)
        except Refused as no:
            if isinstance(effect, fx.Release):
                self.unlucky.add(effect.run_id)
            return refusal(effect, str(no), self.at)
        if isinstance(effect, fx.Release) and effect.op >= 0:
            self.released.add(effect.lease_id)
        return answer

    # --- what must hold -----------------------------------------------------------------

    @invariant()
    def no_job_is_executed_twice(self) -> None:
        assert all(count == 1 for count in self.worker.executions.values())

    @invariant()
    def every_phase_awaits_something_that_will_come(self) -> None:
        awaited = {(each.run_id, each.op) for each in self.pending}
        for run in self.core.runs.values():
            if isinstance(run.phase, m.Waiting | m.Coalescing):
                assert (run.run_id, "max_wait") in self.timers
                continue
            # Where no lease is to be had, a wait for a slot may be the last one.
            last = isinstance(run.phase, m.Submitting) and run.hold is m.UNLEASED
            names = ("retry", "max_wait") if last else ("retry",)
            timers = [self.timers[run.run_id, each] for each in names if (run.run_id, each) in self.timers]
            asked = (run.run_id, run.op) in awaited
            assert asked or run.op in {each.op for _, each in timers}, f"{run.phase} waits for nothing"

    @invariant()
    def who_waits_for_another_run_waits_for_one_that_executes(self) -> None:
        for run in self.core.runs.values():
            if isinstance(run.phase, m.Coalescing):
                other = self.core.runs[run.phase.run_id]
                assert other.hold is not None
                assert other.cancel is None
                assert run.hold is None

    @invariant()
    def who_is_set_aside_comes_back_by_a_timer(self) -> None:
        aside = self.core.fleet.aside("mac")
        if aside is not None:
            assert self.timers[FLEET, "mac"][1].op == aside.number

    @invariant()
    def nobody_waits_for_a_drained_worker_without_a_timer(self) -> None:
        for run in self.core.runs.values():
            if isinstance(run.phase, m.Waiting) and run.phase.timer:
                assert self.timers[run.run_id, "busy"][1].op == run.op

    @invariant()
    def a_lease_is_held_by_its_run_or_on_its_way_back(self) -> None:
        under_way = {each.run_id for each in self.pending if isinstance(each, LEASED)}
        for run_id in self.worker.leases.values():
            run = self.core.runs.get(run_id)
            held = run is not None and run.lease is not None
            assert held or run_id in under_way | self.unlucky, f"the lease of {run_id} leaks"

    @invariant()
    def every_run_in_line_says_whether_it_can_be_served(self) -> None:
        for run in self.core.runs.values():
            told = self.core.view(run).servable
            assert told in ({"yes", "no", "unknown"} if run.state == "QUEUED" else {None})

    @invariant()
    def the_verdict_is_what_the_steps_say(self) -> None:
        for run in self.ended.values():
            statuses = [step.summary.status for step in run.steps if step.summary is not None]
            if run.exit_code == 0:
                assert statuses == ["success"] * len(run.steps)
            if run.run_id in self.cancels and run.cancel is not None:
                assert run.exit_code == 80

    def teardown(self) -> None:
        """The world is kind again: every run ends, and every lease is given back."""
        if not hasattr(self, "core"):
            return
        self.worker.temper, self.worker.taken = GOOD, False
        for _ in range(600):
            # A lease whose release was lost runs out by itself.
            lost = self.ended.keys() & self.unlucky
            self.worker.leases = {k: run for k, run in self.worker.leases.items() if run not in lost}
            if self.pending:
                self.feed(self._made(self.pending.pop(0)))
            elif self.core.runs and self.timers:
                self._fire(min(self.timers, key=lambda each: (self.timers[each][0], each)))
            else:
                break
        assert not self.core.runs, [type(run.phase) for run in self.core.runs.values()]
        assert not self.worker.leases
        assert not [run.hold for run in self.ended.values() if run.hold is not None]


class Unleased(World):
    """The same, with a worker that gives no leases: it is asked for none, and nothing is left running."""

    leasing = False

    def _asked(self, effect: fx.Outward) -> None:
        assert not isinstance(effect, LEASED), "there are no leases"
        super()._asked(effect)

    def _lose(self, effects: list[fx.Outward]) -> None:
        super()._lose(effects)
        self.unlucky |= {each.run_id for each in effects if isinstance(each, fx.CancelJob)}

    @invariant()
    def no_more_runs_are_there_than_it_has_slots(self) -> None:
        assert sum(run.hold is m.UNLEASED for run in self.core.runs.values()) <= 1

    @invariant()
    def a_job_runs_for_a_run_that_lives_or_is_about_to_be_ended(self) -> None:
        ending = {each.job_id for each in self.pending if isinstance(each, fx.CancelJob)}
        for run in self.ended.values():
            jobs = {step.job_id for step in run.accepted.steps} - ending
            left = [job_id for job_id in jobs if self.worker.jobs.get(job_id) == "RUNNING"]
            assert not left or run.run_id in self.unlucky, f"nobody ends {left}"


World.TestCase.settings = Unleased.TestCase.settings = bounded(histories=100, steps=30)
TestCore = TIMEOUT(pytest.mark.spec("3.4")(pytest.mark.spec("4")(World.TestCase)))
TestUnleased = TIMEOUT(pytest.mark.spec("3.4")(Unleased.TestCase))
