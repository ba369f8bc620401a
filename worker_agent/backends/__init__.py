"""How a job is built and tested: one module a build tool."""

from __future__ import annotations

from collections.abc import Iterable

from rch.contract.errors import Failure, Kind
from rch.contract.records import Job, ToolchainEntry
from worker_agent.backends.swiftpm import SwiftPM
from worker_agent.backends.xcodebuild import Xcodebuild
from worker_agent.model import Backend

__all__ = ["backend_for", "offers_xcodebuild"]


def backend_for(job: Job) -> Backend:
    """The backend that the job's toolchain calls for; `WORKER_INCOMPATIBLE` / `NOT_OFFERED` for others."""
    named = job.job_key_inputs.toolchain
    if "swift_version" in named:
        return SwiftPM()
    if "xcode_build" in named:
        return Xcodebuild()
    members = ", ".join(sorted(named)) or "nothing"
    message = f"job {job.job_id} names neither swift_version nor xcode_build in its toolchain ({members})"
    raise Failure(Kind.WORKER_INCOMPATIBLE, message, subkind="NOT_OFFERED")


def offers_xcodebuild(toolchains: Iterable[ToolchainEntry]) -> bool:
    """Whether a worker with these toolchains offers the backend `xcodebuild`."""
    return any(entry.kind == "xcode" for entry in toolchains)
