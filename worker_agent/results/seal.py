"""Closes an artifact set: every record, then manifest, attestation and index, in that order (section 8).

`job_index.json` is the commit marker: it is written last and atomically, so that a set without
one was never finished. Every file is durable before the manifest is begun, and of the last three each
before the next.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from rch.contract.attestation import named, sign
from rch.contract.canonical import jcs, jcs_sha256
from rch.contract.dsse import enclose
from rch.contract.manifest import UNLISTED, root_sha256, sort_entries
from rch.contract.provenance import Told, statements
from rch.contract.records import (
    Attestation,
    Capabilities,
    Entry,
    Job,
    JobIndex,
    JobStateRecord,
    Manifest,
    Record,
    Summary,
    TestSummary,
    decode_record,
    encode_record,
    marked,
    stable_capabilities,
)
from rch.contract.sets import INDEXED
from rch.contract.signing import public_key_of
from rch.contract.worker_rpc import SubmitRequest
from rch.files.durable import is_temp_name, sync_all, sync_dir, write_atomic, write_whole
from worker_agent.results.given import destination, effective_config, envelope, toolchain

_BLOCK = 1 << 20


def put(folder: Path, name: str, record: Record | bytes, *, simulated: bool = False) -> None:
    """One file of the set, whole; `commit` makes it durable with all others.

    `simulated`: stand-in tools served the job, and the record says so.
    """
    write_whole(folder / name, _bytes_of(record, simulated=simulated))


def _bytes_of(record: Record | bytes, *, simulated: bool = False) -> bytes:
    return record if isinstance(record, bytes) else encode_record(marked(record, simulated=simulated))


def _close_with(folder: Path, name: str, record: Record | bytes, *, simulated: bool = False) -> None:
    """One of the last three, whole and durable."""
    write_atomic(folder / name, _bytes_of(record, simulated=simulated))


def write_given(
    folder: Path,
    submit: SubmitRequest,
    created_at: str,
    device: Mapping[str, Any] | None = None,
    *,
    simulated: bool = False,
) -> None:
    """The records that follow from the submit, whatever came of the job; `device`: of its simulator.

    What the host sent as a record is kept as it came: the host looks for it in the set.
    """
    job = submit.job
    put(folder, "job.json", job)
    put(folder, "job_key_inputs.json", jcs(job.job_key_inputs))
    put(folder, "invocation.json", submit.invocation)
    if submit.classifier_policy is not None:
        put(folder, "classifier_policy.json", submit.classifier_policy)
    put(folder, "effective_config.json", effective_config(job, created_at), simulated=simulated)
    put(folder, "toolchain.json", toolchain(job, created_at), simulated=simulated)
    put(folder, "destination.json", destination(job, created_at, device), simulated=simulated)


def commit(
    folder: Path,
    submit: SubmitRequest,
    *,
    worker_name: str,
    backend: Mapping[str, str],
    capabilities: Capabilities,
    created_at: str,
    seed: bytes | None = None,
) -> None:
    """Manifest, attestation, index. Nothing in `folder` may change from now on.

    `backend` is the tool's name and version. With `seed`, that of the worker's key, the
    attestation is signed.
    """
    job = submit.job
    head = envelope(job, created_at)
    entries = sort_entries(entries_of(folder))
    sync_all([folder / entry.path for entry in entries])
    sync_dir(folder)
    simulated = capabilities.simulated
    listing = Manifest(**head, entries=entries, artifact_root_sha256=root_sha256(entries))
    manifest = _bytes_of(listing, simulated=simulated)
    _close_with(folder, "manifest.json", manifest)
    attestation = Attestation(
        **head,
        source_sha256=job.job_key_inputs.source_sha256,
        worker={"name": worker_name, "fingerprint": None},
        capabilities_sha256=jcs_sha256(stable_capabilities(capabilities)),
        backend=dict(backend),
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
        host_nonce=submit.host_nonce,
        simulated=simulated,
    )
    signed = attestation if seed is None else _signed(folder, attestation, job, entries, seed)
    _close_with(folder, "attestation.json", signed)
    files = {name: path for name, path in INDEXED.items() if (folder / path).exists()}
    index = JobIndex(**head, artifact_profile=job.artifact_profile, files=files)
    _close_with(folder, "job_index.json", index, simulated=simulated)


def _signed(
    folder: Path, attestation: Attestation, job: Job, entries: tuple[Entry, ...], seed: bytes
) -> Attestation:
    """With the statements about the job, made of the files as the manifest lists them."""
    told = Told(
        attestation=named(attestation, public_key_of(seed)),
        job=job,
        summary=decode_record((folder / "summary.json").read_bytes(), Summary),
        state=decode_record((folder / "job_state.json").read_bytes(), JobStateRecord),
        entries=entries,
        tests=_tests(folder / "test_summary.json"),
        junit=_junit(folder / "junit.xml"),
    )
    envelopes = tuple(enclose(statement, seed) for statement in statements(told))
    return sign(msgspec.structs.replace(attestation, dsse=envelopes), seed)


def _tests(path: Path) -> TestSummary | None:
    return decode_record(path.read_bytes(), TestSummary) if path.is_file() else None


def _junit(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def entries_of(folder: Path) -> Iterator[Entry]:
    """Every file and folder below `folder` but the three that are not listed.

    Links, pipes and the like have no place in a set, nor have temporary files of a cut write:
    they are removed.
    """
    for where, folders, files in os.walk(folder):
        here = Path(where)
        for name in [*folders, *files]:
            path = here / name
            mode = path.lstat().st_mode
            listed = path.relative_to(folder).as_posix()
            if stat.S_ISDIR(mode):
                yield Entry(path=listed, type="directory", size=0, sha256=None)
            elif not stat.S_ISREG(mode) or is_temp_name(name):
                path.unlink()
            elif listed not in UNLISTED:
                size, digest = digest_of(path)
                yield Entry(path=listed, type="file", size=size, sha256=digest)


def digest_of(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file's bytes."""
    digest, size = hashlib.sha256(), 0
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        while block := os.read(fd, _BLOCK):
            digest.update(block)
            size += len(block)
    finally:
        os.close(fd)
    return size, digest.hexdigest()
