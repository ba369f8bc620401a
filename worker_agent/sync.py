"""Brings a tree that a build may have changed to exactly what a source holds (spec section 11).

One pass over the tree, by descriptors, through no link. A file stays, with its times, if the
record says that it has the wanted content and its stamp is the one that it had then; all else is
written anew from the store, its digest checked on the way, or goes. At the end each file was
either written here or is known by its stamp.

A stamp proves nothing if the file may have been changed in the very tick in which it was taken,
or if its ctime alone has moved (a mode, a hard link): then the content's digest decides.
"""

from __future__ import annotations

import gc
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from rch.contract.errors import Failure, Kind
from rch.files.descent import FOLDER_FLAGS
from worker_agent.source_index import CutShort, Index, SourceMember, SourceReader
from worker_agent.sync_record import Record, Stamped

_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000
_APART_NS = 1_000
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """No search for cycles meanwhile: it would look at tens of thousands of records, which make none."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """What a sync did."""

    record: Record
    written: int
    removed: int
    kept: int


def sync_tree(
    tree: Path,
    index: Index,
    record: Record,
    reader: SourceReader,
    *,
    newer_than: int,
    aside: Callable[[], Path],
) -> Synced:
    """Make `tree`, a folder that nobody else uses, hold exactly what `index` says.

    What is written gets the present time, each file one of its own, and after `newer_than` (ns) in any
    case. Folders that are not wanted are renamed to what `aside` gives. `Failure` EXECUTOR where the
    store's bytes are not what the index says; `OSError` for what the machine cannot do. After either
    the tree is of no use.
    """
    run = _Sync(index, record, reader, newer_than=newer_than, aside=aside)
    root = os.open(tree, FOLDER_FLAGS)
    try:
        _open_up(root)
        run.visit(root, "")
    finally:
        os.close(root)
    return run.result(len(index))


class _Sync:
    """One sync: what is wanted, what was known, and the record that comes of it."""

    def __init__(
        self,
        index: Index,
        record: Record,
        reader: SourceReader,
        *,
        newer_than: int,
        aside: Callable[[], Path],
    ) -> None:
        self._files: dict[str, dict[str, SourceMember]] = {}
        self._subfolders: dict[str, set[str]] = {}
        for member in index:
            folder, _, name = member.path.rpartition("/")
            files = self._files.get(folder)
            if files is None:
                files = self._files[folder] = {}
                self._expect(folder)
            files[name] = member
        self._known = record.folders
        self._believed_before = record.made - _TICK_NS
        self._coarse_before = record.made - _COARSE_TICK_NS
        self._reader = reader
        self._time = max(time.time_ns(), newer_than + _TICK_NS)
        self._aside = aside
        self._folders: dict[str, dict[str, Stamped]] = {}
        self._written = self._removed = self._kept = 0

    def _expect(self, folder: str) -> None:
        while folder:
            folder, _, name = folder.rpartition("/")
            names = self._subfolders.setdefault(folder, set())
            if name in names:
                return
            names.add(name)

    def result(self, expected: int) -> Synced:
        """What was done, once it is certain that nothing was left out."""
        if self._written + self._kept != expected:
            found = self._written + self._kept
            raise Failure(Kind.EXECUTOR, f"the workspace holds {found} files of {expected}")
        record = Record(made=time.time_ns(), folders=self._folders)
        return Synced(record=record, written=self._written, removed=self._removed, kept=self._kept)

    # --- a folder ---------------------------------------------------------------------

    def visit(self, fd: int, path: str) -> None:
        """Bring one folder and all below it into order."""
        files: Mapping[str, SourceMember] = self._files.get(path, {})
        subfolders = self._subfolders.get(path, set())
        stays, there, extra = self._look(fd, path, files, subfolders)
        for name, is_folder in extra:
            self._remove(fd, name, f"{path}/{name}" if path else name, is_folder=is_folder)
        self._kept += len(stays)
        if len(stays) != len(files):
            for name, member in files.items():
                if name not in stays:
                    stays[name] = self._write(fd, name, member, over=name in there)
        if stays:
            self._folders[path] = stays
        for name in sorted(subfolders):
            child = self._enter(fd, name, there=name in there)
            try:
                self.visit(child, f"{path}/{name}" if path else name)
            finally:
                os.close(child)

    def _look(
        self, fd: int, path: str, files: Mapping[str, SourceMember], subfolders: set[str]
    ) -> tuple[dict[str, Stamped], set[str], list[tuple[str, bool]]]:
        """The files that stay as they are; the names that are taken; what has to go (True: a folder)."""
        known: Mapping[str, Stamped] = self._known.get(path, {})
        before, coarse = self._believed_before, self._coarse_before
        stays: dict[str, Stamped] = {}
        there: set[str] = set()
        extra: list[tuple[str, bool]] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                member = files.get(name)
                if member is None:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if is_folder and name in subfolders:
                        there.add(name)
                    else:
                        extra.append((name, is_folder))
                    continue
                old = known.get(name)
                if old is None or old.sha256 != member.sha256:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    extra.append((name, True)) if is_folder else there.add(name)
                    continue
                info = entry.stat(follow_symlinks=False)
                if (
                    old.ctime == info.st_ctime_ns
                    and old.ino == info.st_ino
                    and old.mtime == info.st_mtime_ns
                    and old.size == info.st_size
                    and old.dev == info.st_dev
                    and old.ctime < before
                    and (old.ctime % _SECOND_NS or old.ctime < coarse)
                    and old.executable == member.executable
                    and old.target == member.target
                ):
                    stays[name] = old
                elif (proven := _proven(fd, name, member, old, info)) is not None:
                    stays[name] = proven
                elif stat.S_ISDIR(info.st_mode):
                    extra.append((name, True))
                else:
                    there.add(name)
        return stays, there, extra

    def _enter(self, fd: int, name: str, *, there: bool) -> int:
        if not there:
            os.mkdir(name, 0o755, dir_fd=fd)
        try:
            child = os.open(name, FOLDER_FLAGS, dir_fd=fd)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=fd)  # a folder that denies itself, and no link
            child = os.open(name, FOLDER_FLAGS, dir_fd=fd)
        try:
            _open_up(child)
        except OSError:
            os.close(child)
            raise
        return child

    def _remove(self, fd: int, name: str, path: str, *, is_folder: bool) -> None:
        if not is_folder:
            os.unlink(name, dir_fd=fd)
            self._removed += 1
            return
        os.close(self._enter(fd, name, there=True))  # a folder is renamed only if it may be written
        os.rename(name, self._aside(), src_dir_fd=fd)
        below = (files for folder, files in self._known.items() if f"{folder}/".startswith(f"{path}/"))
        self._removed += sum(map(len, below)) or 1

    # --- a file -----------------------------------------------------------------------

    def _write(self, fd: int, name: str, member: SourceMember, *, over: bool) -> Stamped:
        """Put one file or link at its name. One that takes another's place is a new inode."""
        fresh = f".rch-{os.urandom(8).hex()}.tmp" if over else name
        self._written += 1
        if member.target is not None:
            os.symlink(member.target, fresh, dir_fd=fd)
            if over:
                os.rename(fresh, name, src_dir_fd=fd, dst_dir_fd=fd)
            return _stamped(member, os.stat(name, dir_fd=fd, follow_symlinks=False))
        out = os.open(fresh, _NEW_FILE, 0o600, dir_fd=fd)
        try:
            self._fill(out, member)
            os.fchmod(out, 0o755 if member.executable else 0o644)
            # No two files bear one time: who follows a link looks at nothing else of what it leads to.
            self._time += _APART_NS
            os.utime(out, ns=(self._time, self._time))
            if over:
                os.rename(fresh, name, src_dir_fd=fd, dst_dir_fd=fd)
            return _stamped(member, os.fstat(out))  # a rename moves ctime
        finally:
            os.close(out)

    def _fill(self, out: int, member: SourceMember) -> None:
        digest = hashlib.sha256()
        with suppress(CutShort):  # the digest tells
            for piece in self._reader.content(member):
                digest.update(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(out, rest) :]
        if digest.hexdigest() != member.sha256:
            raise Failure(
                Kind.EXECUTOR,
                f"the stored source is damaged at {member.path}: run again, and it is sent anew",
            )


