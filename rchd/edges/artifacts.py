"""Fetched sets: staged, verified, and only then published (spec section 8).

Places below a run's folder: `host/<job_id>/fetch.tar.zst` holds the stream (what has come of it
lies beside it, see `fetching`) and `staged/` the unpacked set until it is moved to
`steps/<action>/<job_id>/`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from msgspec import UNSET

from rch.contract.attestation import Trust, Untrusted, check
from rch.contract.canonical import jcs
from rch.contract.errors import Kind, lookup
from rch.contract.ids import is_id
from rch.contract.manifest import UNLISTED, differences, root_sha256
from rch.contract.records import (
    Attestation,
    AttestationVerification,
    Entry,
    Job,
    JobIndex,
    JobStateRecord,
    Manifest,
    Record,
    Summary,
    decode_record,
    encode_record,
    marked,
)
from rch.contract.states import is_terminal
from rch.contract.worker_rpc import FetchHeader
from rch.files.durable import make_dirs, remove_tree, sync_dir, write_atomic
from rch.files.extract import Extracted, ExtractError, Limits, extract
from rch.files.unzstd import bounded_reader
from rchd.edges.fetching import forget

STREAM = "fetch.tar.zst"
EXTRA_ENTRIES = 64  # beyond what is listed, so that a few strangers are named and many are ended
UNLISTED_BYTES = 16 << 20  # room for the three files that no manifest lists
ENTRY_BYTES = 4 << 10  # room for an entry's headers and padding, and its line in manifest.json
NAME_COPIES = 8  # a name stands in its header and, escaped, in manifest.json

# What every set holds (spec section 8); what a profile or an action adds is the worker's to choose.
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

_R = TypeVar("_R", bound=Record)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a job's bytes lie on this machine."""

    step: Path
    host: Path

    @property
    def stream(self) -> Path:
        """The fetched bytes as they came."""
        return self.host / STREAM

    @property
    def staged(self) -> Path:
        """The unpacked set before it is published."""
        return self.host / "staged"

    @property
    def aside(self) -> Path:
        """What stood at the step's place before the set."""
        return self.host / "replaced"

    @property
    def rejected(self) -> Path:
        """A set that failed its digests, kept without standing."""
        return self.step.with_name(f"{self.step.name}.rejected")


def places(artifacts: Path, run_id: str, step_dir: str, job_id: str) -> Places:
    """The places of a job; `step_dir` is relative to the artifacts' root."""
    return Places(step=artifacts / step_dir, host=artifacts / run_id / "host" / job_id)


@dataclass(frozen=True, slots=True)
class Verified:
    """A set whose every byte is what its manifest says."""

    summary: Summary
    state: JobStateRecord


class Mismatch(ValueError):  # noqa: N818  (a finding, not a defect)
    """The set is not what it says. `errors` are lines; `trust` where the attestation is at fault."""

    def __init__(self, errors: list[str], *, trust: bool = False) -> None:
        super().__init__("; ".join(errors[:3]))
        self.errors = tuple(errors)
        self.trust = trust


def prepare(at: Places) -> None:
    """Make room for a fetch: of an earlier one only what a cut line left of the stream stays."""
    make_dirs(at.host, 0o755)
    remove_tree(at.staged)
    at.stream.unlink(missing_ok=True)


def forget_fetches(artifacts: Path, run_id: str) -> None:
    """Remove what a run's cut fetches left: nothing of it is fetched any more."""
    for host in (artifacts / run_id / "host").glob("*"):
        forget(host / STREAM)


def unpack_and_verify(
    at: Places,
    header: FetchHeader,
    job: Job,
    *,
    host_nonce: str,
    max_bytes: int,
    now: str,
    pins: Collection[str] = (),
) -> Verified:
    """Unpack the stream into staging and check it against the job that was asked for.

    `pins` are the keys that may have signed; without any, anybody may. `max_bytes` bounds the
    content of the files. `Mismatch` for whatever does not agree; what was unpacked of the bad set
    then lies at `rejected`. `OSError` for what this machine cannot do.
    """
    try:
        content, output = _bounds(header.manifest, max_bytes)
        with at.stream.open("rb") as raw:
            entries = len(header.manifest.entries) + EXTRA_ENTRIES
            limits = Limits(max_entries=entries, max_bytes=content)
            reader = bounded_reader(raw, max_output=output)
            found = extract(reader, at.staged, limits=limits, canonical=False, durable=True)
        verified = _verify(at.staged, found, header, job)
        trust = _check_attestation(at.staged, job, host_nonce, pins)
    except ExtractError as error:
        _keep_rejected(at)
        raise Mismatch([error.reason]) from error
    except Mismatch:
        _keep_rejected(at)
        raise
    finally:
        at.stream.unlink(missing_ok=True)
    remove_tree(at.rejected)
    _write_verification(at, job, trust, now, simulated=verified.summary.simulated)
    return verified


def _bounds(manifest: Manifest, max_bytes: int) -> tuple[int, int]:
    """How many bytes of content, and of tar, a set with this manifest can have (fault Z1).

    What is announced is the bound, never a ratio: a log of equal lines packs a thousandfold.
    """
    announced = sum(max(0, entry.size) for entry in manifest.entries)
    if announced > max_bytes + UNLISTED_BYTES:
        raise Mismatch([f"manifest.json: announces {announced} bytes, over the {max_bytes} that are taken"])
    around = sum(ENTRY_BYTES + NAME_COPIES * len(entry.path.encode()) for entry in manifest.entries)
    content = announced + around + UNLISTED_BYTES
    return content, content + around + UNLISTED_BYTES


