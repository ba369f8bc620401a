"""A snapshot of a tree that is known: only what bears another stamp is read and spooled (spec section 5).

What comes of it is the tree of one moment, too, the beginning of the walk: who bears the stamp that is
known has been the same ever since, and what changed had done so before, or the tree is looked at again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import zstandard

from rch.contract.records import SourceEntry
from rch.contract.tar import END, member_header, member_length, padding
from rch.files.descent import Descent
from rch.files.durable import make_dirs, write_atomic
from rchd.edges.bases import Base, Change, Known, Last, RawError
from rchd.edges.bundles import Snapshot, Survey, entry_of, pointer_warning, tick_ns
from rchd.edges.packing import LFS_MAX, LFS_POINTER, member_of, opened
from rchd.edges.spool import disk_errors
from rchd.edges.walk import Found

MAX_BYTES = 8 << 20
"""What has changed may take so many bytes as a tar, or an eighth of the base where that is more: then the
tree is bundled as a whole and becomes a base itself."""
MAX_REMOVED = 2000
_LEVEL = 3


class Thin:
    """One look at a known tree."""

    def __init__(self, known: Known, survey: Survey) -> None:
        self._known = known
        self._base = base = known.base
        self._survey = survey
        self._change = change = base.change({one.path: one.stamp for one in survey.found})
        self._changed = [one for one in survey.found if one.path in change.stamps]
        lengths = [member_length(member_of(one)) for one in self._changed]
        self._members_bytes = sum(lengths)
        gone = [*change.stamps, *change.removed]
        self.tar_bytes = base.tar_bytes + self._members_bytes - sum(base.length(path) for path in gone)

    @property
    def has_other_names(self) -> bool:
        """Whether a name or a link is not the base's, so that all of them have to be vetted together."""
        before = self._base.entries
        return bool(self._change.removed) or any(
            one.path not in before or one.target is not None for one in self._changed
        )

    @property
    def newest(self) -> int:
        """When the last of what differs changed, by the file system's clock (ns)."""
        moved = (
            time for folder, time in self._survey.folders.items() if self._base.folders.get(folder) != time
        )
        return max(max((one.stamp[-1] for one in self._changed), default=0), max(moved, default=0))

    @property
    def is_quiet(self) -> bool:
        """Whether all that differs had changed when the walk began: then it saw the tree of one moment."""
        return not self._change or self.newest < self._survey.began - tick_ns()

    def take(self, root: int, spool: Path, check: Callable[[], None]) -> Snapshot | None:
        """The snapshot; None where it is better made from all of the tree.

        `SourceChangedError` for a file that does not stay what the walk saw.
        """
        last = self._known.last
        if last is not None and last.change == self._change and last.snapshot.spool_path.exists():
            return msgspec.structs.replace(last.snapshot, warnings=self._warnings(last.pointers))
        if self._members_bytes > max(MAX_BYTES, self._base.tar_bytes // 8):
            return None
        if len(self._change.removed) > MAX_REMOVED:
            return None
        delta = _Delta(self._base, self._change)
        with Descent(root) as descent:
            for one in self._changed:
                check()
                delta.add(one, descent)
        try:
            snapshot = self._spooled(delta, spool)
        except RawError:
            return None
        self._base.folders.update(self._survey.folders)
        self._known.last = Last(self._change, snapshot, frozenset(delta.pointers))
        return snapshot

    def _spooled(self, delta: _Delta, spool: Path) -> Snapshot:
        base, removed = self._base, self._change.removed
        if not delta.members and not removed:
            return self._same(delta)
        source, tar_bytes = base.spliced(delta.members, removed)
        if tar_bytes != self.tar_bytes:
            raise AssertionError(f"a tar of {tar_bytes} bytes where {self.tar_bytes} were counted")
        packed = zstandard.compress(b"".join([*delta.members.values(), END]), _LEVEL)
        content = hashlib.sha256(packed).hexdigest()
        path = spool / f"{source}-{content}.delta.zst"
        with disk_errors():
            make_dirs(spool)
            write_atomic(path, packed, mode=0o600)
        return Snapshot(
            source_sha256=source,
            content_sha256=content,
            spool_path=path,
            tar_bytes=tar_bytes,
            compressed_bytes=len(packed),
            entries=self._entries(delta),
            warnings=self._warnings(delta.pointers),
            base=base.reference(removed),
        )

    def _same(self, delta: _Delta) -> Snapshot:
        """The tree holds what the base does."""
        spooled = self._base.spooled
        return Snapshot(
            source_sha256=spooled.source_sha256,
            content_sha256=spooled.content_sha256,
            spool_path=spooled.path,
            tar_bytes=self._base.tar_bytes,
            compressed_bytes=spooled.compressed_bytes,
            entries=tuple(self._base.entries.values()),
            warnings=self._warnings(delta.pointers),
        )

    def _entries(self, delta: _Delta) -> tuple[SourceEntry, ...]:
        own, before = delta.entries, self._base.entries
        return tuple(own.get(one.path) or before[one.path] for one in self._survey.found)

    def _warnings(self, pointers: frozenset[str] | set[str]) -> tuple[str, ...]:
        kept = self._base.pointers - self._change.stamps.keys() - set(self._change.removed)
        return (*self._survey.warnings, *pointer_warning(kept | pointers))


class _Delta:
    """What is new or changed: members as they stand in the tar, by path and in order."""

    def __init__(self, base: Base, change: Change) -> None:
        self.members: dict[str, bytes] = {}
        self.entries: dict[str, SourceEntry] = {}
        self.pointers: set[str] = set()
        self._base = base
        self._change = change

    def add(self, one: Found, descent: Descent) -> None:
        """Read a file or link; one that only looks changed is known by its new stamp from now on."""
        content = b""
        if one.kind == "file":
            with opened(one, descent) as file:
                content = file.whole()
        if one.size <= LFS_MAX and content.startswith(LFS_POINTER):
            self.pointers.add(one.path)
        entry = entry_of(one, hashlib.sha256(content).hexdigest())
        if self._base.holds(entry, executable=one.executable):
            self._base.stamps[one.path] = one.stamp
            del self._change.stamps[one.path]
            return
        self.entries[one.path] = entry
        self.members[one.path] = member_header(member_of(one)) + content + padding(one.size)