def _open_up(fd: int) -> None:
    """Give a folder the mode that it has in a fresh tree."""
    if os.fstat(fd).st_mode & 0o7777 != 0o755:
        os.fchmod(fd, 0o755)


def _stamped(member: SourceMember, info: os.stat_result) -> Stamped:
    return Stamped(
        member.sha256,
        member.executable,
        member.target,
        info.st_dev,
        info.st_ino,
        info.st_size,
        info.st_mtime_ns,
        info.st_ctime_ns,
    )


def _proven(fd: int, name: str, member: SourceMember, old: Stamped, info: os.stat_result) -> Stamped | None:
    """A file whose stamp alone does not suffice, and whose content does; None: it is written anew."""
    if (old.ino, old.mtime, old.size) != (info.st_ino, info.st_mtime_ns, info.st_size):
        return None
    if member.target is not None:
        right = stat.S_ISLNK(info.st_mode) and os.readlink(name, dir_fd=fd) == member.target
        return _stamped(member, info) if right else None
    mode = stat.S_IFREG | (0o755 if member.executable else 0o644)
    if info.st_mode != mode or info.st_size != member.size:
        return None
    with open(os.open(name, _READ, dir_fd=fd), "rb") as file:  # noqa: PTH123  (by its folder)
        right = hashlib.file_digest(file, "sha256").hexdigest() == member.sha256
    return _stamped(member, info) if right else None
