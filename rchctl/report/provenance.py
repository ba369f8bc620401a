"""Where a result comes from, and what was moved for it, as facts. Pure."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec
from msgspec import UNSET

from rch.contract.records import Accepted, Record
from rchctl.render import duration, size
from rchctl.report.model import Fact
from rchctl.report.records import StepRecords

_TRUST = {
    "verified": "verified: signed by a pinned key; facts and digests agree",
    "unpinned": "signed, by a key that nobody pinned",
    "unsigned": "unsigned",
}
_TOLD_ELSEWHERE = frozenset({"errors", "warnings", "tests"})
_ENVELOPE = frozenset(
    {"created_at", "schema_version", "schema_id", "run_id", "job_id", "job_key", "simulated"}
)


def provenance(step: StepRecords) -> tuple[Fact, ...]:
    """Of one job."""
    found = [Fact("job", step.job_id, code=True)]
    if step.summary is not None and step.summary.job_key:
        found.append(Fact("job key", step.summary.job_key, code=True))
    if step.invocation is not None:
        found.append(Fact("command", shlex.join(step.invocation.sanitized_argv), code=True))
    found += _record("toolchain", step.toolchain)
    found += _record("destination", step.destination)
    if step.summary is not None and step.summary.attempts > 1:
        found.append(Fact("attempts", str(step.summary.attempts)))
    if step.manifest is not None:
        found.append(Fact("artifact root sha256", step.manifest.artifact_root_sha256, code=True))
    if step.attestation is not None:
        worker = step.attestation.worker
        found.append(Fact("attested by", str(worker.get("name"))))
        found.append(Fact("backend", " ".join(step.attestation.backend.values())))
        if worker.get("fingerprint"):
            found.append(Fact("worker's key", str(worker["fingerprint"]), code=True))
        found.append(Fact("capabilities sha256", step.attestation.capabilities_sha256, code=True))
    if step.verification is not None:
        found.append(Fact("attestation", _TRUST.get(step.verification.result, step.verification.result)))
        found.append(Fact("in the host's words", step.verification.detail))
    elif step.attestation is not None:
        found.append(Fact("attestation", "no verification by the host is on record"))
    return tuple(found)


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def transfer(step: StepRecords, accepted: Accepted | None) -> tuple[Fact, ...]:
    """What was sent, fetched and kept."""
    found: list[Fact] = []
    if step.summary is not None and step.summary.cached_from_job_id is not UNSET:
        found.append(
            Fact(
                "served from the result cache",
                f"the result is that of job {step.summary.cached_from_job_id}",
            )
        )
    host = step.host_metrics
    if accepted is not None and host is not None:
        source = accepted.source
        found.append(Fact("source", f"{_files(source.files)}, {size(source.tar_bytes)}"))
        found.append(Fact("upload", _upload(accepted, host.stages_ms)))
    if step.manifest is not None:
        files = [each for each in step.manifest.entries if each.type == "file"]
        found.append(
            Fact("artifacts fetched", f"{_files(len(files))}, {size(sum(each.size for each in files))}")
        )
    if step.metrics is not None:
        for name, count in step.metrics.counts.items():
            if name not in _TOLD_ELSEWHERE:
                words = name.removesuffix("_bytes").replace("_", " ")
                found.append(Fact(words, size(count) if name.endswith("_bytes") else f"{count:,}"))
    if step.summary is not None and step.summary.log_truncated is not UNSET and step.summary.log_truncated:
        found.append(Fact("log", "its middle was cut"))
    return tuple(found)


def _upload(accepted: Accepted, stages: dict[str, int]) -> str:
    source = accepted.source
    if "uploading" not in stages:
        return "none: the worker had this source"
    took = duration(stages["uploading"])
    if source.base is None:
        return f"{size(source.compressed_bytes)} compressed, in {took}"
    return f"{size(source.compressed_bytes)} compressed, what had changed since an earlier run, in {took}"


def _record(name: str, record: Record | None) -> list[Fact]:
    if record is None:
        return []
    told: dict[str, Any] = msgspec.to_builtins(record)
    words = [
        f"{key} {value}"
        for key, value in told.items()
        if key not in _ENVELOPE and isinstance(value, (str, int))
    ]
    return [Fact(name, ", ".join(words))]
