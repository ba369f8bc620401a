"""Mutants of envelope, text and framing (sections 2, 3.1, 3.2)."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from conformance.mutants import module, mutant, refusal, replaced, wrap

_ENVELOPE = {"protocol_version", "op", "request_id", "payload"}


def _on_requests(change: Any) -> None:
    """Have `change(line, decode)` decode the requests of a channel."""
    wrap(module("worker_agent.rpc"), "decode_request", lambda real: lambda line: change(line, real))


@mutant("unknown members refused", "unknown-members-are-ignored")
def _unknown_members_refused() -> None:
    def strict(line: bytes, real: Any) -> Any:
        if set(module("rch.contract.framing").decode_object(line)) - _ENVELOPE:
            raise refusal("INVALID_REQUEST", "a member is unknown")
        return real(line)

    _on_requests(strict)


@mutant("request_id not echoed", "request-id-is-echoed")
def _request_id_not_echoed() -> None:
    def other(real: Any) -> Any:
        return lambda request, payload: real(replaced(request, request_id="request-0000"), payload)

    wrap(module("worker_agent.rpc"), "encode_result", other)


@mutant("version not echoed", "version-is-echoed")
def _version_not_echoed() -> None:
    def other(real: Any) -> Any:
        return lambda request, payload: real(replaced(request, protocol_version=0), payload)

    wrap(module("worker_agent.rpc"), "encode_result", other)


@mutant("probe answered in version 1", "probe-in-version-0")
def _probe_in_version_1() -> None:
    def other(real: Any) -> Any:
        return lambda request, payload: real(replaced(request, protocol_version=1), payload)

    wrap(module("worker_agent.rpc"), "encode_result", other)


@mutant("probe of another version accepted", "probe-in-another-version")
def _probe_of_any_version() -> None:
    def lenient(line: bytes, real: Any) -> Any:
        asked = module("rch.contract.framing").decode_object(line)
        if asked.get("op") == "probe":
            line = module("rch.contract.framing").encode_line({**asked, "protocol_version": 0}).rstrip()
        return real(line)

    _on_requests(lenient)


@mutant("missing payload tolerated everywhere", "missing-payload")
def _missing_payload_tolerated() -> None:
    def lenient(line: bytes, real: Any) -> Any:
        asked = module("rch.contract.framing").decode_object(line)
        if asked.get("op") == "cancel" and "payload" not in asked:
            payload = {"job_id": "job-0000000000", "reason": "USER"}
            line = module("rch.contract.framing").encode_line({**asked, "payload": payload}).rstrip()
        return real(line)

    _on_requests(lenient)


@mutant("unknown operation answered INVALID_REQUEST", "unknown-operation")
def _unknown_operation_invalid() -> None:
    def other(line: bytes, real: Any) -> Any:
        rpc = module("rch.contract.worker_rpc")
        try:
            return real(line)
        except rpc.RpcError as error:
            raise refusal("INVALID_REQUEST", error.message) from error

    _on_requests(other)


def _messages(change: Any) -> None:
    def with_other(real: Any) -> Any:
        def encode(error: Any, request_id: str | None, version: int) -> Any:
            error.message = change(error.message)
            return real(error, request_id, version)

        return encode

    wrap(module("worker_agent.rpc"), "encode_error", with_other)


@mutant("message with a stack trace", "messages-tell-no-secrets")
def _stack_trace() -> None:
    _messages(lambda text: f"{text} Traceback (most recent call last): ops.py, line 12")


@mutant("message with a path of the worker", "messages-tell-no-secrets")
def _path_in_message() -> None:
    _messages(lambda text: f"{text} (see /home/builder/rch/state/worker.log)")


@mutant("message of two lines", "refusals-have-their-form")
def _two_lines() -> None:
    _messages(lambda text: f"{text}\nand more")


@mutant("code beside the list", "refusals-have-their-form")
def _unknown_code() -> None:
    def with_other(real: Any) -> Any:
        def encode(*given: Any) -> bytes:
            return bytes(real(*given).replace(b'"JOB_NOT_FOUND"', b'"NO_SUCH_JOB"'))

        return encode

    wrap(module("worker_agent.rpc"), "encode_error", with_other)


@mutant("session goes on after a refused frame", "refused-frame-closes")
def _session_goes_on() -> None:
    def always(real: Any) -> Any:
        def answer(self: Any, line: bytes) -> bool:
            real(self, line)
            return True

        return answer

    wrap(module("worker_agent.rpc").Channel, "_answer", always)


@mutant("session ends after one answer", "session-keeps-the-order")
def _session_of_one() -> None:
    def never(real: Any) -> Any:
        def answer(self: Any, line: bytes) -> bool:
            real(self, line)
            return False

        return answer

    wrap(module("worker_agent.rpc").Channel, "_answer", never)


@mutant("long request_id echoed", "bad-request-id-is-echoed")
def _long_id_echoed() -> None:
    module("rch.contract.worker_envelope").MAX_REQUEST_ID_ECHO = 100_000


@mutant("ids not looked at", "bad-ids-are-refused")
def _any_id() -> None:
    module("rch.contract.worker_envelope").is_id = lambda value: isinstance(value, str)


@mutant("timestamps with +00:00", "timestamps-of-answers")
def _offset_timestamps() -> None:
    clock = module("worker_agent.clock")
    for name in ("now", "in_seconds"):
        wrap(clock, name, lambda real: lambda *given: real(*given).replace("Z", "+00:00"))


@mutant("lines without a bound", "line-over-the-limit")
def _lines_without_bound() -> None:
    rpc = module("worker_agent.rpc")
    rpc.LineReader = partial(rpc.LineReader, max_line=1 << 30)


@mutant("set sent from its beginning whatever the offset", "fetch-goes-on")
def _offset_ignored() -> None:
    def from_zero(_real: Any) -> Any:
        def send(self: Any, packed: Any) -> Any:
            whole = packed.path.read_bytes()
            length = packed.header.stream.content_length
            self._send(module("rch.contract.framing").encode_line(packed.line()))
            self._send(whole[:length])

        return send

    wrap(module("worker_agent.rpc").Channel, "_send_framed", from_zero)


@mutant("unknown members of a submit refused", "unknown-members-everywhere")
def _strict_submit() -> None:
    def strict(line: bytes, real: Any) -> Any:
        asked = module("rch.contract.framing").decode_object(line)
        if asked.get("op") == "submit" and any(name.startswith("x_") for name in asked["payload"]):
            raise refusal("INVALID_REQUEST", "a member is unknown")
        return real(line)

    _on_requests(strict)


@mutant("channel outlives its input", "channel-ends-with-its-input")
def _endless_channel() -> None:
    def endless(real: Any) -> Any:
        def serve(*given: Any) -> int:
            code = int(real(*given))
            time.sleep(3600)
            return code

        return serve

    wrap(module("worker_agent.rpc"), "serve_stdio", endless)
