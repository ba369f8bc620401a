"""What a refusal, a lost job or a cut line makes of a run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.playbook import Playbook, accepted, report

from rch.contract.ids import timestamp
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.trouble import RESERVE_TRIES


def refuse(
    play: Playbook, run: m.Run, code: str, kind: str = "EXECUTOR", subkind: str | None = None, **told: Any
) -> None:
    words = {"operation": "submit", "message": code, **told}
    play.answer(run, ev.WorkerRefused, code=code, kind=kind, subkind=subkind, **words)


def cut(play: Playbook, run: m.Run, kind: str = "SSH", subkind: str | None = "UNREACHABLE") -> None:
    play.answer(run, ev.LineCut, operation="tail", kind=kind, subkind=subkind, message="the line was cut")


def cut_for_good(play: Playbook, run: m.Run) -> None:
    """The line is cut as often as a lease is asked for."""
    for _ in range(RESERVE_TRIES - 1):
        cut(play, run)
        timer = next(e for e in play.of(fx.StartTimer) if e.name == "retry")
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    cut(play, run)


@pytest.mark.spec("8")
@pytest.mark.fault("A1")
def test_a_set_that_fails_its_digests_is_fetched_once_more_and_then_refused() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.news(run, "SUCCEEDED", 3, None)
    play.answer(run, ev.FetchRefused, errors=("build.log: 3 bytes, not 4",))
    play.one(fx.Fetch)
    play.answer(run, ev.FetchRefused, errors=("build.log: 3 bytes, not 4",))
    play.one(fx.Release)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 70)
    step = run.steps[0]
    assert step.summary is not None
    assert step.summary.integrity_errors == ("build.log: 3 bytes, not 4",)
    assert (step.state, step.seq) == ("FAILED", 4), "the worker's end had 3; the host's own is one more"


@pytest.mark.spec("3.1")
def test_a_missing_source_is_uploaded_and_submitted_once_more() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    refuse(play, run, "SOURCE_MISSING", "TRANSFER")
    play.one(fx.Upload)
    play.answer(run, ev.Uploaded)
    play.one(fx.Submit)
    refuse(play, run, "SOURCE_MISSING", "TRANSFER")
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 30)


@pytest.mark.spec("3.4")
def test_an_expired_lease_is_reserved_anew_once_and_recorded() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    refuse(play, run, "LEASE_EXPIRED", "WORKER_BUSY")
    assert play.one(fx.Reserve).lease_id is None
    play.answer(run, ev.Reserved, worker="mac", lease_id="lease-second-1", fence=2, ttl_seconds=90)
    assert play.one(fx.Submit).fence == 2
    state = [e for e in play.all_effects if isinstance(e, fx.WriteRecord) and "run_state" in e.path][-1]
    assert json.loads(state.data)["lease_renewed"] is True
    refuse(play, run, "LEASE_EXPIRED", "WORKER_BUSY")
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 90)


@pytest.mark.spec("3.4")
@pytest.mark.fault("W3")
def test_each_hand_over_of_a_step_may_have_one_new_lease() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    for fence in (2, 3):  # the worker restarts: its boot is another one, and no lease is of it
        play.answer(run, ev.Submitted, state="RUNNING", seq=fence)
        refuse(play, run, "JOB_NOT_FOUND", "EXECUTOR")
        refuse(play, run, "LEASE_EXPIRED", "WORKER_BUSY")
        lease = {"worker": "mac", "lease_id": f"lease-{fence}", "fence": fence, "ttl_seconds": 90}
        play.answer(run, ev.Reserved, **lease)
        assert play.one(fx.Submit).fence == fence
    refuse(play, run, "LEASE_EXPIRED", "WORKER_BUSY")
    assert isinstance(run.phase, m.Releasing)


@pytest.mark.spec("4")
def test_a_cut_line_keeps_a_running_job_and_says_so() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    cut(play, run)
    assert (run.state, run.waiting) == ("RUNNING", "worker_unreachable")
    timer = play.one(fx.StartTimer)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    play.one(fx.Tail)
    play.news(run, "RUNNING", 2, "c1")
    assert run.waiting is None


@pytest.mark.spec("4")
def test_a_worker_that_stays_away_ends_the_run_when_the_longest_wait_is_over() -> None:
    play = Playbook()
    run = play.accept(accepted(max_wait_seconds=10))
    play.to_step(run)
    play.follow(run)
    pauses = 0.0
    while run.state == "RUNNING":
        cut(play, run)
        timers = [e for e in play.of(fx.StartTimer) if e.name == "retry"]
        if timers:
            pauses += timers[0].seconds
            play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timers[0].op))
    assert (run.state, run.exit_code) == ("FAILED", 20)
    assert 10 <= pauses < 30


@pytest.mark.spec("2")
@pytest.mark.fault("H14")
@pytest.mark.parametrize("days", [1, -1])
def test_a_wall_clock_that_jumps_ends_no_wait_and_prolongs_none(days: int) -> None:
    play = Playbook()
    run = play.accept(accepted(max_wait_seconds=10))
    play.to_step(run)
    play.follow(run)
    cut(play, run)
    play.at += days * 86_400
    timer = next(e for e in play.of(fx.StartTimer) if e.name == "retry")
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    cut(play, run)
    assert run.state == "RUNNING"
    assert run.waited_seconds == 6.0
    assert (play.core.view(run).duration_ms or 0) >= 0


@pytest.mark.spec("3.1")
@pytest.mark.fault("W7")
def test_a_worker_that_breaks_the_protocol_ends_the_step_with_40() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    cut(play, run, "EXECUTOR", "PROTOCOL_ERROR")
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 40)


@pytest.mark.spec("4")
def test_an_upload_is_tried_three_times() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.reserve(run)
    play.answer(run, ev.SourceKnown, exists=False)
    for _ in range(2):
        cut(play, run)
        timer = play.one(fx.StartTimer)
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
        play.one(fx.Upload)
    cut(play, run)
    play.one(fx.Release)


@pytest.mark.spec("3.4")
def test_a_lease_whose_grant_was_lost_is_asked_for_again() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    for _ in range(2):
        cut(play, run)
        timer = next(e for e in play.of(fx.StartTimer) if e.name == "retry")
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
        play.one(fx.Reserve)
    play.grant(run)
    assert run.state == "RUNNING"


@pytest.mark.spec("3.4")
def test_a_lease_that_may_have_been_granted_to_a_cancelled_run_is_given_back() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    cut(play, run)
    timer = next(e for e in play.of(fx.StartTimer) if e.name == "retry")
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    play.one(fx.Reserve)
    play.grant(run)
    play.one(fx.Release)
    play.answer(run, ev.Released)
    assert run.state == "CANCELLED"


@pytest.mark.spec("3.4")
def test_a_lease_that_is_granted_too_late_is_given_back() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    op = run.op
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    cut_for_good(play, run)
    assert run.state == "CANCELLED"
    play.feed(
        ev.Reserved(
            at=play.at,
            run_id=run.run_id,
            op=op,
            worker="mac",
            lease_id="lease-late-01",
            fence=4,
            ttl_seconds=9,
        )
    )
    assert play.one(fx.Release).lease_id == "lease-late-01"


@pytest.mark.spec("3.3")
@pytest.mark.fault("W11")
def test_a_worker_that_loses_a_job_for_ever_is_not_asked_for_ever() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    for _ in range(3):
        play.follow(run)
        refuse(play, run, "JOB_NOT_FOUND", "EXECUTOR", "PROTOCOL_ERROR")
        play.one(fx.Submit)
    play.follow(run)
    refuse(play, run, "JOB_NOT_FOUND", "EXECUTOR", "PROTOCOL_ERROR")
    play.answer(run, ev.Released)
    assert (run.exit_code, run.trouble and run.trouble.subkind) == (40, "WORKER_LOST")


@pytest.mark.spec("7")
def test_a_run_whose_config_says_so_waits_for_a_busy_worker_instead_of_the_next_one() -> None:
    play = Playbook()
    both = (report("first", priority=1), report("second", priority=2))
    for config, waits in (("wait", True), ("next", False)):
        run = play.accept(accepted(f"run-of-{config}", on_busy=config))
        play.answer(run, ev.Probed, reports=both, embedded=False)
        refuse(play, run, "BUSY", "WORKER_BUSY", message="1 of 1 slots taken", retry_after=3.0)
        if waits:
            assert run.phase == m.Waiting(reason="first is busy: 1 of 1 slots taken", timer=True)
            assert play.one(fx.StartTimer).seconds == 3.0
            play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
        else:
            assert play.one(fx.Reserve).target.worker == "second"


@pytest.mark.spec("7")
@pytest.mark.parametrize("code", ["TOOLCHAIN_CHANGED", "UNSUPPORTED_PROTOCOL"])
def test_a_worker_that_is_another_one_than_it_said_is_asked_anew_by_the_next_run(code: str) -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    refuse(play, run, code, "WORKER_INCOMPATIBLE")
    assert play.one(fx.Forget).worker == "mac"
    other = play.accept(accepted("run-00000002"))
    play.reserve(other, "mini")
    play.answer(other, ev.SourceKnown, exists=True)
    refuse(play, other, "INTERNAL")
    assert not play.of(fx.Forget)


@pytest.mark.spec("3.1", "8")
@pytest.mark.parametrize("cut", [False, True])
def test_what_a_worker_says_of_a_trouble_is_what_the_run_says_of_it(*, cut: bool) -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.reserve(run)
    told: dict[str, Any] = {
        "message": "its disk is full",
        "subkind": "DISK_FULL",
        "hint": "make room there",
    }
    if cut:
        play.answer(run, ev.LineCut, operation="x", kind="EXECUTOR", **told)
    else:
        refuse(play, run, "INTERNAL", **told)
    assert run.trouble is not None
    assert (run.trouble.kind, run.trouble.message) == ("EXECUTOR", told["message"])
    assert (run.trouble.subkind, run.trouble.hint) == (told["subkind"], told["hint"])


@pytest.mark.spec("4")
def test_a_step_behind_a_refused_one_and_one_that_was_cancelled_have_a_time_of_their_own() -> None:
    play = Playbook()
    run = play.accept(accepted(continue_on_failure=True))
    play.to_step(run)
    then = timestamp(play.at)
    refuse(play, run, "INTERNAL")
    first, second = run.steps
    assert first.summary is not None
    assert second.job is not None
    assert second.job.created_at == second.created_at == then
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    then = timestamp(play.at)
    refuse(play, run, "INTERNAL")
    assert second.summary is not None
    assert second.summary.status == "cancelled"
    assert second.summary.created_at == then
