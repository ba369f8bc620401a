"""A right artifact set of a job, in memory, so that a test can make any part of it wrong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard
from support.jobs import SWIFT, capabilities

from rch.contract.canonical import jcs, jcs_sha256
from rch.contract.records import (
    ExecutorEnv,
    Invocation,
    Job,
    JobKeyInputs,
    JobStateRecord,
    Manifest,
    Metrics,
    Summary,
    encode_record,
)
from rch.contract.toolchain import host_destination_inputs, swift_toolchain_inputs
from rch.contract.worker_rpc import FetchHeader, Stream
from rch_conformance.mock.artifacts import ArtifactSet as Shipped
from rchd.edges.artifacts import Places, places
from worker_agent.results.given import destination, effective_config, toolchain

RUN_ID, JOB_ID = "run-0000000001", "job-0000000001"
NONCE = "n" * 32
NOW = "2026-01-02T03:04:05.678Z"
LOG = b"".join(b"line %d of the build\n" % number for number in range(400))


def a_job(run_id: str = RUN_ID, job_id: str = JOB_ID, source: str = "a" * 64) -> Job:
    """The job that was asked for."""
    here = capabilities()
    inputs = JobKeyInputs(
        source_sha256=source,
        sanitized_argv=("test", "--configuration", "debug"),
        toolchain=swift_toolchain_inputs(here, SWIFT),
        destination=host_destination_inputs(here),
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
        metrics = Metrics(**self.head(), stages_ms={"build": 5}, counts={"log_bytes": 9}, host_timings={})
        self.files |= {
            "job.json": encode_record(self.job),
            "job_key_inputs.json": jcs(self.job.job_key_inputs),
            "job_state.json": encode_record(state),
            "invocation.json": encode_record(invocation),
            "summary.json": encode_record(summary),
            "effective_config.json": encode_record(effective_config(self.job, NOW)),
            "toolchain.json": encode_record(toolchain(self.job, NOW)),
            "destination.json": encode_record(destination(self.job, NOW)),
            "metrics.json": encode_record(metrics),
            "executor_env.json": encode_record(ExecutorEnv(**self.head(), keys=("HOME", "PATH"))),
            "build.log": LOG,
            "events.jsonl": b'{"n":1,"at":"2026-01-02T03:04:05.678Z","type":"stage"}\n',
            "result.xcresult/Info.plist": b"<plist/>",
            "result.xcresult/Data/data.0": b"\x00\x01\x02",
        }
        return self


def right_set(**members: Any) -> ArtifactSet:
    """A set with nothing wrong in it."""
    made = ArtifactSet().fill(**members)
    made.seal()
    return made


def header_of(manifest: Manifest, stream: bytes, compression: str = "zstd") -> FetchHeader:
    """The header that announces `stream`."""
    digest = hashlib.sha256(stream).hexdigest()
    return FetchHeader(
        protocol_version=1,
        request_id="request-00000001",
        ok=True,
        job_id=manifest.job_id,
        manifest=manifest,
        stream=Stream(content_length=len(stream), content_sha256=digest, compression=compression),
        set_sha256=digest,
        set_length=len(stream),
    )


def places_of(root: Path, job: Job) -> Places:
    """The job's places below the artifacts' root `root`."""
    return places(root, job.run_id, f"{job.run_id}/steps/{job.action}/{job.job_id}", job.job_id)


def compressed(tar: bytes) -> bytes:
    """As the worker compresses."""
    return zstandard.ZstdCompressor(level=3).compress(tar)
