"""What is known of a slot's tree after a sync: one file beside it (spec section 11).

One that was cut or bent is none.
"""

from __future__ import annotations

import msgspec

from worker_agent.source_index import sealed, unsealed


class Stamped(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file or link as it stood after a sync: what it held, and its stamp (times in nanoseconds)."""

    sha256: str | None
    executable: bool
    target: str | None
    dev: int
    ino: int
    size: int
    mtime: int
    ctime: int


class Record(msgspec.Struct, frozen=True, array_like=True):
    """All of a tree: folder -> name -> file. `made`: the wall clock after the last stamp was taken."""

    made: int
    folders: dict[str, dict[str, Stamped]]


_DECODER = msgspec.msgpack.Decoder(Record)
NOTHING = Record(made=0, folders={})
"""The record of a tree of which nothing is known."""


def encode_record(record: Record) -> bytes:
    """The bytes of a record's file."""
    return sealed(msgspec.msgpack.encode(record))


def decode_record(data: bytes) -> Record:
    """What such bytes say; `msgspec.DecodeError` for anything else."""
    return _DECODER.decode(unsealed(data))


def contents_of(record: Record) -> dict[str, tuple[str | None, str | None]]:
    """Each path's digest, or a link's target."""
    return {
        f"{folder}/{name}" if folder else name: (file.sha256, file.target)
        for folder, files in record.folders.items()
        for name, file in files.items()
    }
