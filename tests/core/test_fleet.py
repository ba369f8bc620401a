"""Who is set aside, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from support.fleets import Fleet, garbage, good, wrong_key
from support.playbook import accepted, report, summary

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.fleet import FLEET, LONGEST_ASIDE_SECONDS, STRIKES

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