def _keep_rejected(at: Places) -> None:
    if at.staged.exists():
        remove_tree(at.rejected)
        make_dirs(at.rejected.parent, 0o755)
        at.staged.rename(at.rejected)


def _write_verification(at: Places, job: Job, trust: Trust, now: str, *, simulated: bool) -> None:
    record = AttestationVerification(
        created_at=now,
        run_id=job.run_id,
        job_id=job.job_id,
        job_key=job.job_key,
        result=trust.result,
        detail=f"{trust.detail}; facts and digests agree",
        manifest_sha256=_sha256(at.staged / "manifest.json"),
    )
    write_atomic(
        at.host / "attestation_verification.json", encode_record(marked(record, simulated=simulated))
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(staged: Path, name: str, kind: type[_R]) -> _R:
    path = staged / name
    if not path.is_file():
        raise Mismatch([f"{name}: missing"])
    try:
        return decode_record(path.read_bytes(), kind)
    except ValueError as error:
        raise Mismatch([f"{name}: {error}"], trust=kind is Attestation) from error


def _verify(staged: Path, found: list[Extracted], header: FetchHeader, job: Job) -> Verified:
    manifest = _read(staged, "manifest.json", Manifest)
    if manifest != header.manifest:
        raise Mismatch(["manifest.json: differs from the one in the header"])
    entries = [_entry(each) for each in found]
    errors = differences(manifest.entries, entries)
    if _root(manifest) != manifest.artifact_root_sha256:
        errors.append("manifest.json: artifact_root_sha256 is not that of its entries")
    if errors:
        raise Mismatch(errors)
    index = _read(staged, "job_index.json", JobIndex)
    names = {each.path for each in entries}
    errors += [
        f"job_index.json: {path} is not in the set" for path in index.files.values() if path not in names
    ]
    errors += [f"job_index.json: names no {name}" for name in ALWAYS if name not in index.files]
    errors += [f"{name}: missing" for name in UNLISTED - names]
    inputs = staged / "job_key_inputs.json"
    if not inputs.is_file() or inputs.read_bytes() != jcs(job.job_key_inputs):
        errors.append("job_key_inputs.json: not those of the job that was asked for")
    summary = _read(staged, "summary.json", Summary)
    state = _read(staged, "job_state.json", JobStateRecord)
    errors += _strangers(job, manifest, index, summary, state)
    errors += _incoherent(summary, state)
    if _read(staged, "job.json", Job) != job:
        errors.append("job.json: not the job that was asked for")
    if errors:
        raise Mismatch(errors)
    return Verified(summary=summary, state=state)


def _root(manifest: Manifest) -> str | None:
    try:
        return root_sha256(manifest.entries)
    except ValueError:  # a size that no canonical JSON holds
        return None


def _entry(each: Extracted) -> Entry:
    kind = "directory" if each.kind == "directory" else "file"
    return Entry(path=each.path, type=kind, size=each.size, sha256=each.sha256)


def _strangers(job: Job, *records: Manifest | JobIndex | Summary | JobStateRecord) -> list[str]:
    """Records that speak of another run, job or key."""
    wanted = (job.run_id, job.job_id, job.job_key)
    return [
        f"{record.schema_id}: speaks of job {record.job_id} of run {record.run_id}"
        for record in records
        if (record.run_id, record.job_id, record.job_key) != wanted
    ]


_STATE_OF_STATUS = {"success": "SUCCEEDED", "failed": "FAILED", "cancelled": "CANCELLED"}


def _incoherent(summary: Summary, state: JobStateRecord) -> list[str]:
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


def _check_attestation(staged: Path, job: Job, host_nonce: str, pins: Collection[str]) -> Trust:
    said = _read(staged, "attestation.json", Attestation)
    facts = {
        "run_id": (said.run_id, job.run_id),
        "job_id": (said.job_id, job.job_id),
        "job_key": (said.job_key, job.job_key),
        "source_sha256": (said.source_sha256, job.job_key_inputs.source_sha256),
        "manifest_sha256": (said.manifest_sha256, _sha256(staged / "manifest.json")),
        "host_nonce": (said.host_nonce, host_nonce),
    }
    errors = [
        f"attestation.json: {name} {has!r}, not {want!r}"
        for name, (has, want) in facts.items()
        if has != want
    ]
    if errors:
        raise Mismatch(errors, trust=True)
    try:
        return check((staged / "attestation.json").read_bytes(), pins)
    except Untrusted as error:
        raise Mismatch([f"attestation.json: {error}"], trust=True) from error


def publish(at: Places) -> bool:
    """Move the staged set to the step's place; whether a set stands there now.

    Each half can be cut off and is completed by the next call: the host's own folder is moved
    aside first, and only a whole staged set, its commit marker included, is moved in.
    """
    if (at.staged / "job_index.json").is_file():
        if at.step.exists():
            remove_tree(at.aside)
            at.step.rename(at.aside)
        make_dirs(at.step.parent, 0o755)
        at.staged.rename(at.step)
        sync_dir(at.step.parent)
        sync_dir(at.host)
    there = (at.step / "manifest.json").is_file() and (at.step / "job_index.json").is_file()
    if there and at.aside.exists():
        shutil.rmtree(at.aside, ignore_errors=True)
    return there


def write_log(path: Path, offset: int, text: bytes, *, anew: bool = False) -> None:
    """Put a piece of a live log at its place; a repeated piece is the same bytes again.

    `anew`: the worker began the log again, what stood there is of an earlier one.
    """
    make_dirs(path.parent, 0o755)
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if anew else 0)
    fd = os.open(path, flags, 0o644)
    try:
        view = memoryview(text)
        while view:
            written = os.pwrite(fd, view, offset)
            offset += written
            view = view[written:]
    finally:
        os.close(fd)
