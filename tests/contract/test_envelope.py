"""Requests and responses of the worker protocol, good and bad."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.playbook import capabilities

from rch.contract.canonical import jcs_sha256
from rch.contract.errors import Failure
from rch.contract.records import stable_capabilities
from rch.contract.worker_envelope import (
    decode_request,
    decode_response,
    encode_error,
    encode_request,
    encode_result,
    failure_of,
    negotiate,
    reasons_of,
    request_id_to_echo,
)
from rch.contract.worker_rpc import (
    Code,
    HasSourceRequest,
    HasSourceResult,
    HeardProbe,
    JobRequest,
    ProbeRequest,
    ProbeResult,
    ReserveResult,
    RpcError,
    Stream,
    SubmitResult,
    TailRequest,
    UploadRequest,
)

ID = "request-0001"


def line(**changes: Any) -> bytes:
    base: dict[str, Any] = {
        "protocol_version": 1,
        "op": "status",
        "request_id": ID,
        "payload": {"job_id": "job-000000001"},
    }
    merged = {**base, **changes}
    return json.dumps({key: value for key, value in merged.items() if value is not ...}).encode()


@pytest.mark.spec("3.1")
def test_a_request_comes_back_as_it_went() -> None:
    payload = TailRequest(job_id="job-000000001", cursor="c", wait_seconds=2.5)
    request = decode_request(encode_request("tail", ID, payload, 1).rstrip(b"\n"))
    assert (request.op, request.request_id, request.payload) == ("tail", ID, payload)


@pytest.mark.spec("3.2")
def test_a_stream_names_all_of_its_members() -> None:
    stream = Stream(content_length=0, content_sha256="b" * 64)
    request = UploadRequest(source_sha256="a" * 64, stream=stream)
    sent = json.loads(encode_request("upload_source", ID, request, 1))
    assert sent["payload"]["stream"] == {
        "content_length": 0,
        "content_sha256": "b" * 64,
        "compression": "zstd",
        "format": "tar",
    }


@pytest.mark.spec("3.1")
def test_unknown_members_are_ignored() -> None:
    request = decode_request(line(extra=1, payload={"job_id": "job-000000001", "new": True}))
    assert request.payload == JobRequest(job_id="job-000000001")


@pytest.mark.spec("3.1")
def test_a_missing_payload_is_tolerated_for_probe_alone() -> None:
    assert decode_request(line(op="probe", protocol_version=0, payload=...)).payload == ProbeRequest()
    with pytest.raises(RpcError, match="payload of status"):
        decode_request(line(payload=...))


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"protocol_version": 0}, Code.UNSUPPORTED_PROTOCOL),
        ({"protocol_version": 2}, Code.UNSUPPORTED_PROTOCOL),
        ({"protocol_version": -1}, Code.UNSUPPORTED_PROTOCOL),
        ({"op": "probe", "protocol_version": 1}, Code.UNSUPPORTED_PROTOCOL),
        ({"protocol_version": "1"}, Code.INVALID_REQUEST),
        ({"protocol_version": True}, Code.INVALID_REQUEST),
        ({"protocol_version": 1.0}, Code.INVALID_REQUEST),
        ({"op": "shell"}, Code.UNKNOWN_OPERATION),
        ({"op": 3}, Code.INVALID_REQUEST),
        ({"request_id": "short"}, Code.INVALID_REQUEST),
        ({"request_id": None}, Code.INVALID_REQUEST),
        ({"request_id": "../../etc/passwd"}, Code.INVALID_REQUEST),
        ({"payload": []}, Code.INVALID_REQUEST),
        ({"payload": {"job_id": "../../etc/passwd"}}, Code.INVALID_REQUEST),
        ({"payload": {"job_id": 4}}, Code.INVALID_REQUEST),
        ({"op": "has_source", "payload": {"source_sha256": "A" * 64}}, Code.INVALID_REQUEST),
        ({"payload": {"job_id": "job-000000001", "deep": [{"n": 2**53 + 1}]}}, Code.INVALID_REQUEST),
        ({"op": ["x" * 1000]}, Code.INVALID_REQUEST),
    ],
)
def test_a_bad_request_is_refused_by_its_code(changes: dict[str, Any], code: Code) -> None:
    with pytest.raises(RpcError) as caught:
        decode_request(line(**changes))
    assert caught.value.code is code
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.spec("2")
def test_a_refusal_echoes_the_id_only_if_it_is_a_short_string() -> None:
    assert request_id_to_echo(line(request_id="x")) == "x"
    assert request_id_to_echo(line(request_id="y" * 256)) == "y" * 256
    assert request_id_to_echo(line(request_id="y" * 257)) is None
    assert request_id_to_echo(line(request_id=7)) is None
    assert request_id_to_echo(b"garbage") is None


@pytest.mark.spec("3.1")
def test_a_result_and_an_error_reach_the_asker() -> None:
    request = decode_request(
        encode_request("has_source", ID, HasSourceRequest(source_sha256="a" * 64), 1)[:-1]
    )
    answer = encode_result(request, HasSourceResult(exists=True))
    assert decode_response(answer, ID, HasSourceResult).exists is True
    refusal = encode_error(RpcError(Code.BUSY, "no slot", {"retry_after_seconds": 3}), ID, 1)
    with pytest.raises(RpcError) as caught:
        decode_response(refusal, ID, HasSourceResult)
    assert (caught.value.code, caught.value.data) == (Code.BUSY, {"retry_after_seconds": 3})


@pytest.mark.spec("3.1")
@pytest.mark.fault("W7")
@pytest.mark.parametrize(
    "answer",
    [
        b"Last login: Tue",
        b"[]",
        b'{"ok":true,"request_id":"request-0001"}',
        b'{"ok":true,"request_id":"request-0002","payload":{"exists":true}}',
        b'{"ok":true,"request_id":"request-0001","payload":{"exists":"yes"}}',
        b'{"ok":true,"request_id":"request-0001","payload":{"exists":true},"error":{"code":"BUSY"}}',
        b'{"ok":false,"request_id":"request-0001"}',
        b'{"ok":false,"request_id":"request-0001","error":{"code":"MADE_UP","message":"x"}}',
        b'{"ok":1,"request_id":"request-0001","payload":{"exists":true}}',
    ],
)
def test_a_garbage_answer_is_a_protocol_error(answer: bytes) -> None:
    with pytest.raises(Failure) as caught:
        decode_response(answer, ID, HasSourceResult)
    assert (caught.value.subkind, caught.value.exit_code) == ("PROTOCOL_ERROR", 40)


RESERVED: dict[str, Any] = {
    "lease_id": "lease-00000001",
    "fence": 1,
    "ttl_seconds": 90,
    "expires_at": "2026-01-02T03:04:05.678Z",
    "slots_total": 1,
    "slots_free": 0,
}


@pytest.mark.spec("3.1")
@pytest.mark.fault("W7")
@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (SubmitResult, {"state": "RUNNING", "seq": 2**70}),
        (SubmitResult, {"state": "RUNNING", "seq": 0}),
        (SubmitResult, {"state": "RUNNING", "seq": 2, "more": [-(2**53) - 1]}),
        (ReserveResult, {**RESERVED, "fence": 2**63}),
        (ReserveResult, {**RESERVED, "ttl_seconds": 0}),
        (ReserveResult, {**RESERVED, "lease_id": "../../lease"}),
    ],
)
def test_a_number_or_id_that_the_host_could_not_keep_is_a_protocol_error(
    kind: type[msgspec.Struct], payload: dict[str, Any]
) -> None:
    answer = json.dumps({"ok": True, "request_id": ID, "payload": payload}).encode()
    with pytest.raises(Failure) as caught:
        decode_response(answer, ID, kind)
    assert caught.value.subkind == "PROTOCOL_ERROR"


def probe(**changes: Any) -> ProbeResult:
    base: dict[str, Any] = {
        "rch_xcode_lane_version": "1",
        "protocol_min": 1,
        "protocol_max": 1,
        "features": ("upload",),
        "capabilities": capabilities(),
    }
    return ProbeResult(**{**base, **changes})


@pytest.mark.spec("6")
def test_the_reasons_of_a_refused_command_line_are_kept_as_far_as_they_make_sense() -> None:
    good = {"code": "DENIED_FLAG", "subject": "-sdk", "message": "not here"}
    told: list[object] = [good, {**good, "code": "OF_A_NEWER_WORKER"}, "words", {**good, "subject": 7}]
    refusal = RpcError(Code.CLASSIFIER_REJECTED, "no", {"rejection_reasons": told})
    assert [msgspec.to_builtins(each) for each in reasons_of(refusal)] == [good]
    many = RpcError(Code.CLASSIFIER_REJECTED, "no", {"rejection_reasons": [good] * 1000})
    assert len(reasons_of(many)) == 64
    assert reasons_of(RpcError(Code.CLASSIFIER_REJECTED, "no", {"rejection_reasons": good})) == ()


@pytest.mark.spec("10")
@pytest.mark.parametrize("lie", ["", "0" * 64])
def test_the_digest_of_capabilities_is_over_what_stood_on_the_wire(lie: str) -> None:
    payload = msgspec.to_builtins(probe())
    payload |= {"capabilities_sha256": lie} if lie else {}
    payload["capabilities"]["of_a_newer_worker"] = {"n": [1, 2]}
    del payload["capabilities"]["runtimes"]
    answer = json.dumps({"ok": True, "request_id": ID, "payload": payload}).encode()
    heard = decode_response(answer, ID, HeardProbe)
    assert heard.capabilities_sha256 == jcs_sha256(stable_capabilities(payload["capabilities"]))
    assert heard.capabilities_sha256 != jcs_sha256(stable_capabilities(heard.capabilities))


@pytest.mark.spec("3.1")
def test_the_highest_common_version_is_chosen() -> None:
    assert negotiate(probe(protocol_max=9)) == 1


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    ("changes", "subkind"),
    [
        ({"protocol_min": 2, "protocol_max": 3}, None),
        ({"protocol_min": 1, "protocol_max": 0}, None),
        ({"features": ()}, "FEATURE_MISSING"),
    ],
)
def test_a_worker_that_cannot_serve_is_incompatible(changes: dict[str, Any], subkind: str | None) -> None:
    with pytest.raises(Failure) as caught:
        negotiate(probe(**changes))
    assert (caught.value.exit_code, caught.value.subkind) == (91, subkind)


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    ("code", "op", "exit_code"),
    [
        (Code.CLASSIFIER_REJECTED, "submit", 10),
        (Code.BUSY, "reserve", 90),
        (Code.UNSUPPORTED_PROTOCOL, "status", 91),
        (Code.FEATURE_MISSING, "upload_source", 91),
        (Code.UNKNOWN_OPERATION, "tail", 91),
        (Code.TOOLCHAIN_CHANGED, "submit", 91),
        (Code.ARTIFACTS_GONE, "fetch", 70),
        (Code.PAYLOAD_TOO_LARGE, "upload_source", 92),
        (Code.NO_SPACE, "upload_source", 30),
        (Code.NO_SPACE, "submit", 40),
        (Code.INVALID_REQUEST, "submit", 40),
        (Code.JOB_KEY_MISMATCH, "submit", 40),
        (Code.INTERNAL, "submit", 40),
    ],
)
def test_a_workers_refusal_has_its_exit_code(code: Code, op: str, exit_code: int) -> None:
    assert failure_of(RpcError(code, "why"), op).exit_code == exit_code


@pytest.mark.spec("3.1")
def test_a_worker_with_a_bad_config_is_to_be_mended_there() -> None:
    refusal = RpcError(Code.INTERNAL, "worker.toml: unknown key swfit", {"reason": "worker_config"})
    failure = failure_of(refusal, "probe")
    assert (failure.label, failure.exit_code) == ("EXECUTOR / PROTOCOL_ERROR", 40)
    assert failure.message == "probe: worker.toml: unknown key swfit"
    assert failure.hint == "mend worker.toml on that worker"
