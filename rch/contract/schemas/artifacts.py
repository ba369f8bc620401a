"""Every artifact with its schema, as data: for the schema files, the docs, validation (spec section 8)."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import msgspec

from rch.contract import records
from rch.contract.records import JobKeyInputs, JobRecord, Record, schema_id_of
from rch.contract.schemas.making import Document, Schema, document, schema_of
from rch.contract.worker_rpc import JobEvent

FAMILY = "rch-xcode"
_OF_THE_HOST = frozenset({"attestation_verification", "host_metrics"})
_PLACES = {"run": "", "job": "steps/<action>/<job_id>/", "host": "host/<job_id>/"}


class Member(NamedTuple):
    """One member of an artifact. `words` say in short what it may be: `integer or null`."""

    name: str
    required: bool
    words: str
    schema: Schema


class Artifact(NamedTuple):
    """One kind of artifact. `scope` is run, job or host (of a job, but made by the host).

    `place` is its file below the run's folder; of `events.jsonl` each line is one. `about` is the
    docstring of its type.
    """

    name: str
    schema_id: str
    scope: str
    place: str
    about: str
    kind: type[msgspec.Struct]
    document: Document

    @property
    def members(self) -> tuple[Member, ...]:
        """Its members, in the order in which they are written."""
        schema = self.document.schema
        defs, required = schema.get("$defs", {}), schema.get("required", ())
        return tuple(
            Member(name, name in required, words_of(each, defs), each)
            for name, each in schema["properties"].items()
        )


@functools.cache
def artifacts() -> tuple[Artifact, ...]:
    """All of them: those of a run, of a job and of the host, each by name."""
    found = [
        _artifact(schema_id_of(each), each)
        for each in vars(records).values()
        if isinstance(each, type) and issubclass(each, Record) and "schema_id" in each.__struct_fields__
    ]
    found += [
        _artifact(f"{FAMILY}/job_key_inputs@1", JobKeyInputs),
        _artifact(f"{FAMILY}/events@1", JobEvent, "events.jsonl"),
    ]
    return tuple(sorted(found, key=lambda each: (list(_PLACES).index(each.scope), each.name)))


def _artifact(schema_id: str, kind: type[msgspec.Struct], file: str = "") -> Artifact:
    name, _, major = schema_id.partition("/")[2].partition("@")
    scope = "run"
    if issubclass(kind, JobRecord | JobKeyInputs | JobEvent):
        scope = "host" if name in _OF_THE_HOST else "job"
    schema = schema_of(kind)
    return Artifact(
        name=name,
        schema_id=schema_id,
        scope=scope,
        place=_PLACES[scope] + (file or f"{name}.json"),
        about=schema["description"],
        kind=kind,
        document=document(FAMILY, name, int(major), {**schema, "title": name}),
    )


def words_of(schema: Schema, defs: dict[str, Any]) -> str:
    """What a value may be, in as few words as tell it."""
    match schema:
        case {"const": value}:
            return f"`{value}`"
        case {"enum": words}:
            return " | ".join(f"`{word}`" for word in words)
        case {"anyOf": parts}:
            return " or ".join(words_of(part, defs) for part in parts)
        case {"$ref": ref}:
            return str(defs[ref.rpartition("/")[2]]["title"])
        case {"type": "array", "items": dict() as items}:
            return f"list of {words_of(items, defs)}"
        case {"type": "object", "additionalProperties": dict() as values}:
            return f"object of {words_of(values, defs)}"
        case {"type": kind}:
            return str(kind)
    return "anything"
