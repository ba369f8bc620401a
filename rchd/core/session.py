"""One client connection, sans-IO: hello first, then calls, each answered once (spec section 12)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.framing import FrameError, decode_object
from rch.contract.local_api import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    METHODS,
    PARSE_ERROR,
    PROTOCOL,
    HelloParams,
    decode_params,
    error_body,
)

MAX_IN_FLIGHT = 64
MAX_SUBSCRIPTIONS = 64
MAX_ID = 256
MAX_TOLD = 16 << 10
"""Characters of a refusal's message."""
MAX_CLIENT = 40
MAX_NUMBER = 1 << 53  # what every JSON reader holds exactly
WITHOUT_HELLO = frozenset({"hello", "daemon.health", "daemon.drain", "daemon.shutdown", "rpc.describe"})


class Stage(StrEnum):
    """Where a connection is."""

    NEW = "new"
    READY = "ready"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is to be answered. `id` is what the client gave."""

    id: str | int | None
    method: str
    params: msgspec.Struct
    notification: bool = False


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that stands already; `close` where the peer's bytes cannot be followed any more."""

    line: bytes
    close: bool = False


class Session:
    """Decides what a line of a client means."""

    def __init__(self) -> None:
        self.stage = Stage.NEW
        self.protocol = PROTOCOL[1]
        self.in_flight = 0
        self.subscriptions: set[int] = set()
        self.client = ""

    def receive(self, line: bytes) -> Call | Refusal | None:
        """The call that `line` is, a refusal, or None for an empty one; whatever framed it is taken off."""
        if not line.strip():
            return None
        try:
            raw = decode_object(line)
        except FrameError as error:
            return Refusal(line=_error(None, Failure(Kind.USAGE, str(error)), PARSE_ERROR), close=True)
        call_id = raw.get("id")
        if raw.get("jsonrpc") != "2.0" or not _is_id(call_id):
            failure = Failure(Kind.USAGE, "not a JSON-RPC 2.0 request")
            return Refusal(line=_error(None, failure, INVALID_REQUEST))
        return self._call(raw, call_id if isinstance(call_id, str | int) else None)

    def _call(self, raw: dict[str, Any], call_id: str | int | None) -> Call | Refusal:
        method = raw.get("method")
        if not isinstance(method, str) or method not in METHODS:
            known = ", ".join(sorted(METHODS))
            failure = Failure(Kind.USAGE, f"method {str(method)[:60]!r} is not known (known: {known})")
            return Refusal(line=_error(call_id, failure, METHOD_NOT_FOUND))
        if self.stage is Stage.NEW and method not in WITHOUT_HELLO:
            failure = Failure(Kind.USAGE, f"{method} before hello", hint="call hello first")
            return Refusal(line=_error(call_id, failure, INVALID_REQUEST))
        if self.in_flight >= MAX_IN_FLIGHT:
            failure = Failure(Kind.USAGE, f"over {MAX_IN_FLIGHT} requests in flight on one connection")
            return Refusal(line=_error(call_id, failure, INVALID_REQUEST))
        try:
            _refuse_numbers(raw.get("params"))
            params = decode_params(raw.get("params"), METHODS[method][0])
            if isinstance(params, HelloParams):
                self._hello(params)
        except Failure as failure:
            return Refusal(line=_error(call_id, failure, INVALID_PARAMS))
        self.in_flight += 1
        return Call(id=call_id, method=method, params=params, notification="id" not in raw)

    def _hello(self, params: HelloParams) -> None:
        low, high = max(PROTOCOL[0], params.protocol[0]), min(PROTOCOL[1], params.protocol[1])
        if low > high:
            raise Failure(
                Kind.DAEMON,
                f"client {params.client[:MAX_CLIENT]} {params.version[:MAX_CLIENT]} speaks socket protocol"
                f" {params.protocol[0]} to {params.protocol[1]},"
                f" this daemon {PROTOCOL[0]} to {PROTOCOL[1]}",
                hint="rchctl daemon stop && rchctl daemon start",
            )
        self.stage, self.protocol = Stage.READY, high
        self.client = f"{params.client[:MAX_CLIENT]} {params.version[:MAX_CLIENT]}"

    def answered(self) -> None:
        """A call is over."""
        self.in_flight -= 1

    def may_follow(self) -> None:
        """`Failure` where the connection has as many subscriptions as it may."""
        if len(self.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Failure(Kind.USAGE, f"over {MAX_SUBSCRIPTIONS} subscriptions on one connection")


def _is_id(value: object) -> bool:
    """Whether `value` can be said back: text that is not long, or a whole number."""
    if isinstance(value, str):
        return len(value) <= MAX_ID
    return value is None or (type(value) is int and abs(value) <= MAX_NUMBER)


def _refuse_numbers(params: object) -> None:
    """`Failure` for a number that could be neither stored nor said back as it came."""
    waiting = [params]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
            raise Failure(Kind.USAGE, "params: a number is beyond 2^53")


def result_line(call: Call, result: object) -> bytes:
    """The answer to `call`."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": call.id, "result": result}) + b"\n"


def refusal_line(call: Call, failure: Failure) -> bytes:
    """The refusal of `call`."""
    code = INTERNAL_ERROR if failure.kind is Kind.INTERNAL else -32000
    return _error(call.id, failure, code)


def _error(call_id: str | int | None, failure: Failure, code: int) -> bytes:
    told = error_body(failure, code)
    if len(failure.message) > MAX_TOLD:  # it says back what the client said, or a worker
        told["message"] = f"{failure.message[:MAX_TOLD]}…"
    body = {"jsonrpc": "2.0", "id": call_id, "error": told}
    return msgspec.json.encode(body) + b"\n"


def event_line(event: msgspec.Struct) -> bytes:
    """The notification of `event`."""
    return msgspec.json.encode({"jsonrpc": "2.0", "method": "runs.event", "params": event}) + b"\n"
