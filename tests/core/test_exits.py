"""Every phase has its exits: on the answer, a refusal, a cut line, a cancel, its timer, a restart."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

import pytest
from support.playbook import Playbook, accepted, report, summary

from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.run import MOVES
from rchd.edges.core_rows import decode_run, encode_run

pytestmark = pytest.mark.spec("4")

PHASES = typing.get_args(m.AnyPhase)
STIMULI = ("answer", "refusal", "cut", "cancel", "timer", "restart")
LONGEST_WAIT = 60


def waiting(play: Playbook) -> m.Run:
    play.core.draining = True
    return play.accept(accepted(max_wait_seconds=LONGEST_WAIT))


def selecting(play: Playbook) -> m.Run:
    return play.accept(accepted(max_wait_seconds=LONGEST_WAIT))


def reserving(play: Playbook) -> m.Run:
    run = selecting(play)
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    return run


def coalescing(play: Playbook) -> m.Run:
    other = play.accept(accepted("run-00000000", results=True))
    play.offered(other)
    play.grant(other)
    run = play.accept(accepted(max_wait_seconds=LONGEST_WAIT, results=True))
    play.offered(run)
    return run


def checking(play: Playbook) -> m.Run:
    run = reserving(play)
    play.grant(run)
    return run


def uploading(play: Playbook) -> m.Run:
    run = checking(play)
    play.answer(run, ev.SourceKnown, exists=False)
    return run


def submitting(play: Playbook) -> m.Run:
    run = checking(play)
    play.answer(run, ev.SourceKnown, exists=True)
    return run


def rereserving(play: Playbook) -> m.Run:
    run = submitting(play)
    refuse(play, run, "LEASE_EXPIRED")
    return run


def rechecking(play: Playbook) -> m.Run:
    return restart(play, checking(play))


def following(play: Playbook) -> m.Run:
    run = submitting(play)
    play.follow(run)
    return run


def cancelling(play: Playbook) -> m.Run:
    run = submitting(play)
    cancel(play, run)
    return restart(play, run)


def fetching(play: Playbook) -> m.Run:
    run = following(play)
    play.news(run, "SUCCEEDED", 3, None)
    return run


def publishing(play: Playbook) -> m.Run:
    run = fetching(play)
    play.answer(run, ev.Fetched, summary=summary(run, 0), state="SUCCEEDED", seq=3, updated_at="x")
    return run


def releasing(play: Playbook) -> m.Run:
    run = submitting(play)
    refuse(play, run, "INTERNAL")
    return run


def ended(play: Playbook) -> m.Run:
    run = releasing(play)
    play.answer(run, ev.Released)
    return run


WAYS: dict[type[m.Phase], Callable[[Playbook], m.Run]] = {
    m.Waiting: waiting,
    m.Selecting: selecting,
    m.Reserving: reserving,
    m.Coalescing: coalescing,
    m.CheckingSource: checking,
    m.Uploading: uploading,
    m.Rechecking: rechecking,
    m.Submitting: submitting,
    m.Rereserving: rereserving,
    m.Cancelling: cancelling,
    m.Following: following,
    m.Fetching: fetching,
    m.Publishing: publishing,
    m.Releasing: releasing,
    m.Ended: ended,
}

NONE = "it awaits no answer"
OVER = "it is over"
OWN_TIMER = "its effect has a deadline at the edge, and a cut line is what comes of it"
NOT_APPLICABLE: dict[tuple[type[m.Phase], str], str] = {
    **{
        (phase, stimulus): NONE
        for phase in (m.Waiting, m.Coalescing)
        for stimulus in ("answer", "refusal", "cut")
    },
    **{(m.Ended, stimulus): OVER for stimulus in STIMULI},
    (m.Selecting, "refusal"): "who refuses a probe is a report that failed",
    (m.Rechecking, "refusal"): "who refuses a probe is a report that failed",
    (m.Publishing, "refusal"): "this machine does it",
    **{
        (phase, "timer"): OWN_TIMER
        for phase in (
            m.CheckingSource, m.Uploading, m.Rechecking, m.Submitting, m.Rereserving, m.Cancelling,
            m.Fetching, m.Publishing, m.Releasing,
        )
    },
    (m.Reserving, "cancel"): "the grant may be on its way: its answer says what there is to undo",
    (m.Submitting, "cancel"): "it may have arrived: its answer says what there is to undo",
    (m.Rereserving, "cancel"): "the grant may be on its way: its answer says what there is to undo",
    (m.Cancelling, "cancel"): "it is cancelled",
    (m.Following, "cancel"): "the worker is told beside the tail, which goes on to the end",
    (m.Fetching, "cancel"): "the job is over; what it left is kept, and no other follows",
    (m.Publishing, "cancel"): "the job is over; what it left is kept, and no other follows",
    (m.Releasing, "cancel"): "it is on its way out",
    (m.Following, "timer"): "the worker is told that its time is over, and given up in the end",
}  # fmt: skip

ANSWERS: dict[type[m.Phase], tuple[type[ev.Answer], dict[str, Any]]] = {
    m.Selecting: (ev.Probed, {"reports": (report(),), "embedded": False}),
    m.Rechecking: (ev.Probed, {"reports": (report(),), "embedded": False, "whole": False}),
    m.Reserving: (
        ev.Reserved,
        {"worker": "mac", "lease_id": "lease-000001", "fence": 1, "ttl_seconds": 90},
    ),
    m.Rereserving: (
        ev.Reserved,
        {"worker": "mac", "lease_id": "lease-000002", "fence": 2, "ttl_seconds": 90},
    ),
    m.CheckingSource: (ev.SourceKnown, {"exists": True}),
    m.Uploading: (ev.Uploaded, {}),
    m.Submitting: (ev.Submitted, {"state": "RUNNING", "seq": 2}),
    m.Cancelling: (ev.CancelNoted, {"state": "CANCELLED"}),
    m.Following: (
        ev.TailNews,
        {"state": "SUCCEEDED", "seq": 3, "next_cursor": None, "log_offset": 0, "log_bytes": 0},
    ),
    m.Fetching: (ev.FetchRefused, {"errors": ("x: bad",)}),
    m.Publishing: (ev.Published, {"found": True}),
    m.Releasing: (ev.Released, {}),
}


def refuse(play: Playbook, run: m.Run, code: str = "INTERNAL") -> None:
    play.answer(
        run, ev.WorkerRefused, operation="x", code=code, message=code, kind="EXECUTOR", subkind=None
    )


def cut(play: Playbook, run: m.Run) -> None:
    play.answer(run, ev.LineCut, operation="x", kind="SSH", subkind="UNREACHABLE", message="cut")


def cancel(play: Playbook, run: m.Run) -> None:
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))


def restart(play: Playbook, run: m.Run) -> m.Run:
    again = decode_run(encode_run(run))
    play.core = Playbook(again).core
    play.feed(ev.Started(at=play.at))
    return again


def stimulate(play: Playbook, run: m.Run, stimulus: str) -> m.Run:
    match stimulus:
        case "answer":
            kind, members = ANSWERS[type(run.phase)]
            play.answer(run, kind, **members)
        case "refusal":
            refuse(play, run)
        case "cut":
            cut(play, run)
        case "cancel":
            cancel(play, run)
        case "timer":
            play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="max_wait"))
        case _:
            return restart(play, run)
    return run


def goes_on(play: Playbook, run: m.Run, before: tuple[m.Phase, int]) -> bool:
    """It has left, or asks again for what it awaits, now or when a timer is over."""
    asks = any(isinstance(e, fx.Outward) and e.op == run.op for e in play.effects)
    timers = [e for e in play.effects if isinstance(e, fx.StartTimer)]
    later = any(e.name == "retry" and e.op == run.op for e in timers)
    waits = isinstance(run.phase, m.Waiting | m.Reserving) and any(e.name == "max_wait" for e in timers)
    return run.phase != before[0] or (run.op != before[1] and (asks or later)) or waits


def test_the_table_speaks_of_every_phase() -> None:
    assert set(WAYS) == set(PHASES)
    assert set(ANSWERS) == set(PHASES) - {m.Waiting, m.Coalescing, m.Ended}
    assert {phase for phase, _ in MOVES} == set(ANSWERS)


@pytest.mark.parametrize("stimulus", STIMULI)
@pytest.mark.parametrize("phase", PHASES, ids=lambda each: each.__name__)
def test_each_phase_is_left_or_asks_again_on_whatever_comes(phase: type[m.Phase], stimulus: str) -> None:
    play = Playbook()
    run = WAYS[phase](play)
    assert isinstance(run.phase, phase)
    before = run.phase, run.op
    if (phase, stimulus) not in NOT_APPLICABLE:
        run = stimulate(play, run, stimulus)
        assert goes_on(play, run, before), f"{run.phase} stays, with {play.effects}"


@pytest.mark.parametrize("phase", ANSWERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("late", [False, True], ids=["kept", "cancelled"])
def test_a_line_that_is_cut_for_ever_ends_every_wait(phase: type[m.Phase], *, late: bool) -> None:
    play = Playbook()
    run = WAYS[phase](play)
    if late:
        cancel(play, run)
    for _ in range(200):
        if is_terminal(run.state):
            break
        cut(play, run)
        for timer in play.of(fx.StartTimer):
            if timer.name in {"retry", "max_wait"}:
                play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name=timer.name, op=timer.op))
    assert is_terminal(run.state)
    assert run.lease is None
    assert run.exit_code == (80 if run.cancel is not None else 20 if phase is not m.Releasing else 40)


@pytest.mark.parametrize("phase", ANSWERS, ids=lambda each: each.__name__)
def test_a_worker_that_refuses_everything_ends_every_wait(phase: type[m.Phase]) -> None:
    play = Playbook()
    run = WAYS[phase](play)
    for _ in range(200):
        if is_terminal(run.state):
            break
        if (type(run.phase), "refusal") in NOT_APPLICABLE:
            play.answer(run, *ANSWERS[type(run.phase)][:1], **ANSWERS[type(run.phase)][1])
        else:
            refuse(play, run)
    assert is_terminal(run.state)
    assert run.lease is None
