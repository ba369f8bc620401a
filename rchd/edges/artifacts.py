"""Fetched sets: staged, verified, and only then published (spec section 8).

Places below a run's folder: `host/<job_id>/fetch.tar.zst` holds the stream, whatever its header says
of its compression (what has come of it lies beside it, see `fetching`), and `staged/` the unpacked set
until it is moved to `steps/<action>/<job_id>/`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import UNSET

from rch.contract.attestation import Trust
from rch.contract.attested import Known
from rch.contract.manifest import UNLISTED
from rch.contract.records import (
    AttestationVerification,
    Entry,
    JobStateRecord,
    Manifest,
    Summary,
    encode_record,
    marked,
)
from rch.contract.set_limits import MAX_MANIFEST_BYTES, MAX_SMALL_BYTES
from rch.contract.sets import Examined, Found, digest, examine
from rch.contract.worker_rpc import FetchHeader
from rch.files.durable import make_dirs, remove_tree, sync_dir, write_atomic
from rch.files.extract import Extracted, ExtractError, Limits, extract
from rch.files.sets import read_records, with_records
from rch.files.unzstd import DecodeError, stream_reader
from rchd.edges.fetching import forget

STREAM = "fetch.tar.zst"
EXTRA_ENTRIES = 64  # beyond what is listed, so that a few strangers are named and many are ended
UNLISTED_BYTES = 16 << 20  # room for the three files that no manifest lists
ENTRY_BYTES = 4 << 10  # room for an entry's headers and padding, and its line in manifest.json
MANIFEST_ENTRY_BYTES = 1 << 10  # an entry's line in manifest.json, without its name
NAME_COPIES = 8  # a name stands in its header and, escaped, in manifest.json


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
    """A set whose every byte is what its manifest says; `looked` is all that came of looking at it."""

    summary: Summary
    state: JobStateRecord
    trust: Trust
    looked: Examined


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
    known: Known,
    *,
    max_bytes: int,
    now: str,
) -> Verified:
    """Unpack the stream into staging and check it against the job that was asked for, and all of `known`.

    `max_bytes` bounds the content of the files. `Mismatch` for whatever does not agree; what was
    unpacked of the bad set then lies at `rejected`. `OSError` for what this machine cannot do.
    """
    try:
        content, output = _bounds(header.manifest, max_bytes)
        with at.stream.open("rb") as raw:
            entries = len(header.manifest.entries) + EXTRA_ENTRIES
            limits = Limits(max_entries=entries, max_bytes=content, most_of=_most_of(header.manifest))
            reader = stream_reader(raw, header.stream.compression, max_output=output)
            unpacked = extract(reader, at.staged, limits=limits, canonical=False, durable=True)
        records = read_records(at.staged)
        found = Found(with_records(map(_entry, unpacked), records), records)
        verified = _verified(examine(found, replace(known, manifest=header.manifest)))
    except (DecodeError, ExtractError) as error:
        _keep_rejected(at)
        raise Mismatch([str(error)]) from error
    except Mismatch:
        _keep_rejected(at)
        raise
    finally:
        at.stream.unlink(missing_ok=True)
    remove_tree(at.rejected)
    _write_verification(at, verified, records, now)
    return verified


def _verified(looked: Examined) -> Verified:
    errors, trust = looked.failure()
    if errors or looked.summary is None or looked.state is None or looked.trust is None:
        raise Mismatch(errors, trust=trust)
    return Verified(summary=looked.summary, state=looked.state, trust=looked.trust, looked=looked)


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


def _most_of(manifest: Manifest) -> Callable[[str], int]:
    """How long each file may be: what is announced, and else so little that it may be told in full."""
    room = {entry.path: max(entry.size, MAX_SMALL_BYTES) for entry in manifest.entries}
    around = sum(MANIFEST_ENTRY_BYTES + NAME_COPIES * len(path.encode()) for path in room)
    room |= dict.fromkeys(UNLISTED, MAX_SMALL_BYTES)
    room["manifest.json"] = min(MAX_SMALL_BYTES + around, MAX_MANIFEST_BYTES)
    return lambda name: room.get(name, MAX_SMALL_BYTES)


def _keep_rejected(at: Places) -> None:
    if at.staged.exists():
        remove_tree(at.rejected)
        make_dirs(at.rejected.parent, 0o755)
        at.staged.rename(at.rejected)


def _write_verification(at: Places, verified: Verified, records: Mapping[str, bytes], now: str) -> None:
    """What `rchd check` and `rchctl attest verify` hold the set to from now on."""
    summary, looked, trust = verified.summary, verified.looked, verified.trust
    record = AttestationVerification(
        created_at=now,
        run_id=summary.run_id,
        job_id=summary.job_id,
        job_key=summary.job_key,
        result=trust.result,
        detail="; ".join([trust.detail, "facts and digests agree", *looked.notes]),
        manifest_sha256=digest(records["manifest.json"]),
        attestation_sha256=digest(records["attestation.json"]),
        job_index_sha256=digest(records["job_index.json"]),
        fingerprint=trust.fingerprint or UNSET,
        statements=looked.statements or UNSET,
        notes=tuple(looked.notes) or UNSET,
    )
    write_atomic(
        at.host / "attestation_verification.json",
        encode_record(marked(record, simulated=summary.simulated)),
    )


def _entry(each: Extracted) -> Entry:
    kind = "directory" if each.kind == "directory" else "file"
    return Entry(path=each.path, type=kind, size=each.size, sha256=each.sha256)


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
