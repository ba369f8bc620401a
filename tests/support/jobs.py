"""Jobs, folders and submits for tests of the worker's rooms."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rch.contract.canonical import jcs_sha256
from rch.contract.records import (
    Capabilities,
    Capacity,
    ClassifierPolicyRecord,
    Invocation,
    Job,
    JobKeyInputs,
    JobStateRecord,
    Limits,
    ToolchainEntry,
)
from rch.contract.toolchain import host_destination_inputs, swift_toolchain_inputs
from rch.contract.worker_rpc import SubmitRequest
from worker_agent.model import JobLayout

RUN_ID = "run-0000000001"
JOB_ID = "job-0000000001"
NOW = "2026-01-02T03:04:05.678Z"
CONFIG: dict[str, Any] = {
    "backend": "swiftpm",
    "project": {"package": "."},
    # Most tests are about executions: whoever asks for the same twice wants two of them.
    "cache": {"results": False},
}
SWIFT = ToolchainEntry(kind="swift", version="6.3.1", path="/opt/swift/usr", active=True)


def capabilities(*, max_artifact_bytes: int = 0, swift: ToolchainEntry = SWIFT) -> Capabilities:
    """What a small Linux worker says of itself."""
    return Capabilities(
        hostname="mini",
        agent_version="0.1.0",
        probed_at=NOW,
        os_name="Linux",
        os_version="debian-12",
        os_build=None,
        arch="x86_64",
        toolchains=(swift,),
        capacity=Capacity(
            cpus=2,
            memory_bytes=1 << 30,
            slots_total=1,
            slots_free=0,
            disk_free_bytes=1 << 30,
            load_milli=10,
        ),
        limits=Limits(max_upload_bytes=0, max_artifact_bytes=max_artifact_bytes, max_log_bytes=0),
    )


def job(
    *argv: str,
    profile: str = "rich",
    config: dict[str, Any] | None = None,
    swift: ToolchainEntry = SWIFT,
) -> Job:
    """A job whose sanitized argv is `argv`, by default `test`."""
    words = argv or ("test",)
    here = capabilities(swift=swift)
    inputs = JobKeyInputs(
        source_sha256="ab" * 32,
        sanitized_argv=words,
        toolchain=swift_toolchain_inputs(here, swift),
        destination=host_destination_inputs(here),
    )
    return Job(
        created_at=NOW,
        run_id=RUN_ID,
        job_id=JOB_ID,
        job_key=jcs_sha256(inputs),
        action=words[0],
        job_key_inputs=inputs,
        effective_config={
            "config": config if config is not None else CONFIG,
            "sources": [{"origin": "default", "sha256": hashlib.sha256(b"").hexdigest()}],
            "redactions": [],
        },
        artifact_profile=profile,
        original_constraint=None,
    )


def submit(asked: Job, *, nonce: str = "nonce-1") -> SubmitRequest:
    """The host's `submit` of a job."""
    envelope: dict[str, Any] = {
        "created_at": NOW,
        "run_id": asked.run_id,
        "job_id": asked.job_id,
        "job_key": asked.job_key,
    }
    policy = {"backend": "swiftpm"}
    return SubmitRequest(
        job=asked,
        invocation=Invocation(
            **envelope,
            original_argv=("swift", *asked.job_key_inputs.sanitized_argv),
            sanitized_argv=asked.job_key_inputs.sanitized_argv,
            accepted_action=asked.action,
            rejected_flags=(),
            classifier_policy_sha256=jcs_sha256(policy),
        ),
        job_state_seq=1,
        host_nonce=nonce,
        classifier_policy=ClassifierPolicyRecord(**envelope, policy=policy),
        host_timings={"upload": 12},
    )


def state(asked: Job, *, state: str = "RUNNING", seq: int = 2) -> JobStateRecord:
    """Where a job stood before it ended."""
    return JobStateRecord(
        created_at=NOW,
        run_id=asked.run_id,
        job_id=asked.job_id,
        job_key=asked.job_key,
        state=state,
        seq=seq,
        updated_at=NOW,
    )


def layout(root: Path) -> JobLayout:
    """A job's folders below `root`, all made."""
    made = JobLayout(
        root=root,
        tree=root / "run" / "tree",
        build=root / "run" / "build",
        scratch=root / "job" / "scratch",
        tmp=root / "job" / "tmp",
        artifacts=root / "job" / "artifacts",
    )
    for folder in (made.tree, made.build, made.scratch, made.tmp, made.artifacts):
        folder.mkdir(parents=True)
    return made
