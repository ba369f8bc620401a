"""Workers that give no leases: what a run holds of one, from its choice to its end and over a start."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted, report, unleased
from support.unleased_runs import UNMISTAKABLE, at_worker, refused, started_again

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import farewell
from rchd.edges.core_rows import decode_run, encode_run

pytestmark = pytest.mark.spec("3.4")


@pytest.fixture
def play() -> Playbook:
    return Playbook()


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
