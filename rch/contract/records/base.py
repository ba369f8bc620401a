"""The envelope of every artifact, and its bytes (spec section 8)."""

from __future__ import annotations

import functools
from typing import TypeVar

import msgspec
from msgspec import UNSET

from rch.contract.decoding import decode_json
from rch.contract.forms import (
    Id,
    Sha256,
    Timestamp,
    Version,
)

SCHEMA_VERSION = "1.0.0"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What every JSON artifact has. `created_at` is RFC 3339 UTC.

    What tells of a job or run has `simulated` too: stand-in tools made it. What was asked for has not.
    """

    created_at: Timestamp
    schema_version: Version = SCHEMA_VERSION


class RunRecord(Record, frozen=True, kw_only=True):
    """Scope: a run."""

    run_id: Id


class JobRecord(Record, frozen=True, kw_only=True):
    """Scope: a step job. `job_key` is null for a rejected step."""

    run_id: Id
    job_id: Id
    job_key: Sha256 | None


class _Head(msgspec.Struct):
    schema_id: str
    schema_version: str


R = TypeVar("R", bound=Record)


def marked(record: R, *, simulated: bool) -> R:
    """The record, saying that it is of a simulation if it is; one that cannot, or has said it, is left."""
    if simulated and getattr(record, "simulated", None) is UNSET:
        return msgspec.structs.replace(record, simulated=True)
    return record


def encode_record(record: msgspec.Struct) -> bytes:
    """Indented JSON with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


@functools.cache
def schema_id_of(kind: type[Record]) -> str:
    """The `schema_id` that a record type writes."""
    for field in msgspec.structs.fields(kind):
        if field.name == "schema_id":
            return str(field.default)
    raise TypeError(f"{kind.__name__} has no schema_id")


def decode_record(data: bytes, kind: type[R]) -> R:
    """The record in `data`.

    Unknown fields are ignored and a higher version of the same major is read.
    `ValueError` names both ids when it is another record or another major.
    """
    try:
        head = decode_json(data, _Head)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no artifact: {error}") from error
    expected = schema_id_of(kind)
    major = expected.rpartition("@")[2]
    if head.schema_id != expected or head.schema_version.partition(".")[0] != major:
        raise ValueError(f"schema {head.schema_id} {head.schema_version} found where {expected} is read")
    try:
        return decode_json(data, kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{expected}: {error}") from error
