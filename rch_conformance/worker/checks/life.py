"""Section 4: a job's states and their numbers, as far as a worker has them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from rch_conformance.worker.jobs import TERMINAL
from rch_conformance.worker.rig import LATE_SEQ, Outcome, Rig
from rch_conformance.worker.suite import check, expect, expect_same

_AFTER = {
    "QUEUED": {"RUNNING", "FAILED", "CANCELLED"},
    "RUNNING": {"CANCEL_REQUESTED", "SUCCEEDED", "FAILED"},
    "CANCEL_REQUESTED": {"CANCELLED", "SUCCEEDED", "FAILED"},
}


def _ended(rig: Rig) -> Iterator[Outcome]:
    return rig.each(rig.built, rig.passed, rig.failed, rig.cancelled)


def _stood(outcome: Outcome) -> list[tuple[str, int]]:
    """Every (state, seq) that was told of a job, from its submit to its set, repetitions left out."""
    told = [(str(outcome.submitted.get("state")), outcome.submitted.get("seq")), *outcome.log.stood]
    told.append((str(outcome.status.get("state")), outcome.status.get("seq")))
    state = outcome.set.record("job_state.json")
    told.append((str(state.get("state")), state.get("seq")))
    for _, seq in told:
        expect(isinstance(seq, int) and not isinstance(seq, bool), f"a seq is {seq!r}, no integer")
    whole = [(state, int(str(seq))) for state, seq in told]
    return [each for at, each in enumerate(whole) if at == 0 or each != whole[at - 1]]


def _last_seq(outcome: Outcome, told: list[tuple[str, int]]) -> int:
    """The `seq` of a job's end; a cancel is one move, or two where CANCEL_REQUESTED was on the way."""
    if told[-1][0] != "CANCELLED":
        return 3
    asked = outcome.cancel.get("state") == "CANCEL_REQUESTED" or "CANCEL_REQUESTED" in dict(told)
    return 4 if asked or told[-1][1] != 3 else 3


@check("4", "seq goes on from the host's job_state_seq, and rises by one with each transition")
def seq_rises_by_one(rig: Rig) -> None:
    for outcome in _ended(rig):
        told = _stood(outcome)
        first, last = told[0], told[-1]
        expect(
            first in {("QUEUED", 1), ("RUNNING", 2), last},  # the last: it may be quicker than its answer
            f"a submit with job_state_seq 1 is answered {first}, not QUEUED, 1 or RUNNING, 2 or its end",
        )
        for (state, seq), (later, number) in pairwise(told):
            expect(number > seq, f"after {state} with seq {seq} came {later} with seq {number}")
        expect_same(f"seq of {last[0]}", last[1], _last_seq(outcome, told))


@check("4", "seq goes on from a job_state_seq beyond 1: after 5 a build that succeeds ends with 7")
def seq_goes_on_from_the_hosts(rig: Rig) -> None:
    outcome = rig.extended()
    first = (outcome.submitted.get("state"), outcome.submitted.get("seq"))
    legal = [(state, LATE_SEQ + at) for at, state in enumerate(("QUEUED", "RUNNING", "SUCCEEDED"))]
    expect(
        first in legal, f"a submit with job_state_seq {LATE_SEQ} is answered {first}, not one of {legal}"
    )
    expect_same("seq at the end", outcome.status.get("seq"), LATE_SEQ + 2)
    expect_same("seq of job_state.json", outcome.set.record("job_state.json").get("seq"), LATE_SEQ + 2)


@check("4", "states follow one another as the contract allows")
def states_follow(rig: Rig) -> None:
    for outcome in _ended(rig):
        told = _stood(outcome)
        for (state, seq), (later, number) in pairwise(told):
            if number == seq + 1:
                expect(later in _AFTER.get(state, set()), f"{state} was followed by {later}")
            expect(state not in TERMINAL, f"{state} is an end, and was followed by {later}")


@check("4", "a job that succeeds ends SUCCEEDED, one with a failed test FAILED, a cancelled one CANCELLED")
def ends_are_told_apart(rig: Rig) -> None:
    for outcome, state in zip(_ended(rig), ("SUCCEEDED", "SUCCEEDED", "FAILED", "CANCELLED"), strict=True):
        expect_same("state", outcome.status.get("state"), state)


@check("4", "the state of the set is the state of the worker, with its seq")
def set_has_the_last_state(rig: Rig) -> None:
    for outcome in _ended(rig):
        record = outcome.set.record("job_state.json")
        for name in ("state", "seq"):
            expect_same(f"{name} of job_state.json", record.get(name), outcome.status.get(name))


@check("4", "an end is final: the state is the same later on")
def ends_are_final(rig: Rig) -> None:
    for outcome in _ended(rig):
        now = rig.result("status", job_id=outcome.job.job_id)
        for name in ("state", "seq", "updated_at"):
            expect_same(f"{name}, asked again", now.get(name), outcome.status.get(name))
