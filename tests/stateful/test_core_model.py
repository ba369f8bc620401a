"""The core against a naive world: any answer, any cut, any restart, at any time.

The world answers whatever the core asks for, well or badly, in any order. What must hold: no
lease leaks, no job is executed twice, `seq` rises by one, terminal states are final, and when
the world is kind again every run comes to an end.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.playbook import T0, accepted, report, summary, unreachable

from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.driver import decode_run, encode_run

MAX_RUNS = 4
PLANS = [("build",), ("build", "test")]
REFUSALS = ["LEASE_EXPIRED", "SOURCE_MISSING", "INTERNAL", "JOB_NOT_FOUND"]


class World(RuleBasedStateMachine):
    """One worker with one slot, and everything that can go wrong on the way to it."""

    @initialize()
    def begin(self) -> None:
        self.core = Core("/artifacts")
        self.at = T0
        self.pending: list[fx.Outward] = []
        self.timers: dict[tuple[str, str], tuple[float, fx.StartTimer]] = {}
        self.rows: dict[str, bytes] = {}
        self.history: dict[str, list[tuple[str, int]]] = {}
        self.ended: dict[str, m.Run] = {}
        self.leases: dict[str, str] = {}
        self.jobs: dict[str, str] = {}
        self.executions: dict[str, int] = {}
        self.cancels: set[str] = set()
        self.count = 0
        self.grants = 0
        self.sources: set[str] = set()
        self.kind = False

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
                self.pending = [
                    each for each in self.pending if each.run_id != effect.run_id or each.op < 0
                ]
            case fx.Outward():
                self.pending.append(effect)

    # --- what users do ------------------------------------------------------------------

    @precondition(lambda self: self.count < MAX_RUNS)
    @rule(actions=st.sampled_from(PLANS), queue=st.booleans(), go_on=st.booleans())
    def submit(self, actions: tuple[str, ...], *, queue: bool, go_on: bool) -> None:
        self.count += 1
        run = accepted(f"run-{self.count:08d}", actions, queue=queue, continue_on_failure=go_on)
        self.feed(ev.RunAccepted(at=self.at, accepted=run))

    @precondition(lambda self: self.core.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run_id = data.draw(st.sampled_from(sorted(self.core.runs)))
        self.cancels.add(run_id)
        self.feed(ev.CancelAsked(at=self.at, run_id=run_id, reason="USER"))

    # --- what the machine does ----------------------------------------------------------

    @rule()
    def restart(self) -> None:
        """As kill -9: only committed rows and the worker are left."""
        runs = [decode_run(row) for row in self.rows.values()]
        live = [run for run in runs if not is_terminal(run.state)]
        self.core = Core("/artifacts", live, last_seq=self.core.seq)
        self.pending, self.timers = [], {}
        self.feed(ev.Started(at=self.at))

    @precondition(lambda self: self.timers)
    @rule(data=st.data())
    def timer(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.timers)))
        self._fire(key)

    def _fire(self, key: tuple[str, str]) -> None:
        due, timer = self.timers.pop(key)
        self.at = max(self.at, due)
        self.feed(ev.TimerFired(at=self.at, run_id=key[0], name=key[1], op=timer.op))

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), done=st.booleans())
    def line_is_cut(self, data: st.DataObject, *, done: bool) -> None:
        """The answer is lost; the worker may or may not have acted."""
        effect = self._take(data)
        if done:
            self._answer(effect)
        kind, subkind = data.draw(
            st.sampled_from([("SSH", "UNREACHABLE"), ("EXECUTOR", "PROTOCOL_ERROR"), ("TRANSFER", None)])
        )
        cut: dict[str, Any] = {"kind": kind, "subkind": subkind, "message": "cut", "operation": "x"}
        self.feed(ev.LineCut(at=self.at, run_id=effect.run_id, op=effect.op, **cut))

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), code=st.sampled_from(REFUSALS))
    def worker_refuses(self, data: st.DataObject, code: str) -> None:
        effect = self._take(data)
        if not isinstance(effect, fx.WorkerCall):
            self.pending.append(effect)
            return
        self._refuse(effect, code)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def worker_answers(self, data: st.DataObject) -> None:
        effect = self._take(data)
        event = self._answer(effect)
        if event is not None:
            self.feed(event)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def artifacts_are_bad(self, data: st.DataObject) -> None:
        fetches = [each for each in self.pending if isinstance(each, fx.Fetch)]
        if fetches:
            effect = data.draw(st.sampled_from(fetches))
            self.pending.remove(effect)
            self.feed(ev.FetchRefused(at=self.at, run_id=effect.run_id, op=effect.op, errors=("x: bad",)))

    # --- the worker ---------------------------------------------------------------------

    def _take(self, data: st.DataObject) -> fx.Outward:
        effect = self.pending[data.draw(st.integers(0, len(self.pending) - 1))]
        self.pending.remove(effect)
        return effect

    def _refuse(self, effect: fx.WorkerCall, code: str) -> None:
        kinds = {"BUSY": "WORKER_BUSY", "LEASE_EXPIRED": "WORKER_BUSY", "SOURCE_MISSING": "TRANSFER"}
        self.feed(
            ev.WorkerRefused(
                at=self.at, run_id=effect.run_id, op=effect.op, operation="x", code=code, message=code,
                kind=kinds.get(code, "EXECUTOR"), subkind=None, retry_after=1.0,
            )
        )  # fmt: skip

    def _answer(self, effect: fx.Outward) -> ev.Event | None:  # noqa: C901  (one arm an operation)
        """What a worker in order does and says; None where it refused."""
        base: dict[str, Any] = {"at": self.at, "run_id": effect.run_id, "op": effect.op}
        match effect:
            case fx.Probe():
                reports = (report(),) if self.kind or self.grants % 5 != 4 else (unreachable(),)
                return ev.Probed(**base, reports=reports, embedded=False)
            case fx.Reserve():
                return self._reserve(effect, base)
            case fx.Release():
                self.leases.pop(effect.lease_id, None)
                return ev.Released(**base)
            case fx.HasSource():
                return ev.SourceKnown(**base, exists=effect.source_sha256 in self.sources)
            case fx.Upload():
                self.sources.add(effect.source.source_sha256)
                return ev.Uploaded(**base)
            case fx.Submit():
                return self._submit(effect, base)
            case fx.CancelJob():
                if self.jobs.get(effect.job_id) == "RUNNING":
                    self.jobs[effect.job_id] = "CANCELLED"
                return ev.CancelNoted(**base, state=self.jobs.get(effect.job_id, "CANCELLED"))
            case fx.Tail():
                return self._tail(effect, base)
            case fx.Fetch():
                return self._fetch(effect, base)
            case fx.Publish():
                return ev.Published(**base, found=True)
            case _:
                raise AssertionError(effect)

    def _reserve(self, effect: fx.Reserve, base: dict[str, Any]) -> ev.Event | None:
        own = [lease for lease, run_id in self.leases.items() if run_id == effect.run_id]
        if effect.lease_id is not None and effect.lease_id not in self.leases:
            self._refuse(effect, "LEASE_EXPIRED")
            return None
        if not own and self.leases:
            self._refuse(effect, "BUSY")
            return None
        if not own:
            self.grants += 1
            own = [f"lease-{self.grants:06d}"]
            self.leases[own[0]] = effect.run_id
        renewal = effect.lease_id is not None
        granted: dict[str, Any] = {"worker": "mac", "lease_id": own[0], "fence": 1, "ttl_seconds": 90}
        return ev.Reserved(**base, **granted, renewal=renewal)

    def _submit(self, effect: fx.Submit, base: dict[str, Any]) -> ev.Event:
        job_id = effect.job.job_id
        if job_id not in self.jobs:
            cancelled = effect.run_id in self.cancels
            assert not cancelled or self._in_flight_at_cancel(effect), "it came back to life"
            self.jobs[job_id] = "RUNNING"
            self.executions[job_id] = self.executions.get(job_id, 0) + 1
        return ev.Submitted(**base, state=self.jobs[job_id], seq=effect.job_state_seq + 1)

    def _in_flight_at_cancel(self, effect: fx.Submit) -> bool:
        """A submit that was on its way when the cancel came may still arrive."""
        run = self.core.runs.get(effect.run_id)
        return run is not None and isinstance(run.phase, m.Submitting) and run.op == effect.op

    def _tail(self, effect: fx.Tail, base: dict[str, Any]) -> ev.Event | None:
        news: dict[str, Any]
        state = self.jobs.get(effect.job_id)
        if state is None:
            self._refuse(effect, "JOB_NOT_FOUND")
            return None
        if state == "RUNNING" and effect.cursor is None:
            news = {"state": "RUNNING", "seq": 2, "next_cursor": "c", "log_offset": 0, "log_bytes": 3}
            return ev.TailNews(**base, **news)
        if state == "RUNNING":
            state = self.jobs[effect.job_id] = "FAILED" if self.grants % 3 == 2 else "SUCCEEDED"
        news = {"state": state, "seq": 3, "next_cursor": None, "log_offset": 3, "log_bytes": 0}
        return ev.TailNews(**base, **news)

    def _fetch(self, effect: fx.Fetch, base: dict[str, Any]) -> ev.Event:
        state = self.jobs[effect.job.job_id]
        run = self.core.runs.get(effect.run_id) or self.ended[effect.run_id]
        index = next(i for i, s in enumerate(run.accepted.steps) if s.job_id == effect.job.job_id)
        status = {"SUCCEEDED": "success", "FAILED": "failed", "CANCELLED": "cancelled"}[state]
        return ev.Fetched(**base, summary=summary(run, index, status), state=state, seq=3, updated_at="x")

    # --- what must hold -----------------------------------------------------------------

    @invariant()
    def no_job_is_executed_twice(self) -> None:
        assert all(count == 1 for count in self.executions.values())

    @invariant()
    def every_phase_awaits_something_that_will_come(self) -> None:
        awaited = {(each.run_id, each.op) for each in self.pending}
        for run in self.core.runs.values():
            if isinstance(run.phase, m.Waiting):
                assert (run.run_id, "max_wait") in self.timers
                continue
            retry = self.timers.get((run.run_id, "retry"))
            asked = (run.run_id, run.op) in awaited
            assert asked or (retry is not None and retry[1].op == run.op), f"{run.phase} waits for nothing"

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
        self.kind = True
        for _ in range(400):
            # A lease whose release was lost runs out by itself.
            self.leases = {lease: run for lease, run in self.leases.items() if run not in self.ended}
            if self.pending:
                event = self._answer(self.pending.pop(0))
                if event is not None:
                    self.feed(event)
            elif self.core.runs and self.timers:
                self._fire(min(self.timers, key=lambda each: (self.timers[each][0], each)))
            else:
                break
        assert not self.core.runs, [type(run.phase) for run in self.core.runs.values()]
        known = {run.lease.lease_id for run in self.ended.values() if run.lease is not None}
        assert not known, "an ended run holds no lease"


World.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCore = World.TestCase
