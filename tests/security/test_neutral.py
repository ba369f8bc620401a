"""What comes from a checkout or a worker and is shown: it steers no terminal, page or CI."""

from __future__ import annotations

import os
import time
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import JUnitXml

from rch.contract.neutral import (
    Neutral,
    NeutralBytes,
    for_markup,
    for_workflow,
    for_workflow_property,
    neutral,
    one_line,
    unspoken,
)
from rch.contract.records import TestFailure
from rchctl.console import Console
from rchctl.terminal import screen
from worker_agent.results.cases import Attempt, Case, Text
from worker_agent.results.junit import junit_xml

pytestmark = pytest.mark.spec("8")

ATTACKS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x1b\\",
    "link": "\x1b]8;;http://elsewhere.invalid\x1b\\",
    "cursor": "\x1b[2J\x1b[1;1H",
    "colour": "\x1b[8m",
    "cursor of one character": "\x9b2J",
    "string of one character": "\x9d0;owned\x9c",
    "device control": "\x1bP+q544e\x1b\\",
    "charset": "\x1b(0",
    "reset": "\x1bc",
    "bell and backspace": "\x07\x08\x08",
    "delete": "\x7f",
    "bidi": "\u202e\u2066\u2069\u200f",
    "no width": "\u200b\u2060\ufeff\u00ad\u3164",
    "tags": "\U000e0041\U000e007f",
    "colour of nobody": "\x1b[31;8m",
}
STEERING = set(map(chr, (*range(9), *range(0x0B, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F)))) | set(
    "\u2028\u2029\u2066\u2067\u2068\u2069\u200b\u200e\u200f\ufeff"
)
CHARS = st.sampled_from(
    [*"ab01;?m[]()\\PX^_ -/~\n\r\t\x1b\x07\x9b\x9c\x9d\x90\x00\x7f\u202e\u2028\u0301\ud800é界"]
)
TEXTS = st.text(CHARS, max_size=60) | st.text(max_size=60)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_each_known_attack_is_dropped_whole(attack: str) -> None:
    assert neutral(f"a{attack}b") == "ab"
    assert one_line(f"a{attack}b\r\nc\td\u2028e") == "ab c d e"
    assert screen(f"a{attack}b") == "ab"


@settings(deadline=None)
@given(st.binary(max_size=200) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")), st.data())
def test_of_any_bytes_in_any_pieces_nothing_steers_and_pieces_make_no_difference(
    data: bytes, draw: st.DataObject
) -> None:
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=6).map(sorted))
    pieces, shown = NeutralBytes(), ""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        shown += pieces.feed(data[start:end])
    shown += pieces.feed(b"", last=True)
    whole = NeutralBytes().feed(data, last=True)
    assert shown == whole
    assert not set(whole) & STEERING
    shown.encode()


@settings(deadline=None)
@given(TEXTS)
def test_what_is_neutral_stays_as_it_is(text: str) -> None:
    once = neutral(text)
    assert neutral(once) == once
    assert not set(once) & STEERING
    assert set(one_line(text)).isdisjoint("\n\t\r")
    one_line(text).encode()


def test_a_piece_without_text_changes_nothing() -> None:
    for begun, more in (("e" + "\u0301" * 4, "\u0301!"), ("a\x1b", "[31mb"), ("a\r", "\nb")):
        log = Neutral()
        shown = log.feed(begun) + log.feed("") + log.feed(more, last=True)
        assert shown == neutral(begun + more), begun


def test_plain_text_of_any_language_is_left_alone() -> None:
    text = "naïve ω Ελλάδα 日本語 עברית हिन्दी e\u0301 tab\there\n"
    assert neutral(text) == text


