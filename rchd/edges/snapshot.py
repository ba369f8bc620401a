"""The source as it stood when a run was accepted, spooled for upload (spec section 5).

Walk, vet, then one pass: each file is read once; its digest, the tar's and zstd's are made on
the way. What is bundled is the tree of one moment, the end of the walk: a file whose stamp
differs after it was read has changed since, and the snapshot begins again, once.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.records import SourceEntry
from rch.contract.tar import END, Member, member_header, member_length, padding
from rch.contract.tar_names import shown
from rch.files.descent import FOLDER_FLAGS, Descent
from rchd.edges.ignore import Rules
from rchd.edges.spool import Spool, Spooled
from rchd.edges.walk import (
    Found,
    SourceChangedError,
    dereference,
    heaviest,
    read_failure,
    refusal,
    stamp_of,
    vet,
    walk,
)

_PIECE = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_TICK_NS = 20_000_000  # twice the coarsest clock that kernels stamp files by
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_MAX = 1024
_NAMED = 3


class SnapshotOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The `[bundle]` keys. `max_bytes` bounds the uncompressed tar (0: no bound; equal passes).

    `keep`: the configured project paths, relative to the root, which `gitignore` never leaves out.
    """

    mode: Literal["worktree", "git_index"] = "worktree"
    symlinks: Literal["preserve", "dereference"] = "preserve"
    gitignore: bool = False
    max_bytes: int = 0
    keep: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a snapshot is: tar bytes so far and in all; `attempt` is 1, or 2 after a change."""

    attempt: int
    files: int
    bytes_done: int
    bytes_total: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A spooled bundle; `entries` are those of `source_manifest.json`, sorted by path."""

    source_sha256: str
    content_sha256: str
    spool_path: Path
    tar_bytes: int
    compressed_bytes: int
    entries: tuple[SourceEntry, ...]
    warnings: tuple[str, ...]


def _nothing(progress: Progress) -> None:
    del progress


def _never() -> bool:
    return False


def take(
    root: Path,
    options: SnapshotOptions,
    spool: Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] = _never,
) -> Snapshot:
    """Bundle the tree at `root` into the folder `spool`. Blocking; meant for a thread.

    `progress` is called at the start of each pass and about once a MiB. `Failure`: BUNDLER with
    its subkind for what cannot be bundled, CONFIG for a setting that does not fit the tree,
    CANCELLED once `cancelled` says so. Nothing stays in the spool after a failure.
    """
    changed = ""
    for attempt in (1, 2):
        try:
            return _Attempt(root, options, spool, progress or _nothing, cancelled, attempt).run()
        except SourceChangedError as error:
            changed = error.path
    raise refusal("SOURCE_CHANGED", f"{shown(changed)} changed while it was read, twice in a row")


