"""Who is set aside and for how long, and which runs no worker could ever serve."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted, capabilities, report, summary, unreachable

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core import select
from rchd.core.able import MAX_NEEDS
from rchd.core.fleet import FLEET, LONGEST_ASIDE_SECONDS, STRIKES


def wrong_key(worker: str = "mac", mark: str = "m") -> ev.ProbeReport:
    return report(
        worker, mark=mark, result=None, error="another key", error_kind="SSH", error_subkind="HOST_KEY"
    )


def garbage(worker: str = "mac") -> ev.ProbeReport:
    return report(
        worker, mark="m", result=None, broken=True, error="no JSON", error_kind="EXECUTOR",
        error_subkind="PROTOCOL_ERROR",
    )  # fmt: skip


def good(worker: str = "mac", **changes: Any) -> ev.ProbeReport:
    return report(worker, **{"mark": "m", **changes})


class Fleet(Playbook):
    """A core whose runs come one after another."""

    count = 0

    def submit(self, *reports: ev.ProbeReport, **options: Any) -> m.Run:
        """A run comes and looks; the workers say this."""
        self.count += 1
        run = self.accept(accepted(f"run-{self.count:08d}", ("build",), **options))
        self.answer(run, ev.Probed, reports=reports, embedded=False)
        return run

    def breaks(self, *reports: ev.ProbeReport) -> m.Run:
        """A run whose worker answers a submit with garbage."""
        run = self.submit(*(reports or (good(),)))
        self.grant(run, self.one(fx.Reserve).target.worker)
        self.answer(run, ev.SourceKnown, exists=True)
        self.broken(run)
        self.answer(run, ev.Released)
        return run

    def broken(self, run: m.Run) -> None:
        members = {"kind": "EXECUTOR", "subkind": "PROTOCOL_ERROR", "message": "no JSON"}
        self.answer(run, ev.LineCut, operation="submit", **members)

    def aside(self, worker: str = "mac") -> bool:
        return self.core.fleet.aside(worker) is not None

    def pauses(self) -> list[float]:
        """How long workers were set aside, one after another."""
        timers = [each for each in self.all_effects if isinstance(each, fx.StartTimer)]
        return [timer.seconds for timer in timers if timer.run_id == FLEET]

    def pause_is_over(self, worker: str = "mac") -> None:
        timers = [each for each in self.all_effects if isinstance(each, fx.StartTimer)]
        timer = [each for each in timers if (each.run_id, each.name) == (FLEET, worker)][-1]
        self.feed(ev.TimerFired(at=self.at, run_id=FLEET, name=worker, op=timer.op))

    def probed(self, each: ev.ProbeReport) -> None:
        """Somebody looks after a worker."""
        self.feed(ev.WorkerProbed(at=self.at, report=each))


# --- set aside ------------------------------------------------------------------------------


@pytest.mark.spec("7")
@pytest.mark.fault("W7")
def test_a_worker_that_breaks_the_protocol_so_often_in_a_row_gets_no_new_run_for_a_while() -> None:
    play = Fleet()
    for _ in range(STRIKES):
        assert not play.aside()
        assert play.breaks().exit_code == 40
    assert play.aside()
    run = play.submit(good(), good("other", priority=200))
    assert play.one(fx.Reserve).target.worker == "other", "nobody else is harmed"
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    play.pause_is_over()
    assert not play.aside()


@pytest.mark.spec("7")
@pytest.mark.fault("W7")
@pytest.mark.fault("S8")
@pytest.mark.parametrize(("bad", "times"), [(garbage, STRIKES), (wrong_key, 1)])
def test_the_only_worker_that_is_set_aside_fails_a_run_at_once_and_says_why(bad: Any, times: int) -> None:
    play = Fleet()
    for _ in range(times):
        assert play.submit(bad()).exit_code in {20, 40}
    run = play.submit(report("mac", mark="m", result=None))
    assert run.trouble is not None
    assert (run.trouble.kind, run.trouble.subkind) == (bad().error_kind, bad().error_subkind)
    assert "set aside until 2023-11-14T22:14:" in run.human_summary
    assert (bad().error or "-") in run.human_summary
    assert run.trouble.hint == "when it is mended: rchctl workers probe mac"
    assert run.selection is not None
    assert [each.worker for each in run.selection.probe_failures] == ["mac"]


@pytest.mark.spec("7")
@pytest.mark.fault("S8")
def test_a_worker_with_a_wrong_key_is_not_even_asked_and_longer_each_time() -> None:
    play = Fleet()
    for _ in range(8):
        play.submit(wrong_key())
        run = play.accept(accepted("run-probe-0001", ("build",)))
        assert play.one(fx.Probe).aside == {"mac": "m"}
        play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
        play.core.forget(run.run_id)
        play.pause_is_over()
    assert play.pauses() == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert max(play.pauses()) == LONGEST_ASIDE_SECONDS
    play.submit(good())
    play.feed(ev.CancelAsked(at=play.at, run_id="run-00000009", reason="USER"))
    play.grant(play.core.runs["run-00000009"])
    play.answer(play.core.runs["run-00000009"], ev.Released)
    play.submit(wrong_key())
    assert play.pauses()[-1] == 60, "it was well in between"


@pytest.mark.spec("7")
@pytest.mark.fault("W7")
def test_a_job_that_comes_back_whole_clears_what_was_before() -> None:
    play = Fleet()
    for _ in range(STRIKES - 1):
        play.breaks()
    run = play.submit(good())
    play.grant(run)
    play.answer(run, ev.SourceKnown, exists=True)
    play.finish_step(run, 0)
    play.answer(run, ev.Released)
    for _ in range(STRIKES - 1):
        play.breaks()
    assert not play.aside()


@pytest.mark.spec("7")
@pytest.mark.fault("W7")
def test_a_good_probe_is_no_proof_of_good_work() -> None:
    play = Fleet()
    for _ in range(STRIKES):
        play.breaks()
    run = play.submit(good())
    assert (run.state, run.exit_code) == ("FAILED", 40), "what it answered a probe with does not count"
    play.pause_is_over()
    play.breaks()
    assert play.aside()
    assert play.pauses() == [60, 120], "the next break sets it aside at once"


@pytest.mark.spec("7")
@pytest.mark.fault("W7")
def test_what_the_core_itself_finds_wrong_counts_too() -> None:
    play = Fleet()
    for _ in range(STRIKES):
        run = play.submit(good())
        play.grant(run)
        play.answer(run, ev.SourceKnown, exists=True)
        play.follow(run)
        play.news(run, "SUCCEEDED", 3, None)
        play.answer(run, ev.Fetched, summary=summary(run, 0), state="SUCCEEDED", seq=2, updated_at="x")
        play.answer(run, ev.Released)
        assert run.exit_code == 40
    assert play.aside(), "its sets are whole, and their states go back"
    play.probed(good())
    for _ in range(STRIKES):
        run = play.submit(good())
        play.grant(run)
        play.answer(run, ev.SourceKnown, exists=True)
        play.follow(run)
        news = {"state": "SUCCEEDED", "seq": 3, "next_cursor": "c", "log_offset": 0, "log_bytes": 0}
        while isinstance(run.phase, m.Following):
            play.answer(run, ev.TailNews, **news)
        play.answer(run, ev.Released)
    assert play.aside(), "its logs never end"


@pytest.mark.spec("7")
@pytest.mark.fault("W7")
def test_a_run_that_is_under_way_on_a_worker_that_is_set_aside_goes_on() -> None:
    play = Fleet()
    run = play.submit(good())
    play.grant(run)
    play.answer(run, ev.SourceKnown, exists=True)
    play.follow(run)
    play.submit(wrong_key())
    assert play.aside()
    play.news(run, "SUCCEEDED", 3, None)
    told = {"summary": summary(run, 0), "state": "SUCCEEDED", "seq": 3, "updated_at": "x"}
    play.answer(run, ev.Fetched, **told)
    play.answer(run, ev.Published, found=True)
    play.answer(run, ev.Released)
    assert run.state == "SUCCEEDED"


@pytest.mark.spec("7")
def test_whoever_probes_a_worker_that_answers_well_lets_it_serve_again() -> None:
    play = Fleet()
    for _ in range(STRIKES):
        play.breaks()
    play.probed(good(result=None, error="gone", error_kind="SSH", error_subkind="UNREACHABLE"))
    assert play.aside()
    play.probed(good())
    assert not play.aside()
    play.submit(good())
    play.one(fx.Reserve)
    play.pause_is_over()
    assert not play.aside()


@pytest.mark.spec("7")
def test_another_entry_of_that_name_is_another_worker() -> None:
    play = Fleet()
    play.submit(wrong_key(mark="old"))
    assert play.aside()
    play.submit(good(mark="new"))
    play.one(fx.Reserve)
    assert not play.aside()


@pytest.mark.spec("7")
def test_a_timer_of_a_pause_that_is_over_ends_no_later_one() -> None:
    play = Fleet()
    play.submit(wrong_key())
    play.probed(good())
    play.submit(wrong_key())
    play.feed(ev.TimerFired(at=play.at, run_id=FLEET, name="mac", op=1))
    assert play.aside()


@pytest.mark.spec("7")
def test_who_leaves_the_inventory_is_forgotten() -> None:
    play = Fleet()
    play.submit(wrong_key(), *(good(f"w{n}") for n in range(20)))
    play.feed(ev.CancelAsked(at=play.at, run_id="run-00000001", reason="USER"))
    play.grant(play.core.runs["run-00000001"], "w0")
    play.submit(good("w1"))
    assert not play.aside()
    assert list(play.core.fleet._reports) == ["w1"]


@pytest.mark.spec("7")
def test_a_worker_whose_pause_ended_while_the_others_were_asked_is_asked_soon() -> None:
    play = Fleet()
    play.submit(wrong_key())
    run = play.accept(accepted("run-probe-0001", ("build",)))
    play.pause_is_over()
    play.answer(run, ev.Probed, reports=(report("mac", mark="m", result=None),), embedded=False)
    timer = play.one(fx.StartTimer)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    assert play.one(fx.Probe).aside == {}


@pytest.mark.spec("7")
def test_who_is_set_aside_while_a_run_looks_is_left_out_when_it_looks_again() -> None:
    play = Fleet()
    run = play.submit(good(result=None, error="gone", error_kind="SSH", error_subkind="UNREACHABLE"))
    timer = play.one(fx.StartTimer)
    play.probed(wrong_key())
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    assert play.one(fx.Probe).aside == {"mac": "m"}


# --- who could be served --------------------------------------------------------------------


def waits(play: Fleet, *, first: tuple[ev.ProbeReport, ...], **options: Any) -> m.Run:
    """A run that stands behind one that looks; the workers said `first` a while ago."""
    play.submit(*first)
    return play.accept(accepted("run-waits-0001", ("build",), **options))


SWIFT_9: dict[str, Any] = {"toolchain": {"swift_version": "9"}}


@pytest.mark.spec("3.4")
@pytest.mark.fault("W12")
def test_a_run_in_line_says_whether_any_worker_could_serve_it() -> None:
    play = Fleet()
    play.core.draining = True
    run = play.accept(accepted("run-00000009", **SWIFT_9))
    view = play.core.view(run)
    assert (view.servable, view.servable_why) == ("unknown", "no worker has been asked yet")
    play.probed(unreachable())
    view = play.core.view(run)
    assert (view.servable, view.servable_why) == (
        "unknown", "no worker could be asked: mac: probe failed: connection refused",
    )  # fmt: skip
    play.probed(report())
    view = play.core.view(run)
    assert view.servable == "no"
    assert view.servable_why.startswith("no worker can serve this run: mac: Swift 9 is wanted; ")
    other = play.accept(accepted("run-00000010"))
    assert (play.core.view(other).servable, play.core.view(other).servable_why) == ("yes", "")
    play.probed(unreachable())
    assert play.core.view(run).servable == "unknown", "it may be another one when it is back"
    assert play.core.view(other).servable == "yes", "it could when it was last seen"


@pytest.mark.spec("3.4")
@pytest.mark.fault("W12")
def test_a_run_that_nobody_could_serve_is_ended_in_line_once_the_workers_say_so_anew() -> None:
    play = Fleet()
    never = waits(play, first=(report(),), **SWIFT_9)
    probe = play.one(fx.Probe)
    assert (probe.run_id, probe.max_age) == (FLEET, 0)
    also = play.accept(accepted("run-also-0001", **SWIFT_9))
    assert not play.of(fx.Probe), "it is asked for all of them"
    fits = play.accept(accepted("run-fits-0001"))
    play.feed(ev.Probed(at=play.at, run_id=FLEET, op=-1, reports=(report(),), embedded=False))
    for run in (never, also):
        assert (run.state, run.exit_code) == ("FAILED", 91)
        assert "Swift 9 is wanted" in run.human_summary
    assert fits.state == "QUEUED"
    assert not play.of(fx.Probe)


@pytest.mark.spec("3.4")
@pytest.mark.fault("W12")
@pytest.mark.parametrize("gone", [True, False])
def test_nothing_is_settled_while_a_worker_cannot_be_reached_or_the_inventory_be_read(
    *, gone: bool
) -> None:
    play = Fleet()
    never = waits(play, first=(report(), report("far")), **SWIFT_9)
    assert play.one(fx.Probe).run_id == FLEET
    if gone:
        reports = (report(), unreachable("far"))
        play.feed(ev.Probed(at=play.at, run_id=FLEET, op=-1, reports=reports, embedded=False))
    else:
        bad: dict[str, Any] = {"operation": "probe", "kind": "CONFIG", "subkind": None, "message": "x"}
        play.feed(ev.LineCut(at=play.at, run_id=FLEET, op=-1, **bad))
    assert never.state == "QUEUED"
    assert not play.of(fx.Probe), "nor is it asked again and again"
    play.feed(ev.WorkerProbed(at=play.at, report=report("far")))
    assert play.one(fx.Probe).run_id == FLEET


@pytest.mark.spec("3.4")
@pytest.mark.fault("W12")
def test_each_need_is_settled_for_itself() -> None:
    play = Fleet()
    nine = waits(play, first=(report(),), **SWIFT_9)
    eight = play.accept(accepted("run-eight-0001", toolchain={"swift_version": "8"}))
    tagged = play.accept(accepted("run-tagged-0001", tags=("gpu",)))
    for run in (nine, eight, tagged):
        play.feed(ev.Probed(at=play.at, run_id=FLEET, op=-1, reports=(report(),), embedded=False))
        assert run.state == "FAILED"
    assert "lacks the tag 'gpu'" in tagged.human_summary
    assert not play.of(fx.Probe)


@pytest.mark.spec("7")
@pytest.mark.fault("W12")
def test_an_old_snapshot_fails_nobody() -> None:
    play = Fleet()
    run = play.accept(accepted(**SWIFT_9))
    assert play.one(fx.Probe).max_age == 300
    play.answer(run, ev.Probed, reports=(report(fresh=False, age_seconds=200),), embedded=False)
    assert play.one(fx.Probe).max_age == 0
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    assert (run.state, run.exit_code) == ("FAILED", 91)


@pytest.mark.spec("3.4")
@pytest.mark.fault("W12")
@pytest.mark.parametrize("last", ["refuses", "is cut off"])
def test_a_busy_worker_is_waited_for_whatever_becomes_of_the_others(last: str) -> None:
    play = Fleet()
    run = play.submit(report("a"), report("b"), report("old", result=None, error="x"))
    busy = {"operation": "reserve", "code": "BUSY", "message": "no slot", "kind": "WORKER_BUSY"}
    play.answer(run, ev.WorkerRefused, subkind=None, retry_after=4.0, **busy)
    assert play.one(fx.Reserve).target.worker == "b"
    if last == "refuses":
        no = {"operation": "reserve", "code": "INTERNAL", "message": "x", "kind": "EXECUTOR"}
        play.answer(run, ev.WorkerRefused, subkind=None, **no)
    else:
        for _ in range(3):
            gone = {"operation": "reserve", "kind": "SSH", "subkind": "UNREACHABLE", "message": "x"}
            play.answer(run, ev.LineCut, **gone)
    assert isinstance(run.phase, m.Waiting)
    view = play.core.view(run)
    assert (view.servable, view.waiting) == ("yes", "a is busy: no slot")
    assert [each.seconds for each in play.of(fx.StartTimer) if each.name == "busy"] == [4.0]


@pytest.mark.spec("7")
@pytest.mark.fault("W12")
def test_a_worker_that_could_and_one_that_cannot_be_reached_are_asked_again_before_it_fails() -> None:
    play = Fleet()
    run = play.submit(report(), unreachable("far"), **SWIFT_9)
    pauses = []
    while run.state == "QUEUED":
        timer = play.one(fx.StartTimer)
        pauses.append(timer.seconds)
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
        play.answer(run, ev.Probed, reports=(report(), unreachable("far")), embedded=False)
    assert (run.exit_code, sum(pauses)) == (91, 6.0)


@pytest.mark.spec("3.4")
@pytest.mark.fault("W12")
def test_the_many_that_wait_are_judged_by_what_they_need_and_not_one_by_one() -> None:
    play = Fleet()
    play.core.draining = True
    play.probed(report())
    for n in range(500):
        play.core.handle(ev.RunAccepted(at=play.at, accepted=accepted(f"run-{n:08d}", ("build",))))
    runs = list(play.core.runs.values()) * 20
    began = time.process_time()
    answers = {play.core.fleet.servable(run.accepted.options).answer for run in runs}
    assert answers == {"yes"}
    assert len(play.core.fleet._verdicts) == 1
    play.probed(report())
    assert time.process_time() - began < 1.0


def asked_of_all(play: Fleet, needs: list[Any]) -> list[tuple[str, Any]]:
    """What is known of each need: its answer, and whom it may get."""
    fleet = play.core.fleet
    return [(fleet.servable(each).answer, fleet.reach(each)) for each in needs]


def busy_again(worker: str, number: int) -> ev.ProbeReport:
    """The same worker at a later probe: another time, load and number of free slots."""
    told = good(worker, age_seconds=number, duration_ms=number, skew_seconds=number, fresh=number % 2 == 0)
    assert told.result is not None
    capacity = msgspec.structs.replace(told.result.capabilities.capacity, slots_free=0, load_milli=number)
    now = msgspec.structs.replace(told.result.capabilities, capacity=capacity, probed_at=f"{number}")
    return msgspec.structs.replace(told, result=msgspec.structs.replace(told.result, capabilities=now))


@pytest.mark.spec("7")
def test_a_probe_asks_anew_only_for_the_workers_that_say_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[str] = []
    real = select.select

    def counting(options: Any, reports: Any) -> Any:
        told = list(reports)
        counted.extend(each.worker for each in told)
        return real(options, told)

    monkeypatch.setattr(select, "select", counting)
    play = Fleet()
    workers = [f"w{n}" for n in range(20)]
    needs = [accepted(toolchain={"swift_version": version}).options for version in ("6.3", "6.3.1", "6")]
    play.core.fleet.probed([good(each) for each in workers], play.at, whole=True)
    before = asked_of_all(play, needs)
    assert before == [("yes", frozenset(workers))] * 3
    assert len(counted) == 60, "each worker once a need"
    counted.clear()
    for number in range(10):
        play.core.fleet.probed([busy_again(each, number) for each in workers], play.at, whole=True)
        assert asked_of_all(play, needs) == before
    assert counted == [], "none of them said anything that a run goes by"
    reports = [good(each) for each in workers[1:]]
    other = capabilities(toolchains=())
    assert reports[0].result is not None
    result = msgspec.structs.replace(reports[0].result, capabilities=other)
    play.core.fleet.probed([good("w0", result=result), *reports], play.at, whole=True)
    assert asked_of_all(play, needs) == [("yes", frozenset(workers[1:]))] * 3
    assert counted == ["w0"] * 3


@pytest.mark.spec("7")
@pytest.mark.fault("W12")
def test_who_falls_silent_comes_back_or_leaves_is_seen_at_once() -> None:
    play, nine = Fleet(), [accepted(**SWIFT_9).options]
    fleet = play.core.fleet
    fleet.probed([good(), good("far")], play.at, whole=True)
    assert asked_of_all(play, nine) == [("no", frozenset())]
    fleet.probed([good(), good("far", result=None, error="gone")], play.at, whole=True)
    assert asked_of_all(play, nine) == [("unknown", {"far"})]
    fleet.probed([good(), good("far")], play.at, whole=True)
    assert asked_of_all(play, nine) == [("no", frozenset())]
    both = [accepted().options]
    assert asked_of_all(play, both) == [("yes", {"mac", "far"})]
    fleet.probed([good()], play.at, whole=True)
    assert asked_of_all(play, both) == [("yes", {"mac"})]
    fleet.probed([good(tags=("gpu",), mark="another")], play.at, whole=True)
    assert asked_of_all(play, [accepted(tags=("gpu",)).options]) == [("yes", {"mac"})]


@pytest.mark.spec("3.4")
@pytest.mark.parametrize(("count", "kept"), [(MAX_NEEDS, MAX_NEEDS), (MAX_NEEDS + 1, 1)])
def test_so_many_needs_are_remembered_and_one_more_begins_anew(count: int, kept: int) -> None:
    play = Fleet()
    play.probed(report())
    fleet = play.core.fleet
    for n in range(count):
        options = accepted(toolchain={"swift_version": f"6.{n}"}).options
        fleet.servable(options)
        fleet.reach(options)
    assert len(fleet._verdicts) == len(fleet._reaches) == len(fleet._able._known["mac"]) == kept


# --- drained --------------------------------------------------------------------------------


def drain(play: Fleet, reason: str | None, worker: str = "mac") -> None:
    play.feed(ev.WorkerDrained(at=play.at, worker=worker, reason=reason))


@pytest.mark.spec("7")
def test_a_drained_worker_gets_no_new_run_and_what_runs_there_goes_on() -> None:
    play = Fleet()
    first = play.submit(good(), good("other", priority=200))
    play.grant(first, "mac")
    drain(play, "a new Xcode")
    play.answer(first, ev.SourceKnown, exists=True)
    assert play.one(fx.Submit).target.worker == "mac"
    second = play.submit(good(), good("other", priority=200))
    assert play.one(fx.Reserve).target.worker == "other"
    assert second.selection is not None
    assert second.selection.refused == {"mac": "drained: a new Xcode"}


@pytest.mark.spec("7")
@pytest.mark.parametrize("told", [good(), unreachable()])
def test_a_run_waits_for_its_only_worker_while_that_is_drained_or_restarts(told: ev.ProbeReport) -> None:
    play = Fleet()
    drain(play, "")
    run = play.submit(told)
    assert isinstance(run.phase, m.Waiting)
    assert play.core.view(run).waiting == "mac: drained"
    assert play.core.view(run).servable != "no"
    drain(play, None)
    assert play.one(fx.Probe).run_id == run.run_id
    play.answer(run, ev.Probed, reports=(good(),), embedded=False)
    assert play.one(fx.Reserve).target.worker == "mac"


@pytest.mark.spec("7")
def test_a_drain_holds_up_no_run_that_another_worker_serves() -> None:
    play = Fleet()
    drain(play, "for a while")
    waits = play.submit(good(tags=("ios",)), good("other", priority=200), tags=("ios",))
    assert isinstance(waits.phase, m.Waiting)
    play.submit(good(tags=("ios",)), good("other", priority=200))
    assert play.one(fx.Reserve).target.worker == "other"


@pytest.mark.spec("7")
def test_a_drained_worker_that_could_not_serve_is_not_waited_for() -> None:
    play = Fleet()
    drain(play, "for a while")
    lacking = play.submit(good(), toolchain={"swift_version": "9"})
    assert lacking.exit_code == 91


@pytest.mark.spec("7")
def test_a_run_that_may_not_wait_ends_as_at_a_busy_worker() -> None:
    play = Fleet()
    drain(play, "for a while")
    run = play.submit(good(), queue=False)
    assert run.trouble is not None
    assert (run.exit_code, run.trouble.hint) == (90, "rchctl workers undrain mac")
    assert "mac: drained: for a while" in run.human_summary


@pytest.mark.spec("7")
def test_a_start_that_is_told_of_a_drain_keeps_to_it() -> None:
    play = Fleet()
    play.feed(ev.Started(at=play.at, drained={"mac": "over the night"}))
    assert play.core.view(play.submit(good())).waiting == "mac: drained: over the night"
