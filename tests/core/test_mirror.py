"""A worker's word of a job goes forward, has an end, and is held against its own limits (fault W7)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted, capabilities, report, summary

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import LAST_FETCH_SECONDS, LEAST_FETCH_SECONDS, MAX_ARTIFACT_BYTES, UNAWAITED
from rchd.core.fleet import STRIKES
from rchd.core.mirror import LOG_SLACK_BYTES, MAX_LEAP, MAX_RESETS, MAX_RISES
from rchd.core.upkeep import MAX_TTL_SECONDS

LOG_LIMIT = 4096


def following(**limits: int) -> tuple[Playbook, m.Run]:
    """A run whose first step runs: state RUNNING, seq 2."""
    play = Playbook()
    run = play.accept(accepted())
    told = report()
    assert told.result is not None
    mine = msgspec.structs.replace(capabilities().limits, **limits)
    result = msgspec.structs.replace(told.result, capabilities=capabilities(limits=mine))
    play.answer(run, ev.Probed, reports=(msgspec.structs.replace(told, result=result),), embedded=False)
    play.grant(run)
    play.answer(run, ev.SourceKnown, exists=True)
    play.follow(run)
    return play, run


def tail(play: Playbook, run: m.Run, **members: Any) -> None:
    """One answer to a `tail`."""
    usual = {
        "state": "RUNNING",
        "seq": 2,
        "next_cursor": "1",
        "log_offset": 0,
        "log_bytes": 1,
        "ms": 1000,
    }
    play.answer(run, ev.TailNews, **{**usual, **members})


def is_broken(run: m.Run) -> bool:
    """Whether the step ended for a word that made no sense."""
    end = run.steps[0].summary
    return end is not None and (end.failure_kind, end.failure_subkind) == ("EXECUTOR", "PROTOCOL_ERROR")


WORDS: list[tuple[str, list[tuple[str, int | None]], bool]] = [
    ("goes on", [("RUNNING", 2), ("CANCEL_REQUESTED", 3), ("CANCELLED", 4)], False),
    ("says no number", [("RUNNING", None), ("SUCCEEDED", None)], False),
    ("ends, and says so again", [("SUCCEEDED", 3), ("SUCCEEDED", 3)], False),
    ("leaps as far as it may", [("CANCEL_REQUESTED", 2 + MAX_LEAP)], False),
    ("leaps one further", [("CANCEL_REQUESTED", 3 + MAX_LEAP)], True),
    ("is unknown", [("BANANA", 3)], True),
    ("goes back to the queue", [("QUEUED", 3)], True),
    ("falls", [("RUNNING", 1)], True),
    ("falls after the end", [("SUCCEEDED", 5), ("SUCCEEDED", 4)], True),
    ("is another at the same number", [("CANCEL_REQUESTED", 2)], True),
    ("goes back from the end", [("SUCCEEDED", 3), ("RUNNING", 4)], True),
    ("goes back from the end without a number", [("SUCCEEDED", 3), ("RUNNING", None)], True),
    ("ends otherwise", [("SUCCEEDED", 3), ("FAILED", 4)], True),
]


@pytest.mark.spec("4")
@pytest.mark.fault("W7")
@pytest.mark.parametrize(("words", "broken"), [row[1:] for row in WORDS], ids=[row[0] for row in WORDS])
def test_a_word_that_cannot_be_ends_the_step(words: list[tuple[str, int | None]], *, broken: bool) -> None:
    play, run = following()
    for state, seq in words:
        tail(play, run, state=state, seq=seq)
    assert is_broken(run) == broken
    assert isinstance(run.phase, m.Releasing) == broken


@pytest.mark.spec("11")
@pytest.mark.fault("W7")
@pytest.mark.parametrize(
    ("announced", "limit"), [(LOG_LIMIT, LOG_LIMIT), (0, MAX_ARTIFACT_BYTES), (1 << 53, MAX_ARTIFACT_BYTES)]
)
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_log_is_as_long_as_its_worker_allows(announced: int, limit: int, beyond: int) -> None:
    play, run = following(max_log_bytes=announced)
    tail(play, run, log_offset=limit, log_bytes=LOG_SLACK_BYTES + beyond)
    assert is_broken(run) == bool(beyond)


@pytest.mark.spec("4")
@pytest.mark.fault("W7")
@pytest.mark.parametrize("states", [("RUNNING",), ("CANCEL_REQUESTED", "RUNNING"), ("SUCCEEDED",)])
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_seq_rises_a_few_times(states: tuple[str, ...], beyond: int) -> None:
    play, run = following()
    before = run.steps[0].rises
    for number in range(MAX_RISES - before + beyond):
        tail(play, run, state=states[number % len(states)], seq=3 + number)
    assert is_broken(run) == bool(beyond)


@pytest.mark.spec("3.3")
@pytest.mark.fault("W7")
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_log_begins_anew_a_few_times(beyond: int) -> None:
    play, run = following()
    for _ in range(MAX_RESETS + beyond):
        tail(play, run, reset=True)
    assert is_broken(run) == bool(beyond)


@pytest.mark.spec("8")
@pytest.mark.fault("W7")
@pytest.mark.parametrize(
    ("announced", "taken"),
    [(7, 7), (0, MAX_ARTIFACT_BYTES), (-1, MAX_ARTIFACT_BYTES), (1 << 53, MAX_ARTIFACT_BYTES)],
)
def test_no_more_of_a_set_is_taken_than_this_host_takes_of_any(announced: int, taken: int) -> None:
    play, run = following(max_artifact_bytes=announced)
    tail(play, run, state="SUCCEEDED", seq=3, next_cursor=None)
    assert play.one(fx.Fetch).max_bytes == taken


@pytest.mark.spec("8")
@pytest.mark.fault("W7")
@pytest.mark.parametrize(
    ("members", "broken"),
    [
        ({"seq": 3}, False),
        ({"seq": 2}, True),
        ({"seq": 4, "state": "FAILED", "status": "failed"}, True),
        ({"seq": 3, "cached_from_job_id": "job-of-another-run"}, True),
    ],
)
def test_a_set_fits_what_its_worker_said_before(members: dict[str, Any], *, broken: bool) -> None:
    play, run = following()
    tail(play, run, state="SUCCEEDED", seq=3, next_cursor=None)
    state, seq = members.pop("state", "SUCCEEDED"), members.pop("seq")
    told = summary(run, 0, members.pop("status", "success"), **members)
    play.answer(run, ev.Fetched, summary=told, state=state, seq=seq, updated_at="2023-11-14T22:13:30.000Z")
    assert is_broken(run) == broken
    assert isinstance(run.phase, m.Publishing) != broken


def renewed(play: Playbook, run: m.Run, fence: int, ttl: int = 90) -> None:
    """The answer to a renewal."""
    play.feed(
        ev.Reserved(
            at=play.at,
            run_id=run.run_id,
            op=UNAWAITED,
            worker="mac",
            lease_id=f"lease-{run.run_id}",
            fence=fence,
            ttl_seconds=ttl,
            renewal=True,
        )
    )


@pytest.mark.spec("3.4")
@pytest.mark.fault("W7")
def test_a_fence_that_falls_is_not_taken_and_counts_against_the_worker() -> None:
    play, run = following()
    renewed(play, run, 5)
    for _ in range(STRIKES):
        renewed(play, run, 4)
        assert run.lease is not None
        assert run.lease.fence == 5
        assert any(timer.name == "renew" for timer in play.of(fx.StartTimer))
    aside = play.core.fleet.aside("mac")
    assert aside is not None
    assert "fence" in aside.message


@pytest.mark.spec("3.4")
@pytest.mark.fault("W7")
@pytest.mark.parametrize("ttl", [3, MAX_TTL_SECONDS, MAX_TTL_SECONDS + 1, 1 << 53])
def test_a_lease_is_renewed_within_a_day_whatever_its_worker_says(ttl: int) -> None:
    play, run = following()
    renewed(play, run, 1, ttl)
    assert play.one(fx.StartTimer).seconds == min(ttl, MAX_TTL_SECONDS) / 3


@pytest.mark.spec("8")
@pytest.mark.fault("W7")
@pytest.mark.fault("A4")
@pytest.mark.parametrize("trust", [False, True])
def test_a_worker_whose_sets_do_not_agree_is_set_aside(*, trust: bool) -> None:
    play = Playbook()
    for number in range(STRIKES):
        run = play.accept(accepted(f"run-0000000{number}", ("build",)))
        play.to_step(run)
        play.follow(run)
        play.news(run, "SUCCEEDED", 3, None)
        for _ in range(2):
            play.answer(run, ev.FetchRefused, errors=("attestation.json: host_nonce",), trust=trust)
        play.answer(run, ev.Released)
        assert run.exit_code == (93 if trust else 70)
    aside = play.core.fleet.aside("mac")
    assert aside is not None
    assert aside.kind == ("ATTESTATION" if trust else "ARTIFACTS")


@pytest.mark.spec("4")
@pytest.mark.fault("W7")
def test_the_set_of_a_cancelled_run_has_a_limited_time_to_come() -> None:
    play, run = following()
    tail(play, run, state="SUCCEEDED", seq=3, next_cursor=None)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER", reply=None))
    timer = play.one(fx.StartTimer)
    assert (timer.name, timer.seconds) == ("fetch", LAST_FETCH_SECONDS)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="fetch", op=timer.op))
    play.one(fx.Abort)
    assert isinstance(run.phase, m.Releasing)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)


@pytest.mark.spec("4")
@pytest.mark.fault("W7")
@pytest.mark.parametrize(
    ("overall", "meant"),
    [(60, LEAST_FETCH_SECONDS), (3600, 3600.0), (3601, 3601.0), (86_400, 86_400.0)],
)
def test_a_set_may_take_as_long_as_its_job_and_an_hour_at_least(overall: int, meant: float) -> None:
    play = Playbook()
    run = play.accept(accepted(overall_seconds=overall))
    play.to_step(run)
    play.follow(run)
    play.news(run, "SUCCEEDED", 3, None)
    assert play.one(fx.Fetch).seconds == meant


@pytest.mark.spec("4")
@pytest.mark.fault("W7")
def test_a_set_that_only_trickles_is_not_asked_for_longer_than_a_worker_is_waited_for() -> None:
    play, run = following()
    play.news(run, "SUCCEEDED", 3, None)
    spent = 0.0
    while isinstance(run.phase, m.Fetching):
        fetch = play.one(fx.Fetch)
        spent += fetch.seconds
        late = {"kind": "SSH", "subkind": "UNREACHABLE", "message": "the artifacts did not come"}
        play.answer(run, ev.LineCut, operation="fetch", ms=round(fetch.seconds * 1000), **late)
        if isinstance(run.phase, m.Fetching):
            timer = play.one(fx.StartTimer)
            play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name=timer.name, op=timer.op))
    options = run.accepted.options
    assert spent <= options.max_wait_seconds + 2 * LEAST_FETCH_SECONDS
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 20)
