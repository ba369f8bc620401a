"""Which runs no worker could ever serve, and what the workers say that settles it."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from support.fleets import Fleet, good
from support.playbook import accepted, capabilities, report, unreachable

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core import select
from rchd.core.able import MAX_NEEDS
from rchd.core.fleet import FLEET


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
