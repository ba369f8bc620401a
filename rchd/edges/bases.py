"""What is known of a tree since its last whole bundle, so that the next snapshot reads only what changed.

A file is known by its stamp: device, inode, size and both times to the nanosecond. It was given when no
write could hide behind it any more (`snapshot` waits until its tick of the clock is past), so that who
bears the same stamp holds the same bytes: git's rule for racily clean files.

The digest of a changed tree still is over every byte of its tar. These come from a plain copy of the
base's tar, a file without a name beside the spool, unpacked once; the state of the digest is kept at every
few MiB of it, and what stands before the first change is not digested again.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rch.contract.records import SourceBase, SourceEntry
from rch.contract.tar import END
from rch.files.unzstd import DecodeError, bounded_reader
from rchd.edges import base_file
from rchd.edges.spool import Spooled
from rchd.edges.walk import Stamp

if TYPE_CHECKING:
    from rchd.edges.bundles import Snapshot

MAX_ROOTS = 8
MAX_FILES = 400_000
"""Of all roots together: half a kilobyte of memory each."""
COPIES = 2
"""Of so many trees, the last ones, a plain copy is kept."""
_MARK_BYTES = 4 << 20
_PIECE = 4 << 20


class RawError(Exception):
    """The plain copy of a base cannot be had: its bundle is gone or damaged, or the disk is full."""


@dataclass(slots=True)
class Change:
    """What of a tree differs from its base: paths with their stamps, and paths that are gone."""

    stamps: dict[str, Stamp]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.stamps or self.removed)


@dataclass(slots=True)
class Base:
    """A whole bundle and the tree that it was made of.

    `paths` are sorted, `offsets` says where each one's member begins in the tar, and at its end where the
    last one ends. `folders` are the times of the tree's folders.
    """

    spooled: Spooled
    tar_bytes: int
    entries: dict[str, SourceEntry]
    stamps: dict[str, Stamp]
    executable: frozenset[str]
    folders: dict[str, int]
    pointers: frozenset[str]
    paths: Sequence[str]
    offsets: Sequence[int]
    _raw: mmap.mmap | None = None
    _marks: list[tuple[int, hashlib._Hash]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def change(self, stamps: Mapping[str, Stamp]) -> Change:
        """How a tree with these stamps differs."""
        own = self.stamps
        changed = {path: stamp for path, stamp in stamps.items() if own.get(path) != stamp}
        if len(stamps) - sum(path not in own for path in changed) == len(own):
            return Change(changed, ())
        return Change(changed, tuple(path for path in self.paths if path not in stamps))

    def length(self, path: str) -> int:
        """How many bytes of the tar the member takes; 0 for one that is not there."""
        if path not in self.entries:
            return 0
        place = bisect_left(self.paths, path)
        return self.offsets[place + 1] - self.offsets[place]

    def holds(self, entry: SourceEntry, *, executable: bool) -> bool:
        """Whether the base has the very same member."""
        return self.entries.get(entry.path) == entry and (entry.path in self.executable) is executable

    def reference(self, removed: tuple[str, ...]) -> SourceBase:
        """How a thin bundle names it."""
        return SourceBase(
            source_sha256=self.spooled.source_sha256,
            content_sha256=self.spooled.content_sha256,
            spool_name=self.spooled.path.name,
            compressed_bytes=self.spooled.compressed_bytes,
            tar_bytes=self.tar_bytes,
            removed=removed,
        )

    def saved(self, key: Hashable) -> base_file.Saved:
        """What of it is worth keeping."""
        return base_file.Saved(
            key=base_file.key_text(key),
            tar_bytes=self.tar_bytes,
            compressed_bytes=self.spooled.compressed_bytes,
            entries=list(self.entries.values()),
            stamps=[self.stamps[path] for path in self.paths],
            executable=sorted(self.executable),
            folders=self.folders,
            pointers=sorted(self.pointers),
            offsets=list(self.offsets),
        )

    # --- the digest of a changed tree -----------------------------------------------------

    def prepare(self) -> None:
        """Have the plain copy; `RawError`. Whoever comes meanwhile waits for it."""
        with self._lock:
            self._unpacked()

    def _unpacked(self) -> mmap.mmap:
        if self._raw is None:
            self._raw, self._marks = _unpack(self.spooled, self.tar_bytes)
        return self._raw

    def spliced(self, members: Mapping[str, bytes], removed: Iterable[str]) -> tuple[str, int]:
        """SHA-256 and length of the tar in which `members` stand and `removed` do not; `RawError`."""
        with self._lock:  # nobody gives the copy up meanwhile
            return self._digested(self._unpacked(), members, removed)

    def _digested(
        self, raw: mmap.mmap, members: Mapping[str, bytes], removed: Iterable[str]
    ) -> tuple[str, int]:
        pieces = list(self._pieces(members, removed))
        first = pieces[0] if pieces else b""
        unchanged = first[1] if isinstance(first, tuple) and first[0] == 0 else 0
        # There is a mark at 0.
        at, kept = self._marks[bisect_right(self._marks, unchanged, key=lambda mark: mark[0]) - 1]
        digest, length = kept.copy(), 0
        with memoryview(raw) as view:
            for piece in pieces:
                if isinstance(piece, bytes):
                    digest.update(piece)
                    length += len(piece)
                    continue
                begin, end = piece
                length += end - begin
                for here in range(max(begin, at), end, _PIECE):
                    digest.update(view[here : min(end, here + _PIECE)])
        digest.update(END)
        return digest.hexdigest(), length + len(END)

    def _pieces(
        self, members: Mapping[str, bytes], removed: Iterable[str]
    ) -> Iterator[tuple[int, int] | bytes]:
        """The tar's bytes in order: ranges of the base's, and new members."""
        at = 0
        for path in sorted({*members, *removed}):
            place = bisect_left(self.paths, path)
            begin = self.offsets[place]
            if begin > at:
                yield at, begin
            at = begin
            if place < len(self.paths) and self.paths[place] == path:
                at = self.offsets[place + 1]
            if path in members:
                yield members[path]
        if self.offsets[-1] > at:
            yield at, self.offsets[-1]

    def close(self) -> None:
        """Give the plain copy up, unless it is in use: then it ends with the base, or at the next call."""
        if self._lock.acquire(blocking=False):
            try:
                if self._raw is not None:
                    self._raw.close()
                    self._raw = None
            finally:
                self._lock.release()


def _unpack(spooled: Spooled, tar_bytes: int) -> tuple[mmap.mmap, list[tuple[int, hashlib._Hash]]]:
    """The bundle's tar as a file that ends with us, and the digest's state all along it."""
    digest, marks, at = hashlib.sha256(), [], 0
    try:
        with (
            spooled.path.open("rb") as bundle,
            tempfile.TemporaryFile(dir=spooled.path.parent, prefix=".rch-", buffering=0) as plain,
        ):
            reader = bounded_reader(bundle, max_output=tar_bytes)
            while piece := reader.read(_MARK_BYTES):
                marks.append((at, digest.copy()))
                digest.update(piece)
                at += len(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[plain.write(rest) or 0 :]
            if digest.hexdigest() != spooled.source_sha256:
                raise RawError(f"{spooled.path.name} does not hold what its name says")
            return mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ), marks
    except (OSError, DecodeError) as error:
        raise RawError(f"{spooled.path.name}: {error}") from error


@dataclass(slots=True)
class Last:
    """The newest snapshot of a tree: what differed from its base then, and what came of it."""

    change: Change
    snapshot: Snapshot
    pointers: frozenset[str]


@dataclass(slots=True)
class Known:
    """A tree's base, and the newest snapshot on top of it."""

    base: Base
    last: Last | None = None
    saved: bool = False


