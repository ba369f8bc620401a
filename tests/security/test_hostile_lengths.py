"""Lengths that strangers announce: none is believed, none is room made beforehand."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
from pathlib import Path

import pytest
from support.sets import header_of, right_set

from rch.contract.errors import Failure
from rch.contract.worker_envelope import decode_fetch_header, decode_request, open_response
from rch.contract.worker_rpc import RpcError, Stream
from rchd.edges import fetching
from worker_agent.sources import Sources

ID = "request-0001"
# What JSON may say where a length belongs.
NO_LENGTHS = [
    "1.5",
    "1e3",
    "-0.0",
    '"3"',
    "true",
    "null",
    "[]",
    "9223372036854775808",
    "1e400",
    "NaN",
    "9" * 5000,
]
DIGEST = "a" * 64


def upload(length: str) -> bytes:
    stream = f'{{"content_length":{length},"content_sha256":"{DIGEST}"}}'
    payload = f'{{"source_sha256":"{DIGEST}","stream":{stream}}}'
    line = f'{{"protocol_version":1,"op":"upload_source","request_id":"{ID}","payload":{payload}}}'
    return line.encode()


def fetched(length: str) -> bytes:
    import msgspec

    told = msgspec.to_builtins(header_of(right_set().sealed(), b"stream")) | {"request_id": ID}
    told["stream"]["content_length"] = told["set_length"] = 123454321
    return json.dumps(told).replace("123454321", length).encode()


@pytest.mark.spec("3.2")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("length", NO_LENGTHS, ids=lambda length: length[:20])
def test_what_is_no_length_is_refused_at_both_ends(length: str) -> None:
    with pytest.raises(RpcError):
        decode_request(upload(length))
    with pytest.raises(Failure):
        decode_fetch_header(fetched(length), ID, right_set().job.job_id)


@pytest.mark.spec("3.2")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("length", [-1, -(2**53)])
def test_a_length_below_zero_is_refused_before_a_byte_is_read(length: int, tmp_path: Path) -> None:
    request = decode_request(upload(str(length)))
    with pytest.raises(RpcError, match="negative"):
        Sources(tmp_path, max_bytes=0).check_announced(request.payload.stream)  # type: ignore[attr-defined]
    header = decode_fetch_header(fetched(str(length)), ID, right_set().job.job_id)
    with pytest.raises(Failure, match="the worker announced"):
        fetching._check_header(header, 1 << 30)


@pytest.mark.spec("3.2")
@pytest.mark.fault("C3")
def test_a_gibibyte_that_does_not_come_takes_no_memory(tmp_path: Path) -> None:
    sources = Sources(tmp_path, max_bytes=0)
    stream = Stream(content_length=1 << 30, content_sha256=hashlib.sha256(b"abc").hexdigest())
    tracemalloc.start()
    try:
        with pytest.raises(RpcError):
            sources.receive(DIGEST, stream, io.BytesIO(b"abc"))
        header = decode_fetch_header(fetched(str(1 << 30)), ID, right_set().job.job_id)
        fetching._check_header(header, 1 << 30)
        with pytest.raises(Failure, match="over the 1073741823 that are taken"):
            fetching._check_header(header, (1 << 30) - 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.spec("3.1")
def test_a_refusal_s_own_words_are_cut() -> None:
    error = {"code": "BUSY", "message": "m" * 100_000}
    line = json.dumps({"protocol_version": 1, "request_id": ID, "ok": False, "error": error})
    with pytest.raises(RpcError) as caught:
        open_response(line.encode(), ID)
    assert len(caught.value.message) == 1000
