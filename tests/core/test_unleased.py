"""Workers that give no leases, or renew none: what a run holds of one, and how it waits for a slot."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted, caching, report, unleased

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import farewell
from rchd.edges.core_rows import decode_run, encode_run

pytestmark = pytest.mark.spec("3.4")

FIRST, SECOND = "run-00000001", "run-00000002"
UNMISTAKABLE = fx.Reserve | fx.Release
"""What no worker without leases is ever asked."""


@pytest.fixture
def play() -> Playbook:
    return Playbook()


def at_worker(play: Playbook, run_id: str = FIRST, *, slots: int = 1, **options: Any) -> m.Run:
    """A run up to its first submit, at a worker without leases."""
    run = play.accept(accepted(run_id, **options))
    play.answer(run, ev.Probed, reports=(unleased(slots=slots),), embedded=False)
    play.answer(run, ev.SourceKnown, exists=True)
    return run


def busy(play: Playbook, run: m.Run, after: float | None = 1.0, message: str = "no slot is free") -> None:
    """The submit finds no free slot."""
    refused(play, run, "BUSY", "submit", kind="WORKER_BUSY", message=message, retry_after=after)


def refused(play: Playbook, run: m.Run, code: str, operation: str, /, **members: Any) -> None:
    base: dict[str, Any] = {"kind": "EXECUTOR", "subkind": None, "message": code}
    play.answer(run, ev.WorkerRefused, code=code, operation=operation, **{**base, **members})


def fire(play: Playbook, timer: fx.StartTimer) -> None:
    play.feed(ev.TimerFired(at=play.at, run_id=timer.run_id, name=timer.name, op=timer.op))


def started_again(play: Playbook, run: m.Run) -> tuple[Playbook, m.Run]:
    """As after kill -9: the row is left."""
    kept = decode_run(encode_run(run))
    again = Playbook(kept)
    again.feed(ev.Started(at=play.at))
    return again, kept


# --- a run from its choice to its end -------------------------------------------------


def test_a_run_at_a_worker_without_leases_reserves_renews_and_releases_nothing(play: Playbook) -> None:
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(unleased(),), embedded=False)
    assert (run.state, run.seq, run.hold) == ("RUNNING", 2, m.UNLEASED)
    assert play.one(fx.HasSource).lease_id is None
    play.answer(run, ev.SourceKnown, exists=False)
    assert (play.one(fx.Upload).lease_id, play.one(fx.Upload).fence) == (None, None)
    play.answer(run, ev.Uploaded)
    assert (play.one(fx.Submit).lease_id, play.one(fx.Submit).fence) == (None, None)
    play.finish_step(run, 0)
    play.finish_step(run, 1)
    assert (run.state, run.seq, run.exit_code, run.hold) == ("SUCCEEDED", 3, 0, None)
    assert play.one(fx.DropFetches).run_id == run.run_id, "which else the release stands for"
    assert not [each for each in play.all_effects if isinstance(each, UNMISTAKABLE)]
    assert not [e for e in play.all_effects if isinstance(e, fx.StartTimer) and e.name == "renew"]


def test_worker_selection_says_that_the_chosen_worker_gives_no_leases(play: Playbook) -> None:
    run = at_worker(play)
    path = f"{run.run_id}/worker_selection.json"
    written = [e.data for e in play.all_effects if isinstance(e, fx.WriteRecord) and e.path == path]
    (only,) = json.loads(written[-1])["candidates"]
    assert (only["chosen"], only["reason"]) == (True, "first by priority and name; it gives no leases")


def test_a_hold_is_kept_in_the_row_and_rows_of_before_are_read(play: Playbook) -> None:
    without = at_worker(play)
    assert decode_run(encode_run(without)).hold is m.UNLEASED
    assert json.loads(encode_run(without))["lease"] == "unleased"
    other = Playbook()
    run = other.accept(accepted())
    other.to_step(run)
    row = json.loads(encode_run(run))
    assert row["lease"].pop("terms") == "renewed"
    assert decode_run(json.dumps(row).encode()).hold == run.lease
    assert decode_run(json.dumps({**row, "lease": None}).encode()).hold is None


@pytest.mark.parametrize("code", ["LEASE_EXPIRED", "INTERNAL"])
def test_a_lease_that_nobody_has_is_not_asked_for_anew(play: Playbook, code: str) -> None:
    run = at_worker(play)
    refused(play, run, code, "submit")
    assert (run.state, run.exit_code) == ("FAILED", 40)
    assert not play.of(fx.Outward)


def test_a_late_grant_from_a_worker_that_offers_none_is_given_back(play: Playbook) -> None:
    run = at_worker(play)
    late: dict[str, Any] = {"worker": "mac", "lease_id": "lease-late0001", "fence": 3, "ttl_seconds": 90}
    play.feed(ev.Reserved(at=play.at, run_id=run.run_id, op=-1, **late))
    assert play.one(fx.Release).lease_id == "lease-late0001"
    assert run.hold is m.UNLEASED


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


# --- a job that nothing else ends -----------------------------------------------------


def test_a_run_that_leaves_in_the_middle_of_a_job_has_it_ended(play: Playbook) -> None:
    """Under a lease the release does that."""
    run = at_worker(play)
    play.follow(run)
    play.news(run, "NONSENSE", 3, "c")
    assert (run.state, run.exit_code) == ("FAILED", 40)
    assert play.one(fx.CancelJob).job_id == run.accepted.steps[0].job_id
    other = Playbook()
    held = other.accept(accepted())
    other.to_step(held)
    other.follow(held)
    other.news(held, "NONSENSE", 3, "c")
    assert not other.of(fx.CancelJob)
    other.one(fx.Release)


def test_a_job_whose_log_is_refused_is_ended_too(play: Playbook) -> None:
    run = at_worker(play)
    play.follow(run)
    refused(play, run, "INTERNAL", "tail")
    assert play.one(fx.CancelJob).job_id == run.accepted.steps[0].job_id
    assert run.exit_code == 40


def test_a_job_that_is_over_is_not_ended_again(play: Playbook) -> None:
    run = at_worker(play, actions=("build",))
    play.follow(run)
    play.news(run, "FAILED", 3, None)
    refused(play, run, "ARTIFACTS_GONE", "fetch", kind="ARTIFACTS", subkind="GONE")
    assert run.exit_code == 70
    assert not play.of(fx.CancelJob)


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


# --- after a start --------------------------------------------------------------------


@pytest.mark.spec("4")
def test_after_a_start_a_job_without_a_lease_is_followed_and_no_lease_is_asked_for(play: Playbook) -> None:
    run = at_worker(play)
    play.follow(run)
    again, run = started_again(play, run)
    again.one(fx.Tail)
    assert [type(each) for each in again.of(fx.Outward)] == [fx.Tail]
    again.news(run, "SUCCEEDED", 3, None)
    assert run.resumed_at is not None
    assert farewell([run]) == []


@pytest.mark.spec("4")
def test_a_run_that_waited_for_an_answer_that_never_comes_starts_over(play: Playbook) -> None:
    """A version before this one asked such a worker for a lease."""
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    assert isinstance(run.phase, m.Reserving)
    assert run.selection is not None
    run.selection = msgspec.structs.replace(run.selection, choices=_choices_of(unleased()))
    again, run = started_again(play, run)
    again.one(fx.Probe)
    assert not again.of(fx.Reserve)


def _choices_of(told: ev.ProbeReport) -> tuple[m.Choice, ...]:
    other = Playbook()
    run = other.accept(accepted())
    other.answer(run, ev.Probed, reports=(told,), embedded=False)
    assert run.selection is not None
    return run.selection.choices


@pytest.mark.spec("4")
def test_a_worker_that_gives_no_leases_any_more_is_gone_on_with_without_one(play: Playbook) -> None:
    run = play.accept(accepted())
    play.to_step(run)
    again, run = started_again(play, run)
    refused(again, run, "JOB_NOT_FOUND", "tail")
    again.answer(run, ev.Probed, reports=(unleased(),), embedded=False, whole=False)
    assert again.one(fx.Submit).lease_id is None
    again.finish_step(run, 0)
    again.finish_step(run, 1)
    assert run.exit_code == 0
    assert not again.of(fx.Release)


# --- leases that are not renewed ------------------------------------------------------


def fixed(worker: str = "mac") -> ev.ProbeReport:
    """A worker that gives leases and renews none."""
    told = report(worker)
    assert told.result is not None
    result = msgspec.structs.replace(told.result, features=("upload", "lease"))
    return msgspec.structs.replace(told, result=result)


def granted(play: Playbook, run: m.Run, ttl: int, fence: int = 1) -> None:
    members = {"worker": "mac", "lease_id": "lease-whole0001", "fence": fence, "ttl_seconds": ttl}
    play.answer(run, ev.Reserved, **members)


def test_a_lease_that_is_not_renewed_is_asked_for_the_whole_run(play: Playbook) -> None:
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(fixed(),), embedded=False)
    assert play.one(fx.Reserve).ttl_seconds == 30 + 2 * 1800
    granted(play, run, 3630)
    assert run.lease is not None
    assert run.lease.terms is m.Terms.WHOLE
    assert not [e for e in play.all_effects if isinstance(e, fx.StartTimer) and e.name == "renew"]
    assert run.warnings == []
    assert farewell([run]) == []
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="renew"))
    assert not play.effects
    again, _ = started_again(play, run)
    assert not again.of(fx.Reserve)
    assert not [e for e in again.all_effects if isinstance(e, fx.StartTimer) and e.name == "renew"]


def test_the_lease_of_a_renewing_worker_lives_as_long_as_that_one_says(play: Playbook) -> None:
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    assert play.one(fx.Reserve).ttl_seconds is None


def test_one_new_lease_is_asked_for_the_steps_that_are_left(play: Playbook) -> None:
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(fixed(),), embedded=False)
    granted(play, run, 3630)
    play.answer(run, ev.SourceKnown, exists=True)
    play.finish_step(run, 0)
    refused(play, run, "LEASE_EXPIRED", "submit")
    assert play.one(fx.Reserve).ttl_seconds == 30 + 1800
    granted(play, run, 1830, fence=2)
    assert run.lease is not None
    assert (run.lease.terms, run.lease.fence, run.lease_renewed) == (m.Terms.WHOLE, 2, True)


def test_a_lease_that_is_too_short_and_not_renewed_is_warned_of(play: Playbook) -> None:
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(fixed(),), embedded=False)
    granted(play, run, 90)
    assert run.warnings == [
        "worker mac gave a lease of 90 s, which it does not renew; the run may take 3630 s"
    ]


@pytest.mark.parametrize("code", ["UNKNOWN_OPERATION", "FEATURE_MISSING"])
def test_a_worker_that_refuses_to_renew_at_all_is_not_asked_again(play: Playbook, code: str) -> None:
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    why: dict[str, Any] = {"operation": "reserve", "code": code, "message": "no", "kind": "EXECUTOR"}
    play.feed(ev.WorkerRefused(at=play.at, run_id=run.run_id, op=-1, subkind=None, **why))
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="renew"))
    assert not play.of(fx.Reserve)
