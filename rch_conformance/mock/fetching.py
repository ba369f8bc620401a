"""`fetch` of a mock job: its set, made anew at each request from the same facts (spec section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import msgspec

from rch.contract.canonical import jcs_sha256
from rch.contract.records import stable_capabilities
from rch.contract.worker_envelope import Request
from rch.contract.worker_rpc import Code, FetchRequest, RpcError
from rch_conformance.mock.artifacts import ArtifactSet
from rch_conformance.mock.life import Life
from rch_conformance.mock.sets import digest, faulty_tar, right_set
from rch_conformance.mock.stored import stored_frame
from rch_conformance.mock.worker import MockWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A framed answer: its members beyond the envelope, and its body; `cut`: the channel ends after it."""

    members: dict[str, Any]
    body: bytes
    cut: bool = False


def packed(worker: MockWorker, request: Request) -> Packed:
    """The set of a job that is over, with the fault that the scenario has for this fetch."""
    asked = cast("FetchRequest", request.payload)
    life = worker.life(asked.job_id)
    if not life.over:
        raise RpcError(Code.INVALID_REQUEST, f"job {asked.job_id} is not over")
    fault = _fault(worker, asked.job_id)
    made = set_of(worker, life)
    tar, compression = faulty_tar(made, fault), worker.scenario.set.compression
    frame = tar if compression == "none" else stored_frame(tar)
    offset = asked.offset or 0
    if not 0 <= offset <= len(frame):
        raise RpcError(Code.INVALID_REQUEST, f"offset {offset} is beyond the set's {len(frame)} bytes")
    rest = frame[offset:]
    stream = {
        "content_length": len(rest),
        "content_sha256": digest(rest),
        "compression": compression,
        "format": "tar",
    }
    members = {
        "job_id": asked.job_id,
        "manifest": msgspec.to_builtins(made.sealed()),
        "stream": stream,
        "offset": offset,
        "set_sha256": digest(frame),
        "set_length": len(frame),
    }
    cut = fault == "cut"
    return Packed(members=members, body=rest[: len(rest) // 2] if cut else rest, cut=cut)


def set_of(worker: MockWorker, life: Life) -> ArtifactSet:
    """The right set of a job that is over, not yet sealed."""
    with worker.folder.changing() as state:
        here = worker.capabilities(state)
    return right_set(
        life.ended(),
        capabilities_sha256=jcs_sha256(stable_capabilities(here)),
        simulated=worker.simulated,
        signs=worker.signs,
    )


def _fault(worker: MockWorker, job_id: str) -> str | None:
    script = worker.scenario.set
    with worker.folder.changing() as state:
        number = state.asked[f"fetch {job_id}"] = state.asked.get(f"fetch {job_id}", 0) + 1
    return script.fault if not script.times or number <= script.times else None
