"""Section 3.3: a job while it runs. One slow job serves all of these, the last of which cancels it."""

from __future__ import annotations

import time
from typing import Any

from rch_conformance.checks import Broken, NotOffered
from rch_conformance.worker.peer import new_id, request_line
from rch_conformance.worker.project import TICK
from rch_conformance.worker.rig import Rig
from rch_conformance.worker.suite import check, expect, expect_same

_HELD_SECONDS = 20
_LONG_BEFORE_SECONDS = 10.0
_MOST_SLOTS = 64
_CHASED = 3
"""So many tails after all that there was, the log may have grown each time."""


@check("3.3", "a job that runs is RUNNING, and its set is not there yet")
def running_job_has_no_set(rig: Rig) -> None:
    job, _ = rig.running()
    status = rig.result("status", job_id=job.job_id)
    expect_same("state", status.get("state"), "RUNNING")
    expect_same("artifacts_available", status.get("artifacts_available"), False)
    expect(status.get("exit_code") is None, f"a running job has the exit code {status.get('exit_code')}")
    answer = rig.ask("fetch", {"job_id": job.job_id})
    expect(not answer.ok, "a set was sent of a job that is not at its end: its commit marker is no promise")


@check("3.3", "status counts the bytes of the log while the job runs", needs=("tail",))
def log_is_counted_while_it_grows(rig: Rig) -> None:
    if not rig.project().prints:
        raise NotOffered("live_output", "the simulated tools do not print what a test says")
    job, _ = rig.running()  # a tail gave a line of it already
    told = rig.result("status", job_id=job.job_id).get("log_bytes")
    expect(isinstance(told, int) and told > 0, f"log_bytes is {told!r} after lines were tailed")


@check("3.3", "a submit of a job that runs answers its state, and never executes it a second time")
def submit_again_while_it_runs(rig: Rig) -> None:
    job, submitted = rig.running()
    cursor = _at_the_end(rig, job.job_id) if "tail" in rig.features else None
    again = rig.submit(job).payload
    expect_same("the state of the second submit", again.get("state"), "RUNNING")
    expect(
        again.get("seq") == submitted.get("seq") or submitted.get("state") != "RUNNING",
        f"the second submit has the seq {again.get('seq')}, the first had {submitted.get('seq')}",
    )
    if cursor is not None:
        told = rig.result("tail", job_id=job.job_id, cursor=cursor)
        expect(
            not told.get("reset"), "after a second submit the log begins anew: the job was executed again"
        )


@check("3.3", "a job outlives the channel that submitted it")
def job_outlives_its_channel(rig: Rig) -> None:
    job, _ = rig.running()  # its channel was killed when its submit was answered
    status = rig.result("status", job_id=job.job_id)
    expect_same("the state after the channel's end", status.get("state"), "RUNNING")
    if rig.project().prints and "tail" in rig.features:
        cursor = _at_the_end(rig, job.job_id)
        told = rig.result("tail", job_id=job.job_id, cursor=cursor, wait_seconds=_HELD_SECONDS)
        expect(told.get("log_chunk"), "after the end of its channel the job says nothing more")


@check("3.3", "a held tail is answered as soon as there is news", needs=("tail",))
def held_tail_wakes(rig: Rig) -> None:
    if not rig.project().prints:
        raise NotOffered("live_output", "the simulated tools do not print what a test says")
    job, _ = rig.running()
    cursor = _at_the_end(rig, job.job_id)
    began = time.monotonic()
    told = rig.result("tail", job_id=job.job_id, cursor=cursor, wait_seconds=_HELD_SECONDS)
    took = time.monotonic() - began
    expect(told.get("log_chunk"), "the held tail was answered without news")
    expect(
        took < _LONG_BEFORE_SECONDS,
        f"the held tail was answered after {took:.1f} s, with a line every 0.25 s",
    )
    expect(
        TICK.search(str(told["log_chunk"])), f"the news are no line of the test: {told['log_chunk']!r:.200}"
    )


