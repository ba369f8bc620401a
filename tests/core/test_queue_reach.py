"""Several workers: on each one the order of the queue is the order of the leases."""

from __future__ import annotations

from typing import Any

import pytest
from support.playbook import Playbook, accepted, report
from support.queued import run, serve

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.queue import Queue

WORKERS = (report("wa", tags=("x",)), report("wb", tags=("y",)))


def known(play: Playbook) -> None:
    """All workers have been asked once."""
    for each in WORKERS:
        play.feed(ev.WorkerProbed(at=play.at, report=each))


def refuse(play: Playbook, run: m.Run) -> None:
    words = {"operation": "reserve", "code": "BUSY", "message": "no free slot", "kind": "EXECUTOR"}
    play.answer(run, ev.WorkerRefused, **words, subkind=None)


@pytest.mark.spec("3.4")
@pytest.mark.spec("7")
@pytest.mark.spec("12")
@pytest.mark.parametrize("stage", ["asks the workers", "asks for a lease", "waits for a slot"])
def test_a_run_that_waits_for_one_worker_holds_up_nobody_who_wants_another(stage: str) -> None:
    play = Playbook()
    known(play)
    first = play.accept(accepted("run-00000001", ("build",), tags=("x",)))
    behind = play.accept(accepted("run-00000002", ("build",), tags=("x",)))
    if stage != "asks the workers":
        play.answer(first, ev.Probed, reports=WORKERS, embedded=False)
    if stage == "waits for a slot":
        refuse(play, first)
    other = play.accept(accepted("run-00000003", ("build",), tags=("y",)))
    assert [effect.run_id for effect in play.of(fx.Probe)] == [other.run_id]
    assert play.core.view(behind).waiting == "behind 1 in the queue, first run-00000001"
    last = play.accept(accepted("run-00000004", ("build",), tags=("y",)))
    assert play.core.view(last).waiting == "behind 1 in the queue, first run-00000003"


@pytest.mark.spec("3.4")
def test_a_run_that_could_have_either_worker_leaves_the_one_that_is_waited_for() -> None:
    play = Playbook()
    known(play)
    first = play.accept(accepted("run-00000001", ("build",), tags=("x",)))
    play.answer(first, ev.Probed, reports=WORKERS, embedded=False)
    refuse(play, first)
    either = play.accept(accepted("run-00000002", ("build",)))
    play.answer(either, ev.Probed, reports=WORKERS, embedded=False)
    assert play.one(fx.Reserve).target.worker == "wb"
    assert either.selection is not None
    assert either.selection.refused == {"wa": "left to the runs before it in the queue"}


@pytest.mark.spec("3.4")
def test_who_finds_only_workers_that_others_wait_for_waits_behind_them_and_says_so() -> None:
    play = Playbook()
    known(play)
    first = play.accept(accepted("run-00000001", ("build",), tags=("x",)))
    play.answer(first, ev.Probed, reports=WORKERS, embedded=False)
    refuse(play, first)
    either = play.accept(accepted("run-00000002", ("build",)))
    silent = report("wb", tags=("y",), result=None, error="gone", error_kind="SSH")
    play.answer(either, ev.Probed, reports=(WORKERS[0], silent), embedded=False)
    assert either.state == "QUEUED"
    assert play.core.view(either).waiting == "wa: left to the runs before it in the queue"
    assert not play.of(fx.Probe), "it asks again later, not at once"
    assert play.one(fx.StartTimer).run_id == either.run_id


@pytest.mark.spec("3.4")
def test_what_the_workers_say_lets_all_begin_that_want_different_ones() -> None:
    play = Playbook()
    first = play.accept(accepted("run-00000001", ("build",), tags=("x",)))
    others = [play.accept(accepted(f"run-0000000{n}", ("build",), tags=("y",))) for n in (2, 3)]
    assert [type(each.phase) for each in others] == [m.Waiting, m.Waiting], "nobody knows the workers yet"
    silent = report(
        "wa", tags=("x",), result=None, error="gone", error_kind="SSH", error_subkind="UNREACHABLE"
    )
    play.answer(first, ev.Probed, reports=(silent, WORKERS[1]), embedded=False)
    assert [effect.run_id for effect in play.of(fx.Probe)] == [others[0].run_id]


@pytest.mark.spec("12")
@pytest.mark.fault("H15")
def test_an_origin_has_one_share_of_a_worker_however_many_kinds_of_runs_it_has() -> None:
    def both(_options: Any) -> frozenset[str]:
        return frozenset({"wa"})

    kinds: list[dict[str, Any]] = [{}, {"toolchain": {"swift_version": "6"}}, {"destination": "host"}]
    runs = [run(f"run-a{n:03}", **kinds[n % 3]) for n in range(300)]
    runs += [run(f"run-b{n:03}", origin="editor") for n in range(300)]
    queue = Queue(runs, both)
    served = [serve(queue).run_id for _ in range(200)]
    ours = [run_id for run_id in served if run_id.startswith("run-a")]
    assert abs(len(ours) - 100) <= 10
    assert ours == sorted(ours), "of one origin the oldest goes first"
