"""`fetch`: the sealed set as one stream of bytes that stays the same (spec sections 3.2, 8).

The set is packed once per job and kept, named by the digest of its bytes, so that an offset
means the same to every caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rch.contract.manifest import UNLISTED
from rch.contract.records import Manifest, decode_record
from rch.contract.tar import Member, write_tar
from rch.contract.worker_rpc import Code, FetchHeader, FetchRequest, RpcError, Stream
from rch.files.durable import is_no_space, make_dirs, sync_file, temp_name
from worker_agent.jobs import Jobs
from worker_agent.status import require_known

_PIECE = 1 << 20
_LEVEL = 3
_SUFFIX = ".tar.zst"


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A header, and where the bytes lie that follow it."""

    header: FetchHeader
    path: Path

    def line(self) -> dict[str, Any]:
        """The members of the header line, those of `stream` all written out."""
        members: dict[str, Any] = msgspec.to_builtins(self.header)
        return {**members, "stream": msgspec.structs.asdict(self.header.stream)}


def fetch(jobs: Jobs, request: FetchRequest, *, request_id: str, protocol_version: int) -> Packed:
    """The set of a job that is at its end, from `offset` on."""
    job_id, offset = request.job_id, request.offset or 0
    known = require_known(jobs, job_id)
    if not known.terminal:
        raise RpcError(Code.INVALID_REQUEST, f"job {job_id} is {known.state.state}, not at its end")
    artifacts = jobs.artifacts(job_id)
    if artifacts is None:
        raise RpcError(Code.ARTIFACTS_GONE, f"the artifacts of job {job_id} are gone")
    try:
        manifest = decode_record((artifacts / "manifest.json").read_bytes(), Manifest)
        path = _packed(artifacts, manifest)
    except OSError as error:
        if is_no_space(error):
            raise RpcError(Code.NO_SPACE, "no space is left to pack the artifacts") from error
        raise RpcError(Code.ARTIFACTS_GONE, f"the artifacts of job {job_id} are incomplete") from error
    length, digest = path.stat().st_size, path.name.removesuffix(_SUFFIX)
    if not 0 <= offset <= length:
        data = {"set_sha256": digest, "set_length": length}
        raise RpcError(Code.INVALID_REQUEST, f"offset {offset} is not within {length} bytes", data)
    header = FetchHeader(
        protocol_version=protocol_version,
        request_id=request_id,
        ok=True,
        job_id=job_id,
        manifest=manifest,
        stream=Stream(content_length=length - offset, content_sha256=_digest_from(path, offset)),
        offset=offset,
        set_sha256=digest,
        set_length=length,
    )
    return Packed(header=header, path=path)


def _packed(artifacts: Path, manifest: Manifest) -> Path:
    """The packed set, made if it is not there yet. Two who make it at once make the same."""
    folder = artifacts.with_name("packed")
    make_dirs(folder)
    if (found := _found(folder)) is not None:
        return found
    temp = temp_name(folder / "set")
    try:
        digest = hashlib.sha256()
        with temp.open("xb") as file:
            for piece in _pieces(artifacts, manifest):
                digest.update(piece)
                file.write(piece)
            file.flush()
            sync_file(file.fileno())
        path = folder / f"{digest.hexdigest()}{_SUFFIX}"
        temp.rename(path)
    finally:
        temp.unlink(missing_ok=True)
    return _found(folder) or path


def _found(folder: Path) -> Path | None:
    """The one packed set; of two (the compressor was renewed between) always the same one."""
    return min((entry for entry in folder.iterdir() if entry.name.endswith(_SUFFIX)), default=None)


def _pieces(artifacts: Path, manifest: Manifest) -> Iterator[bytes]:
    import zstandard

    packer = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    for block in write_tar(_members(artifacts, manifest), canonical=False):
        if piece := packer.compress(block):
            yield piece
    yield packer.flush()


def _members(artifacts: Path, manifest: Manifest) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """What the manifest lists, and the three files that it cannot list."""
    for entry in manifest.entries:
        if entry.type == "directory":
            yield Member(path=entry.path, kind="directory"), iter(())
        else:
            yield Member(path=entry.path, size=entry.size), _content(artifacts / entry.path)
    for name in sorted(UNLISTED):
        path = artifacts / name
        with suppress(FileNotFoundError):
            yield Member(path=name, size=path.stat().st_size), _content(path)


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _digest_from(path: Path, offset: int) -> str:
    if not offset:
        return path.name.removesuffix(_SUFFIX)
    with path.open("rb") as file:
        file.seek(offset)
        return hashlib.file_digest(file, "sha256").hexdigest()
