"""Schemas of the local socket: request and response of every method, and the notification (section 12)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from rch.contract.errors import Kind
from rch.contract.forms import ExitCode, Subkind
from rch.contract.local_api import METHODS, PROTOCOL, RunEvent
from rch.contract.schemas.making import Document, Schema, definitions, document, form, members, schema_of

FAMILY = "local-api"
_CALL_ID: Schema = {"type": ["string", "integer", "null"], "maxLength": 256}
_TEXT: Schema = {"type": "string"}
_HEAD: Schema = {"jsonrpc": {"const": "2.0"}}


def describe() -> dict[str, Any]:
    """The method table with JSON Schemas (2020-12): what `rpc.describe` answers."""
    return {
        name: {"summary": summary, "params": schema_of(params), "result": schema_of(result)}
        for name, (params, result, summary) in METHODS.items()
    }


def local_documents() -> Iterator[Document]:
    """One file for each request, each response, the notification, and the error of all of them."""
    major = PROTOCOL[1]
    for name in METHODS:
        yield document(FAMILY, f"{name}.request", major, request(name))
        yield document(FAMILY, f"{name}.response", major, response(name))
    yield document(FAMILY, "runs.event.notification", major, notification())
    yield document(FAMILY, "error", major, {"title": "error", **refusal()})


def request(method: str) -> Schema:
    """A call of `method`; without an `id` it is not answered."""
    kind, _, summary = METHODS[method]
    (params,), defs = definitions([kind])
    head = {**_HEAD, "method": {"const": method}}
    bare = not _needed(kind)
    whole = members(
        head if bare else {**head, "params": params},
        {"id": _CALL_ID, **({"params": params} if bare else {})},
    )
    return {"title": f"{method}: request", "description": summary, **whole, "$defs": defs}


def response(method: str) -> Schema:
    """What answers `method`: a result or an error."""
    _, kind, summary = METHODS[method]
    (result,), defs = definitions([kind])
    if method == "rpc.describe":
        result = _TABLE
    good = {"title": "Result", **members({**_HEAD, "id": _CALL_ID, "result": result})}
    return {
        "title": f"{method}: response",
        "description": summary,
        # Not anyOf: a validator then tells which member is wrong.
        "if": {"type": "object", "required": ["error"]},
        "then": {"$ref": "#/$defs/Error"},
        "else": {"$ref": "#/$defs/Response"},
        "$defs": {**defs, "Response": good, "Error": refusal()},
    }


def notification() -> Schema:
    """What a follower is told, without being asked again."""
    (params,), defs = definitions([RunEvent])
    return {
        "title": "runs.event: notification",
        "description": "What a follower is told: of its subscription, or of a submit that goes on.",
        **members({**_HEAD, "method": {"const": "runs.event"}, "params": params}),
        "$defs": defs,
    }


def refusal() -> Schema:
    """The JSON-RPC error; its `data` is of this project."""
    data = members(
        {
            "kind": {"enum": [str(kind) for kind in Kind]},
            "subkind": {"anyOf": [form(Subkind), {"type": "null"}]},
            "exit_code": form(ExitCode),
            "retryable": {"type": "boolean"},
            "hint": {**_TEXT, "description": "One line, a command where there is one."},
        },
        {"detail": {"type": "object"}},
    )
    body = members({"code": {"type": "integer"}, "message": _TEXT, "data": data})
    return {
        "description": "A refusal. `data` says what it means for an exit code, and what to do.",
        **members({**_HEAD, "id": _CALL_ID, "error": body}),
    }


_TABLE: Schema = {
    "type": "object",
    "description": "A method's name -> what it does, and the schemas of its params and result.",
    "additionalProperties": members(
        {"summary": _TEXT, "params": {"type": "object"}, "result": {"type": "object"}}
    ),
}


def _needed(kind: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(kind))
