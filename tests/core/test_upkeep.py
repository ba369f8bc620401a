"""Beside a run's phases: its lease, its timers, its slot, and a worker that does not count right."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.playbook import Playbook, accepted, report, summary, unreachable

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import VERDICT_SECONDS


def following(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    return run


def expired(play: Playbook, run: m.Run) -> None:
    why: dict[str, Any] = {
        "operation": "reserve",
        "code": "LEASE_EXPIRED",
        "message": "gone",
        "kind": "WORKER_BUSY",
    }
    play.feed(ev.WorkerRefused(at=play.at, run_id=run.run_id, op=-1, subkind=None, **why))


@pytest.mark.spec("3.4")
@pytest.mark.fault("W4")
def test_a_lease_that_ran_out_while_the_job_runs_is_revived() -> None:
    play = Playbook()
    run = following(play)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="renew"))
    assert play.one(fx.Reserve).lease_id == "lease-run-00000001"
    expired(play, run)
    revival = play.one(fx.Reserve)
    assert (revival.lease_id, revival.fence) == (None, None)
    granted: dict[str, Any] = {
        "worker": "mac",
        "lease_id": "lease-run-00000001",
        "fence": 7,
        "ttl_seconds": 90,
    }
    play.feed(ev.Reserved(at=play.at, run_id=run.run_id, op=-1, **granted))
    assert run.lease is not None
    assert run.lease.fence == 7
    assert not run.lease_renewed, "that word is kept for a submit"


@pytest.mark.spec("3.4")
def test_a_restart_renews_at_once() -> None:
    play = Playbook()
    run = following(play)
    again = Playbook(run)
    again.feed(ev.Started(at=play.at))
    assert again.one(fx.Reserve).lease_id == "lease-run-00000001"


@pytest.mark.spec("4")
@pytest.mark.parametrize("name", ["overall", "idle"])
def test_the_host_watches_a_jobs_time_too_also_after_a_restart(name: str) -> None:
    play = Playbook()
    run = following(play)
    again = Playbook(run)
    again.feed(ev.Started(at=play.at))
    for each in (play, again):
        assert [e.op for e in each.all_effects if isinstance(e, fx.StartTimer) and e.name == name] == [0]
    again.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name=name, op=0))
    assert again.one(fx.CancelJob).reason == f"TIMEOUT_{name.upper()}"
    assert again.one(fx.StartTimer).name == name, "and is told again until the end comes"


@pytest.mark.spec("4")
def test_news_start_the_idle_watch_again() -> None:
    play = Playbook()
    run = following(play)
    news = {"state": "RUNNING", "seq": 2, "next_cursor": "c", "log_offset": 0, "ms": 900}
    play.answer(run, ev.TailNews, **news, log_bytes=5)
    assert [e.name for e in play.of(fx.StartTimer)] == ["idle"]
    play.answer(run, ev.TailNews, **news, log_bytes=0)
    assert not play.of(fx.StartTimer)


@pytest.mark.spec("3.3")
@pytest.mark.fault("W7")
def test_a_worker_that_answers_at_once_and_says_nothing_is_asked_slowly_and_not_for_ever() -> None:
    play = Playbook()
    run = following(play)
    nothing = {"seq": 2, "next_cursor": "c", "log_offset": 0, "log_bytes": 0, "ms": 1}
    pauses = []
    for _ in range(30):
        play.answer(run, ev.TailNews, state="RUNNING", **nothing)
        assert not play.of(fx.Tail)
        timer = play.one(fx.StartTimer)
        pauses.append(timer.seconds)
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
        play.one(fx.Tail)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 0.5
    play.answer(run, ev.TailNews, state="SUCCEEDED", **nothing)
    play.answer(run, ev.Released)
    assert (run.exit_code, run.trouble and run.trouble.subkind) == (40, "PROTOCOL_ERROR")


@pytest.mark.spec("3.4")
def test_a_run_that_may_not_queue_does_not_wait_behind_another() -> None:
    play = Playbook()
    first = play.accept(accepted("run-00000001"))
    play.answer(first, ev.Probed, reports=(report(),), embedded=False)
    busy = {"operation": "reserve", "code": "BUSY", "message": "no slot", "kind": "WORKER_BUSY"}
    play.answer(first, ev.WorkerRefused, subkind=None, retry_after=9.0, **busy)
    second = play.accept(accepted("run-00000002", queue=False))
    assert play.one(fx.Probe).run_id == second.run_id
    play.answer(second, ev.Probed, reports=(report(),), embedded=False)
    play.answer(second, ev.WorkerRefused, subkind=None, **busy)
    assert (second.state, second.exit_code) == ("FAILED", 90)


@pytest.mark.spec("3.4")
def test_a_submit_that_finds_the_slot_taken_waits_as_the_worker_asks() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    busy = {"operation": "submit", "code": "BUSY", "message": "in use", "kind": "WORKER_BUSY"}
    play.answer(run, ev.WorkerRefused, subkind=None, retry_after=6.0, **busy)
    timer = play.one(fx.StartTimer)
    assert (timer.name, timer.seconds) == ("retry", 6.0)
    assert "busy" in (run.waiting or "")
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    play.one(fx.Submit)


@pytest.mark.spec("4")
@pytest.mark.fault("W7")
def test_an_end_whose_seq_does_not_rise_is_not_believed() -> None:
    play = Playbook()
    run = following(play)
    play.news(run, "SUCCEEDED", 3, None)
    play.answer(run, ev.Fetched, summary=summary(run, 0), state="SUCCEEDED", seq=2, updated_at="x")
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 40)
    assert (run.steps[0].state, run.steps[0].seq) == ("FAILED", 4)


@pytest.mark.spec("8")
def test_a_hosts_own_summary_of_a_job_that_was_on_a_worker_lies_with_the_host() -> None:
    play = Playbook()
    run = following(play)
    play.news(run, "SUCCEEDED", 3, None)
    for _ in range(2):
        play.answer(run, ev.FetchRefused, errors=("x: bad",))
    play.answer(run, ev.Released)
    written = [e.path for e in play.all_effects if isinstance(e, fx.WriteRecord)]
    assert "run-00000001/host/run-00000001-job-0/summary.json" in written
    assert not [path for path in written if path.endswith(("build/run-00000001-job-0/summary.json",))]
    index = next(
        json.loads(e.data)
        for e in reversed(play.all_effects)
        if isinstance(e, fx.WriteRecord) and e.path.endswith("run_index.json")
    )
    assert index["steps"][0]["job_index_path"] is None
    assert index["steps"][0]["host_summary_path"] == "host/run-00000001-job-0/summary.json"


@pytest.mark.spec("8")
def test_a_staged_set_that_is_gone_is_fetched_again_and_the_step_has_no_end_yet() -> None:
    play = Playbook()
    run = following(play)
    play.news(run, "SUCCEEDED", 3, None)
    play.answer(run, ev.Fetched, summary=summary(run, 0), state="SUCCEEDED", seq=3, updated_at="x")
    assert run.steps[0].state == "RUNNING"
    play.answer(run, ev.Published, found=False)
    play.one(fx.Fetch)
    assert run.steps[0].summary is None


@pytest.mark.spec("3.4")
@pytest.mark.fault("H14")
def test_a_wait_of_days_does_not_overflow_its_own_pauses() -> None:
    play = Playbook()
    run = following(play)
    run.tries = run.busy_tries = 5000
    cut = {"operation": "tail", "kind": "SSH", "subkind": "UNREACHABLE", "message": "cut"}
    play.answer(run, ev.LineCut, **cut)
    assert play.one(fx.StartTimer).seconds == 30.0

    waiting = play.accept(accepted("run-00000002"))
    waiting.busy_tries = 5000
    play.answer(waiting, ev.Probed, reports=(report(),), embedded=False)
    busy = {"operation": "reserve", "code": "BUSY", "message": "no slot", "kind": "WORKER_BUSY"}
    play.answer(waiting, ev.WorkerRefused, subkind=None, **busy)
    assert [e.seconds for e in play.of(fx.StartTimer) if e.name == "busy"] == [10.0]


@pytest.mark.spec("3.4")
def test_a_revival_that_comes_while_the_lease_is_given_back_is_given_back_too() -> None:
    play = Playbook()
    run = play.accept(accepted(actions=("build",)))
    play.to_step(run)
    play.finish_step(run, 0)
    assert isinstance(run.phase, m.Releasing)
    granted: dict[str, Any] = {
        "worker": "mac",
        "lease_id": "lease-revived-1",
        "fence": 9,
        "ttl_seconds": 90,
    }
    play.feed(ev.Reserved(at=play.at, run_id=run.run_id, op=-1, **granted))
    assert play.one(fx.Release).lease_id == "lease-revived-1"


@pytest.mark.spec("4")
@pytest.mark.fault("W7")
def test_a_cancel_that_is_told_expired_for_ever_ends_the_step() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    again = Playbook(run)
    again.feed(ev.Started(at=play.at))
    why = {"operation": "canceljob", "code": "LEASE_EXPIRED", "message": "gone", "kind": "WORKER_BUSY"}
    again.answer(run, ev.WorkerRefused, subkind=None, **why)
    assert again.one(fx.CancelJob).lease_id is None
    again.answer(run, ev.WorkerRefused, subkind=None, **why)
    again.one(fx.Release)


@pytest.mark.spec("4")
@pytest.mark.fault("W7")
@pytest.mark.parametrize("name", ["overall", "idle"])
def test_a_worker_that_never_ends_a_job_does_not_hold_the_run_for_ever(name: str) -> None:
    play = Playbook()
    run = following(play)
    for _ in range(5):
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name=name, op=0))
        play.one(fx.CancelJob)
        play.news(run, "RUNNING", 2, "c")
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name=name, op=0))
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 40)
    assert run.trouble is not None
    assert run.trouble.subkind == f"TIMEOUT_{name.upper()}"


@pytest.mark.spec("8")
def test_a_staged_set_that_keeps_vanishing_ends_the_step() -> None:
    play = Playbook()
    run = following(play)
    play.news(run, "SUCCEEDED", 3, None)
    for _ in range(2):
        play.answer(run, ev.Fetched, summary=summary(run, 0), state="SUCCEEDED", seq=3, updated_at="x")
        play.answer(run, ev.Published, found=False)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 70)
    assert run.trouble is not None
    assert run.trouble.subkind == "GONE"


@pytest.mark.spec("4")
@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("others", "subkind"),
    [
        ((), "UNREACHABLE"),
        ((unreachable("far", priority=7),), "UNREACHABLE"),
        ((report("key", result=None, error="x", error_subkind="HOST_KEY"),), None),
    ],
)
def test_a_wait_for_workers_that_cannot_be_reached_ends_with_that_reason(
    others: tuple[ev.ProbeReport, ...], subkind: str | None
) -> None:
    play = Playbook()
    run = play.accept(accepted(max_wait_seconds=1))
    play.answer(run, ev.Probed, reports=(unreachable(), *others), embedded=False)
    assert isinstance(run.phase, m.Selecting), "it is asked again"
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="max_wait"))
    assert run.trouble is not None
    assert (run.trouble.kind, run.trouble.subkind, run.exit_code) == ("SSH", subkind, 20)
    assert "no worker could be reached: " in run.trouble.message
    assert "connection refused; for 1 s (queue.max_wait_seconds)" in run.trouble.message


def leaving(play: Playbook) -> m.Run:
    """A run whose job is over and whose lease is to be given back."""
    run = following(play)
    refusal = {"code": "INTERNAL", "message": "x", "kind": "EXECUTOR", "subkind": None}
    play.answer(run, ev.WorkerRefused, operation="tail", **refusal)
    assert isinstance(run.phase, m.Releasing)
    return run


@pytest.mark.spec("3.4")
@pytest.mark.fault("W7")
def test_a_verdict_waits_little_for_a_worker_that_takes_nothing_back() -> None:
    play = Playbook()
    run = leaving(play)
    play.one(fx.Release)
    timer = play.one(fx.StartTimer)
    assert (timer.name, timer.seconds) == ("verdict", VERDICT_SECONDS)
    late: dict[str, Any] = {"at": play.at, "run_id": run.run_id, "op": run.op, "ms": 1}
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="verdict", op=timer.op))
    assert (run.state, run.exit_code, run.lease) == ("FAILED", 40, None)
    assert not play.of(fx.Release)
    cut = ev.LineCut(**late, operation="release", kind="SSH", subkind="UNREACHABLE", message="cut")
    for answer in (ev.Released(**late), cut):
        play.feed(answer)
        assert not [each for each in play.effects if isinstance(each, fx.WorkerCall)]


@pytest.mark.spec("3.4")
@pytest.mark.fault("W7")
def test_a_lease_that_is_given_back_is_not_renewed() -> None:
    play = Playbook()
    run = leaving(play)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="renew"))
    assert not play.effects
    expired(play, run)
    assert not play.of(fx.Reserve)


@pytest.mark.spec("3.4")
@pytest.mark.fault("W7")
def test_a_release_that_is_tried_again_has_its_time_anew_and_an_old_timer_ends_nothing() -> None:
    play = Playbook()
    run = leaving(play)
    old = play.one(fx.StartTimer)
    play.answer(run, ev.LineCut, operation="release", kind="SSH", subkind="UNREACHABLE", message="cut")
    retry = play.one(fx.StartTimer)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=retry.op))
    play.one(fx.Release)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="verdict", op=old.op))
    assert isinstance(run.phase, m.Releasing)
    play.answer(run, ev.Released)
    assert run.exit_code == 40
