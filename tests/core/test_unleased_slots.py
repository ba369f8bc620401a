"""Slots of a worker that gives no leases: how runs wait for them, and for one another (section 3.4)."""

from __future__ import annotations

import msgspec
import pytest
from support.playbook import Playbook, accepted, caching, report, unleased
from support.unleased_runs import FIRST, SECOND, UNMISTAKABLE, at_worker, busy, fire, refused, started_again

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m

pytestmark = pytest.mark.spec("3.4")


@pytest.fixture
def play() -> Playbook:
    return Playbook()


# --- waiting for a slot ---------------------------------------------------------------


def test_a_busy_submit_is_made_again_later_and_the_view_says_why(play: Playbook) -> None:
    run = at_worker(play)
    pauses = []
    for _ in range(6):
        busy(play, run, 3.0)
        timer = play.one(fx.StartTimer)
        assert (timer.name, timer.spread) == ("retry", 0.3)
        assert not play.of(fx.Outward), "nothing is asked before that"
        pauses.append(timer.seconds)
        view = play.core.view(run)
        assert (view.state, view.waiting) == ("RUNNING", "the worker is busy: no slot is free")
        assert play.of(fx.Announce) or len(pauses) > 1, "followers hear of it, once"
        fire(play, timer)
        play.one(fx.Submit)
    assert pauses == [3.0, 3.0, 4.0, 8.0, 10.0, 10.0]
    play.finish_step(run, 0)
    assert play.core.view(run).waiting is None


def test_a_busy_worker_that_names_no_pause_is_not_asked_in_a_busy_loop(play: Playbook) -> None:
    run = at_worker(play)
    busy(play, run, None)
    assert play.one(fx.StartTimer).seconds >= 1.0
    fire(play, play.one(fx.StartTimer))
    busy(play, run, 0.0)
    assert play.one(fx.StartTimer).seconds >= 1.0


def test_with_no_queue_a_busy_submit_ends_the_run_at_once_with_90(play: Playbook) -> None:
    run = at_worker(play, queue=False, continue_on_failure=True)
    busy(play, run)
    assert (run.state, run.exit_code, run.trouble and run.trouble.kind) == ("FAILED", 90, "WORKER_BUSY")
    assert run.human_summary == "the worker is busy: no slot is free"
    assert not play.of(fx.Outward), "nothing of it is there"


def test_with_no_queue_a_later_step_waits_for_what_is_left_of_its_own_run(play: Playbook) -> None:
    run = at_worker(play, queue=False)
    play.finish_step(run, 0)
    busy(play, run)
    fire(play, play.one(fx.StartTimer))
    play.finish_step(run, 1)
    assert run.exit_code == 0


def test_who_waits_too_long_for_a_slot_ends_with_90_and_not_later(play: Playbook) -> None:
    run = at_worker(play, max_wait_seconds=10)
    waited = 0.0
    for _ in range(20):
        busy(play, run, 4.0)
        if not play.of(fx.StartTimer):
            break
        timer = play.one(fx.StartTimer)
        waited += timer.seconds
        fire(play, timer)
        if not play.of(fx.Submit):
            break
    assert waited == 10
    assert (run.state, run.exit_code) == ("FAILED", 90)
    assert "for 10 s (queue.max_wait_seconds)" in run.human_summary


def test_what_was_waited_for_a_slot_counts_on_over_a_start(play: Playbook) -> None:
    run = at_worker(play, max_wait_seconds=10)
    busy(play, run, 9.0)
    assert {each.run_id for each in play.core.take_dirty()} == {FIRST}
    again, run = started_again(play, run)
    refused(again, run, "JOB_NOT_FOUND", "tail")
    again.answer(run, ev.Probed, reports=(unleased(),), embedded=False, whole=False)
    again.one(fx.Submit)
    busy(again, run, 9.0)
    timer = again.one(fx.StartTimer)
    assert (timer.name, timer.seconds) == ("max_wait", 1.0)
    fire(again, timer)
    assert run.exit_code == 90


def test_an_old_timer_of_the_queue_ends_no_run_that_waits_for_a_slot(play: Playbook) -> None:
    run = at_worker(play)
    busy(play, run)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="max_wait", op=0))
    assert isinstance(run.phase, m.Submitting)
    assert run.queued_seconds < 10


@pytest.mark.spec("4")
def test_a_run_that_waits_for_a_slot_can_be_cancelled(play: Playbook) -> None:
    run = at_worker(play)
    busy(play, run)
    waiting = play.one(fx.StartTimer)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    told = play.one(fx.CancelJob)
    assert (told.lease_id, told.fence, told.reason) == (None, None, "USER")
    fire(play, waiting)
    assert not play.of(fx.Submit), "it is handed over no more"
    refused(play, run, "JOB_NOT_FOUND", "canceljob")
    assert (run.state, run.exit_code) == ("CANCELLED", 80)
    assert not [each for each in play.all_effects if isinstance(each, UNMISTAKABLE)]


