"""One channel of a mock worker: request lines in, answers out, as its scenario has them (section 3.1)."""

from __future__ import annotations

import hashlib
import os
import select
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from rch.contract.framing import FrameError, LineReader, decode_object, encode_line
from rch.contract.worker_envelope import (
    Request,
    decode_request,
    encode_error,
    is_framed,
    request_id_to_echo,
    version_to_echo,
)
from rch.contract.worker_rpc import PROTOCOL_MAX, Code, RpcError, TailRequest
from rch_conformance.mock.honesty import honest, honest_text
from rch_conformance.mock.scenario import Answer
from rch_conformance.mock.tailing import tail
from rch_conformance.mock.worker import MockWorker

if TYPE_CHECKING:
    from rch_conformance.mock.fetching import Packed

_PIECE = 256 << 10
_HANGING_UP = frozenset({"cut", "drop", "half", "silence"})


class HangUp(Exception):  # noqa: N818  (it is what the scenario wants)
    """The channel ends here, without another byte."""


@dataclass
class Channel:
    """One channel from its first byte to its end, on two descriptors."""

    worker: MockWorker
    reading: int
    writing: int
    lines: LineReader = field(default_factory=LineReader)
    asked: int = 0

    def __post_init__(self) -> None:
        self._hangup = select.poll()
        self._hangup.register(self.writing, 0)

    def serve(self) -> None:
        """Answer every request, until the requests end or the scenario or a bad frame ends them."""
        try:
            while (line := self._next_line()) is not None:
                self.asked += 1
                if not self._serve(line):
                    return
        except FrameError as error:
            self._send(encode_error(RpcError(Code.INVALID_REQUEST, str(error)), None, PROTOCOL_MAX))
        except (HangUp, BrokenPipeError):
            return

    def _next_line(self) -> bytes | None:
        while (line := self.lines.line()) is None:
            data = os.read(self.reading, _PIECE)
            if not data:
                return self.lines.body(self.lines.pending) or None
            self.lines.feed(data)
        return line

    def _serve(self, line: bytes) -> bool:
        """Answer one request; False where nobody can tell where the next one begins."""
        try:
            request = decode_request(line)
        except RpcError as error:
            self._note("request", {"line": line[:4096].decode("utf-8", "replace")})
            self._refuse(error, request_id_to_echo(line), version_to_echo(line))
            return error.code in {Code.UNKNOWN_OPERATION, Code.UNSUPPORTED_PROTOCOL}
        op = _operation(request)
        payload = decode_object(line).get("payload", {})
        told = {"op": op, "protocol_version": request.protocol_version, "request_id": request.request_id}
        self._note("request", {**told, "payload": payload})
        rule = self._rule(op)
        if rule is not None:
            time.sleep(rule.seconds)
            if rule.do in {"refuse", "drop", "silence", "raw"}:
                return self._instead(rule, request)
        body = Body(self, request)
        try:
            result = self._perform(request, body)
        except RpcError as error:
            self._refuse(error, request.request_id, request.protocol_version, body)
            return is_framed(request.payload) is None
        self._reply(request, result, rule, body)
        return True

    def _rule(self, op: str) -> Answer | None:
        """What the scenario says of this request; it is counted."""
        with self.worker.folder.changing() as state:
            number = state.asked[op] = state.asked.get(op, 0) + 1
        rules = (each for each in self.worker.scenario.answer if each.op == op)
        return next((each for each in rules if each.meets(number)), None)

    def _instead(self, rule: Answer, request: Request) -> bool:
        """What comes in place of doing it."""
        self._note("answer", {"request_id": request.request_id, "did": rule.do, "code": rule.code})
        if rule.do == "silence":
            self._hangup.poll()
        if rule.do in _HANGING_UP:
            raise HangUp
        if rule.do == "raw":
            text = honest_text(rule.text) if self.worker.simulated else rule.text
            self._send(text.encode() + b"\n")
            return True
        error = {"code": rule.code, "message": rule.message, "data": rule.data}
        head = {"protocol_version": request.protocol_version, "request_id": request.request_id}
        self._send(encode_line({**head, "ok": False, "error": error}))
        return is_framed(request.payload) is None

    def _perform(self, request: Request, body: Body) -> msgspec.Struct | Packed:
        if isinstance(request.payload, TailRequest):
            return tail(self.worker, request.payload, self._pause)
        if request.op == "fetch":
            from rch_conformance.mock.fetching import packed  # a start is quicker without

            return packed(self.worker, request)
        if request.op == "gc":
            raise RpcError(Code.UNKNOWN_OPERATION, "op 'gc' is not known")
        return self.worker.answer(request, body)

    def _reply(
        self, request: Request, result: msgspec.Struct | Packed, rule: Answer | None, body: Body
    ) -> None:
        """Send a result, as the rule changes it."""
        told = {"request_id": request.request_id, "ok": True, "body": body.told()}
        head = {"protocol_version": request.protocol_version, "request_id": request.request_id, "ok": True}
        if not isinstance(result, msgspec.Struct):
            members, data = {**head, **result.members}, result.body
        else:
            payload = msgspec.to_builtins(result)
            told["payload"] = payload
            members, data = {**head, "payload": payload}, b""
        if rule is not None and rule.do == "change":
            if rule.payload:
                members["payload"] = {**members.get("payload", {}), **rule.payload}
            members |= rule.envelope
            members = honest(members) if self.worker.simulated else members
        self._note("answer", {**told, "did": "answer" if rule is None else rule.do})
        if rule is not None and rule.do == "cut":
            raise HangUp
        line = encode_line(members)
        if rule is not None and rule.do == "half":
            self._send((line + data)[: len(line + data) // 2])
            raise HangUp
        self._send(line)
        self._send(data)
        if not isinstance(result, msgspec.Struct) and result.cut:
            raise HangUp

    def _refuse(
        self, error: RpcError, request_id: str | None, version: int, body: Body | None = None
    ) -> None:
        told = {} if body is None else {"body": body.told()}
        self._note("answer", {"request_id": request_id, "ok": False, "code": str(error.code), **told})
        self._send(encode_error(error, request_id, version))

    def _note(self, kind: str, members: dict[str, Any]) -> None:
        at, wall = round(time.monotonic() * 1000), round(time.time() * 1000)
        told = {
            "kind": kind,
            "at_ms": at,
            "wall_ms": wall,
            "channel": os.getpid(),
            "of_channel": self.asked,
        }
        self.worker.folder.note({**told, **members})

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.writing, rest) :]

    def _pause(self, seconds: float) -> bool:
        """Sleep; True at once when nobody reads the answers any more."""
        return bool(self._hangup.poll(seconds * 1000))

    def take(self, size: int) -> bytes:
        """Up to `size` bytes that follow the last line; b"" at the end of the input."""
        return self.lines.body(size) or os.read(self.reading, min(size, _PIECE))


class Body:
    """The bytes that follow a framed request, counted and digested as they are read."""

    def __init__(self, channel: Channel, request: Request) -> None:
        stream = is_framed(request.payload)
        self._channel = channel
        self._left = 0 if stream is None else max(0, stream.content_length)
        self._digest, self._count = hashlib.sha256(), 0

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" after the last one. `RpcError` if the input ends before."""
        if not self._left:
            return b""
        data = self._channel.take(min(size, self._left))
        if not data:
            raise RpcError(Code.INVALID_REQUEST, f"the body ends {self._left} bytes early")
        self._left -= len(data)
        self._digest.update(data)
        self._count += len(data)
        return data

    def told(self) -> dict[str, Any]:
        """What the transcript says of it; nothing where there was none."""
        return {"bytes": self._count, "sha256": self._digest.hexdigest()} if self._count else {}


def _operation(request: Request) -> str:
    """The operation as scenarios name it."""
    renewal = request.op == "reserve" and getattr(request.payload, "lease_id", None) is not None
    return "renew" if renewal else request.op
