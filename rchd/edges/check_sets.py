"""A published set against its own manifest, on the disk as it is now (spec section 8; fault A1)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from rch.contract.manifest import UNLISTED, differences, root_sha256
from rch.contract.records import (
    Attestation,
    AttestationVerification,
    Entry,
    JobIndex,
    JobRecord,
    Manifest,
    decode_record,
)

_PIECE = 1 << 20
_R = TypeVar("_R", bound=JobRecord)

Read = Callable[[int], None]


def examine_set(step: Path, host: Path, *, read_data: bool, read: Read = lambda _bytes: None) -> list[str]:
    """What is wrong with the set at `step`, a line each; `host` is the job's folder of the host.

    Names, kinds and sizes, the manifest's own digest and what the attestation says of it are
    always compared; `read_data` reads every file and compares its digest. `read` is told of bytes.
    """
    errors: list[str] = []
    manifest = _record(step / "manifest.json", Manifest, errors)
    index = _record(step / "job_index.json", JobIndex, errors)
    attestation = _record(step / "attestation.json", Attestation, errors)
    if manifest is None:
        return errors
    listed = {entry.path: entry for entry in manifest.entries}
    found = list(_entries(step, "", listed, read if read_data else None))
    errors += differences(manifest.entries, found)
    if _root(manifest) != manifest.artifact_root_sha256:
        errors.append("manifest.json: artifact_root_sha256 is not that of its entries")
    names = {entry.path for entry in found}
    if index is not None:
        errors += [
            f"job_index.json: {path} is not in the set"
            for path in sorted(index.files.values())
            if path not in names
        ]
    errors += _of_the_manifest(step, host, attestation)
    for record in (manifest, index, attestation):
        if record is not None and record.job_id != step.name:
            errors.append(f"{record.schema_id}: speaks of job {record.job_id}")
    return errors


def _record(path: Path, kind: type[_R], errors: list[str]) -> _R | None:
    try:
        return decode_record(path.read_bytes(), kind)
    except FileNotFoundError:
        errors.append(f"{path.name}: missing")
    except OSError as error:
        errors.append(f"{path.name}: {error.strerror or error}")
    except ValueError as error:
        errors.append(f"{path.name}: {error}")
    return None


def _root(manifest: Manifest) -> str | None:
    try:
        return root_sha256(manifest.entries)
    except ValueError:  # a size that no canonical JSON holds
        return None


def _of_the_manifest(step: Path, host: Path, attestation: Attestation | None) -> Iterator[str]:
    """Who has taken down the manifest's digest: the worker for all, the host when it was fetched."""
    digest = hashlib.sha256((step / "manifest.json").read_bytes()).hexdigest()
    if attestation is not None and attestation.manifest_sha256 != digest:
        yield "manifest.json: is not the one that attestation.json speaks of"
    errors: list[str] = []
    noted = _record(host / "attestation_verification.json", AttestationVerification, errors)
    if noted is not None and noted.manifest_sha256 != digest:
        yield "manifest.json: is not the one that was verified when it was fetched"
    yield from errors


def _entries(folder: Path, prefix: str, listed: dict[str, Entry], read: Read | None) -> Iterator[Entry]:
    """What lies below `folder`, links never followed; a digest that is not read is the listed one."""
    with os.scandir(folder) as scan:
        children = sorted(scan, key=lambda each: each.name)
    for child in children:
        path = prefix + os.fsencode(child.name).decode("utf-8", "backslashreplace")
        if child.is_dir(follow_symlinks=False):
            yield Entry(path=path, type="directory", size=0, sha256=None)
            yield from _entries(folder / child.name, path + "/", listed, read)
        elif not child.is_file(follow_symlinks=False):
            yield Entry(path=path, type="link or device", size=0, sha256=None)
        else:
            known = listed.get(path)
            digest = None if known is None else known.sha256
            if read is not None and path not in UNLISTED:
                digest = _sha256(folder / child.name, read)
            size = child.stat(follow_symlinks=False).st_size
            yield Entry(path=path, type="file", size=size, sha256=digest)


def _sha256(path: Path, read: Read) -> str | None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                read(len(piece))
    except OSError:
        return None  # told as a digest that is not the listed one
    return digest.hexdigest()