@check("3.3", "a tail without wait_seconds is answered at once", needs=("tail",))
def tail_does_not_wait(rig: Rig) -> None:
    job, _ = rig.running()
    cursor = _at_the_end(rig, job.job_id)
    began = time.monotonic()
    told = rig.result("tail", job_id=job.job_id, cursor=cursor)
    expect(time.monotonic() - began < _LONG_BEFORE_SECONDS, "a tail without wait_seconds was held")
    expect(told.get("next_cursor") is not None, "next_cursor is null while the job runs")


@check("3.3", "while a tail is held, other channels are answered", needs=("tail",))
def held_tail_holds_nobody_else(rig: Rig) -> None:
    job, _ = rig.running()
    with rig.peer.open() as channel:
        channel.send(request_line("tail", {"job_id": job.job_id, "wait_seconds": _HELD_SECONDS}))
        began = time.monotonic()
        rig.result("status", job_id=job.job_id)
        took = time.monotonic() - began
        expect(took < _LONG_BEFORE_SECONDS, f"a status beside a held tail took {took:.1f} s")


@check("3.3", "with every slot taken a submit is answered BUSY with retry_after_seconds over 0")
def slots_bound_the_jobs(rig: Rig) -> None:
    job, _ = rig.running()
    held = _all_slots(rig)
    other = rig.job(run_id=new_id())
    answer = rig.ask("submit", dict(other.payload))
    for lease in held:
        rig.release(lease)
    if answer.ok:
        rig.ask("cancel", {"job_id": other.job_id, "reason": "USER"})
        raise Broken(f"a job was let in beside {job.job_id} with every slot taken: {answer.shown()}")
    answer.refused_with("BUSY")
    expect_retry(answer.data)


def _all_slots(rig: Rig) -> list[Any]:
    """Leases on every slot that is free beside the running job's."""
    held: list[Any] = []
    while "lease" in rig.features and len(held) < _MOST_SLOTS:
        run_id = new_id()
        if not rig.reserve(run_id).ok:
            return held
        held.append(rig.lease(run_id))
    return held


def expect_retry(data: dict[str, Any]) -> None:
    """`Broken` unless a BUSY says when to come back."""
    seconds = data.get("retry_after_seconds")
    expect(
        isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0,
        f"data.retry_after_seconds of BUSY is {seconds!r}, not a number over 0",
    )


@check("3.3", "a cancel ends a running job, and a held tail hears of it", needs=("tail",))
def cancel_wakes_a_held_tail(rig: Rig) -> None:
    job, _ = rig.running()
    cursor = _at_the_end(rig, job.job_id)
    with rig.peer.open() as channel:
        hold = {"job_id": job.job_id, "cursor": cursor, "wait_seconds": _HELD_SECONDS}
        channel.send(request_line("tail", hold))
        began = time.monotonic()
        outcome = rig.cancelled()
        expect_same("the state after the cancel", outcome.status.get("state"), "CANCELLED")
        rig.peer.read(channel, max(0.1, _LONG_BEFORE_SECONDS - (time.monotonic() - began)))


@check("3.3", "a job that was cancelled ends CANCELLED with 80, and still has its set and its log")
def cancelled_job_has_its_set(rig: Rig) -> None:
    outcome = rig.cancelled()
    expect_same("state", outcome.status.get("state"), "CANCELLED")
    expect_same("exit_code", outcome.status.get("exit_code"), 80)
    expect_same("artifacts_available", outcome.status.get("artifacts_available"), True)
    expect("build.log" in outcome.set.files, "the set of a cancelled job has no build.log")


def _at_the_end(rig: Rig, job_id: str) -> str | None:
    """A cursor after all that there is now.

    Who answers later than the next line comes has news each time: after what there was it is not chased.
    """
    there = rig.result("status", job_id=job_id).get("log_bytes")
    cursor: str | None = None
    read = beyond = 0
    for _ in range(10_000):
        told = rig.result("tail", job_id=job_id, cursor=cursor)
        cursor = told.get("next_cursor")
        read += len(str(told.get("log_chunk") or "").encode())
        beyond += isinstance(there, int) and read >= there
        if beyond > _CHASED or (not told.get("log_chunk") and not told.get("events")):
            return cursor
        expect(cursor is not None, "next_cursor is null while the job runs")
    raise Broken("the tail has news without end")
