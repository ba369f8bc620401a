"""Section 3.3: `tail` of a job at its end, piece by piece."""

from __future__ import annotations

from typing import Any

from rch.contract.worker_rpc import TailResult
from rch_conformance.checks import Broken, NotOffered
from rch_conformance.worker.jobs import TERMINAL, follow
from rch_conformance.worker.project import LINES
from rch_conformance.worker.rig import Outcome, Rig
from rch_conformance.worker.suite import check, expect, expect_same, shaped

_TAIL = ("tail",)
_MOST_PIECES = 100_000
_NUMBER = {line: number for number, line in enumerate(LINES, start=1)}
_SMALL_PIECES = 40


def _in_pieces(rig: Rig, outcome: Outcome, **limits: Any) -> list[dict[str, Any]]:
    """Every answer of a tail with these limits, from the beginning to the null cursor."""
    told: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(told) < _MOST_PIECES:
        told.append(rig.result("tail", job_id=outcome.job.job_id, cursor=cursor, **limits))
        cursor = told[-1].get("next_cursor")
        if cursor is None:
            return told
    raise Broken(f"after {_MOST_PIECES} tails of {limits} there is no end")


def _text(told: list[dict[str, Any]]) -> str:
    return "".join(str(each.get("log_chunk")) for each in told)


@check("3.3", "tail answers {log_chunk, events, next_cursor, state}", needs=_TAIL)
def tail_has_its_shape(rig: Rig) -> None:
    told = shaped(rig.result("tail", job_id=rig.built().job.job_id), TailResult, "tail")
    expect(told.state in TERMINAL, f"a tail of a job at its end says {told.state}")


@check("3.3", "the text that tails gave while the job ran is its build.log", needs=_TAIL)
def live_text_is_the_log(rig: Rig) -> None:
    for make in (rig.built, rig.passed, rig.failed):
        _same_text(make().log.text, _log_of(make()))


@check("3.3", "what a test prints reaches the log, in its order and up to its end", needs=_TAIL)
def printed_lines_reach_the_log(rig: Rig) -> None:
    if not rig.project().prints:
        raise NotOffered("live_output", "the simulated tools do not print what a test says")
    found = [line for line in rig.passed().log.text.splitlines() if line in _NUMBER]
    # SwiftPM 6.3.1 itself may lose the first blocks of what a test says: so not every line has to be there.
    expect(found, "none of the lines that the test prints is in the log")
    numbers = [_NUMBER[line] for line in found]
    expect(numbers == sorted(set(numbers)), "the lines are not in their order, or come twice")
    expect_same("the last line", numbers[-1], len(LINES))


@check("3.3", "max_bytes bounds a piece and never loses text", needs=_TAIL)
def max_bytes_loses_nothing(rig: Rig) -> None:
    log = _log_of(rig.passed())
    for most in (max(64, len(log.encode()) // 20), 4096):
        told = _in_pieces(rig, rig.passed(), max_bytes=most)
        _same_text(_text(told), log)
        longest = max(len(str(each.get("log_chunk")).encode()) for each in told)
        expect(longest <= 3 * most, f"a piece of {longest} bytes came, max_bytes was {most}")


@check("3.3", "a piece of the log ends at the end of a character", needs=_TAIL)
def pieces_hold_whole_characters(rig: Rig) -> None:
    log, job_id = _log_of(rig.passed()), rig.passed().job.job_id
    if log.isascii():
        raise NotOffered("live_output", "the log is plain ASCII: no character of it can be cut")
    before = next(at for at, letter in enumerate(log) if not letter.isascii())
    skip = max(4, len(log[:before].encode()) - 8)
    for most in (5, 7, 11):
        told = rig.result("tail", job_id=job_id, max_bytes=skip)
        text = str(told.get("log_chunk"))
        for _ in range(_SMALL_PIECES):
            if told.get("next_cursor") is None:
                break
            told = rig.result("tail", job_id=job_id, cursor=told["next_cursor"], max_bytes=most)
            text += str(told.get("log_chunk"))
        _same_text(text, log[: len(text)])


@check("3.3", "next_cursor is null only when the job is at its end and all of it is read", needs=_TAIL)
def null_cursor_is_the_end(rig: Rig) -> None:
    log = _log_of(rig.passed())
    told = _in_pieces(rig, rig.passed(), max_bytes=max(64, len(log.encode()) // 5))
    _same_text(_text(told), log)
    expect(len(told) >= 4, f"a log of {len(log)} characters came in {len(told)} pieces of a fifth of it")
    expect(
        told[-1].get("state") in TERMINAL, f"next_cursor is null while the job is {told[-1].get('state')}"
    )


@check("3.3", "a cursor that the worker never gave is answered INVALID_REQUEST", needs=_TAIL)
def strange_cursors_are_refused(rig: Rig) -> None:
    job_id = rig.built().job.job_id
    for cursor in ("garbage", "-1", "..:..:.."):
        rig.ask("tail", {"job_id": job_id, "cursor": cursor}).refused_with("INVALID_REQUEST")


@check("3.3", "the same cursor gives the same text again", needs=_TAIL)
def cursors_hold_still(rig: Rig) -> None:
    job_id = rig.passed().job.job_id
    first = rig.result("tail", job_id=job_id, max_bytes=64)
    for _ in range(2):
        again = rig.result("tail", job_id=job_id, cursor=first.get("next_cursor"), max_bytes=64)
        once_more = rig.result("tail", job_id=job_id, cursor=first.get("next_cursor"), max_bytes=64)
        expect_same("the piece after one cursor", once_more.get("log_chunk"), again.get("log_chunk"))


@check("3.3", "events are numbered from 1 on, each once, and max_events loses none", needs=_TAIL)
def events_are_numbered(rig: Rig) -> None:
    whole = _in_pieces(rig, rig.passed())
    numbers = [each.get("n") for one in whole for each in one.get("events") or ()]
    expect_same("the numbers of the events", numbers, list(range(1, len(numbers) + 1)))
    told = _in_pieces(rig, rig.passed(), max_events=1)
    expect(all(len(each.get("events") or ()) <= 1 for each in told), "more than max_events came at once")
    again = [each.get("n") for one in told for each in one.get("events") or ()]
    expect_same("the numbers of the events, one by one", again, numbers)


@check("3.3", "whoever comes late reads all from the beginning", needs=_TAIL)
def late_readers_read_all(rig: Rig) -> None:
    log = follow(rig.peer, rig.built().job.job_id, rig.job_timeout)
    _same_text(log.text, _log_of(rig.built()))


def _log_of(outcome: Outcome) -> str:
    data = outcome.set.files.get("build.log")
    if data is None:
        raise Broken("the set has no build.log")
    return data.decode("utf-8", "replace")


def _same_text(seen: str, wanted: str) -> None:
    if seen == wanted:
        return
    at = next(
        (at for at, (a, b) in enumerate(zip(seen, wanted, strict=False)) if a != b),
        min(len(seen), len(wanted)),
    )
    raise Broken(
        f"the text has {len(seen)} characters, build.log {len(wanted)}; they part at {at}:"
        f" {seen[at : at + 60]!r}, {wanted[at : at + 60]!r} in build.log"
    )
