"""Each bound of the core: at it all goes on, one beyond it does not (docs/limits.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.playbook import Playbook, accepted, report, unreachable

from rch.contract.local_api import HelloParams
from rchd.core import daemon, lanes, run, trouble, upkeep
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.session import MAX_CLIENT, Session
from rchd.core.trouble import LONGEST_BUSY_SECONDS, LONGEST_RETRY_SECONDS, pause
from rchd.core.upkeep import SLICE_SECONDS, wait_timer

pytestmark = pytest.mark.spec("4")

CUT: dict[str, Any] = {"kind": "SSH", "subkind": "UNREACHABLE", "message": "cut"}


def following() -> tuple[Playbook, m.Run]:
    play = Playbook()
    started = play.accept(accepted())
    play.to_step(started)
    play.follow(started)
    return play, started


def go_on(play: Playbook, of: m.Run) -> None:
    """The pause before the next try is over."""
    for timer in play.of(fx.StartTimer):
        if timer.name == "retry":
            play.feed(ev.TimerFired(at=play.at, run_id=of.run_id, name="retry", op=timer.op))


def empty_answers(count: int) -> bool:
    """Quick answers after the job's end that bring nothing; whether it is asked again."""
    play, of = following()
    news = {"state": "SUCCEEDED", "seq": 3, "next_cursor": "c", "log_offset": 0, "log_bytes": 0}
    play.answer(of, ev.TailNews, ms=run.QUICK_MS, **news)
    for _ in range(count):
        play.answer(of, ev.TailNews, **news)
        go_on(play, of)
    return isinstance(of.phase, m.Following)


def told_in_vain(count: int) -> bool:
    """The worker is told that its time is over; whether its word is still awaited."""
    play, of = following()
    for _ in range(count):
        play.feed(ev.TimerFired(at=play.at, run_id=of.run_id, name="idle", op=0))
    return isinstance(of.phase, m.Following)


def sleeps(count: int) -> bool:
    """Whether the last of so many sleeps is still on record."""
    play, of = following()
    for number in range(count):
        play.feed(ev.TimerFired(at=play.at, run_id=of.run_id, name="x", op=0, slept=number + 60))
    return of.warnings[-1].startswith(f"this machine slept for {count + 59} s")


def heads(count: int) -> bool:
    """Whether of so many runs with needs of their own each is a head that looks for a worker."""
    play = Playbook()
    play.core.draining = True
    for number in range(count):
        options: dict[str, Any] = {"toolchain": {"swift_version": f"6.{number}"}}
        play.core.handle(
            ev.RunAccepted(at=play.at, accepted=accepted(f"run-{number:08d}", ("build",), **options))
        )
    return len(vars(play.core)["_queue"]._lanes.heads(100)) == count


def cut_uploads(count: int) -> bool:
    """Whether an upload is tried again after so many that were cut and one more."""
    play = Playbook()
    of = play.accept(accepted())
    play.reserve(of)
    play.answer(of, ev.SourceKnown, exists=False)
    for _ in range(count - 1):
        play.answer(of, ev.LineCut, operation="upload", **CUT)
        go_on(play, of)
    return isinstance(of.phase, m.Uploading)


def cut_reserves(count: int) -> bool:
    """Whether the same worker is asked for a lease so many times."""
    play = Playbook()
    of = play.accept(accepted())
    play.answer(of, ev.Probed, reports=(report("a"), report("b")), embedded=False)
    for _ in range(count - 1):
        play.answer(of, ev.LineCut, operation="reserve", **CUT)
        go_on(play, of)
    return play.one(fx.Reserve).target.worker == "a"


def vain_probes(count: int) -> bool:
    """Whether workers of which none can be reached are asked so many times."""
    play = Playbook()
    of = play.accept(accepted())
    for _ in range(count - 1):
        play.answer(of, ev.Probed, reports=(unreachable(),), embedded=False)
        go_on(play, of)
    return isinstance(of.phase, m.Selecting)


def releases(count: int) -> bool:
    """Whether a lease is given back after so many cuts."""
    play, of = following()
    refused = {"code": "INTERNAL", "kind": "EXECUTOR", "subkind": None, "message": "x"}
    play.answer(of, ev.WorkerRefused, operation="tail", **refused)
    for _ in range(count):
        play.answer(of, ev.LineCut, operation="release", **CUT)
        go_on(play, of)
    return of.lease is not None


