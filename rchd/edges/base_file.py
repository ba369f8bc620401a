"""What is known of a tree, beside its bundle in the spool, so that it outlives the daemon.

    spool/<key>-<source_sha256>-<content_sha256>.known

It is a cache of looks at a tree and proves itself by its digest: one that a power cut tore is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path

import msgspec

from rch.contract.records import SourceEntry
from rch.files.durable import write_whole
from rchd.edges.spool import Spooled
from rchd.edges.walk import Stamp

SUFFIX = ".known"
BUNDLE = ".tar.zst"
_DIGEST_BYTES = 32


class Saved(msgspec.Struct, frozen=True, array_like=True):
    """The parts of a base that cannot be read off its bundle."""

    key: str
    tar_bytes: int
    compressed_bytes: int
    entries: list[SourceEntry]
    stamps: list[Stamp]
    executable: list[str]
    folders: dict[str, int]
    pointers: list[str]
    offsets: list[int]


def key_text(key: Hashable) -> str:
    """What tells one tree from another, the same in every life of the daemon."""
    return repr(key)


def name_of(key: Hashable, spooled: Spooled) -> str:
    """The file's name: it tells of the key, and of the bundle without being read."""
    return f"{_short(key)}-{spooled.path.name.removesuffix(BUNDLE)}{SUFFIX}"


def bundle_of(name: str) -> str:
    """The bundle in the spool that a file of that name speaks of."""
    return name.partition("-")[2].removesuffix(SUFFIX) + BUNDLE


def save(spool: Path, key: Hashable, saved: Saved, spooled: Spooled) -> None:
    """Write it in the place of what was known of the tree before; a full disk is no harm."""
    data = msgspec.msgpack.encode(saved)
    path = spool / name_of(key, spooled)
    with suppress(OSError):
        write_whole(path, hashlib.sha256(data).digest() + data, mode=0o600)
        for other in spool.glob(f"{_short(key)}-*{SUFFIX}"):
            if other != path:
                other.unlink(missing_ok=True)


def load(spool: Path, key: Hashable) -> tuple[Saved, Spooled] | None:
    """What was known of a tree whose bundle is still there; what cannot be believed is removed."""
    for path in spool.glob(f"{_short(key)}-*{SUFFIX}"):
        with suppress(OSError, msgspec.DecodeError):
            bundle = spool / bundle_of(path.name)
            data = path.read_bytes()
            digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
            if hashlib.sha256(body).digest() == digest:
                saved = msgspec.msgpack.decode(body, type=Saved)
                if saved.key == key_text(key) and bundle.stat().st_size == saved.compressed_bytes:
                    source, content = bundle.name.removesuffix(BUNDLE).split("-")
                    return saved, Spooled(
                        path=bundle,
                        source_sha256=source,
                        content_sha256=content,
                        compressed_bytes=saved.compressed_bytes,
                    )
        path.unlink(missing_ok=True)
    return None


def bundles(spool: Path, newest: int) -> frozenset[str]:
    """The bundles of the trees that were known last; files of others are removed."""
    found = []
    for path in spool.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):
            found.append((path.stat().st_mtime, path))
    found.sort(reverse=True)
    for _, path in found[newest:]:
        path.unlink(missing_ok=True)
    return frozenset(bundle_of(path.name) for _, path in found[:newest])


def _short(key: Hashable) -> str:
    return hashlib.sha256(key_text(key).encode()).hexdigest()[:16]
