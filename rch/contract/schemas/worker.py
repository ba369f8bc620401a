"""Schemas of the worker protocol: a request line and an answer line an operation (spec section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator

from rch.contract.schemas.making import ID, Document, Schema, definitions, document, members, schema_of
from rch.contract.worker_envelope import MAX_REQUEST_ID_ECHO
from rch.contract.worker_rpc import (
    MAX_NUMBER,
    OPERATIONS,
    PROBE_PROTOCOL,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    RESULTS,
    Code,
)

FAMILY = "worker-rpc"
_VERSION: Schema = {"type": "integer", "minimum": PROTOCOL_MIN, "maximum": MAX_NUMBER}
_ECHO: Schema = {"anyOf": [{"type": "string", "maxLength": MAX_REQUEST_ID_ECHO}, {"type": "null"}]}
_NEEDED = {
    Code.BUSY: {"retry_after_seconds": {"type": "number", "exclusiveMinimum": 0}},
    Code.PAYLOAD_TOO_LARGE: {"max_bytes": {"type": "integer", "minimum": 0}},
}
"""What `data` of a refusal has to say."""


def worker_documents() -> Iterator[Document]:
    """One file for each request, one for each answer, and one for the refusal that they all share."""
    for op in OPERATIONS:
        yield document(FAMILY, f"{op}.request", PROTOCOL_MAX, request(op))
        yield document(FAMILY, f"{op}.response", PROTOCOL_MAX, response(op))
    yield document(FAMILY, "error", PROTOCOL_MAX, {"title": "error", **refusal()})


def request(op: str) -> Schema:
    """The line that asks for `op`. Without a payload a `probe` alone is right."""
    (payload,), defs = definitions([OPERATIONS[op]])
    asked = {"protocol_version": _version(op), "op": {"const": op}, "request_id": ID}
    bare = {"payload": payload} if op == "probe" else {}
    whole = members({**asked} if bare else {**asked, "payload": payload}, bare)
    return {
        "title": f"{op}: request",
        "description": f"The line that asks for `{op}`. Unknown members are ignored.",
        **whole,
        "$defs": defs,
    }


def response(op: str) -> Schema:
    """The line that answers `op`: a result, or a refusal."""
    told = {
        "title": f"{op}: response",
        "description": f"The line that answers `{op}`. Unknown members are ignored.",
        # Not anyOf: a validator then tells which member is wrong.
        "if": members({"ok": {"const": True}}),
        "then": {"$ref": "#/$defs/Result"},
        "else": {"$ref": "#/$defs/Refusal"},
    }
    if op == "fetch":
        header = schema_of(RESULTS[op])
        defs = header.pop("$defs")
        header["properties"]["ok"] = {"const": True}
        return {**told, "$defs": {**defs, "Result": header, "Refusal": refusal()}}
    (payload,), defs = definitions([RESULTS[op]])
    head = {"protocol_version": _version(op), "request_id": ID, "ok": {"const": True}}
    result = {"title": "Result", **members({**head, "payload": payload})}
    return {**told, "$defs": {**defs, "Result": result, "Refusal": refusal()}}


def refusal() -> Schema:
    """The line that refuses; `request_id` is null where the request had none that can be said back."""
    body = members(
        {
            "code": {"enum": [str(code) for code in Code]},
            "message": {"type": "string", "description": "One line.", "pattern": r"^[^\n]*$"},
        },
        {"data": {"type": "object"}},
    )
    body["allOf"] = [_needs(code, data) for code, data in _NEEDED.items()]
    return {
        "description": "A refusal.",
        **members(
            {
                "protocol_version": {**_VERSION, "minimum": -MAX_NUMBER},
                "request_id": _ECHO,
                "ok": {"const": False},
                "error": body,
            }
        ),
    }


def _needs(code: Code, data: Schema) -> Schema:
    return {
        "if": members({"code": {"const": str(code)}}),
        "then": members({"data": members(data)}),
    }


def _version(op: str) -> Schema:
    return {"const": PROBE_PROTOCOL} if op == "probe" else _VERSION