def client_names(length: int) -> bool:
    session = Session()
    session._hello(HelloParams(client="x" * length, version="1", protocol=(1, 1)))
    return f"{'x' * length} 1" == session.client


def waits_of(seconds: int) -> bool:
    """Whether a wait is one slice."""
    of = Playbook().accept(accepted(max_wait_seconds=seconds))
    return wait_timer(of).seconds == seconds


Row = tuple[Callable[[int], bool], int]
ROWS: dict[str, Row] = {
    "answers that bring nothing": (empty_answers, run.MAX_EMPTY),
    "time-outs that are told in vain": (told_in_vain, upkeep.MAX_OVERDUE),
    "warnings": (sleeps, daemon.MAX_WARNINGS),
    "heads": (heads, lanes.MAX_HEADS),
    "tries to upload": (cut_uploads, trouble.UPLOAD_TRIES),
    "tries to reserve": (cut_reserves, trouble.RESERVE_TRIES),
    "tries to ask": (vain_probes, run.CONNECT_TRIES),
    "tries to give back": (releases, trouble.RELEASE_TRIES),
    "a client's name": (client_names, MAX_CLIENT),
    "a slice of a wait": (waits_of, int(SLICE_SECONDS)),
}


@pytest.mark.parametrize("name", ROWS)
def test_at_a_bound_of_the_core_all_goes_on(name: str) -> None:
    holds, limit = ROWS[name]
    assert holds(limit)


@pytest.mark.parametrize("name", ROWS)
def test_one_beyond_a_bound_of_the_core_it_does_not(name: str) -> None:
    holds, limit = ROWS[name]
    assert not holds(limit + 1)


def test_pauses_grow_up_to_their_longest() -> None:
    assert [pause(tries) for tries in range(1, 7)] == [2, 4, 8, 16, LONGEST_RETRY_SECONDS, 30]


def test_a_busy_worker_is_asked_after_a_pause_that_grows_up_to_its_longest() -> None:
    play = Playbook()
    of = play.accept(accepted())
    pauses = []
    for _ in range(6):
        play.answer(of, ev.Probed, reports=(report(),), embedded=False)
        busy = {"code": "BUSY", "kind": "WORKER_BUSY", "subkind": None, "message": "x"}
        play.answer(of, ev.WorkerRefused, operation="reserve", retry_after=0.5, **busy)
        timer = next(each for each in play.of(fx.StartTimer) if each.name == "busy")
        pauses.append(timer.seconds)
        play.feed(ev.TimerFired(at=play.at, run_id=of.run_id, name="busy", op=timer.op))
    assert pauses == [1, 2, 4, 8, LONGEST_BUSY_SECONDS, 10]


def test_a_lease_is_given_back_with_a_deadline_of_its_own() -> None:
    play, of = following()
    refused = {"code": "INTERNAL", "kind": "EXECUTOR", "subkind": None, "message": "x"}
    play.answer(of, ev.WorkerRefused, operation="tail", **refused)
    play.answer(of, ev.Released)
    late: dict[str, Any] = {"worker": "mac", "lease_id": "lease-9", "fence": 9, "ttl_seconds": 90}
    play.feed(ev.Reserved(at=play.at, run_id=of.run_id, op=-1, renewal=True, **late))
    assert play.one(fx.Release).target.deadline == upkeep.RELEASE_SECONDS


def test_the_host_s_own_watch_comes_after_the_worker_s() -> None:
    play, _ = following()
    timers = {each.name: each.seconds for each in play.all_effects if isinstance(each, fx.StartTimer)}
    grace = upkeep.TIMEOUT_GRACE_SECONDS
    assert (timers["overall"], timers["idle"]) == (1800 + grace, 300 + grace)


def test_a_cancel_that_did_not_arrive_is_told_again_soon() -> None:
    play, of = following()
    play.feed(ev.CancelAsked(at=play.at, run_id=of.run_id, reason="USER"))
    play.feed(ev.LineCut(at=play.at, run_id=of.run_id, op=-1, operation="canceljob", **CUT))
    assert [each.seconds for each in play.of(fx.StartTimer) if each.name == "cancel"] == [
        upkeep.AGAIN_SECONDS
    ]
