"""Reads an artifact set as it lies on disk: links are never followed, every byte is read once.

The records are kept as they were read and digested from these very bytes, so that nobody can have one
thing verified and another believed (fault A7).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from rch.contract.manifest import UNLISTED
from rch.contract.records import Entry
from rch.contract.set_limits import most_bytes
from rch.contract.sets import READ, Found
from rch.contract.tar_names import MAX_DEPTH
from rch.files.regular import open_regular

_PIECE = 1 << 20

Read = Callable[[int], None]


def read_set(folder: Path, read: Read = lambda _bytes: None) -> Found:
    """All of it, to the last byte; `read` is told of bytes. `OSError` where the folder cannot be read."""
    records = read_records(folder)
    for data in records.values():
        read(len(data))
    return Found(with_records(_entries(folder, read, None), records), records)


def read_outline(folder: Path, listed: Callable[[Mapping[str, bytes]], Mapping[str, Entry]]) -> Found:
    """Names, kinds and sizes, and the three unlisted files; a digest that is not read is the listed one.

    `listed` gives the entries of the manifest that is among these three.
    """
    records = read_records(folder, UNLISTED)
    known = listed(records)
    return Found(with_records(_entries(folder, None, known), records), records)


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
        file = open_regular(path)
    except OSError:
        return None  # told as missing, or as what it is
    with file:
        size = os.fstat(file.fileno()).st_size
        return None if size > most else file.read(size)


def _entries(folder: Path, read: Read | None, listed: Mapping[str, Entry] | None) -> Iterator[Entry]:
    """Everything below `folder`; of folders deeper than a set may be only that they are there."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(folder / prefix) as scan:
            children = sorted(scan, key=lambda each: each.name)
        for child in children:
            path = prefix + os.fsencode(child.name).decode("utf-8", "backslashreplace")
            if child.is_dir(follow_symlinks=False):
                yield Entry(path=path, type="directory", size=0, sha256=None)
                if path.count("/") < MAX_DEPTH:
                    waiting.append(f"{prefix}{child.name}/")
            else:
                yield _entry(child, path, read, listed)


def _entry(
    child: os.DirEntry[str], path: str, read: Read | None, listed: Mapping[str, Entry] | None
) -> Entry:
    if not child.is_file(follow_symlinks=False):
        return Entry(path=path, type="link or device", size=0, sha256=None)
    if read is None:
        known = None if listed is None else listed.get(path)
        digest = None if known is None else known.sha256
        size = child.stat(follow_symlinks=False).st_size
        return Entry(path=path, type="file", size=size, sha256=digest)
    if path in READ:
        return Entry(path=path, type="file", size=0, sha256=None)  # its record says more
    return _read_entry(Path(child.path), path, read)


def _read_entry(path: Path, name: str, read: Read) -> Entry:
    digest, size = hashlib.sha256(), 0
    try:
        with open_regular(path) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
                read(len(piece))
    except OSError:
        return Entry(path=name, type="file", size=size, sha256=None)  # told as another digest
    return Entry(path=name, type="file", size=size, sha256=digest.hexdigest())
