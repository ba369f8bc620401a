"""Whether an artifact set is what it says: the one examination of it (spec sections 8, 10).

Whoever reads a set hands over what lies there (`Found`) and what is known from elsewhere (`Known`): the
host when it fetches, `rchd check` later, `rchctl attest verify` without a daemon.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec import UNSET

from rch.contract.attestation import Trust
from rch.contract.attested import Known, attested
from rch.contract.canonical import jcs, jcs_sha256
from rch.contract.errors import Kind, lookup
from rch.contract.framing import count_values
from rch.contract.ids import is_id
from rch.contract.manifest import UNLISTED, differences, one_short_line, root_sha256, shortly
from rch.contract.provenance import Told
from rch.contract.records import (
    Attestation,
    Entry,
    Job,
    JobIndex,
    JobStateRecord,
    Manifest,
    Record,
    Summary,
    TestSummary,
    decode_record,
    schema_id_of,
)
from rch.contract.set_limits import MAX_VALUES
from rch.contract.states import is_terminal

INDEXED = {
    "job": "job.json",
    "job_state": "job_state.json",
    "job_key_inputs": "job_key_inputs.json",
    "invocation": "invocation.json",
    "classifier_policy": "classifier_policy.json",
    "effective_config": "effective_config.json",
    "toolchain": "toolchain.json",
    "destination": "destination.json",
    "summary": "summary.json",
    "metrics": "metrics.json",
    "executor_env": "executor_env.json",
    "manifest": "manifest.json",
    "attestation": "attestation.json",
    "build_log": "build.log",
    "result_xcresult": "result.xcresult",
    "events": "events.jsonl",
    "build_summary": "build_summary.json",
    "test_summary": "test_summary.json",
    "junit": "junit.xml",
}
"""Names in `job_index.json` and where their files lie in the set."""

# What every set holds; what a profile or an action adds is the worker's to choose.
ALWAYS = (
    "job",
    "job_state",
    "job_key_inputs",
    "invocation",
    "effective_config",
    "toolchain",
    "destination",
    "summary",
    "metrics",
    "executor_env",
    "manifest",
    "attestation",
    "build_log",
)
READ = UNLISTED | {
    "job.json",
    "job_key_inputs.json",
    "job_state.json",
    "summary.json",
    "test_summary.json",
    "junit.xml",
}
"""The files whose bytes an examination wants."""

_STATE_OF_STATUS = {"success": "SUCCEEDED", "failed": "FAILED", "cancelled": "CANCELLED"}
_R = TypeVar("_R", bound=Record)


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a set's folder: everything with its digest, and the bytes of `READ`.

    The digests of those are of these very bytes.
    """

    entries: tuple[Entry, ...]
    records: Mapping[str, bytes]


@dataclass(slots=True)
class Examined:
    """What came of it. `errors`: the set is not what it lists; `distrust`: its attestation is at fault.

    A set without either is good; then `trust` tells what its signature is worth, `statements` which
    types its envelopes hold, and `notes` what is worth knowing.
    """

    errors: list[str] = field(default_factory=list)
    distrust: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trust: Trust | None = None
    statements: tuple[str, ...] = ()
    job: Job | None = None
    summary: Summary | None = None
    state: JobStateRecord | None = None

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.errors and not self.distrust

    def failure(self) -> tuple[list[str], bool]:
        """The lines to tell, and whether they are about the attestation alone."""
        return (self.errors, False) if self.errors else (self.distrust, True)


def outline(found: Found, known: Known) -> Examined:
    """Names, kinds, sizes, digests, and what is on record of the three files that no manifest lists."""
    return _short(_Examination(found, known).outline())


def examine(found: Found, known: Known) -> Examined:
    """All of it: the outline, what the records say, the attestation, its signature and envelopes."""
    return _short(_Examination(found, known).whole())


def _short(looked: Examined) -> Examined:
    """What a set says is in many lines, and is to be a short one in each."""
    for lines in (looked.errors, looked.distrust, looked.notes):
        lines[:] = map(one_short_line, lines)
    return looked


