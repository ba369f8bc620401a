"""Records of other versions: unknown members are ignored at every level, other majors refused by name."""

from __future__ import annotations

import json
import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from rch.contract import records
from rch.contract.records import Record, decode_record, schema_id_of

pytestmark = pytest.mark.spec("8")
_BASES = {records.Record, records.RunRecord, records.JobRecord}
KINDS: list[type[Record]] = [
    each
    for name in records.__all__
    if isinstance(each := getattr(records, name), type) and issubclass(each, Record) and each not in _BASES
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
_PLAIN: dict[object, Any] = {str: "x", int: 1, bool: True, float: 1.5, Any: {"free": 1}, type(None): None}
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def sample(kind: Any, more: dict[str, Any]) -> Any:
    """A value of a type as JSON has it, every member set; each object of ours has `more` beside."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is typing.Annotated:
        return sample(args[0], more)
    if origin in {typing.Union, types.UnionType}:
        return sample(next(each for each in args if each not in {type(None), msgspec.UnsetType}), more)
    if origin is tuple:
        return [sample(args[0], more)]
    if origin is dict:
        return {"key": sample(args[1], more)}
    assert issubclass(kind, msgspec.Struct), kind
    tree = {field.encode_name: sample(field.type, more) for field in msgspec.structs.fields(kind)}
    if "schema_id" in tree:
        tree |= {"schema_id": schema_id_of(kind), "schema_version": "1.0.0"}
    return {**more, **tree}


def read(kind: type[Record], tree: Any) -> Record:
    return decode_record(json.dumps(tree).encode(), kind)


@each_kind
def test_every_member_of_a_sample_is_read(kind: type[Record]) -> None:
    found = read(kind, sample(kind, {}))
    assert all(getattr(found, field.name) is not UNSET for field in msgspec.structs.fields(kind))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(KINDS), _VALUES)
def test_members_of_a_later_version_are_ignored_at_every_level(kind: type[Record], value: Any) -> None:
    assert read(kind, sample(kind, {"of_a_later_version": value})) == read(kind, sample(kind, {}))


@each_kind
def test_a_higher_minor_version_is_read(kind: type[Record]) -> None:
    assert read(kind, {**sample(kind, {"new": [1]}), "schema_version": "1.9.3"}).schema_version == "1.9.3"


@each_kind
@pytest.mark.parametrize("of", ["schema_id", "schema_version"])
def test_another_major_is_refused_with_both_named(kind: type[Record], of: str) -> None:
    ours = schema_id_of(kind)
    other = ours.replace("@1", "@2") if of == "schema_id" else "2.0.0"
    with pytest.raises(ValueError, match="found where") as told:
        read(kind, {**sample(kind, {}), of: other})
    assert other in str(told.value)
    assert f"where {ours} is read" in str(told.value)
