"""A cancelled run is never handed over again, and the worker hears of it whatever the line does."""

from __future__ import annotations

import pytest
from support.playbook import Playbook, accepted, report, summary

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.trouble import RESERVE_TRIES

pytestmark = pytest.mark.spec("4")


def cancel(play: Playbook, run: m.Run) -> None:
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))


def refuse(play: Playbook, run: m.Run, code: str, operation: str = "x", op: int | None = None) -> None:
    play.feed(
        ev.WorkerRefused(
            at=play.at,
            run_id=run.run_id,
            op=run.op if op is None else op,
            operation=operation,
            code=code,
            message=code,
            kind="EXECUTOR",
            subkind=None,
        )
    )


def cut(play: Playbook, run: m.Run, operation: str = "x", op: int | None = None) -> None:
    play.feed(
        ev.LineCut(
            at=play.at,
            run_id=run.run_id,
            op=run.op if op is None else op,
            operation=operation,
            kind="SSH",
            subkind="UNREACHABLE",
            message="the line was cut",
        )
    )


def fire(play: Playbook, run: m.Run, name: str) -> None:
    timer = next(e for e in reversed(play.all_effects) if isinstance(e, fx.StartTimer) and e.name == name)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name=name, op=timer.op))


def following(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    return run


def test_a_cancel_that_is_lost_on_the_line_is_sent_again() -> None:
    play = Playbook()
    run = following(play)
    cancel(play, run)
    play.one(fx.CancelJob)
    cut(play, run, "canceljob", op=-1)
    fire(play, run, "cancel")
    play.one(fx.CancelJob)
    play.news(run, "RUNNING", 2, "c1")
    assert play.of(fx.CancelJob), "also with each look at the log, until the worker has heard"
    play.feed(ev.CancelNoted(at=play.at, run_id=run.run_id, op=-1, state="CANCEL_REQUESTED"))
    play.news(run, "CANCEL_REQUESTED", 3, "c2")
    assert not play.of(fx.CancelJob)


def test_a_cancel_under_a_dead_lease_goes_without_one() -> None:
    play = Playbook()
    run = following(play)
    cancel(play, run)
    assert play.one(fx.CancelJob).lease_id is not None
    refuse(play, run, "LEASE_EXPIRED", "canceljob", op=-1)
    bare = play.one(fx.CancelJob)
    assert (bare.lease_id, bare.fence) == (None, None)


def test_a_cancel_after_a_restart_is_not_given_up_with_the_lease() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    cancel(play, run)
    again = Playbook(run)
    again.feed(ev.Started(at=play.at))
    refuse(again, run, "LEASE_EXPIRED")
    assert again.one(fx.CancelJob).lease_id is None
    again.answer(run, ev.CancelNoted, state="CANCEL_REQUESTED")
    again.one(fx.Tail)


@pytest.mark.parametrize("busy", [True, False])
def test_a_cancel_while_a_lease_is_asked_for_ends_the_run_whatever_the_answer(*, busy: bool) -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report("a"), report("b")), embedded=False)
    cancel(play, run)
    if busy:
        refuse(play, run, "BUSY")
    else:
        for _ in range(RESERVE_TRIES - 1):
            # It may have been granted: it is asked for once more, to be given back.
            cut(play, run)
            timer = next(each for each in play.of(fx.StartTimer) if each.name == "retry")
            play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
            assert play.one(fx.Reserve).target.worker == "a"
        cut(play, run)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)
    assert not play.of(fx.Reserve)


def test_a_submit_whose_fate_is_unknown_is_cancelled_not_repeated() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    cancel(play, run)
    cut(play, run)
    fire(play, run, "retry")
    play.one(fx.CancelJob)
    assert not play.of(fx.Submit)


@pytest.mark.parametrize("code", ["SOURCE_MISSING", "LEASE_EXPIRED", "BUSY"])
def test_a_submit_that_was_refused_is_not_tried_again_once_cancelled(code: str) -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    cancel(play, run)
    refuse(play, run, code)
    play.one(fx.Release)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)


def test_a_lease_that_comes_anew_after_a_cancel_is_given_back() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    refuse(play, run, "LEASE_EXPIRED")
    cancel(play, run)
    play.answer(run, ev.Reserved, worker="mac", lease_id="lease-second-1", fence=2, ttl_seconds=90)
    assert play.one(fx.Release).lease_id == "lease-second-1"
    assert not play.of(fx.Submit)


def test_a_job_that_ended_before_the_cancel_came_keeps_its_artifacts_and_the_run_is_cancelled() -> None:
    play = Playbook()
    run = following(play)
    play.news(run, "SUCCEEDED", 3, None)
    cancel(play, run)
    play.answer(run, ev.Fetched, summary=summary(run, 0), state="SUCCEEDED", seq=3, updated_at="x")
    play.answer(run, ev.Published, found=True)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)
    assert run.steps[0].summary is not None
    assert run.steps[0].summary.status == "success"


@pytest.mark.spec("4")
def test_cancel_before_a_lease_ends_at_once_with_80() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER", reply=7))
    assert (run.state, run.exit_code) == ("CANCELLED", 80)
    assert play.one(fx.Reply).reply == 7


@pytest.mark.spec("4")
def test_cancel_while_a_lease_is_asked_for_gives_it_back() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    assert run.cancel is not None
    play.grant(run)
    assert play.one(fx.Release).lease_id == "lease-run-00000001"
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)


@pytest.mark.spec("4")
def test_cancel_of_a_running_step_asks_the_worker_and_keeps_its_artifacts() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="SIGNAL"))
    assert play.one(fx.CancelJob).reason == "SIGNAL"
    play.news(run, "CANCEL_REQUESTED", 3, "c1")
    assert run.steps[0].state == "CANCEL_REQUESTED"
    play.news(run, "CANCELLED", 4, None)
    play.one(fx.Fetch)
    play.answer(
        run, ev.Fetched, summary=summary(run, 0, "cancelled"), state="CANCELLED", seq=4, updated_at="x"
    )
    play.answer(run, ev.Published, found=True)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)
    assert (run.steps[0].state, run.steps[0].seq) == ("CANCELLED", 4)
