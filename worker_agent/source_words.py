"""What the rooms of the source store say to one another and to a host (spec section 5)."""

from __future__ import annotations

import hashlib
from typing import IO, Protocol

import msgspec

from rch.contract.worker_rpc import Code, RpcError, Stream

PIECE = 1 << 20


class Readable(Protocol):
    """The body of an upload: at most `size` bytes, none only at its end."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a stored source holds: its own config, the names in its root, and how much it is."""

    config: bytes | None
    top_level: tuple[str, ...]
    entries: int
    content_bytes: int


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A source that is there: the bytes that it takes, and when it was last asked for (wall clock).

    `base`: the source that holds the rest of it. `whole`: whether that one is there.
    """

    source_sha256: str
    size: int
    used: float
    base: str | None = None
    whole: bool = True


def copy_checked(body: Readable, stream: Stream, raw: IO[bytes] | None) -> None:
    """Write a body down and hold it against its digest, before anything acts on it."""
    digest = hashlib.sha256()
    while piece := body.read(PIECE):
        digest.update(piece)
        if raw is not None:
            raw.write(piece)
    if raw is not None:
        raw.flush()
    if digest.hexdigest() != stream.content_sha256:
        found, announced = digest.hexdigest(), stream.content_sha256
        message = f"the body's SHA-256 is {found}, stream.content_sha256 is {announced}"
        raise refused(message, "transport_digest")


def refused(message: str, reason: str) -> RpcError:
    """An upload that is not what it says; `reason` tells programs which promise it broke."""
    return RpcError(Code.INVALID_REQUEST, message, {"reason": reason})


def missing(source_sha256: str) -> RpcError:
    """A source that is not there: the host uploads it."""
    return RpcError(Code.SOURCE_MISSING, f"source {source_sha256} is not stored")


def base_missing(source_sha256: str) -> RpcError:
    """A base that is not there, or not whole: the host uploads everything."""
    return RpcError(Code.BASE_MISSING, f"base {source_sha256} is not stored")