class Memory:
    """What is known of the trees that were last asked for, by whatever tells them apart.

    One snapshot of a tree at a time uses it, those of other trees beside. With a `spool` it outlives
    the daemon there.
    """

    def __init__(self, spool: Path | None = None) -> None:
        self._spool = spool
        self._known: OrderedDict[Hashable, Known] = OrderedDict()
        self._lock = threading.RLock()  # held for moments, and for no file

    def get(self, key: Hashable) -> Known | None:
        """What is known of a tree whose base still lies in the spool."""
        with self._lock:
            known = self._known.get(key)
        known = known or self._loaded(key)
        if known is None:
            return None
        if not known.base.spooled.path.exists():
            self.forget(key)
            return None
        with self._lock:
            self._known[key] = known
            self._known.move_to_end(key)
            self._make_room()
        return known

    def put(self, key: Hashable, base: Base) -> None:
        """A tree has a new base; those that nobody asked for lately make room."""
        with self._lock:
            self.forget(key)
            self._known[key] = Known(base)
            self._make_room()

    def forget(self, key: Hashable) -> None:
        """Let go of a tree; its next snapshot reads all of it."""
        with self._lock:
            known = self._known.pop(key, None)
            if known is not None:
                known.base.close()

    @property
    def names(self) -> frozenset[str]:
        """The bundles in the spool that thin ones may still be told against."""
        with self._lock:
            own = frozenset(known.base.spooled.path.name for known in self._known.values())
        return own if self._spool is None else own | base_file.bundles(self._spool, MAX_ROOTS)

    def prepare(self) -> None:
        """Off the way of any snapshot: keep the newest base, and unpack it for its first change. Blocks."""
        with self._lock:
            key, newest = next(reversed(self._known.items()), (None, None))
        if newest is None:
            return
        if self._spool is not None and not newest.saved:
            newest.saved = True
            base_file.save(self._spool, key, newest.base.saved(key), newest.base.spooled)
        with suppress(RawError):  # whoever needs it is told
            newest.base.prepare()

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            for key in list(self._known):
                self.forget(key)

    def _loaded(self, key: Hashable) -> Known | None:
        found = None if self._spool is None else base_file.load(self._spool, key)
        return None if found is None else Known(_restored(*found), saved=True)

    def drop_copies(self, but: int = 0) -> None:
        """Give the plain copies up but for those of the last trees: each is made again at need."""
        with self._lock:
            for known in list(self._known.values())[: len(self._known) - but]:
                known.base.close()

    def _make_room(self) -> None:
        self.drop_copies(but=COPIES)
        while len(self._known) > 1 and self._is_over():
            self.forget(next(iter(self._known)))

    def _is_over(self) -> bool:
        files = sum(len(known.base.paths) for known in self._known.values())
        return len(self._known) > MAX_ROOTS or files > MAX_FILES


def _restored(saved: base_file.Saved, spooled: Spooled) -> Base:
    paths = [entry.path for entry in saved.entries]
    return Base(
        spooled=spooled,
        tar_bytes=saved.tar_bytes,
        entries=dict(zip(paths, saved.entries, strict=True)),
        stamps=dict(zip(paths, saved.stamps, strict=True)),
        executable=frozenset(saved.executable),
        folders=saved.folders,
        pointers=frozenset(saved.pointers),
        paths=paths,
        offsets=saved.offsets,
    )
