"""The runs of a group go one after another."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted
from support.queued import SENT_BACK, head, ids, move, run, serve, turn

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.queue import Queue


@pytest.mark.spec("12")
@pytest.mark.parametrize("active", [m.Selecting(), m.Reserving(), m.Following(step=0), m.Releasing()])
def test_the_runs_of_a_group_go_one_after_another_and_hold_up_nobody_else(active: m.AnyPhase) -> None:
    first, second = run("run-a", active, group="save"), run("run-b", group="save")
    third, other = run("run-c", group="save"), run("run-d")
    queue = Queue([first, second, third, other])
    assert second.run_id not in ids(queue)
    assert queue.why(second) == "after run run-a of group save"
    move(queue, first, m.Following(step=0))
    assert head(queue) is other
    move(queue, first, m.Ended())
    assert {serve(queue).run_id, serve(queue).run_id} == {second.run_id, other.run_id}
    assert head(queue) is None
    move(queue, second, m.Ended())
    assert head(queue) is third


@pytest.mark.spec("12")
def test_a_groups_name_counts_within_its_project() -> None:
    here, there = run("run-a", m.Following(step=0), group="save"), run("run-b", group="save")
    there.accepted = msgspec.structs.replace(there.accepted, root="/src/other")
    assert turn(here, there) == "run-b"


@pytest.mark.spec("12")
def test_a_more_urgent_run_of_a_group_goes_first_and_the_one_that_was_sent_back_waits_for_it() -> None:
    back, urgent, other = (
        run("run-a", SENT_BACK, group="g"),
        run("run-b", group="g", priority=1),
        run("run-c"),
    )
    queue = Queue([back])
    queue.update(urgent)
    queue.update(other)
    assert serve(queue) is urgent
    assert head(queue) is other, "who cannot go anyway is in nobody's way"
    move(queue, urgent, m.Ended())
    assert head(queue) is None, "it waits out its worker again"
    move(queue, back, m.Waiting(reason="a slot is free"))
    assert head(queue) is not None


def grouped(run_id: str, *, supersede: bool = False, **options: Any) -> Any:
    request = accepted(run_id, ("build",), **options)
    return msgspec.structs.replace(request, group="save", supersede=supersede)


@pytest.mark.spec("12")
def test_a_run_that_supersedes_cancels_the_older_ones_in_the_same_commit() -> None:
    play = Playbook()
    served = play.accept(grouped("run-00000001"))
    play.to_step(served)
    play.follow(served)
    waits = play.accept(grouped("run-00000002"))
    other = play.accept(accepted("run-00000003", ("build",)))
    play.core.take_dirty()
    newest = play.accept(grouped("run-00000004", supersede=True))
    assert {each.run_id for each in play.core.take_dirty()} >= {served.run_id, waits.run_id, newest.run_id}
    assert play.one(fx.CancelJob).reason == "SUPERSEDED"
    assert served.cancel is not None
    assert served.cancel.reason == "SUPERSEDED"
    assert (waits.state, waits.exit_code) == ("CANCELLED", 80)
    assert other.cancel is None
    assert newest.state == "QUEUED"
    assert play.core.view(newest).waiting == "after run run-00000001 of group save"


@pytest.mark.spec("12")
@pytest.mark.fault("H15")
def test_who_supersedes_a_run_that_waits_takes_its_place_in_the_round() -> None:
    play = Playbook()
    others = [play.accept(accepted(f"run-0000000{n}", ("build",))) for n in range(3)]
    origin = {"origin": "editor"}
    play.accept(msgspec.structs.replace(grouped("run-00000004"), **origin))
    play.accept(msgspec.structs.replace(accepted("run-00000005", ("build",)), origin="third"))
    play.reserve(others[0])
    newest = play.accept(msgspec.structs.replace(grouped("run-00000006", supersede=True), **origin))
    assert play.one(fx.Probe).run_id == newest.run_id, "who saves often must not wait for ever"


@pytest.mark.spec("12")
def test_a_group_without_supersede_cancels_nobody() -> None:
    play = Playbook()
    first = play.accept(grouped("run-00000001"))
    play.to_step(first)
    second = play.accept(grouped("run-00000002"))
    assert not play.of(fx.Probe)
    assert first.cancel is None
    play.finish_step(first, 0)
    play.answer(first, ev.Released)
    assert [effect.run_id for effect in play.of(fx.Probe)] == [second.run_id]


@pytest.mark.spec("3.4")
def test_a_run_that_may_not_wait_does_not_wait_for_its_group() -> None:
    play = Playbook()
    first = play.accept(grouped("run-00000001"))
    play.to_step(first)
    second = play.accept(grouped("run-00000002", queue=False))
    assert (second.state, second.exit_code) == ("FAILED", 90)
    assert "run-00000001" in second.human_summary
