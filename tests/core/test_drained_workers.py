"""A worker that is out of service gets no new run, and who waits for it."""

from __future__ import annotations

import pytest
from support.fleets import Fleet, good
from support.playbook import unreachable

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m


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
