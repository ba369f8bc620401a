"""Lines, bodies and JSON objects of a peer that may be hostile."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rch.contract.framing import MAX_DEPTH, FrameError, LineReader, decode_object, encode_line


@pytest.mark.spec("3.2")
def test_lines_come_out_however_the_bytes_are_cut() -> None:
    wire = b'{"a":1}\n\n{"b":2}\n'
    for size in range(1, len(wire) + 1):
        reader, lines = LineReader(), []
        for start in range(0, len(wire), size):
            reader.feed(wire[start : start + size])
            while (line := reader.line()) is not None:
                lines.append(line)
        assert lines == [b'{"a":1}', b"", b'{"b":2}']


@pytest.mark.spec("3.2")
@given(body=st.binary(max_size=200), cut=st.integers(1, 50))
def test_a_body_is_taken_whole_between_two_lines(body: bytes, cut: int) -> None:
    wire = b"head\n" + body + b"next\n"
    reader = LineReader()
    taken = b""
    head = after = None
    for start in range(0, len(wire), cut):
        reader.feed(wire[start : start + cut])
        if head is None:
            head = reader.line()
        if head is not None and len(taken) < len(body):
            taken += reader.body(len(body) - len(taken))
        if head is not None and len(taken) == len(body) and after is None:
            after = reader.line()
    assert (head, taken, after) == (b"head", body, b"next")


@pytest.mark.spec("3.2")
@pytest.mark.fault("C3")
def test_a_line_over_the_limit_is_refused_before_its_end() -> None:
    reader = LineReader(max_line=10)
    reader.feed(b"0123456789\n")
    assert reader.line() == b"0123456789"
    reader.feed(b"0123456789A")
    with pytest.raises(FrameError, match="over 10 bytes"):
        reader.line()


@pytest.mark.spec("3.2")
@pytest.mark.fault("C3")
@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "no JSON"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":{"b":1,"b":2}}', "twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1e400}', "beyond 2.53"),
        (b'{"a":-1e400}', "beyond 2.53"),
        (b'{"a":"\\ud800"}', "lone surrogate"),
        (b"[1]", "no JSON object"),
        (b"3", "no JSON object"),
        (b'{"a":"\x00"}', "no JSON"),
        (b"", "no JSON"),
        (b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested deeper"),
        (b'{"a":' + b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"}", "nested deeper"),
    ],
)
def test_what_is_no_plain_object_is_refused(line: bytes, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        decode_object(line)


@pytest.mark.spec("3.2")
def test_brackets_inside_strings_are_no_nesting() -> None:
    value = {"a": '[{"' * 200}
    assert decode_object(json.dumps(value).encode()) == value


@pytest.mark.spec("3.2")
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_an_encoded_object_decodes_to_itself_on_one_line(value: dict[str, object]) -> None:
    line = encode_line(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_object(line[:-1]) == value
