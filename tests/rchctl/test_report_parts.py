"""The pure parts of a report: text, tests one by one, the timeline; and source excerpts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.run_folder import junit

from rch.contract.records import SourceEntry, SourceManifest
from rchctl.report import excerpts
from rchctl.report.excerpts import Line, Place, Sources
from rchctl.report.junit import Case, parse_junit
from rchctl.report.text import cut, neutral, neutral_line
from rchctl.report.timeline import WIDTH, StageTimes, timeline


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("Grüße 👩\u200d🚀", "Grüße 👩\u200d🚀"),
        ("a\x1b[31mred\x1b[0m", "ared"),
        ("\x1b]0;title\x07x", "x"),
        ("user\u202etxt.exe", "user<U+202E>txt.exe"),
        ("\u2066x\u2069\u200b\ufeff", "<U+2066>x<U+2069><U+200B><U+FEFF>"),
        ("a\x00b\x08\x7f\x85", "a<U+0000>b<U+0008><U+007F><U+0085>"),
        ("half \ud800", "half <U+D800>"),
        ("one\r\ntwo\u2028", "one\ntwo<U+2028>"),
    ],
)
def test_text_from_outside_loses_its_power_and_stays_readable(text: str, seen: str) -> None:
    assert neutral(text) == seen
    neutral(text).encode()


def test_a_line_is_one_line_and_a_cut_says_so() -> None:
    assert neutral_line("a\n b\tc") == "a b c"
    assert cut("abcdef", 3) == "abc… (3 characters more)"
    assert cut("abc", 3) == "abc"


def test_every_test_is_read_with_its_outcome() -> None:
    told = [("S", f"{each}()", each) for each in ("passed", "failed", "skipped", "flaky", "expected")]
    found = parse_junit(junit(told))
    assert found.problem is None
    assert found.cases == tuple(Case(suite, name, outcome, 12) for suite, name, outcome in told)


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE x [<!ENTITY e 'boom'>]><testsuites><testcase name='&e;'/></testsuites>",
        b"<a>" * 100,
        b"<testsuites><testsuite><testcase name='cut off'/>",
        b"",
        b"\xff\xfe",
    ],
)
def test_results_that_are_none_are_a_problem_and_no_end(data: bytes) -> None:
    assert (parse_junit(data).problem or "").startswith("junit.xml: ")


def test_what_was_read_before_a_fault_is_kept() -> None:
    cut_off = junit([("S", "a", "passed"), ("S", "b", "failed")]).partition(b"</testsuite>")[0]
    found = parse_junit(cut_off)
    assert [case.name for case in found.cases] == ["a", "b"]
    assert found.problem


def test_stages_follow_one_another_and_what_is_in_no_record_is_told() -> None:
    host = {"bundle": 100, "queue": 50, "uploading": 150, "releasing": 10, "submitting": 20, "fetching": 70}
    step = StageTimes("build", host, {"unpack": 100, "build": 400}, job_ms=600)
    line = timeline([step, StageTimes("test", {}, {}, None)], 1500)
    assert [(bar.group, bar.label, bar.milliseconds) for bar in line.bars] == [
        ("before the steps", "bundle the source", 100),
        ("before the steps", "wait in the queue", 50),
        ("before the steps", "upload", 150),
        ("build", "submit", 20),
        ("build", "unpack the source", 100),
        ("build", "build", 400),
        ("build", "the rest of the job", 100),
        ("build", "fetch and verify", 70),
        ("after the steps", "give the slot back", 10),
    ]
    assert line.total_ms == 1000
    assert line.unrecorded_ms == 1500 - 900  # the bundle was before the run
    assert [bar.x for bar in line.bars] == [0.0, 100.0, 150.0, 300.0, 320.0, 420.0, 820.0, 920.0, 990.0]
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in line.bars)


@pytest.mark.parametrize(
    "steps", [[], [StageTimes("test", {}, {})], [StageTimes("test", {"queue": 0}, {"test": -5})]]
)
def test_a_timeline_of_little_is_no_trouble(steps: list[StageTimes]) -> None:
    line = timeline(steps, None)
    assert line.unrecorded_ms == 0
    assert all(0 <= bar.x <= WIDTH and bar.milliseconds >= 0 for bar in line.bars)


def sources_of(root: Path, data: bytes, path: str = "Sources/A.swift") -> Sources:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    entry = SourceEntry(path=path, type="file", size=len(data), sha256=hashlib.sha256(data).hexdigest())
    manifest = SourceManifest(created_at="", run_id="r", source_sha256="a" * 64, entries=(entry,))
    return Sources(root, manifest)


def test_an_excerpt_has_the_lines_around_and_a_sign_at_the_column(tmp_path: Path) -> None:
    sources = sources_of(tmp_path, b"one\ntwo\n\tlet x = y\nfour\nfive\nsix\nseven\n")
    found = sources.excerpt(Place("Sources/A.swift", 3, 10))
    assert [line.number for line in found.lines] == [1, 2, 3, 4, 5, 6]
    assert found.lines[2] == Line(3, "\tlet x = y", hit=True, caret="\t        ^")
    assert not found.note


@pytest.mark.spec("8")
def test_a_file_that_is_not_the_verified_one_is_never_shown(tmp_path: Path) -> None:
    sources = sources_of(tmp_path, b"verified\n")
    (tmp_path / "Sources/A.swift").write_bytes(b"changed!\n")
    found = sources.excerpt(Place("Sources/A.swift", 1))
    assert (found.lines, found.note) == ((), "no excerpt: the file has changed since this run")


def test_places_that_are_none_have_a_reason(tmp_path: Path) -> None:
    sources = sources_of(tmp_path, b"verified\n")
    outside = tmp_path / "secret"
    outside.write_text("secret\n")
    assert "not in the source" in sources.excerpt(Place("../secret", 1)).note
    assert "has 1 line" in sources.excerpt(Place("Sources/A.swift", 9)).note
    (tmp_path / "Sources/A.swift").unlink()
    again = sources_of(tmp_path, b"verified\n")
    (tmp_path / "Sources/A.swift").unlink()
    (tmp_path / "Sources/A.swift").symlink_to(outside)
    assert "not there any more" in again.excerpt(Place("Sources/A.swift", 1)).note
    assert "not in the source" in Sources(None, None).excerpt(Place("A", 1)).note


def test_so_many_excerpts_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excerpts, "MOST", 2)
    sources = sources_of(tmp_path, b"x\n")
    notes = [sources.excerpt(Place("Sources/A.swift", 1)).note for _ in range(3)]
    assert notes == ["", "", "no excerpt: the first 2 places have one"]
