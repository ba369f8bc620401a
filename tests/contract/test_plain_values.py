"""Small rules that every record and line goes by: numbers, names, times, lengths."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from rch.contract.canonical import jcs, jcs_sha256
from rch.contract.decoding import decode_json
from rch.contract.framing import count_values
from rch.contract.ids import is_timestamp, parse_timestamp
from rch.contract.junit_names import MAX_BYTES as MAX_JUNIT_BYTES
from rch.contract.manifest import (
    MAX_ERROR_CHARS,
    MAX_ERRORS,
    differences,
    one_short_line,
    shortly,
    sort_entries,
)
from rch.contract.neutral import (
    NeutralBytes,
    for_markup,
    for_workflow,
    for_workflow_property,
    neutral,
    one_line,
    unspoken,
)
from rch.contract.records import Entry, Record, schema_id_of
from rch.contract.results import covers, verdict_policy, wants_results
from rch.contract.set_limits import MAX_MANIFEST_BYTES, MAX_RECORD_BYTES, MAX_SMALL_BYTES, most_bytes


@pytest.mark.spec("7")
def test_a_digest_is_of_members_with_names_and_of_whole_numbers_alone() -> None:
    for value in ({1: "x"}, {"a": {True: 1}}, [1.0], {"n": 2**53}, {"n": -(2**53)}):
        with pytest.raises(ValueError, match=r"member names|floats|integers"):
            jcs(value)
    assert jcs({"n": 2**53 - 1, "b": True}) == b'{"b":true,"n":9007199254740991}'
    assert jcs_sha256({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.spec("7")
def test_what_nests_without_end_has_no_digest() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nests too deep"):
        jcs(deep)


@pytest.mark.spec("2")
def test_bytes_that_are_no_utf8_are_no_json() -> None:
    for data in (b'"\xff"', b"[" * 100_000, b"", b"{"):
        with pytest.raises(msgspec.DecodeError):
            decode_json(data)
    assert decode_json(b'{"a":1,"a":2}') == {"a": 2}
    assert decode_json('["x"]', list[str]) == ["x"]


@pytest.mark.spec("2")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1970-01-01T00:00:01Z", 1.0), ("2026-01-02T03:04:05.678Z", 1767323045.678)],
)
def test_a_time_is_read_as_utc(text: str, seconds: float) -> None:
    assert is_timestamp(text)
    assert parse_timestamp(text) == seconds


@pytest.mark.spec("2")
@pytest.mark.parametrize("text", ["2026-01-02T03:04:05+00:00", "2026-01-02 03:04:05Z", "now", ""])
def test_a_time_in_another_form_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no RFC 3339 UTC time with a Z suffix"):
        parse_timestamp(text)


@pytest.mark.spec("3.2")
def test_values_are_counted_without_reading_and_counting_ends_beyond_the_most() -> None:
    value = {"a": [1, 2, {"b": []}], "c": "x"}
    assert count_values(json.dumps(value).encode(), 100) >= 7
    assert count_values(b"[" * 50 + b"," * 1000, 10) == 50
    assert count_values(b"[" * 10 + b"," * 3, 10) == 13


@pytest.mark.spec("8")
def test_a_record_type_without_an_id_of_its_own_cannot_be_read() -> None:
    with pytest.raises(TypeError, match="Record has no schema_id"):
        schema_id_of(Record)


@pytest.mark.spec("8")
def test_each_file_that_is_read_whole_has_a_length_that_it_may_have() -> None:
    assert most_bytes("manifest.json") == MAX_MANIFEST_BYTES
    assert most_bytes("junit.xml") == MAX_JUNIT_BYTES
    assert most_bytes("attestation.json") == most_bytes("job_index.json") == MAX_SMALL_BYTES
    assert most_bytes("summary.json") == MAX_RECORD_BYTES


# --- what differs from a manifest ---------------------------------------------------------


def file(path: str, **members: Any) -> Entry:
    return Entry(**{"path": path, "type": "file", "size": 1, "sha256": "0" * 64, **members})


@pytest.mark.spec("8")
def test_each_difference_from_the_manifest_has_its_own_words() -> None:
    for listed, found, told in (
        ([file("a")], [file("a", type="directory")], "a: is a directory, not a file"),
        ([file("a")], [file("a", size=2)], "a: 2 bytes, not 1"),
        ([file("a")], [file("a", sha256="1" * 64)], f"a: sha256 {'1' * 64}, not {'0' * 64}"),
        ([file("a")], [], "a: missing"),
        ([], [file("a")], "a: not in the manifest"),
        ([file("a"), file("a")], [file("a")], "a: listed twice"),
        ([file("manifest.json")], [file("manifest.json")], "manifest.json: may not be listed"),
        (
            [file("b"), file("a")],
            [file("a"), file("b")],
            "manifest.json: entries are not sorted by the bytes of their path",
        ),
    ):
        assert differences(listed, found) == [told]
    assert differences([file("a")], [file("a"), file("job_index.json")]) == []


@pytest.mark.spec("8")
def test_paths_sort_by_their_bytes() -> None:
    paths = [
        entry.path for entry in sort_entries(map(file, ["b", "é", "\U0001f600", "\ufb01", "a/b", "a.b"]))
    ]
    assert paths == ["a.b", "a/b", "b", "é", "\ufb01", "\U0001f600"]


@pytest.mark.spec("8")
def test_the_first_errors_are_told_and_the_rest_counted() -> None:
    lines = [f"line {number}" for number in range(MAX_ERRORS + 2)]
    assert shortly(lines[:MAX_ERRORS]) == lines[:MAX_ERRORS]
    assert shortly(lines) == [*lines[:MAX_ERRORS], "and 2 more"]


@pytest.mark.spec("8")
def test_a_line_is_cut_where_it_is_longer_than_a_line_may_be() -> None:
    assert one_short_line("x" * MAX_ERROR_CHARS) == "x" * MAX_ERROR_CHARS
    assert one_short_line("x" * (MAX_ERROR_CHARS + 1)) == "x" * MAX_ERROR_CHARS + "…"
    assert one_short_line("a\x1b[2J\nb") == "a b"


# --- what may reach a screen, a page or a CI ----------------------------------------------


@pytest.mark.spec("8")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\x1b[31mred\x1b[0m", "ared"),
        ("a\r\nb\rc\r\r\nd", "a\nb\nc\nd"),
        ("\x1b]0;title\x07after", "after"),
        ("e" + "\u0301" * 9, "e" + "\u0301" * 4),
        ("a\u2028b\ud800", "a b\ufffd"),
        ("bell\x07\x00", "bell"),
    ],
)
def test_what_steers_a_terminal_is_left_out_whole_or_in_pieces(text: str, shown: str) -> None:
    assert neutral(text) == shown
    data = text.encode("utf-8", "surrogatepass")
    reader = NeutralBytes()
    pieces = [reader.feed(bytes([byte])) for byte in data] + [reader.feed(b"", last=True)]
    if "\ud800" not in text:  # as bytes it is no UTF-8, and three signs
        assert "".join(pieces) == shown


@pytest.mark.spec("8")
def test_one_line_holds_no_break() -> None:
    assert one_line(" a\nb\tc\r\nd ") == "a b c d"
    assert one_line(7) == "7"


@pytest.mark.spec("8")
def test_what_no_page_can_hold_reads_as_a_mark() -> None:
    assert for_markup("a\x00b\x0bc<&>") == "a?b?c<&>"
    assert for_markup("a\ud800b", "") == "ab"


@pytest.mark.spec("8")
def test_a_workflow_command_ends_where_it_should() -> None:
    assert for_workflow("50%\r\nnext: a,b") == "50%25%0D%0Anext: a,b"
    assert for_workflow_property("50%\na:b,c") == "50%25%0Aa%3Ab%2Cc"
    assert unspoken("  ::error::x") == "\u00b7  ::error::x"
    assert unspoken("a ##[group]") == "\u00b7a ##[group]"
    assert unspoken("a :: b") == "a :: b"


# --- which result may stand for another ---------------------------------------------------


@pytest.mark.spec("11")
@pytest.mark.parametrize(
    ("table", "member", "decides"),
    [
        ("run", "allow_no_tests", True),
        ("run", "retry_tests", True),
        ("run", "retry_infrastructure", True),
        ("run", "artifact_profile", False),
        ("timeouts", "overall_seconds", True),
        ("timeouts", "idle_log_seconds", True),
        ("timeouts", "connect_timeout_seconds", False),
        ("project", "package", True),
        ("cache", "derived_data", True),
        ("cache", "results", False),
        ("selection", "mode", False),
    ],
)
def test_what_may_turn_a_verdict_keeps_results_apart(table: str, member: str, decides: bool) -> None:  # noqa: FBT001
    one, other = ({table: {member: value}} for value in ("a", "b"))
    assert (verdict_policy(one) != verdict_policy(other)) is decides


@pytest.mark.spec("11")
def test_results_are_used_unless_the_config_says_no() -> None:
    silent: list[dict[str, Any]] = [{}, {"cache": {}}, {"cache": None}]
    assert all(map(wants_results, silent))
    assert not wants_results({"cache": {"results": False}})
    assert not wants_results({"cache": {"results": "yes"}})


@pytest.mark.spec("11")
def test_a_rich_set_serves_who_asks_for_a_minimal_one_and_not_the_other_way() -> None:
    asked = [("rich", "minimal"), ("rich", "rich"), ("minimal", "minimal"), ("minimal", "rich")]
    assert [covers(*each) for each in asked] == [True, True, True, False]
