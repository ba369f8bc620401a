"""The source as it stood when a run was accepted, spooled for upload (spec section 5).

Walk, vet, then one pass: each file is read once; its digest, the tar's and zstd's are made on
the way. What is bundled is the tree of one moment, the end of the walk: a file whose stamp
differs after it was read has changed since, and the snapshot begins again, once.

A tree that is known from before is walked all the same, but only what bears another stamp is read
(`rchd.edges.thin`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.records import SourceEntry
from rch.contract.tar import END, MAX_UNPACKED_BYTES, member_length
from rch.contract.tar_names import shown
from rch.files.descent import FOLDER_FLAGS
from rchd.edges.bases import Base, Known, Memory
from rchd.edges.bundles import Snapshot, Survey, entry_of, let_tick_pass, pointer_warning
from rchd.edges.ignore import Rules
from rchd.edges.packing import Packer, member_of
from rchd.edges.spool import Spool, Spooled
from rchd.edges.thin import Thin
from rchd.edges.walk import Found, SourceChangedError, dereference, heaviest, refusal, vet, walk

__all__ = ["Progress", "Snapshot", "SnapshotOptions", "take"]

_LOOKS = 3
"""How often a known tree that others work in is looked at before all of it is read."""


class SnapshotOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The `[bundle]` keys. `max_bytes` bounds the uncompressed tar (equal passes); 0: what a worker takes.

    `keep`: the configured project paths, relative to the root, which `gitignore` never leaves out.
    """

    mode: Literal["worktree", "git_index"] = "worktree"
    symlinks: Literal["preserve", "dereference"] = "preserve"
    gitignore: bool = False
    max_bytes: int = 0
    keep: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a snapshot is: files and tar bytes so far and in all.

    `attempt` is 1, or 2 after a change; 0 as long as it waits for others to be over.
    """

    attempt: int
    files: int
    files_total: int
    bytes_done: int
    bytes_total: int

    @classmethod
    def waiting(cls) -> Progress:
        """Nothing of it yet: others have their turn."""
        return cls(attempt=0, files=0, files_total=0, bytes_done=0, bytes_total=0)


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
    memory: Memory | None = None,
) -> Snapshot:
    """Bundle the tree at `root` into the folder `spool`. Blocking; meant for a thread.

    `progress` is called at the start of each pass and about once a MiB. With a `memory`, what the
    tree was at its last snapshots is known and need not be read again. `Failure`: BUNDLER with
    its subkind for what cannot be bundled, CONFIG for a setting that does not fit the tree,
    CANCELLED once `cancelled` says so. Nothing stays in the spool after a failure.
    """
    changed = ""
    for attempt in (1, 2):
        try:
            return _Attempt(root, options, spool, progress or _nothing, cancelled, attempt, memory).run()
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
        memory: Memory | None,
    ) -> None:
        self._root = root
        self._options = options
        self._spool = spool
        self._progress = progress
        self._cancelled = cancelled
        self._attempt = attempt
        self._memory = memory
        self._key = (os.path.realpath(root), options)

    def run(self) -> Snapshot:
        try:
            root = os.open(self._root, FOLDER_FLAGS & ~os.O_NOFOLLOW)
        except OSError as error:
            raise refusal("UNREADABLE", f"{self._root} cannot be read: {error.strerror}") from error
        try:
            survey = self._survey(root)
            known = None if self._memory is None else self._memory.get(self._key)
            return (known and self._thin(root, known, survey)) or self._whole(root, survey)
        finally:
            os.close(root)

    def _survey(self, root: int) -> Survey:
        """What goes into the bundle, not vetted yet, and what is to be said about it."""
        options = self._options
        rules = Rules(
            self._root, index=options.mode == "git_index", gitignore=options.gitignore, keep=options.keep
        )
        spool = self._spool.stat() if self._spool.exists() else None
        folders: dict[str, int] = {}
        began = time.time_ns()
        found = walk(root, rules, self._check_cancelled, skip=spool, folders=folders)
        if options.symlinks == "dereference":
            found = dereference(found, vet(found))
        return Survey(found=found, folders=folders, began=began, warnings=tuple(rules.warnings))

    def _thin(self, root: int, known: Known, survey: Survey) -> Snapshot | None:
        """From what is known of the tree; None where it has to be read as a whole."""
        for _ in range(_LOOKS):
            thin = Thin(known, survey)
            if thin.is_quiet:
                if thin.has_other_names:
                    vet(survey.found)
                self._check_size(survey.found, thin.tar_bytes)
                snapshot = thin.take(root, self._spool, self._check_cancelled)
                if snapshot is not None:
                    self._tell(len(survey.found), len(survey.found), snapshot.tar_bytes, snapshot.tar_bytes)
                return snapshot
            let_tick_pass(thin.newest)
            survey = self._survey(root)
        return None

    def _whole(self, root: int, survey: Survey) -> Snapshot:
        found = survey.found
        vet(found)
        tar_bytes = sum(member_length(member_of(one)) for one in found) + len(END)
        self._check_size(found, tar_bytes)
        let_tick_pass(max((one.stamp[-1] for one in found), default=0))
        spooled, digests, pointers = self._pack(root, found, tar_bytes)
        entries = tuple(entry_of(one, digests.get(number)) for number, one in enumerate(found))
        if self._memory is not None:
            self._memory.put(self._key, _base_of(spooled, survey, entries, pointers, tar_bytes))
        return Snapshot(
            source_sha256=spooled.source_sha256,
            content_sha256=spooled.content_sha256,
            spool_path=spooled.path,
            tar_bytes=tar_bytes,
            compressed_bytes=spooled.compressed_bytes,
            entries=entries,
            warnings=(*survey.warnings, *pointer_warning(pointers)),
        )

    def _check_size(self, found: list[Found], tar_bytes: int) -> None:
        limit = min(self._options.max_bytes or MAX_UNPACKED_BYTES, MAX_UNPACKED_BYTES)
        if tar_bytes > limit:
            raise refusal(
                "SIZE_EXCEEDED",
                f"the bundle of {tar_bytes} bytes is over the limit of {limit}; {heaviest(found)}",
            )

    def _pack(
        self, root: int, found: list[Found], tar_bytes: int
    ) -> tuple[Spooled, dict[int, str], list[str]]:
        """Read all of it: the bundle, the digest of each file by its number, the LFS pointers."""

        def flushed(files: int, done: int) -> None:
            self._check_cancelled()
            self._tell(files, len(found), done, tar_bytes)

        flushed(0, 0)
        with Spool(self._spool, tar_bytes) as spool:
            packer = Packer(spool, flushed)
            packer.pack(root, found)
            spooled = spool.publish()
        return spooled, spool.digests, packer.pointers

    def _tell(self, files: int, files_total: int, done: int, total: int) -> None:
        self._progress(
            Progress(
                attempt=self._attempt,
                files=files,
                files_total=files_total,
                bytes_done=done,
                bytes_total=total,
            )
        )

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise Failure(Kind.CANCELLED, "cancelled while the source was bundled")


def _base_of(
    spooled: Spooled,
    survey: Survey,
    entries: tuple[SourceEntry, ...],
    pointers: list[str],
    tar_bytes: int,
) -> Base:
    """What later snapshots of the tree may lean on."""
    offsets, at = [], 0
    for one in survey.found:
        offsets.append(at)
        at += member_length(member_of(one))
    return Base(
        spooled=spooled,
        tar_bytes=tar_bytes,
        entries={entry.path: entry for entry in entries},
        stamps={one.path: one.stamp for one in survey.found},
        executable=frozenset(one.path for one in survey.found if one.executable),
        folders=survey.folders,
        pointers=frozenset(pointers),
        paths=[one.path for one in survey.found],
        offsets=[*offsets, at],
    )
