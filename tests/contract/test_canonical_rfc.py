"""RFC 8785 in our own words and numbers, against a second implementation that shares nothing with ours."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rch.contract.canonical import jcs, jcs_sha256

_SHORT = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def second(value: object) -> bytes:
    """Section 3.2 of the RFC, word by word, for all that may enter a digest."""
    return "".join(_pieces(value)).encode("utf-8", "strict")


def _pieces(value: object) -> Iterator[str]:
    if value is None or isinstance(value, bool):
        yield {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, int):
        yield f"{value:d}"
    elif isinstance(value, str):
        yield '"'
        for sign in value:
            point = ord(sign)
            yield _SHORT.get(point, f"\\u{point:04x}" if point < 0x20 else sign)
        yield '"'
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield "," if at else "["
            yield from _pieces(item)
        yield "]" if value else "[]"
    else:
        assert isinstance(value, dict)
        for at, name in enumerate(sorted(value, key=_units)):
            yield "," if at else "{"
            yield from _pieces(name)
            yield ":"
            yield from _pieces(value[name])
        yield "}" if value else "{}"


def _units(name: str) -> list[int]:
    """The UTF-16 units of a name, made by hand from its code points."""
    units: list[int] = []
    for sign in name:
        point = ord(sign)
        if point < 0x10000:
            units.append(point)
        else:
            units += [0xD800 + (point - 0x10000 >> 10), 0xDC00 + (point - 0x10000 & 0x3FF)]
    return units


ODD = '\x00\x07\b\t\n\x0b\f\r\x1f "\\/\x7f\x80\u2028\ud7ff\ue000\ufeff\U00010000\U0010ffff'
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text(
    st.sampled_from(ODD), max_size=6
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=5),
    max_leaves=16,
)


@pytest.mark.spec("7")
@given(values)
def test_two_implementations_write_the_same_bytes(value: object) -> None:
    assert jcs(value) == second(value)


@pytest.mark.spec("7")
@given(values)
def test_the_form_says_the_same_and_is_its_own_form(value: object) -> None:
    again = json.loads(jcs(value))
    assert again == value
    assert jcs(again) == jcs(value)


# --- strings ----------------------------------------------------------------------------


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", '""'),
        ("\x00", '"\\u0000"'),
        ("\x0b\x1b\x1f", '"\\u000b\\u001b\\u001f"'),
        ("\b\t\n\f\r", '"\\b\\t\\n\\f\\r"'),
        ('a"b\\c/d', '"a\\"b\\\\c/d"'),
        ("\x7f\x80\x9f", '"\x7f\x80\x9f"'),
        ("\u2028\u2029\ufeff", '"\u2028\u2029\ufeff"'),
        ("Wörk 世界 🛠", '"Wörk 世界 🛠"'),
        ("e\u0301", '"e\u0301"'),  # not composed: bytes are bytes
        ("\u00e9", '"\u00e9"'),
        ("<script>&'", '"<script>&\'"'),
    ],
)
def test_a_string_is_escaped_where_it_must_be_and_nowhere_else(text: str, written: str) -> None:
    assert jcs(text).decode() == written
    assert second(text).decode() == written


@pytest.mark.spec("7")
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ude00\ud83d"])
def test_half_a_character_is_refused(text: str) -> None:
    for value in (text, {text: 1}, [text]):
        with pytest.raises(ValueError, match=r"codepoints|surrogates"):
            jcs(value)


# --- sorting ----------------------------------------------------------------------------

IN_ORDER = ["", "\t", "\x1f", " ", "7", "70", "8", "Z", "Za", "_", "a", "a\x00", "aa", "\x7f", "\x85"]
IN_ORDER += ["ß", "ł", "ა", "世", "\ud7ff", "𝄞", "🛠", "\U0010ffff", "\ue000", "\uf900", "\uffff"]


@pytest.mark.spec("7")
def test_names_sort_by_their_utf16_units() -> None:
    form = jcs({name: at for at, name in reversed(list(enumerate(IN_ORDER)))})
    assert list(json.loads(form)) == IN_ORDER
    assert sorted(IN_ORDER, key=_units) == IN_ORDER
    assert sorted(IN_ORDER) != IN_ORDER  # by code points it would be another order


@pytest.mark.spec("7")
def test_every_level_is_sorted_and_lists_never_are() -> None:
    assert jcs({"b": [{"d": 1, "c": [3, 1, 2]}], "a": {"z": None, "y": {}}}) == (
        b'{"a":{"y":{},"z":null},"b":[{"c":[3,1,2],"d":1}]}'
    )


@pytest.mark.spec("7")
def test_the_order_in_which_members_come_does_not_show() -> None:
    assert jcs_sha256({"x": 1, "y": [True, None]}) == jcs_sha256({"y": [True, None], "x": 1})


# --- numbers ----------------------------------------------------------------------------


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, b"0"),
        (-0, b"0"),
        (7, b"7"),
        (-41, b"-41"),
        (10**15, b"1000000000000000"),
        (2**52 + 1, b"4503599627370497"),
    ],
)
def test_whole_numbers_are_written_plainly(number: int, written: bytes) -> None:
    assert jcs(number) == written


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    "text", ["1.0", "1e2", "0.1", "-0.0", "5e-324", "1.7976931348623157e308", "333333333.33333329"]
)
def test_whatever_json_reads_as_a_float_is_refused(text: str) -> None:
    for value in (json.loads(text), {"a": json.loads(text)}, [[json.loads(text)]]):
        with pytest.raises(ValueError, match="floats have no place"):
            jcs(value)


@pytest.mark.spec("7")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="floats have no place"):
        jcs({"a": value})


@pytest.mark.spec("7")
@pytest.mark.parametrize("number", [2**53, -(2**53), 2**53 + 1, 2**63, 10**30])
def test_what_a_double_cannot_tell_apart_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="2\\^53"):
        jcs({"a": [number]})


@pytest.mark.spec("7")
def test_truth_is_no_number() -> None:
    assert jcs([True, False, 1, 0]) == b"[true,false,1,0]"
    assert jcs_sha256([True]) != jcs_sha256([1])
