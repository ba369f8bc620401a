"""A job's set made from that of an earlier success: nothing is unpacked and no tool runs (section 11).

What the tools left (log, events, JUnit, result bundle) is carried over byte by byte. Every record that
names its job is written anew, then manifest, attestation and index as for any set. All of it is made
beside its place and put there by one rename, so that a job that dies meanwhile has no half-made set.

Each byte of the origin is held against the manifest that its entry pins. What is linked is looked at
after it was linked, in its new place: these very bytes are sealed.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from rch.contract.ids import parse_timestamp
from rch.contract.records import (
    BuildSummary,
    Entry,
    Evidence,
    ExecutorEnv,
    Job,
    JobStateRecord,
    Manifest,
    Metrics,
    Record,
    Summary,
    TestSummary,
    decode_record,
)
from rch.contract.states import JobState
from rch.contract.worker_rpc import RpcError, SubmitRequest
from rch.files.durable import make_dirs, remove_tree, replace
from worker_agent.clock import now
from worker_agent.life import Life, following
from worker_agent.results import cache, seal
from worker_agent.results.finish import RICH
from worker_agent.results.given import envelope
from worker_agent.results.sources import sources_of
from worker_agent.worker import Worker

_STAGE = "served"
_GIVEN = frozenset(
    {
        "job.json",
        "job_state.json",
        "job_key_inputs.json",
        "invocation.json",
        "classifier_policy.json",
        "effective_config.json",
        "toolchain.json",
        "destination.json",
    }
)
_TOLD: dict[str, type[Record]] = {
    "summary.json": Summary,
    "metrics.json": Metrics,
    "executor_env.json": ExecutorEnv,
    "build_summary.json": BuildSummary,
    "test_summary.json": TestSummary,
}


class Stale(Exception):  # noqa: N818  (it says what is so)
    """The origin is not what its entry says."""


def serve(worker: Worker, request: SubmitRequest, key: str, entry: cache.Entry) -> JobStateRecord | None:
    """Bring a job that was let in and never begun to its end; None if it has to be executed.

    The caller owns the job's lock. Until the set is whole nothing is written of the job, so that
    whoever executes it instead finds it as it came.
    """
    job_id = request.job.job_id
    life = Life(worker.jobs, request)
    # An attempt's scratch folder goes when the attempt is over, whoever comes to its end.
    scratch = worker.jobs.layout(job_id, request.job.run_id, 1).scratch
    try:
        end = _made(worker, life, entry, scratch / _STAGE)
        if end is None:
            cache.drop(worker, key)
            return None
        return end if _take(worker, life, scratch / _STAGE, end) else None
    except (OSError, RpcError):  # no space or no key, say: an execution will tell
        return None
    finally:
        with suppress(OSError):
            remove_tree(scratch)


def _made(worker: Worker, life: Life, entry: cache.Entry, stage: Path) -> JobStateRecord | None:
    """The terminal state of the set that lies in `stage` now; None: the entry does not hold."""
    try:
        return _Serving(worker, life, entry, stage).seal()
    except (Stale, FileNotFoundError, ValueError):
        return None


def _take(worker: Worker, life: Life, stage: Path, end: JobStateRecord) -> bool:
    """Begin the job and end it with the set that lies ready; False if it is cancelled meanwhile."""
    job = life.request.job
    life.begin()
    if life.over is not None:
        return False
    artifacts = worker.jobs.layout(job.job_id, job.run_id, life.attempt).artifacts
    make_dirs(artifacts.parent)
    replace(stage, artifacts)
    worker.leases.drop(job.job_id)
    life.end_with(end)
    return True


class _Serving:
    """One set on its way from its origin to `stage`."""

    def __init__(self, worker: Worker, life: Life, entry: cache.Entry, stage: Path) -> None:
        origin = worker.jobs.artifacts(entry.job_id)
        if origin is None:
            raise Stale(f"job {entry.job_id} has no set")
        self._worker = worker
        self._life = life
        self._entry = entry
        self._origin = origin
        self._stage = stage
        self._began = time.monotonic()
        self._records: dict[str, bytes] = {}

    def seal(self) -> JobStateRecord:
        """The whole set in `stage`, its commit marker too."""
        request = self._life.request
        remove_tree(self._stage)
        make_dirs(self._stage)
        carried = self._carry(self._manifest())
        capabilities = self._worker.capabilities()
        if capabilities.simulated:
            raise Stale("this worker simulates")
        at, layout = now(), self._worker.jobs.layout(request.job.job_id, request.job.run_id, 1)
        sources = sources_of(request.job, layout, {})
        seal.write_given(self._stage, request, at)
        self._write_told(at)
        state = following(self._life.first, JobState.SUCCEEDED)
        seal.put(self._stage, "job_state.json", state)
        seal.commit(
            self._stage,
            request,
            worker_name=self._worker.config.name or os.uname().nodename,
            backend={"name": sources.name, "version": sources.version},
            capabilities=capabilities,
            created_at=now(),
            seed=bytes.fromhex(self._worker.key.seed),
        )
        self._check(carried)
        return state

    def _manifest(self) -> Manifest:
        data = (self._origin / "manifest.json").read_bytes()
        if hashlib.sha256(data).hexdigest() != self._entry.manifest_sha256:
            raise Stale("manifest.json is another one")
        return decode_record(data, Manifest)

    def _carry(self, manifest: Manifest) -> dict[str, Entry]:
        """Folders and linked files, by path. Records are read instead; what is not asked for is checked."""
        rich = self._life.request.job.artifact_profile == "rich"
        carried: dict[str, Entry] = {}
        for entry in manifest.entries:
            path = self._origin / entry.path
            if entry.type == "directory":
                (self._stage / entry.path).mkdir()
            elif entry.path in _TOLD and (rich or entry.path not in RICH):
                self._records[entry.path] = _checked(path.read_bytes(), entry)
            elif entry.path in _GIVEN or (entry.path in RICH and not rich):
                _checked(path.read_bytes(), entry)
                continue
            else:
                _link(path, self._stage / entry.path)
            if entry.path not in _TOLD:
                carried[entry.path] = entry
        return carried

    def _check(self, carried: dict[str, Entry]) -> None:
        """What was sealed is what the origin's manifest lists."""
        sealed = decode_record((self._stage / "manifest.json").read_bytes(), Manifest)
        made = _GIVEN | _TOLD.keys()
        found = {entry.path: entry for entry in sealed.entries if entry.path not in made}
        if found != carried:
            names = sorted(path for path in found | carried if found.get(path) != carried.get(path))
            raise Stale(f"{', '.join(names[:3])} are not as they were sealed")

    # --- records ----------------------------------------------------------------------

    def _write_told(self, at: str) -> None:
        job = self._life.request.job
        for name, data in self._records.items():
            record = msgspec.structs.replace(decode_record(data, _TOLD[name]), **envelope(job, at))
            if isinstance(record, Metrics):
                record = self._metrics(record)
            if isinstance(record, Summary):
                record = self._summary(record, job, at)
            seal.put(self._stage, name, record)

    def _metrics(self, told: Metrics) -> Metrics:
        return msgspec.structs.replace(
            told,
            stages_ms={"serve": self._milliseconds()},
            counts={**told.counts, "served_from_cache": 1},
            host_timings=self._life.request.host_timings,
        )

    def _summary(self, told: Summary, job: Job, at: str) -> Summary:
        if told.status != "success" or told.simulated or told.verdict is msgspec.UNSET:
            raise Stale(f"job {self._entry.job_id} is no success of real tools")
        origin, executed_at = self._entry.job_id, self._entry.executed_at
        fact = f"served from the cache: executed as job {origin}, which ended at {executed_at}"
        evidence = (Evidence(source="result cache", fact=fact), *told.verdict.evidence)
        text = f"served from the cache of job {origin}, executed {ago(executed_at, at)}"
        return msgspec.structs.replace(
            told,
            attempts=1,
            artifact_profile=job.artifact_profile,
            cached_from_job_id=origin,
            duration_ms=self._milliseconds(),
            human_summary=f"{told.human_summary} ({text})",
            verdict=msgspec.structs.replace(told.verdict, evidence=evidence),
        )

    def _milliseconds(self) -> int:
        return int((time.monotonic() - self._began) * 1000)


def _checked(data: bytes, entry: Entry) -> bytes:
    if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise Stale(f"{entry.path} is not as it was sealed")
    return data


def _link(path: Path, to: Path) -> None:
    """The same file under another name, a copy where the disk has no such names."""
    try:
        os.link(path, to, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        to.write_bytes(path.read_bytes())


def ago(then: str, at: str) -> str:
    """`12 min ago`; the time itself where the clock has gone back since."""
    seconds = parse_timestamp(at) - parse_timestamp(then)
    if seconds < 0:
        return f"at {then}"
    for unit, size, limit in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if seconds < size * limit:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds // 86400)} days ago"