@pytest.mark.parametrize("opening", ["\x1b]0;", "\x9d", "\x1b[", "\x1bP", "\r", "\x1b ", "e" + "\u0301"])
def test_what_is_opened_and_never_closed_is_neither_kept_nor_costly(opening: str) -> None:
    log, shown, began = Neutral(), 0, time.process_time()
    for _ in range(16):
        shown += len(log.feed(opening + "0" * 60_000 + opening * 2_000))
    shown += len(log.feed("", last=True))
    assert shown >= 16 * 60_000
    assert len(log._carry) <= 5_000
    assert time.process_time() - began < 30


def test_a_pile_of_accents_stays_within_its_line() -> None:
    assert neutral("e" + "\u0301" * 500 + "x") == "e" + "\u0301" * 4 + "x"
    log = Neutral()
    assert "".join(log.feed(char) for char in "e" + "\u0301" * 50 + "x") == "e" + "\u0301" * 4 + "x"


def test_the_console_lets_its_own_colours_pass_and_no_others() -> None:
    read, write = os.pipe()
    console = Console({}, out=write, err=write)
    console.out("\x1b[32mgood\x1b[0m \x1b[8mhidden\x1b[0m \x1b]0;t\x07\u202ename\n")
    console.err("\x1b[2Jlog\n")
    console.value("in a pipe \x1b[1m as it is\n")
    os.close(write)
    with os.fdopen(read, "rb") as out:
        assert out.read() == (b"\x1b[32mgood\x1b[0m hidden\x1b[0m name\nlog\nin a pipe \x1b[1m as it is\n")


def test_the_updating_line_keeps_to_its_line_whatever_the_width_of_its_letters() -> None:
    read, write = os.pipe()
    console = Console({"COLUMNS": "20"}, out=write, err=write)
    console.live = True
    console.status("界" * 30)
    console._status = ""
    os.close(write)
    with os.fdopen(read, "rb") as out:
        assert out.read().decode() == "\r\x1b[K" + "界" * 9


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_junit_is_xml_for_every_name_and_message(suite: str, name: str, message: str) -> None:
    message += "]]><x/>&amp;\x00"
    attempt = Attempt(name, "failed", 1, (Text(message, name, 3),))
    cases = [
        Case(suite, name, "failed", message),
        Case(suite, name, "skipped", message),
        Case(suite, name, "expected_failure", message),
        Case(suite, name, "passed", attempts=(attempt, Attempt(name, "passed"))),
    ]
    failed = [TestFailure(name=name, suite=suite, message=message, path=name, line=3)]
    document = junit_xml(cases, failed, session=(name, message))
    root = ET.fromstring(document)  # noqa: S314  (it is what our own writer wrote)
    told = root.findall(".//testcase")
    assert len(told) == 5
    assert told[0].get("name") == for_markup(name).replace("\r\n", "\n").replace("\r", "\n") or "\r" in name
    assert len(list(JUnitXml.fromstring(document))) in {1, 2}
    assert not set(document.decode()) & (STEERING - {"\r"})


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert all(value is None or "\x00" not in value for _, value in attrs)


def test_text_for_pages_loses_what_they_cannot_hold_and_is_escaped_by_them() -> None:
    from html import escape

    page = _Page()
    hostile = "</p><script>\x00\x1b[2J\u202e"
    page.feed(f"<p>{escape(for_markup(hostile))}</p>")
    assert page.tags == ["p"]
    assert for_markup("a\x00b\ud800\ufffe\U0001f600\x9b") == "a?b??\U0001f600?"


@settings(deadline=None)
@given(TEXTS)
def test_a_message_cannot_end_a_workflow_command(text: str) -> None:
    line = f"::error file={for_workflow_property(text)},title=t::{for_workflow(text)}"
    assert "\n" not in line
    assert "\r" not in line
    head = line.removeprefix("::").partition("::")[0]
    assert head.count(",") == 1
    assert head.count(":") == 0


@pytest.mark.parametrize("line", ["::error::x", "  ::set-output name=a::b", "x ##[group]y"])
def test_a_log_line_is_no_workflow_command(line: str) -> None:
    assert unspoken(line) == f"\u00b7{line}"
    assert unspoken("Foo::bar() works") == "Foo::bar() works"
