"""The worker protocol's envelope, negotiation and refusals (spec section 3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.errors import Failure, Kind
from rch.contract.framing import MAX_LINE, FrameError, decode_object, encode_line
from rch.contract.ids import is_id, is_sha256
from rch.contract.policy import ReasonCode
from rch.contract.records import Reason
from rch.contract.states import JobState
from rch.contract.worker_rpc import (
    MAX_NUMBER,
    OPERATIONS,
    PROBE_PROTOCOL,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    REQUIRED_FEATURES,
    Code,
    FetchHeader,
    HeardProbe,
    Payload,
    ProbeResult,
    RpcError,
    Stream,
    SubmitRequest,
    UploadRequest,
)

MAX_REQUEST_ID_ECHO = 256
MAX_SET_ENTRIES = 500_000
"""Of a set, as its header announces them. A header of the longest kind has fewer with names as they are."""
_AROUND_ENTRIES = 1 << 10  # objects and lists of a header beside its entries, and brackets in names
BAD_WORKER_CONFIG = "worker_config"
"""`data.reason` of a refusal whose cause is the worker's own worker.toml."""
_SHOWN = 80
_REASONS_KEPT = 64
_MAYBE_TOO_LARGE = re.compile(rb"[0-9]{16}|[0-9.][eE]\+?[0-9]")
_JOB_STATES = frozenset(JobState)

P = TypeVar("P", bound=msgspec.Struct)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request line, its payload decoded for its operation."""

    protocol_version: int
    op: str
    request_id: str
    payload: Payload


def encode_request(op: str, request_id: str, payload: Payload, protocol_version: int) -> bytes:
    """The line that asks for `op`."""
    return encode_line(
        {
            "protocol_version": protocol_version,
            "op": op,
            "request_id": request_id,
            "payload": msgspec.to_builtins(payload),
        }
    )


def decode_request(line: bytes) -> Request:
    """The request on `line`; `RpcError` says what is wrong with it."""
    try:
        raw = _decode(line)
    except FrameError as error:
        raise RpcError(Code.INVALID_REQUEST, str(error)) from error
    op, version, request_id = raw.get("op"), raw.get("protocol_version"), raw.get("request_id")
    if not isinstance(op, str):
        raise RpcError(Code.INVALID_REQUEST, f"op {str(op)[:_SHOWN]!r} is no string")
    if not isinstance(version, int) or isinstance(version, bool):
        raise RpcError(Code.INVALID_REQUEST, f"protocol_version {str(version)[:_SHOWN]!r} is no integer")
    if not is_id(request_id):
        raise RpcError(Code.INVALID_REQUEST, f"request_id {str(request_id)[:80]!r} is no id")
    if (version == PROBE_PROTOCOL) != (op == "probe") or version > PROTOCOL_MAX or version < PROBE_PROTOCOL:
        supported = f"{PROTOCOL_MIN} to {PROTOCOL_MAX}, and {PROBE_PROTOCOL} for probe alone"
        raise RpcError(
            Code.UNSUPPORTED_PROTOCOL, f"protocol_version {version} of {op[:40]!r} is not {supported}"
        )
    kind = OPERATIONS.get(op)
    if kind is None:
        raise RpcError(Code.UNKNOWN_OPERATION, f"op {op[:40]!r} is not known")
    payload = raw.get("payload", {} if op == "probe" else None)
    if not isinstance(payload, dict):
        raise RpcError(Code.INVALID_REQUEST, f"payload of {op} is no object")
    return Request(
        protocol_version=version, op=op, request_id=str(request_id), payload=_payload(payload, kind)
    )


def _payload(raw: dict[str, Any], kind: type[Payload]) -> Payload:
    try:
        payload = msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise RpcError(Code.INVALID_REQUEST, f"payload: {error}") from error
    for field in ("run_id", "job_id", "lease_id"):
        value = getattr(payload, field, None)
        if value is not None and not is_id(value):
            raise RpcError(Code.INVALID_REQUEST, f"{field} {value[:80]!r} is no id")
    if isinstance(payload, SubmitRequest):
        _check_job_ids(payload)
    digest = getattr(payload, "source_sha256", None)
    if digest is not None and not is_sha256(digest):
        raise RpcError(Code.INVALID_REQUEST, f"source_sha256 {digest[:80]!r} is no SHA-256")
    return payload


def _check_job_ids(payload: SubmitRequest) -> None:
    job = payload.job
    for field, value in (("job.run_id", job.run_id), ("job.job_id", job.job_id)):
        if not is_id(value):
            raise RpcError(Code.INVALID_REQUEST, f"{field} {value[:80]!r} is no id")
    if not is_sha256(job.job_key_inputs.source_sha256):
        raise RpcError(Code.INVALID_REQUEST, "job.job_key_inputs.source_sha256 is no SHA-256")


def _decode(line: bytes) -> dict[str, Any]:
    """The object on `line`; `FrameError` also for a number that could not be stored and said back."""
    raw = decode_object(line)
    waiting: list[object] = [raw] if _MAYBE_TOO_LARGE.search(line) else []
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
            raise FrameError("a number is beyond 2^53")
    return raw


def request_id_to_echo(line: bytes) -> str | None:
    """What a refusal of a bad request repeats: its id if it is a string of at most 256 characters."""
    try:
        value = decode_object(line).get("request_id")
    except FrameError:
        return None
    return value if isinstance(value, str) and len(value) <= MAX_REQUEST_ID_ECHO else None


def version_to_echo(line: bytes) -> int:
    """What a refusal repeats: the integer that a request has, spoken here or not; without one ours."""
    try:
        version = decode_object(line).get("protocol_version")
    except FrameError:
        return PROTOCOL_MAX
    known = isinstance(version, int) and not isinstance(version, bool) and abs(version) <= MAX_NUMBER
    return int(str(version)) if known else PROTOCOL_MAX


def is_framed(payload: Payload) -> Stream | None:
    """The stream that follows a request, if one does."""
    return payload.stream if isinstance(payload, UploadRequest) else None


def encode_result(request: Request, payload: msgspec.Struct) -> bytes:
    """The line that answers `request`; it echoes the request's protocol version."""
    return encode_line(
        {
            "protocol_version": request.protocol_version,
            "request_id": request.request_id,
            "ok": True,
            "payload": msgspec.to_builtins(payload),
        }
    )