@pytest.mark.spec("4")
def test_a_job_under_no_lease_is_cancelled_at_its_worker_and_fetched(play: Playbook) -> None:
    run = at_worker(play, actions=("build",))
    play.follow(run)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="SIGNAL"))
    assert (play.one(fx.CancelJob).lease_id, play.one(fx.CancelJob).reason) == (None, "SIGNAL")
    play.feed(ev.CancelNoted(at=play.at, run_id=run.run_id, op=-1, state="CANCEL_REQUESTED"))
    play.news(run, "CANCELLED", 4, None)
    play.one(fx.Fetch)
    assert run.hold is m.UNLEASED


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.spec("4")
def test_a_cancel_before_the_first_submit_ends_the_run_at_once(play: Playbook, *, resumed: bool) -> None:
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(unleased(),), embedded=False)
    if resumed:
        play, run = started_again(play, run)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    assert (run.state, run.exit_code, run.hold) == ("CANCELLED", 80, None)
    assert play.of(fx.Abort)
    assert not play.of(fx.Outward)


# --- other runs -----------------------------------------------------------------------


@pytest.mark.parametrize("slots", [0, 1, 2])
def test_no_more_runs_of_ours_are_at_a_worker_than_it_has_slots(play: Playbook, slots: int) -> None:
    served = [at_worker(play, f"run-{each:08d}", slots=slots) for each in range(1, max(1, slots) + 1)]
    late = play.accept(accepted("run-00000009"))
    play.answer(late, ev.Probed, reports=(unleased(slots=slots),), embedded=False)
    view = play.core.view(late)
    assert (view.state, view.phase) == ("QUEUED", "waiting")
    assert view.waiting is not None
    assert view.waiting.startswith("mac is busy: ")
    assert not play.of(fx.Outward)
    first = served[0]
    play.finish_step(first, 0)
    play.finish_step(first, 1)
    assert first.exit_code == 0
    assert play.one(fx.Probe).run_id == late.run_id, "it is woken by the first that is over"
    play.answer(late, ev.Probed, reports=(unleased(slots=slots),), embedded=False)
    assert late.hold is m.UNLEASED


def test_a_run_of_ours_that_may_not_wait_is_told_90_where_another_one_is(play: Playbook) -> None:
    at_worker(play)
    late = play.accept(accepted(SECOND, queue=False))
    play.answer(late, ev.Probed, reports=(unleased(),), embedded=False)
    assert (late.state, late.exit_code) == ("FAILED", 90)
    assert late.human_summary == "mac is busy: a run of this host is there"


@pytest.mark.spec("7")
@pytest.mark.parametrize("on_busy", ["next", "wait"])
def test_the_next_worker_is_asked_where_one_of_ours_is_at_the_first(play: Playbook, on_busy: str) -> None:
    at_worker(play)
    late = play.accept(accepted(SECOND, on_busy=on_busy))
    reports = (unleased(priority=1), report("spare", priority=2))
    play.answer(late, ev.Probed, reports=reports, embedded=False)
    asked = [each.target.worker for each in play.of(fx.Reserve)]
    assert asked == (["spare"] if on_busy == "next" else [])
    assert (late.state, late.hold) == ("QUEUED", None)


@pytest.mark.spec("7")
def test_a_worker_without_leases_takes_over_from_a_busy_one_with_them(play: Playbook) -> None:
    run = play.accept(accepted())
    reports = (report(priority=1), unleased("plain", priority=2))
    play.answer(run, ev.Probed, reports=reports, embedded=False)
    assert play.one(fx.Reserve).target.worker == "mac"
    refused(play, run, "BUSY", "reserve", kind="WORKER_BUSY", retry_after=1.0)
    assert (run.worker, run.hold) == ("plain", m.UNLEASED)
    assert play.one(fx.HasSource).target.worker == "plain"


def test_after_a_start_the_runs_that_are_there_still_count(play: Playbook) -> None:
    first = at_worker(play)
    play.follow(first)
    again, first = started_again(play, first)
    late = again.accept(accepted(SECOND))
    again.answer(late, ev.Probed, reports=(unleased(),), embedded=False)
    assert isinstance(late.phase, m.Waiting)


@pytest.mark.spec("11")
def test_an_equal_run_waits_for_one_without_a_lease_too(play: Playbook) -> None:
    told = caching()
    assert told.result is not None
    features = ("session", "upload", "tail", "result_cache")
    told = msgspec.structs.replace(told, result=msgspec.structs.replace(told.result, features=features))
    runs = [play.accept(accepted(each, results=True)) for each in (FIRST, SECOND)]
    for run in runs:
        play.answer(run, ev.Probed, reports=(told,), embedded=False)
    first, second = runs
    assert (first.hold, second.phase) == (m.UNLEASED, m.Coalescing(run_id=FIRST))
    play.answer(first, ev.SourceKnown, exists=True)
    play.finish_step(first, 0)
    play.finish_step(first, 1)
    assert first.exit_code == 0
    assert play.one(fx.Probe).run_id == SECOND
