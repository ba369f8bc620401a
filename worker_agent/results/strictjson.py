"""Decodes a tool's JSON into a type, and refuses what two readers could read in two ways."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from rch.contract.decoding import decode_json

T = TypeVar("T")


def decode(data: bytes, kind: type[T]) -> T:
    """The value in `data`; `msgspec.DecodeError` for another shape and for a member told twice."""
    text = data.decode(errors="replace")
    told = decode_json(text, kind)
    try:
        # Numbers stay text: Python refuses to make one of thousands of digits, wherever it stands.
        json.loads(text, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise msgspec.DecodeError("nests too deep") from error
    return told


def _once(members: Sequence[tuple[str, Any]]) -> None:
    """Members of one object, each of a name of its own; their values are not kept."""
    names = [name for name, _ in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise msgspec.ValidationError(f"{twice[:100]!r} is told twice")
