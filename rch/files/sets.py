"""Reads an artifact set as it lies on disk: links are never followed, every byte is read once.

The records are kept as they were read and digested from these very bytes, so that nobody can have one
thing verified and another believed (fault A7).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from rch.contract.manifest import UNLISTED
from rch.contract.records import Entry
from rch.contract.sets import READ, Found, most_bytes

_PIECE = 1 << 20

Read = Callable[[int], None]


def read_set(folder: Path, read: Read = lambda _bytes: None) -> Found:
    """All of it, to the last byte; `read` is told of bytes. `OSError` where the folder cannot be read."""
    records = read_records(folder)
    for data in records.values():
        read(len(data))
    return Found(with_records(_entries(folder, "", read, None), records), records)


def read_outline(folder: Path, listed: Callable[[Mapping[str, bytes]], Mapping[str, Entry]]) -> Found:
    """Names, kinds and sizes, and the three unlisted files; a digest that is not read is the listed one.

    `listed` gives the entries of the manifest that is among these three.
    """
    records = read_records(folder, UNLISTED)
    known = listed(records)
    return Found(with_records(_entries(folder, "", None, known), records), records)


def read_records(folder: Path, names: Iterable[str] = READ) -> dict[str, bytes]:
    """The bytes of those that are regular files of a size that a record has."""
    found = {}
    for name in sorted(names):
        data = _bytes_of(folder / name, most_bytes(name))
        if data is not None:
            found[name] = data
    return found


def with_records(entries: Iterable[Entry], records: Mapping[str, bytes]) -> tuple[Entry, ...]:
    """The entries, those of records with size and digest of the bytes that were read."""
    return tuple(
        Entry(path=each.path, type="file", size=len(data), sha256=hashlib.sha256(data).hexdigest())
        if each.type == "file" and (data := records.get(each.path)) is not None
        else each
        for each in entries
    )


def _bytes_of(path: Path, most: int) -> bytes | None:
    try:
        # A pipe must not hold anybody up.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None  # told as missing, or as what it is
    try:
        told = os.fstat(fd)
        if not stat.S_ISREG(told.st_mode) or told.st_size > most:
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read(told.st_size)
    finally:
        os.close(fd)


def _entries(
    folder: Path, prefix: str, read: Read | None, listed: Mapping[str, Entry] | None
) -> Iterator[Entry]:
    with os.scandir(folder) as scan:
        children = sorted(scan, key=lambda each: each.name)
    for child in children:
        path = prefix + os.fsencode(child.name).decode("utf-8", "backslashreplace")
        if child.is_dir(follow_symlinks=False):
            yield Entry(path=path, type="directory", size=0, sha256=None)
            yield from _entries(folder / child.name, path + "/", read, listed)
        elif not child.is_file(follow_symlinks=False):
            yield Entry(path=path, type="link or device", size=0, sha256=None)
        elif read is None:
            known = None if listed is None else listed.get(path)
            digest = None if known is None else known.sha256
            yield Entry(
                path=path, type="file", size=child.stat(follow_symlinks=False).st_size, sha256=digest
            )
        elif path in READ:
            yield Entry(path=path, type="file", size=0, sha256=None)  # its record says more
        else:
            yield _read_entry(folder / child.name, path, read)


def _read_entry(path: Path, name: str, read: Read) -> Entry:
    digest, size = hashlib.sha256(), 0
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
                read(len(piece))
    except OSError:
        return Entry(path=name, type="file", size=size, sha256=None)  # told as another digest
    return Entry(path=name, type="file", size=size, sha256=digest.hexdigest())