def encode_error(error: RpcError, request_id: str | None, protocol_version: int) -> bytes:
    """The line that refuses."""
    body: dict[str, Any] = {"code": str(error.code), "message": error.message}
    if error.data:
        body["data"] = error.data
    return encode_line(
        {"protocol_version": protocol_version, "request_id": request_id, "ok": False, "error": body}
    )


def protocol_error(message: str, *, hint: str | None = None) -> Failure:
    """A worker broke the protocol (exit 40)."""
    return Failure(Kind.EXECUTOR, message, subkind="PROTOCOL_ERROR", hint=hint)


def decode_response(line: bytes, request_id: str, kind: type[P], version: int | None = None) -> P:
    """The payload of a response; `RpcError` for a refusal, `Failure` for a broken protocol.

    `version` is that of the request, which a result has to echo.
    """
    raw = open_response(line, request_id)
    if version is not None:
        check_version(raw.get("protocol_version"), version)
    payload = raw.get("payload")
    if not isinstance(payload, dict):
        raise protocol_error("the worker's answer has no payload object")
    lease_id = payload.get("lease_id")
    if lease_id is not None and not is_id(lease_id):
        raise protocol_error(f"the worker's lease_id {str(lease_id)[:_SHOWN]!r} is no id")
    state = payload.get("state")
    if isinstance(state, str) and state not in _JOB_STATES:
        raise protocol_error(f"the worker's state {state[:_SHOWN]!r} is not known")
    if issubclass(kind, HeardProbe):
        payload = {**payload, "capabilities_sha256": _digest_of_capabilities(payload)}
    return _convert(payload, kind)


def _digest_of_capabilities(payload: dict[str, Any]) -> str:
    """Over what the worker said, with members that this host does not know (spec section 10)."""
    from rch.contract.attested import capabilities_digest  # no worker needs it to answer

    told = payload.get("capabilities")
    return (capabilities_digest(told) if isinstance(told, dict) else None) or ""


def check_version(said: object, asked: int) -> None:
    """`Failure` where a result does not echo the protocol version of its request."""
    if type(said) is not int or said != asked:
        raise protocol_error(f"the worker answered in protocol {str(said)[:_SHOWN]!r}, asked in {asked}")


def decode_fetch_header(line: bytes, request_id: str, job_id: str) -> FetchHeader:
    """The header of a framed `fetch` answer.

    One that is longer than other lines is read by its known members alone, the others are passed over:
    whatever they hold, they cost neither memory nor time.
    """
    if line.count(b"{") + line.count(b"[") > MAX_SET_ENTRIES + _AROUND_ENTRIES:
        raise protocol_error(f"the header of {job_id} has more than {MAX_SET_ENTRIES} entries")
    if len(line) > MAX_LINE:
        header = _long_header(line, request_id)
    else:
        header = _convert(open_response(line, request_id), FetchHeader)
    if header.job_id != job_id:
        raise protocol_error(f"the worker sent artifacts of {header.job_id[:80]!r}, not of {job_id}")
    return header


def _long_header(line: bytes, request_id: str) -> FetchHeader:
    try:
        header = decode_json(line, FetchHeader)
    except msgspec.MsgspecError as error:
        raise protocol_error(f"the header of the worker's artifacts: {error}") from error
    if header.ok is not True or header.request_id != request_id:
        raise protocol_error("the worker answered another request, or with a refusal of this length")
    numbers = (header.offset, header.set_length, header.stream.content_length)
    if not all(
        abs(each) <= MAX_NUMBER for each in (*numbers, *(one.size for one in header.manifest.entries))
    ):
        raise protocol_error("the header of the worker's artifacts: a number is beyond 2^53")
    return header