def digest(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


class _Examination:
    """One set being looked at."""

    def __init__(self, found: Found, known: Known) -> None:
        self._found, self._known = found, known
        self._names = {entry.path: entry for entry in found.entries}
        self._out = Examined()
        self._manifest: Manifest | None = None
        self._index: JobIndex | None = None
        self._attestation: Attestation | None = None

    def outline(self) -> Examined:
        """As the function."""
        out, known = self._out, self._known
        self._manifest = self._read("manifest.json", Manifest, out.errors)
        if self._manifest is None:
            return out
        if known.manifest is not None and self._manifest != known.manifest:
            out.errors.append("manifest.json: differs from the one in the header")
            self._manifest = None  # whatever else it says is of no interest
            return out
        out.errors += differences(self._manifest.entries, self._found.entries)
        if _root(self._manifest) != self._manifest.artifact_root_sha256:
            out.errors.append("manifest.json: artifact_root_sha256 is not that of its entries")
        self._index = self._read("job_index.json", JobIndex, out.errors)
        if self._index is not None:
            out.errors += shortly(_index_faults(self._index, self._names.keys()))
        said = self._attestation = self._read("attestation.json", Attestation, out.distrust)
        manifest_sha256 = digest(self._found.records["manifest.json"])
        if said is not None and said.manifest_sha256 != manifest_sha256:
            out.distrust.append(
                f"attestation.json: manifest_sha256 {said.manifest_sha256!r}, not {manifest_sha256!r}"
            )
        self._noted()
        if known.job_id is not None:
            for record, errors in (
                (self._manifest, out.errors),
                (self._index, out.errors),
                (said, out.distrust),
            ):
                if record is not None and record.job_id != known.job_id:
                    errors.append(f"{record.schema_id}: speaks of job {record.job_id}")
        return out

    def whole(self) -> Examined:
        """As the function."""
        out = self.outline()
        if self._manifest is None:
            return out
        # What is known to be bad is not worth the attestation's signature and statements.
        sound = not out.errors
        job = self._job()
        out.summary = self._read("summary.json", Summary, out.errors)
        out.state = self._read("job_state.json", JobStateRecord, out.errors)
        tests = None
        if "test_summary.json" in self._names:
            tests = self._read("test_summary.json", TestSummary, out.errors)
        records = [self._manifest, self._index, out.summary, out.state, tests]
        if job is not None:
            out.errors += _strangers(job, [each for each in records if each is not None])
            out.errors += self._marks()
            out.errors += self._profiles(job)
        if out.summary is not None and out.state is not None:
            out.errors += incoherent(out.summary, out.state)
        if job is not None and sound:
            self._attested(job, tests)
        return out

    def _read(self, name: str, kind: type[_R], errors: list[str]) -> _R | None:
        data = self._found.records.get(name)
        if data is None:
            there = name in self._names
            self._out.errors.append(f"{name}: {'is no file that can be read' if there else 'missing'}")
            return None
        if kind is Attestation and count_values(data, MAX_VALUES) > MAX_VALUES:
            errors.append(f"{name}: has more than {MAX_VALUES} values")
            return None
        try:
            return decode_record(data, kind)
        except ValueError as error:
            errors.append(f"{name}: {error}")
            return None

    def _noted(self) -> None:
        """What the host wrote down when it had verified the set."""
        noted = self._known.noted
        if noted is None:
            return
        pairs = (
            ("manifest.json", noted.manifest_sha256, self._out.errors),
            ("job_index.json", noted.job_index_sha256, self._out.errors),
            ("attestation.json", noted.attestation_sha256, self._out.distrust),
        )
        for name, wanted, errors in pairs:
            data = self._found.records.get(name)
            if data is not None and isinstance(wanted, str) and digest(data) != wanted:
                errors.append(f"{name}: is not the one that was verified when it was fetched")

    def _job(self) -> Job | None:
        """The job that was asked for, which the set must hold as it was sent."""
        out, known = self._out, self._known
        told = self._read("job.json", Job, out.errors)
        inputs = self._found.records.get("job_key_inputs.json")
        job = out.job = known.job or told
        if job is None:
            return None
        if inputs is None or inputs != jcs(job.job_key_inputs):
            out.errors.append("job_key_inputs.json: not those of the job that was asked for")
        if told is not None and told != job:
            out.errors.append("job.json: not the job that was asked for")
        if known.job is None:
            out.errors += [f"job.json: {what}" for what in _job_faults(job, known)]
        return job

    def _marks(self) -> list[str]:
        """Who of the records calls the job simulated has to agree with the summary."""
        summary = self._out.summary
        if summary is None:
            return []
        said = summary.simulated
        return [
            f"{record.schema_id}: simulated is not {said}, as the summary says"
            for record in (self._manifest, self._index)
            if record is not None and (record.simulated is True) is not said
        ]

    def _profiles(self, job: Job) -> list[str]:
        """What calls itself of another profile than the one that was asked for."""
        wanted = job.artifact_profile
        return [
            f"{record.schema_id}: artifact_profile {record.artifact_profile!r}, not {wanted!r}"
            for record in (self._index, self._out.summary)
            if record is not None and record.artifact_profile != wanted
        ]

    def _attested(self, job: Job, tests: TestSummary | None) -> None:
        out, records = self._out, self._found.records
        manifest, said = self._manifest, self._attestation
        if manifest is None or said is None or out.summary is None or out.state is None:
            return  # what is missing is told already
        told = Told(
            attestation=said,
            job=job,
            summary=out.summary,
            state=out.state,
            entries=manifest.entries,
            tests=tests,
            junit=records.get("junit.xml"),
        )
        verdict = attested(told, records["attestation.json"], self._known)
        out.distrust += shortly(verdict.errors)
        out.notes += verdict.notes
        out.trust, out.statements = verdict.trust, verdict.statements


def _root(manifest: Manifest) -> str | None:
    try:
        return root_sha256(manifest.entries)
    except ValueError:  # a size that no canonical JSON holds
        return None


def _index_faults(index: JobIndex, names: Collection[str]) -> list[str]:
    """Pointers that lead nowhere or elsewhere, and files of the contract that have none."""
    errors = [
        f"job_index.json: {path} is not in the set" for path in index.files.values() if path not in names
    ]
    errors += [
        f"job_index.json: {name} is {path}, not {INDEXED[name]}"
        for name, path in index.files.items()
        if INDEXED.get(name, path) != path
    ]
    wanted = {*ALWAYS, *(name for name, path in INDEXED.items() if path in names)}
    return errors + [
        f"job_index.json: names no {name}" for name in INDEXED if name in wanted - index.files.keys()
    ]


def _job_faults(job: Job, known: Known) -> list[str]:
    """Where the set's own job is none, or is not what the host's records say was asked for."""
    errors = []
    if job.job_key != jcs_sha256(job.job_key_inputs):
        errors.append("job_key is not that of its inputs")
    if not (is_id(job.run_id) and is_id(job.job_id)):
        errors.append("run_id or job_id is no id")  # either may become a file's name
    told = {
        "run_id": job.run_id,
        "job_id": job.job_id,
        "action": job.action,
        "source_sha256": job.job_key_inputs.source_sha256,
        "artifact_profile": job.artifact_profile,
    }
    return errors + [
        f"{name} {told[name]!r}, not {wanted!r}"
        for name, wanted in known.asked.items()
        if told[name] != wanted
    ]


def _strangers(
    job: Job, records: Iterable[Manifest | JobIndex | Summary | JobStateRecord | TestSummary]
) -> list[str]:
    """Records that speak of another run, job or key."""
    wanted = (job.run_id, job.job_id, job.job_key)
    return [
        f"{schema_id_of(type(record))}: speaks of job {record.job_id} of run {record.run_id}"
        for record in records
        if (record.run_id, record.job_id, record.job_key) != wanted
    ]


def incoherent(summary: Summary, state: JobStateRecord) -> list[str]:
    """Where the summary contradicts itself, the state or the registry: no green is read into that."""
    if not is_terminal(state.state):
        return [f"job_state.json: state {state.state} is no end"]
    errors: list[str] = []
    if _STATE_OF_STATUS.get(summary.status) != state.state:
        errors.append(f"summary.json: status {summary.status!r} does not go with state {state.state!r}")
    origin = summary.cached_from_job_id
    if origin is not UNSET and (not is_id(origin) or origin == summary.job_id):
        errors.append(f"summary.json: cached_from_job_id {origin[:80]!r} names no other job")
    if summary.status == "success":
        if summary.exit_code != 0 or summary.failure_kind is not None:
            errors.append(f"summary.json: a success with exit code {summary.exit_code}")
        return errors
    try:
        kind = Kind(summary.failure_kind or "")
    except ValueError:
        return [*errors, f"summary.json: failure_kind {summary.failure_kind!r} is not known"]
    subkind = summary.failure_subkind if isinstance(summary.failure_subkind, str) else None
    if (code := lookup(kind, subkind).exit_code) != summary.exit_code:
        errors.append(f"summary.json: exit code {summary.exit_code} is not that of {kind}, {code}")
    return errors
