"""An uploaded source, held against everything that it says of itself (spec sections 3.2, 5)."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from typing import Any, Protocol

from rch.contract.tar import MAX_UNPACKED_BYTES
from rch.contract.tar_names import TarError
from rch.contract.tar_reader import Limits, TarReader
from rch.contract.worker_rpc import Code, RpcError, UploadRequest
from rch.files.unzstd import DecodeError, bounded_reader
from rch_conformance.mock.mac import MAC

_PIECE = 1 << 20
_MOST_ENTRIES = 1_000_000
_MEMORY = 16 << 20


class Readable(Protocol):
    """The body: at most `size` bytes, none only at its end."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""


def take_source(asked: UploadRequest, body: Readable, told: Mapping[str, Any]) -> None:
    """Read the body; `RpcError` unless it is the canonical tar of its `source_sha256`."""
    stream = asked.stream
    if stream.compression not in {"zstd", "none"} or stream.format != "tar" or stream.content_length < 0:
        seen = f"{stream.compression[:40]!r}, {stream.format[:40]!r}, {stream.content_length}"
        raise RpcError(Code.INVALID_REQUEST, f"stream: compression, format, length {seen} are none")
    if asked.base is not None or asked.resume is not None:
        raise RpcError(Code.FEATURE_MISSING, "upload_source: base and resume are not offered here")
    most = int(told.get("limits", {}).get("max_upload_bytes", MAC.limits.max_upload_bytes))
    if 0 < most < asked.stream.content_length:
        message = f"stream.content_length {asked.stream.content_length} is over {most}"
        raise RpcError(Code.PAYLOAD_TOO_LARGE, message, {"max_bytes": most})
    with tempfile.SpooledTemporaryFile(max_size=_MEMORY) as kept:
        digest = hashlib.sha256()
        while piece := body.read(_PIECE):
            digest.update(piece)
            kept.write(piece)
        if digest.hexdigest() != asked.stream.content_sha256:
            raise _refused(f"the body's SHA-256 is {digest.hexdigest()}", "transport_digest")
        kept.seek(0)
        try:
            raw: Readable = kept
            _check(asked, bounded_reader(raw, max_output=MAX_UNPACKED_BYTES) if _is_packed(asked) else raw)
        except DecodeError as error:
            raise _refused(f"the body is no zstd: {error}", "compression") from error


def _is_packed(asked: UploadRequest) -> bool:
    return asked.stream.compression == "zstd"


def _check(asked: UploadRequest, tar: Readable) -> None:
    reader = TarReader(
        limits=Limits(max_entries=_MOST_ENTRIES, max_bytes=MAX_UNPACKED_BYTES), canonical=True
    )
    digest, wrong = hashlib.sha256(), None
    while piece := tar.read(_PIECE):
        digest.update(piece)
        if wrong is None:
            try:
                for _ in reader.feed(piece):
                    pass
            except TarError as error:
                wrong = error
    if digest.hexdigest() != asked.source_sha256:
        message = f"the tar's SHA-256 is {digest.hexdigest()}, source_sha256 is {asked.source_sha256}"
        raise _refused(message, "bundle_digest")
    try:
        if wrong is not None:
            raise wrong
        reader.close()
    except TarError as error:
        raise _refused(f"the source is not a canonical tar: {error}", "not_canonical") from error


def _refused(message: str, reason: str) -> RpcError:
    return RpcError(Code.INVALID_REQUEST, message, {"reason": reason})
