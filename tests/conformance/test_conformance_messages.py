"""What a failure of `rch-conformance worker` says: what was asked, what came, of which job, which page."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rch_conformance.checks import Broken, Suite, run_checks
from rch_conformance.reporters import as_json, junit, table
from rch_conformance.worker.checks.life import seq_rises_by_one
from rch_conformance.worker.command import every_check
from rch_conformance.worker.peer import Peer, brief, request_line
from rch_conformance.worker.rig import Rig

REPO = Path(__file__).parents[2]
ANSWER = '{"protocol_version":1,"request_id":"x","ok":true,"payload":{"exists":1}}'
PAGES = {"3.1": "docs/a.md#b", "elsewhere": "docs/c.md"}
SUITE: Suite[None] = Suite(PAGES)


@SUITE.check("3.1", "this is broken")
def broken(_: None) -> None:
    raise Broken("seen red, wanted blue")


@SUITE.check("3.1", "this stands elsewhere")
def elsewhere(_: None) -> None:
    raise Broken("seen red, wanted blue")


def test_a_failure_shows_what_was_asked_what_came_and_the_page() -> None:
    said = iter([[], ["asked: a", "came: b"], [], []])
    results = list(run_checks(SUITE.checks, None, heard=lambda: next(said)))
    text = table("worker", results, {})
    lines = ["seen red, wanted blue", "asked: a", "came: b", "(--only broken; docs/a.md#b)"]
    assert "".join(f"        {line}\n" for line in lines) in text
    assert "        seen red, wanted blue\n        (--only elsewhere; docs/c.md)\n" in text
    assert [each["page"] for each in as_json("worker", results, 1)["results"]] == [*PAGES.values()]
    assert b"came: b\ndocs/a.md#b</failure>" in junit("worker", results)


def test_a_peer_tells_the_last_requests_and_answers_and_no_body() -> None:
    peer = Peer([sys.executable, "-c", f"import sys; sys.stdin.readline(); print('{ANSWER}')"], 20)
    for digest in ("a", "b", "c", "d"):
        peer.exchange(request_line("has_source", {"source_sha256": digest * 64}), b"tar\0")
    heard = peer.heard()
    assert [line.partition(":")[0] for line in heard] == ["asked", "came"] * 3
    assert '"op":"has_source"' in heard[0]
    assert heard[1] == f"came: {ANSWER}"
    assert ["b" * 40 in heard[0], "d" * 40 in heard[4], "tar" in "".join(heard)] == [True, True, False]
    assert peer.heard() == []


def test_a_channel_that_ends_without_an_answer_is_told() -> None:
    peer = Peer(["true"], 20)
    with pytest.raises(Broken):
        peer.exchange(request_line("probe"))
    assert peer.heard()[-1] == "came: the end of the channel"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b'{"a":{"b":{"c":{"d":1},"e":[]}}}\n', '{"a":{"b":{"c":{"d":1},"e":[]}}}'),
        (b'{"a":{"b":{"c":{"d":{"e":1}}}}}\n', '{"a":{"b":{"c":{"d":"..."}}}}'),
        (b"\xff\xfe\n", r"b'\xff\xfe\n'"),
        (b"[" * 100_000, repr(b"[" * 300)),
        (b'{"a":"' + b"y" * 50 + b'"}\n', '{"a":"' + "y" * 40 + '..."}'),
    ],
)
def test_a_request_is_shown_short(line: bytes, shown: str) -> None:
    assert brief(line) == shown


def test_the_job_that_was_looked_at_is_named() -> None:
    rig = Rig(Peer(["true"], 1), 1)
    job = SimpleNamespace(job_id="job-0000000001", inputs={"sanitized_argv": ["test", "--filter", "A"]})
    outcome = cast("Any", SimpleNamespace(job=job, status={"state": "FAILED"}))
    looked = rig.each(lambda: outcome, lambda: pytest.fail("the second is not needed"))
    next(looked)
    assert rig.heard() == ["of the job job-0000000001: test --filter A; it is FAILED"]
    assert rig.heard() == []


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_every_check_names_a_heading_that_there_is() -> None:
    for check in every_check():
        page, _, anchor = check.page.partition("#")
        if page.startswith("docs/reference/"):  # `make docs` makes it
            continue
        headings = re.findall(r"^#+ (.*)$", (REPO / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert not anchor or anchor in map(_slug, headings), f"{check.id}: {check.page}"


def _stood(*told: tuple[str, int], cancel: str) -> Any:
    """A job that was cancelled, as a rig has it."""
    first, last = told[0], told[-1]
    record = {"state": last[0], "seq": last[1]}
    return SimpleNamespace(
        job=SimpleNamespace(job_id="job-0000000001", inputs={"sanitized_argv": ["build"]}),
        submitted={"state": first[0], "seq": first[1]},
        log=SimpleNamespace(stood=list(told)),
        status=record,
        set=SimpleNamespace(record=lambda _name: record),
        cancel={"state": cancel},
    )


def _rig_of(cancelled: Any) -> Rig:
    done = _stood(("RUNNING", 2), ("SUCCEEDED", 3), cancel="")
    rig = Rig(Peer(["true"], 1), 1)
    for name in ("built", "passed", "failed"):
        setattr(rig, name, lambda: done)
    setattr(rig, "cancelled", lambda: cancelled)  # noqa: B010  (a property of another type)
    return rig


ASKED, WAY = ("CANCEL_REQUESTED", 3), ("RUNNING", 2)


@pytest.mark.parametrize(
    ("told", "cancel"),
    [
        ((WAY, ASKED, ("CANCELLED", 4)), "CANCEL_REQUESTED"),
        ((WAY, ("CANCELLED", 4)), "RUNNING"),  # the request was not seen on the way
        ((WAY, ("CANCELLED", 3)), "CANCELLED"),  # RUNNING to CANCELLED is one move
    ],
)
def test_a_cancel_may_be_one_move_or_two(told: tuple[tuple[str, int], ...], cancel: str) -> None:
    seq_rises_by_one(_rig_of(_stood(*told, cancel=cancel)))


@pytest.mark.parametrize(
    ("told", "cancel"),
    [
        ((WAY, ("CANCELLED", 3)), "CANCEL_REQUESTED"),
        ((WAY, ("CANCELLED", 5)), "CANCELLED"),
        ((WAY, ASKED, ("CANCELLED", 5)), "CANCEL_REQUESTED"),
    ],
)
def test_a_cancel_is_no_other_number_of_moves(told: tuple[tuple[str, int], ...], cancel: str) -> None:
    with pytest.raises(Broken, match="seq of CANCELLED"):
        seq_rises_by_one(_rig_of(_stood(*told, cancel=cancel)))
