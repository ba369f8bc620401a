"""What a worker answers, read strictly: its version, its ids and states, the header of its artifacts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.sets import JOB_ID, a_job, header_of, right_set

from rch.contract.errors import Failure, Kind
from rch.contract.framing import MAX_LINE
from rch.contract.worker_envelope import (
    BAD_WORKER_CONFIG,
    MAX_SET_ENTRIES,
    check_version,
    decode_fetch_header,
    decode_request,
    decode_response,
    encode_error,
    encode_request,
    failure_of,
    is_framed,
)
from rch.contract.worker_rpc import (
    Code,
    HasSourceRequest,
    RpcError,
    Stream,
    SubmitResult,
    UploadRequest,
)

pytestmark = pytest.mark.spec("3.1")

ID = "request-00000001"
SENT = json.loads(right_set().files["invocation.json"])


def answer(**payload: Any) -> bytes:
    line = {"protocol_version": 1, "request_id": ID, "ok": True, "payload": {"seq": 2, **payload}}
    return json.dumps(line).encode()


def broken(call: Any, *args: Any) -> str:
    """What is said of a protocol that was broken."""
    with pytest.raises(Failure) as caught:
        call(*args)
    assert (caught.value.kind, caught.value.subkind) == (Kind.EXECUTOR, "PROTOCOL_ERROR")
    return str(caught.value)


@pytest.mark.parametrize("said", [2, 0, "1", 1.0, True, None])
def test_an_answer_in_another_version_than_it_was_asked_in_is_refused(said: object) -> None:
    check_version(1, 1)
    assert broken(check_version, said, 1).endswith("asked in 1")
    assert decode_response(answer(state="RUNNING"), ID, SubmitResult, 1).state == "RUNNING"
    assert "asked in 2" in broken(decode_response, answer(state="RUNNING"), ID, SubmitResult, 2)


@pytest.mark.spec("4")
def test_a_state_that_no_job_has_is_refused() -> None:
    assert "'DONE' is not known" in broken(decode_response, answer(state="DONE"), ID, SubmitResult)


@pytest.mark.parametrize("lease_id", ["../lease", 7])
def test_a_lease_id_that_is_none_is_refused_though_nobody_asked_for_it(lease_id: object) -> None:
    line = answer(state="RUNNING", lease_id=lease_id)
    assert f"{str(lease_id)!r} is no id" in broken(decode_response, line, ID, SubmitResult)


def test_a_refusal_of_another_request_is_no_answer_and_one_without_an_id_is() -> None:
    refusal = RpcError(Code.BUSY, "no slot", {"retry_after_seconds": 3})
    assert "another request" in broken(
        decode_response, encode_error(refusal, "request-00000002", 1), ID, SubmitResult
    )
    with pytest.raises(RpcError) as caught:
        decode_response(encode_error(refusal, None, 1), ID, SubmitResult)
    assert (caught.value.code, caught.value.data) == (Code.BUSY, {"retry_after_seconds": 3})


def test_the_data_of_a_refusal_is_an_object_or_nothing() -> None:
    body = {"code": "BUSY", "message": "m" * 2000, "data": ["x"]}
    line = json.dumps({"request_id": ID, "ok": False, "error": body}).encode()
    with pytest.raises(RpcError) as caught:
        decode_response(line, ID, SubmitResult)
    assert caught.value.data == {}
    assert len(caught.value.message) == 1000


@pytest.mark.spec("3.2")
def test_the_largest_number_that_can_be_said_back_is_taken() -> None:
    assert decode_response(answer(state="RUNNING", more=1 << 53), ID, SubmitResult).state == "RUNNING"
    broken(decode_response, answer(state="RUNNING", more=(1 << 53) + 1), ID, SubmitResult)


@pytest.mark.spec("3.2")
def test_a_request_is_framed_where_it_names_a_stream_and_nowhere_else() -> None:
    stream = Stream(content_length=3, content_sha256="0" * 64)
    asks = HasSourceRequest(source_sha256="a" * 64)
    assert is_framed(asks) is None
    assert is_framed(UploadRequest(source_sha256="a" * 64, stream=stream)) == stream
    assert decode_request(encode_request("has_source", ID, asks, 1)[:-1]).payload == asks


@pytest.mark.spec("2")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"run_id": "../../etc/x"}, "job.run_id"),
        ({"job_id": "../../etc/x"}, "job.job_id"),
        ({"job_id": "short"}, "job.job_id"),
        ({"source_sha256": "A" * 64}, "job.job_key_inputs.source_sha256"),
        ({"source_sha256": "../" + "a" * 61}, "job.job_key_inputs.source_sha256"),
    ],
)
def test_the_ids_of_a_job_are_looked_at_before_they_can_touch_a_path(
    change: dict[str, str], field: str
) -> None:
    job = msgspec.to_builtins(a_job())
    payload = {"job": job, "invocation": SENT, "job_state_seq": 1, "host_nonce": "n" * 32}
    right = {"protocol_version": 1, "op": "submit", "request_id": ID, "payload": payload}
    assert decode_request(json.dumps(right).encode()).op == "submit"
    inner = job["job_key_inputs"] if "source_sha256" in change else job
    inner.update(change)
    with pytest.raises(RpcError) as caught:
        decode_request(json.dumps(right).encode())
    assert caught.value.code is Code.INVALID_REQUEST
    assert caught.value.message.startswith(field)


# --- the header of an artifact set --------------------------------------------------------


def header(**members: Any) -> bytes:
    made = right_set()
    told = header_of(made.sealed(), b"stream")
    return json.dumps({**msgspec.to_builtins(told), "request_id": ID, **members}).encode()


def long(**members: Any) -> bytes:
    """One that is longer than any other line may be, by a member that nobody knows."""
    return header(padding="x" * MAX_LINE, **members)


@pytest.mark.spec("3.2")
@pytest.mark.parametrize("made", [header, long])
def test_a_header_says_the_same_however_long_it_is(made: Any) -> None:
    told = decode_fetch_header(made(), ID, JOB_ID)
    assert (told.job_id, told.manifest) == (JOB_ID, right_set().sealed())
    assert told.stream.content_length == len(b"stream")


@pytest.mark.spec("3.2")
@pytest.mark.parametrize("made", [header, long])
@pytest.mark.parametrize(
    "members",
    [
        {"job_id": "job-0000000002"},
        {"request_id": "request-00000002"},
        {"ok": False},
        {"offset": (1 << 53) + 1},
        {"set_length": (1 << 53) + 1},
        {"manifest": None},
        {"stream": {"content_length": (1 << 53) + 1, "content_sha256": "0" * 64}},
    ],
)
def test_a_header_that_is_wrong_is_refused_however_long_it_is(made: Any, members: dict[str, Any]) -> None:
    broken(decode_fetch_header, made(**members), ID, JOB_ID)


@pytest.mark.spec("3.2")
def test_an_entry_of_a_size_that_cannot_be_said_back_is_refused() -> None:
    manifest = json.loads(header())["manifest"]
    manifest["entries"][0]["size"] = (1 << 53) + 1
    assert "2^53" in broken(decode_fetch_header, long(manifest=manifest), ID, JOB_ID)
    broken(decode_fetch_header, header(manifest=manifest), ID, JOB_ID)


@pytest.mark.spec("3.2")
def test_more_entries_than_a_set_may_have_are_refused_unread() -> None:
    line = b'{"x":[' + b"[],{}," * (MAX_SET_ENTRIES // 2 + 600) + b"0]"  # is not even JSON
    assert f"more than {MAX_SET_ENTRIES} entries" in broken(decode_fetch_header, line, ID, JOB_ID)


@pytest.mark.parametrize("data", [{"reason": BAD_WORKER_CONFIG}, {"reason": "another"}, {}])
def test_a_worker_whose_config_is_bad_is_told_apart_by_the_reason_it_gives(data: dict[str, Any]) -> None:
    is_config = data.get("reason") == BAD_WORKER_CONFIG
    failure = failure_of(RpcError(Code.INTERNAL, "worker.toml: line 3", data), "probe")
    assert (failure.kind, failure.subkind, failure.data) == (Kind.EXECUTOR, "PROTOCOL_ERROR", data)
    assert (failure.hint == "mend worker.toml on that worker") is is_config
    assert str(failure).startswith("probe: worker.toml" if is_config else "probe: INTERNAL: worker.toml")
