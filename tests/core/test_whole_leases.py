"""Leases that are not renewed are asked for the whole run (section 3.4)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted, report
from support.unleased_runs import refused, started_again

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import farewell

pytestmark = pytest.mark.spec("3.4")


@pytest.fixture
def play() -> Playbook:
    return Playbook()


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