def open_response(line: bytes, request_id: str) -> dict[str, Any]:
    """The raw members of an ok response to `request_id`."""
    try:
        raw = _decode(line)
    except FrameError as error:
        shown = line[:120].decode("utf-8", "replace")
        raise protocol_error(f"the worker's answer is not the protocol ({error}): {shown!r}") from error
    ok, error_body = raw.get("ok"), raw.get("error")
    if ok is True and error_body is None:
        if raw.get("request_id") != request_id:
            raise protocol_error("the worker answered another request")
        return raw
    if ok is not False or not isinstance(error_body, dict):
        raise protocol_error("the worker's answer is neither a result nor an error")
    if raw.get("request_id") not in {request_id, None}:
        raise protocol_error("the worker answered another request")
    raise _refusal(error_body)


def _refusal(body: dict[str, Any]) -> Exception:
    data = body.get("data")
    try:
        return RpcError(
            Code(body.get("code", "")),
            str(body.get("message", ""))[:1000],
            data if isinstance(data, dict) else None,
        )
    except ValueError:
        return protocol_error(f"the worker's error code {str(body.get('code'))[:40]!r} is not known")


def _convert(raw: dict[str, Any], kind: type[P]) -> P:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise protocol_error(f"the worker's answer: {error}") from error


# --- meaning --------------------------------------------------------------------------


def negotiate(result: ProbeResult, required: Iterable[str] = REQUIRED_FEATURES) -> int:
    """The highest common protocol version; `Failure` WORKER_INCOMPATIBLE if there is none."""
    low, high = max(PROTOCOL_MIN, result.protocol_min), min(PROTOCOL_MAX, result.protocol_max)
    if result.protocol_min > result.protocol_max or low > high:
        raise Failure(
            Kind.WORKER_INCOMPATIBLE,
            f"the worker speaks protocol {result.protocol_min} to {result.protocol_max},"
            f" this host {PROTOCOL_MIN} to {PROTOCOL_MAX}",
        )
    for feature in required:
        if feature not in result.features:
            raise Failure(
                Kind.WORKER_INCOMPATIBLE,
                f"the worker lacks the feature {feature!r}",
                subkind="FEATURE_MISSING",
            )
    return high


_KIND_OF_CODE: dict[Code, tuple[Kind, str | None]] = {
    Code.CLASSIFIER_REJECTED: (Kind.CLASSIFIER_REJECTED, None),
    Code.BUSY: (Kind.WORKER_BUSY, None),
    Code.UNSUPPORTED_PROTOCOL: (Kind.WORKER_INCOMPATIBLE, None),
    Code.FEATURE_MISSING: (Kind.WORKER_INCOMPATIBLE, "FEATURE_MISSING"),
    Code.UNKNOWN_OPERATION: (Kind.WORKER_INCOMPATIBLE, None),
    Code.TOOLCHAIN_CHANGED: (Kind.WORKER_INCOMPATIBLE, "TOOLCHAIN_CHANGED"),
    Code.ARTIFACTS_GONE: (Kind.ARTIFACTS, "GONE"),
    Code.PAYLOAD_TOO_LARGE: (Kind.BUNDLER, "SIZE_EXCEEDED"),
    Code.LEASE_EXPIRED: (Kind.WORKER_BUSY, None),
    Code.SOURCE_MISSING: (Kind.TRANSFER, None),
    Code.BASE_MISSING: (Kind.TRANSFER, None),
}


def reasons_of(error: RpcError) -> tuple[Reason, ...]:
    """`data.rejection_reasons` of a refused command line, as far as they make sense; never too many."""
    told = error.data.get("rejection_reasons")
    found = []
    for each in told[:_REASONS_KEPT] if isinstance(told, list) else ():
        try:
            reason = msgspec.convert(each, Reason)
            code = str(ReasonCode(reason.code))
        except ValueError:  # a ValidationError is one, too
            continue
        found.append(Reason(code=code, subject=reason.subject[:_SHOWN], message=reason.message[:1000]))
    return tuple(found)


def failure_of(error: RpcError, op: str) -> Failure:
    """What a worker's refusal of `op` means to the user (spec section 3.1, last bullet)."""
    if error.code is Code.NO_SPACE:
        kind = Kind.TRANSFER if op == "upload_source" else Kind.EXECUTOR
        return Failure(kind, f"{op}: {error.message}", subkind="NO_SPACE", data=error.data)
    if error.data.get("reason") == BAD_WORKER_CONFIG:
        hint = "mend worker.toml on that worker"
        message = f"{op}: {error.message}"
        return Failure(Kind.EXECUTOR, message, subkind="PROTOCOL_ERROR", hint=hint, data=error.data)
    kind, subkind = _KIND_OF_CODE.get(error.code, (Kind.EXECUTOR, "PROTOCOL_ERROR"))
    return Failure(kind, f"{op}: {error.code}: {error.message}", subkind=subkind, data=error.data)
