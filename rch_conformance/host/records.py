"""Artifacts by their schema: which record a file has to be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from rch.contract import records
from rch.contract.records import Record, decode_record, schema_id_of
from rch_conformance.checks import Broken
from rch_conformance.host.home import read_json


def _kinds() -> Mapping[str, type[Record]]:
    found: dict[str, type[Record]] = {}
    for name in records.__all__:
        kind = getattr(records, name)
        if isinstance(kind, type) and issubclass(kind, Record) and _has_schema(kind):
            found[schema_id_of(kind)] = kind
    return found


def _has_schema(kind: type[Record]) -> bool:
    return any(field.name == "schema_id" for field in msgspec.structs.fields(kind))


KINDS = _kinds()
"""Every record of the contract by its `schema_id`."""


def decode(path: Path) -> Record:
    """The record in a file; `Broken` where it is none of its own schema."""
    schema_id = str(read_json(path).get("schema_id"))
    kind = KINDS.get(schema_id)
    if kind is None:
        raise Broken(f"{path.name}: schema_id {schema_id[:80]!r} is none of the contract's")
    try:
        return decode_record(path.read_bytes(), kind)
    except ValueError as error:
        raise Broken(f"{path.name}: {error}") from error
