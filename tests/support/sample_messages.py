"""Samples of messages for `docs/examples`, by the encoders of the programs themselves.

The worker protocol has one of each operation, in the order of a run; the local socket has those that a
client needs for one run. Requests of the latter are what `rchctl` sends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from rch.contract import local_api as api
from rch.contract.errors import Failure, Kind
from rch.contract.framing import encode_line
from rch.contract.messages import MAX_HEADERS
from rch.contract.records import Capabilities, Manifest
from rch.contract.worker_envelope import decode_request, encode_error, encode_request, encode_result
from rch.contract.worker_rpc import (
    CancelRequest,
    CancelResult,
    Code,
    Empty,
    FetchRequest,
    GcEntry,
    GcRequest,
    GcResult,
    GcTotal,
    HasSourceRequest,
    HasSourceResult,
    JobEvent,
    JobRequest,
    Payload,
    ProbeRequest,
    ProbeResult,
    ReleaseRequest,
    ReserveRequest,
    ReserveResult,
    RpcError,
    StatusResult,
    Stream,
    SubmitRequest,
    SubmitResult,
    TailRequest,
    TailResult,
    UploadRequest,
    UploadResult,
)
from rchd.core.session import MAX_IN_FLIGHT, MAX_SUBSCRIPTIONS, Call, event_line, refusal_line, result_line
from worker_agent.artifacts import Packed

REQUEST_ID = "request-0000000001"
LEASE: dict[str, Any] = {"lease_id": "lease-0000000001", "fence": 7}
EXPIRES = "2026-01-02T03:05:35.678Z"
FEATURES = ("session", "upload", "tail", "lease", "lease_renew", "fetch_resume", "attestation_signing")


def worker_samples(
    submit: SubmitRequest, manifest: Manifest, told: Capabilities, packed: Packed
) -> dict[str, bytes]:
    """`<op>.request.json` and `<op>.response.json` of each operation, and a refusal."""
    job = submit.job
    source = job.job_key_inputs.source_sha256
    event = JobEvent(n=1, at=job.created_at, type="stage", data={"name": "test", "state": "started"})
    talk: dict[str, tuple[Payload, msgspec.Struct]] = {
        "probe": (
            ProbeRequest(),
            ProbeResult(
                rch_xcode_lane_version="1",
                protocol_min=1,
                protocol_max=1,
                features=FEATURES,
                capabilities=told,
            ),
        ),
        "reserve": (
            ReserveRequest(run_id=job.run_id, host_id="host-0000000001", ttl_seconds=90),
            ReserveResult(**LEASE, ttl_seconds=90, expires_at=EXPIRES, slots_total=1, slots_free=0),
        ),
        "has_source": (
            HasSourceRequest(source_sha256=source, lease_id="lease-0000000001"),
            HasSourceResult(exists=False),
        ),
        "upload_source": (
            UploadRequest(
                source_sha256=source, stream=Stream(content_length=900, content_sha256="b" * 64), **LEASE
            ),
            UploadResult(stored=True),
        ),
        "submit": (msgspec.structs.replace(submit, **LEASE), SubmitResult(state="RUNNING", seq=2)),
        "status": (
            JobRequest(job_id=job.job_id),
            StatusResult(
                state="SUCCEEDED",
                seq=3,
                job_key=job.job_key,
                created_at=job.created_at,
                updated_at=manifest.created_at,
                log_bytes=121,
                artifacts_available=True,
                exit_code=0,
            ),
        ),
        "tail": (
            TailRequest(job_id=job.job_id, max_bytes=65536, wait_seconds=20.0),
            TailResult(
                log_chunk="Building for debugging...\n",
                events=(event,),
                next_cursor="26.1.1",
                state="RUNNING",
                seq=2,
            ),
        ),
        "cancel": (
            CancelRequest(job_id=job.job_id, reason="USER", **LEASE),
            CancelResult(state="CANCEL_REQUESTED"),
        ),
        "release": (ReleaseRequest(**LEASE), Empty()),
        "gc": (
            GcRequest(dry_run=True),
            GcResult(
                dry_run=True,
                entries=(
                    GcEntry(kind="source", name=source, bytes=900, age_seconds=864_000, reason="unused"),
                ),
                totals=(GcTotal(kind="source", entries=1, bytes=900),),
            ),
        ),
    }
    made: dict[str, bytes] = {}
    for op, (asked, answer) in talk.items():
        line = encode_request(op, REQUEST_ID, asked, 0 if op == "probe" else 1)
        made[f"{op}.request.json"] = line
        made[f"{op}.response.json"] = encode_result(decode_request(line), answer)
    made["fetch.request.json"] = encode_request("fetch", REQUEST_ID, FetchRequest(job_id=job.job_id), 1)
    made["fetch.response.json"] = encode_line(packed.line())
    busy = RpcError(Code.BUSY, "all 1 slots are taken", {"retry_after_seconds": 5})
    made["error.json"] = encode_error(busy, REQUEST_ID, 1)
    return {name: pretty(line) for name, line in made.items()}


def local_samples(queued: api.RunView, view: api.RunView) -> dict[str, bytes]:
    """Greeting, submit (`queued`), watch, list, cancel; what a follower is told, and a refusal."""
    run = {"run": view.run_id}
    hello = {"client": "rchctl", "version": "0.1.0", "protocol": [1, 1], "features": list(api.FEATURES)}
    talk: dict[str, tuple[Mapping[str, Any], msgspec.Struct]] = {
        "hello": (
            hello,
            api.HelloView(
                server="rchd",
                version="0.1.0",
                protocol=1,
                features=api.FEATURES,
                instance="0198c2f0-7a11-7c3e-9b52-0000000000ff",
                limits={
                    "max_message_bytes": api.MAX_MESSAGE,
                    "max_header_bytes": MAX_HEADERS,
                    "max_in_flight": MAX_IN_FLIGHT,
                    "max_subscriptions": MAX_SUBSCRIPTIONS,
                },
            ),
        ),
        "runs.submit": ({"start": "/home/me/greeter", "actions": ["test"]}, queued),
        "runs.get": (run, view),
        "runs.list": ({"limit": 1}, api.RunListView(runs=(view,))),
        "runs.watch": (run, api.WatchView(subscription=1, seq=9, runs=(view,))),
        "runs.unwatch": ({"subscription": 1}, api.View()),
        "runs.cancel": ({**run, "reason": "USER"}, view),
    }
    made: dict[str, bytes] = {}
    for number, (method, (params, answer)) in enumerate(talk.items(), 1):
        call = Call(id=number, method=method, params=api.NoParams(), notification=False)
        asked = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        made[f"{method}.request.json"] = encode_line(asked)
        made[f"{method}.response.json"] = result_line(call, answer)
    unknown = Failure(Kind.USAGE, "no run 0198c2f0-none", subkind="UNKNOWN_RUN")
    told = api.RunEvent(subscription=1, seq=9, type="run", run_id=view.run_id, at=view.updated_at, run=view)
    made["runs.event.notification.json"] = event_line(told)
    made["error.json"] = refusal_line(
        Call(id=8, method="runs.get", params=api.NoParams(), notification=False), unknown
    )
    return {name: pretty(line) for name, line in made.items()}


def pretty(line: bytes) -> bytes:
    """A line as a file that is easy to read: on the wire it is one line."""
    return json.dumps(json.loads(line), indent=2, ensure_ascii=False).encode() + b"\n"