class _Attempt:
    """One try at a snapshot; `SourceChangedError` if the tree moves meanwhile."""

    def __init__(
        self,
        root: Path,
        options: SnapshotOptions,
        spool: Path,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
        attempt: int,
    ) -> None:
        self._root = root
        self._options = options
        self._spool = spool
        self._progress = progress
        self._cancelled = cancelled
        self._attempt = attempt
        self._entries: list[SourceEntry] = []
        self._pointers: list[str] = []

    def run(self) -> Snapshot:
        try:
            root = os.open(self._root, FOLDER_FLAGS & ~os.O_NOFOLLOW)
        except OSError as error:
            raise refusal("UNREADABLE", f"{self._root} cannot be read: {error.strerror}") from error
        try:
            found, warnings = self._survey(root)
            tar_bytes = sum(member_length(_member(one)) for one in found) + len(END)
            self._check_size(found, tar_bytes)
            _let_tick_pass(found)
            spooled = self._pack(root, found, tar_bytes)
        finally:
            os.close(root)
        return Snapshot(
            source_sha256=spooled.source_sha256,
            content_sha256=spooled.content_sha256,
            spool_path=spooled.path,
            tar_bytes=tar_bytes,
            compressed_bytes=spooled.compressed_bytes,
            entries=tuple(self._entries),
            warnings=(*warnings, *_pointer_warning(self._pointers)),
        )

    def _survey(self, root: int) -> tuple[list[Found], list[str]]:
        """What goes into the bundle, vetted, and what is to be said about it."""
        options = self._options
        rules = Rules(
            self._root, index=options.mode == "git_index", gitignore=options.gitignore, keep=options.keep
        )
        spool = self._spool.stat() if self._spool.exists() else None
        found = walk(root, rules, self._check_cancelled, skip=spool)
        leads_to = vet(found)
        if options.symlinks == "dereference":
            found = dereference(found, leads_to)
            vet(found)
        return found, rules.warnings

    def _check_size(self, found: list[Found], tar_bytes: int) -> None:
        limit = self._options.max_bytes
        if limit and tar_bytes > limit:
            raise refusal(
                "SIZE_EXCEEDED",
                f"the bundle of {tar_bytes} bytes is over the limit of {limit}; {heaviest(found)}",
            )

    def _pack(self, root: int, found: list[Found], tar_bytes: int) -> Spooled:
        def flushed(done: int) -> None:
            self._check_cancelled()
            self._progress(
                Progress(attempt=self._attempt, files=len(found), bytes_done=done, bytes_total=tar_bytes)
            )

        flushed(0)
        with Spool(self._spool, tar_bytes, flushed) as spool, Descent(root) as descent:
            for one in found:
                self._check_cancelled()
                member = _member(one)
                spool.write(member_header(member))
                digest = None if member.kind == "symlink" else self._copy(one, descent, spool)
                spool.write(padding(member.size))
                self._entries.append(_entry(one, digest))
            spool.write(END)
            return spool.publish()

    def _copy(self, one: Found, descent: Descent, spool: Spool) -> str:
        """Write the file's bytes, exactly as many as the walk saw; their SHA-256."""
        folder, _, name = one.disk.rpartition("/")
        digest = hashlib.sha256()
        try:
            fd = os.open(name, _OPEN, dir_fd=descent.at(folder))
        except OSError as error:
            raise read_failure(one.path, error) from error
        try:
            for data in _read(fd, one):
                digest.update(data)
                spool.write(data)
                if one.size < _LFS_MAX and data.startswith(_LFS_POINTER):
                    self._pointers.append(one.path)
        finally:
            os.close(fd)
        return digest.hexdigest()

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise Failure(Kind.CANCELLED, "cancelled while the source was bundled")


def _read(fd: int, one: Found) -> Iterator[bytes]:
    """The bytes of an open file; `SourceChangedError` unless it is and stays what the walk saw."""
    left = one.size
    try:
        while True:
            wanted = min(_PIECE, left + 1)  # one more than there should be: growth shows
            data = os.read(fd, wanted)
            left -= len(data)
            if left < 0:
                raise SourceChangedError(one.path)
            if data:
                yield data
            if len(data) < wanted:
                break
        if left or stamp_of(os.fstat(fd)) != one.stamp:
            raise SourceChangedError(one.path)
    except OSError as error:
        raise read_failure(one.path, error) from error


def _member(one: Found) -> Member:
    return Member(path=one.path, kind=one.kind, size=one.size, executable=one.executable, target=one.target)


def _entry(one: Found, digest: str | None) -> SourceEntry:
    return SourceEntry(
        path=one.path,
        type=one.kind,
        size=one.size,
        sha256=digest,
        symlink_target=msgspec.UNSET if one.target is None else one.target,
    )


def _let_tick_pass(found: list[Found]) -> None:
    """Wait until a write would give any file a new stamp: one in the same tick would not show."""
    newest = max((one.stamp[-1] for one in found), default=0)
    age = time.time_ns() - newest
    if 0 <= age < _TICK_NS:
        time.sleep((_TICK_NS - age) / 1e9)


def _pointer_warning(paths: list[str]) -> list[str]:
    if not paths:
        return []
    named = ", ".join(paths[:_NAMED]) + (", …" if len(paths) > _NAMED else "")
    return [f"{len(paths)} Git LFS pointers stand in for their files (git lfs pull): {named}"]
