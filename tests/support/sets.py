"""A right artifact set of a job, in memory, so that a test can make any part of it wrong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from rch.contract.canonical import jcs, jcs_sha256
from rch.contract.records import (
    Invocation,
    Job,
    JobKeyInputs,
    JobStateRecord,
    Manifest,
    Summary,
    encode_record,
)
from rch.contract.worker_rpc import FetchHeader, Stream
from rch_conformance.mock.artifacts import ArtifactSet as Shipped
from rchd.edges.artifacts import Places, places

RUN_ID, JOB_ID = "run-0000000001", "job-0000000001"
NONCE = "n" * 32
NOW = "2026-01-02T03:04:05.678Z"
LOG = b"".join(b"line %d of the build\n" % number for number in range(400))


def a_job(run_id: str = RUN_ID, job_id: str = JOB_ID, source: str = "a" * 64) -> Job:
    """The job that was asked for."""
    inputs = JobKeyInputs(
        source_sha256=source,
        sanitized_argv=("test", "--configuration", "debug"),
        toolchain={"swift_version": "6.3.1", "arch": "x86_64"},
        destination={"platform": "linux", "name": "host"},
    )
    return Job(
        created_at=NOW,
        run_id=run_id,
        job_id=job_id,
        job_key=jcs_sha256(inputs),
        action="test",
        job_key_inputs=inputs,
        effective_config={"backend": "swiftpm"},
        artifact_profile="rich",
        original_constraint=None,
    )


UNREAD = ("effective_config", "toolchain", "destination", "metrics", "executor_env")


@dataclass
class ArtifactSet(Shipped):
    """A set as mock workers make them, of a job that needs no words."""

    job: Job = field(default_factory=a_job)
    nonce: str = NONCE
    capabilities_sha256: str = "d" * 64
    created_at: str = NOW
    folders: list[str] = field(default_factory=lambda: ["result.xcresult", "result.xcresult/Data"])

    def fill(self, **members: Any) -> ArtifactSet:
        """Every file that the manifest lists; `members` change summary and state."""
        summary = Summary(
            **self.head(),
            status="success",
            failure_kind=None,
            exit_code=0,
            attempts=1,
            backend="swiftpm",
            human_summary="3 tests passed",
            duration_ms=5,
            artifact_profile="rich",
            simulated=False,
        )
        state = JobStateRecord(
            **self.head(), state=members.get("state", "SUCCEEDED"), seq=3, updated_at=NOW
        )
        invocation = Invocation(
            **self.head(),
            original_argv=("swift", "test"),
            sanitized_argv=self.job.job_key_inputs.sanitized_argv,
            accepted_action="test",
            rejected_flags=(),
            classifier_policy_sha256="c" * 64,
        )
        self.files |= {
            "job.json": encode_record(self.job),
            "job_key_inputs.json": jcs(self.job.job_key_inputs),
            "job_state.json": encode_record(state),
            "invocation.json": encode_record(invocation),
            "summary.json": encode_record(summary),
            **dict.fromkeys((f"{name}.json" for name in UNREAD), b"{}\n"),
            "build.log": LOG,
            "events.jsonl": b'{"n":1}\n',
            "result.xcresult/Info.plist": b"<plist/>",
            "result.xcresult/Data/data.0": b"\x00\x01\x02",
        }
        return self


def right_set(**members: Any) -> ArtifactSet:
    """A set with nothing wrong in it."""
    made = ArtifactSet().fill(**members)
    made.seal()
    return made


def header_of(manifest: Manifest, stream: bytes) -> FetchHeader:
    """The header that announces `stream`."""
    digest = hashlib.sha256(stream).hexdigest()
    return FetchHeader(
        protocol_version=1,
        request_id="request-00000001",
        ok=True,
        job_id=manifest.job_id,
        manifest=manifest,
        stream=Stream(content_length=len(stream), content_sha256=digest),
        set_sha256=digest,
        set_length=len(stream),
    )


def places_of(root: Path, job: Job) -> Places:
    """The job's places below the artifacts' root `root`."""
    return places(root, job.run_id, f"{job.run_id}/steps/{job.action}/{job.job_id}", job.job_id)


def compressed(tar: bytes) -> bytes:
    """As the worker compresses."""
    return zstandard.ZstdCompressor(level=3).compress(tar)
