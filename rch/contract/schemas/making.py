"""From a type to a schema that stands alone (JSON Schema 2020-12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from rch.contract.forms import Id

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


class Document(NamedTuple):
    """One schema file: `path` is relative to `docs/schemas`, `id` its `$id`."""

    path: str
    id: str
    schema: Schema


def document(family: str, name: str, major: int, schema: Mapping[str, Any]) -> Document:
    """The file of `name`; its `$id` is `urn:rch-xcode:` and, for a protocol, its family before the name.

    So the `$id` of an artifact is its `schema_id` with `urn:` before it and a colon for the slash.
    """
    own = name if family == "rch-xcode" else f"{family}/{name}"
    urn = f"urn:rch-xcode:{own}@{major}"
    return Document(
        path=f"{family}/{name}.schema.json",
        id=urn,
        schema={"$schema": DIALECT, "$id": urn, **schema},
    )


def schema_of(kind: type[msgspec.Struct]) -> Schema:
    """The schema of one type; what it holds by name is under `$defs`."""
    (root,), defs = _components([kind])
    name = root["$ref"].rpartition("/")[2]
    own = defs.pop(name)
    return {**own, "$defs": defs} if defs else own


def definitions(kinds: Iterable[type[msgspec.Struct]]) -> tuple[list[Schema], dict[str, Schema]]:
    """References to the types, and the `$defs` that they point to."""
    return _components(kinds)


def form(annotated: Any) -> Schema:
    """The schema of an annotated text or number."""
    return msgspec.json.schema(annotated)


def members(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> Schema:
    """An object with these members; others are ignored."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def _components(kinds: Iterable[type[msgspec.Struct]]) -> tuple[list[Schema], dict[str, Schema]]:
    roots, defs = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    return list(roots), {name: _named(each) for name, each in sorted(defs.items())}


def _named(schema: Schema) -> Schema:
    """A record says which it is: `schema_id` is a constant, and the version is one of its major."""
    properties = schema.get("properties", {})
    if "description" in schema:
        schema = {**schema, "description": _unfolded(schema["description"])}
    if "schema_id" not in properties:
        return schema
    name = properties["schema_id"]["default"]
    major = name.rpartition("@")[2]
    number = "(0|[1-9][0-9]*)"
    own = {
        "schema_id": {"type": "string", "const": name},
        "schema_version": {"type": "string", "pattern": rf"^{major}\.{number}\.{number}$"},
    }
    needed = [*own, *(each for each in schema.get("required", ()) if each not in own)]
    return {**schema, "properties": {**properties, **own}, "required": needed}


def _unfolded(text: str) -> str:
    """A docstring as text whose paragraphs are one line each."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


ID = form(Id)
