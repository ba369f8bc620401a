"""A right artifact set of a job, in memory, so that a test can make any part of it wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from support.jobs import SWIFT, capabilities

from rch.contract.canonical import jcs, jcs_sha256
from rch.contract.manifest import root_sha256, sort_entries
from rch.contract.records import (
    Attestation,
    Entry,
    ExecutorEnv,
    Invocation,
    Job,
    JobIndex,
    JobKeyInputs,
    JobStateRecord,
    Manifest,
    Metrics,
    Summary,
    encode_record,
)
from rch.contract.tar import Member, write_tar
from rch.contract.toolchain import host_destination_inputs, swift_toolchain_inputs
from rch.contract.worker_rpc import FetchHeader, Stream
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
class ArtifactSet:
    """The files of a set and its folders. `seal` makes the three unlisted files anew."""

    job: Job = field(default_factory=a_job)
    nonce: str = NONCE
    capabilities_sha256: str = "d" * 64
    files: dict[str, bytes] = field(default_factory=dict)
    folders: list[str] = field(default_factory=lambda: ["result.xcresult", "result.xcresult/Data"])

    def head(self) -> dict[str, Any]:
        """The envelope of every record of the set."""
        return {
            "created_at": NOW,
            "run_id": self.job.run_id,
            "job_id": self.job.job_id,
            "job_key": self.job.job_key,
        }

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

    def entries(self) -> tuple[Entry, ...]:
        """What a manifest lists of the files and folders as they are now."""
        unlisted = {"manifest.json", "attestation.json", "job_index.json"}
        found = [Entry(path=path, type="directory", size=0, sha256=None) for path in self.folders]
        found += [
            Entry(path=path, type="file", size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in self.files.items()
            if path not in unlisted
        ]
        return sort_entries(found)

    def put_manifest(self, entries: Iterable[Entry] | None = None, **members: Any) -> Manifest:
        """`manifest.json` of the set as it is."""
        listed = self.entries() if entries is None else tuple(entries)
        if "artifact_root_sha256" not in members:
            members["artifact_root_sha256"] = root_sha256(listed)
        manifest = Manifest(**{**self.head(), "entries": listed, **members})
        self.files["manifest.json"] = encode_record(manifest)
        return manifest

    def put_attestation(self, **members: Any) -> None:
        """`attestation.json` over the manifest as it is; `members` may lie."""
        base: dict[str, Any] = {
            **self.head(),
            "source_sha256": self.job.job_key_inputs.source_sha256,
            "worker": {"name": "mini", "fingerprint": None},
            "capabilities_sha256": self.capabilities_sha256,
            "backend": {"name": "swiftpm", "version": self.job.job_key_inputs.toolchain["swift_version"]},
            "manifest_sha256": hashlib.sha256(self.files["manifest.json"]).hexdigest(),
            "host_nonce": self.nonce,
            "simulated": False,
        }
        self.files["attestation.json"] = encode_record(Attestation(**{**base, **members}))

    def put_index(self, files: Mapping[str, str] | None = None, **members: Any) -> None:
        """`job_index.json`, the commit marker."""
        named = {path.partition(".")[0]: path for path in self.files if "/" not in path}
        named |= {"result_xcresult": "result.xcresult", "build_log": "build.log"}
        base: dict[str, Any] = {**self.head(), "artifact_profile": "rich"}
        index = JobIndex(**{**base, "files": named if files is None else dict(files), **members})
        self.files["job_index.json"] = encode_record(index)

    def seal(self) -> Manifest:
        """Manifest, attestation, index."""
        manifest = self.put_manifest()
        self.put_attestation()
        self.put_index()
        return manifest

    def sealed(self) -> Manifest:
        """The manifest as it lies in the set."""
        return msgspec.json.decode(self.files["manifest.json"], type=Manifest)

    def tar(self) -> bytes:
        """The set as the worker packs it."""
        members = [(Member(path=path, kind="directory"), list[bytes]()) for path in self.folders]
        members += [(Member(path=path, size=len(data)), [data]) for path, data in self.files.items()]
        return b"".join(write_tar(members, canonical=False))


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
