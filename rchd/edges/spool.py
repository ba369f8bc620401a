"""The file that a bundle is spooled to: tar bytes in, both digests and the compressed file out.

Who makes the tar fills buffers and hands them on; one thread digests them, the next one compresses and
writes. The buffers come back at the end and are few, so that a tree of any size takes the same memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import zstandard

from rch.contract.errors import Failure, Kind
from rch.contract.records import Source
from rch.files.durable import is_no_space, make_dirs, replace, sync_file, temp_name

LEVEL = 1
"""Sources shrink to a tenth more than at level 3, in half of the processor's time, which is what is waited
for: after the first upload only what changed is sent."""
BUFFER = 1 << 20
_BUFFERS = 8
_THREADS = min(4, os.cpu_count() or 1)
EMPTY_SHA256 = hashlib.sha256().hexdigest()
SUFFIX = ".zst"


class Spooled(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is durable at `path`; `content_sha256` is over the compressed bytes."""

    path: Path
    source_sha256: str
    content_sha256: str
    compressed_bytes: int


class Chunk(NamedTuple):
    """The next `length` bytes of a tar, at the head of `buffer`.

    `pieces` are the files' bytes in it: a file's number, where they begin and where they end.
    """

    buffer: bytearray
    length: int
    pieces: tuple[tuple[int, int, int], ...] = ()


class Spool:
    """Takes the `tar_bytes` of one tar in chunks. Left without `publish`, nothing of it stays.

    `digests` has each file's SHA-256 by its number, once `publish` has returned. `Failure` BUNDLER /
    NO_SPACE when the disk is full; the compressed bytes are not an identity, for they differ by version.
    """

    def __init__(self, folder: Path, tar_bytes: int, *, suffix: str = ".tar.zst") -> None:
        self.digests: dict[int, str] = {}
        self._folder = folder
        self._suffix = suffix
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._left = _BUFFERS  # that are not made yet
        self._tar_hash = hashlib.sha256()
        self._file: tuple[int, hashlib._Hash] | None = None
        self._content_hash = hashlib.sha256()
        self._compressed = 0
        self._zstd = zstandard.ZstdCompressor(level=LEVEL, threads=_THREADS).compressobj(size=tar_bytes)
        with disk_errors():
            make_dirs(folder)
            self._temp = temp_name(folder / "bundle")
            self._fd = os.open(self._temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._compress = _Stage(self._store_chunk, self._give_back, self._give_back)
        self._digest = _Stage(self._digest_chunk, self._compress.put, self._give_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._digest.end()
        self._compress.end()
        os.close(self._fd)
        with contextlib.suppress(OSError):
            self._temp.unlink(missing_ok=True)

    def buffer(self) -> bytearray:
        """An empty buffer of `BUFFER` bytes; waits until one is free."""
        if self._left:
            self._left -= 1
            return bytearray(BUFFER)
        return self._free.get()

    def put(self, chunk: Chunk) -> None:
        """Take the next bytes of the tar; raises what went wrong with earlier ones."""
        self._raise()
        self._digest.put(chunk)

    def publish(self) -> Spooled:
        """The tar is whole: make the file durable under the name of its digests."""
        self._digest.end()
        self._compress.end()
        self._raise()
        self._end_file()
        self._store(self._zstd.flush())
        source, content = self._tar_hash.hexdigest(), self._content_hash.hexdigest()
        path = self._folder / f"{source}-{content}{self._suffix}"
        with disk_errors():
            sync_file(self._fd)
            replace(self._temp, path)
        return Spooled(
            path=path, source_sha256=source, content_sha256=content, compressed_bytes=self._compressed
        )

    def _raise(self) -> None:
        for stage in (self._digest, self._compress):
            if stage.error is not None:
                raise stage.error

    def _give_back(self, chunk: Chunk) -> None:
        self._free.put(chunk.buffer)

    def _digest_chunk(self, chunk: Chunk) -> None:
        view = memoryview(chunk.buffer)
        self._tar_hash.update(view[: chunk.length])
        for number, begin, end in chunk.pieces:
            if self._file is None or self._file[0] != number:
                self._end_file()
                self._file = (number, hashlib.sha256())
            self._file[1].update(view[begin:end])

    def _end_file(self) -> None:
        if self._file is not None:
            self.digests[self._file[0]] = self._file[1].hexdigest()

    def _store_chunk(self, chunk: Chunk) -> None:
        self._store(self._zstd.compress(memoryview(chunk.buffer)[: chunk.length]))

    def _store(self, data: bytes) -> None:
        if not data:
            return
        self._content_hash.update(data)
        self._compressed += len(data)
        rest = memoryview(data)
        with disk_errors():
            while rest:
                rest = rest[os.write(self._fd, rest) :]


class _Stage:
    """A thread that does its work on each chunk and hands it on; after an error to `aside`."""

    def __init__(
        self,
        work: Callable[[Chunk], None],
        onward: Callable[[Chunk], None],
        aside: Callable[[Chunk], None],
    ) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._onward = onward
        self._aside = aside
        self._inbox: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rchd-spool", daemon=True)
        self._thread.start()

    def put(self, chunk: Chunk) -> None:
        """Take a chunk; there are never more than the spool has buffers."""
        self._inbox.put(chunk)

    def end(self) -> None:
        """Nothing more comes: wait until all is done."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (chunk := self._inbox.get()) is not None:
            if self.error is None:
                try:
                    self._work(chunk)
                except BaseException as error:  # noqa: BLE001  (told to whoever puts or publishes)
                    self.error = error
            (self._onward if self.error is None else self._aside)(chunk)


def prune(folder: Path, live: Collection[str], *, newest: int, max_bytes: int) -> None:
    """Remove bundles that no live run names, but for a few of the newest: an upload may still begin.

    `live` are names of bundles; whatever else is spooled of the same source stays with them. Of the
    others `newest` stay, and of these, after the first, only what fits into `max_bytes`.
    """
    sources = {source_of(name) for name in live}
    others = [each for each in folder.glob(f"*{SUFFIX}") if source_of(each.name) not in sources]
    bundles = [(*_facts(each), each) for each in others]
    kept = 0
    for place, (_, size, bundle) in enumerate(sorted(bundles, reverse=True)):
        kept += size
        if place >= newest or (place > 0 and kept > max_bytes):
            bundle.unlink(missing_ok=True)


def source_of(name: str) -> str:
    """The source of which a spooled file of that name holds the bytes, or what changed towards it."""
    return name.partition("-")[0]


def bundles_of(source: Source) -> frozenset[str]:
    """The names in the spool that a run needs until its worker has the source."""
    base = () if source.base is None else (source.base.spool_name,)
    return frozenset((source.spool_name, *base))


def _facts(bundle: Path) -> tuple[float, int]:
    try:
        found = bundle.stat()
    except FileNotFoundError:
        return 0.0, 0
    return found.st_mtime, found.st_size


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """What fails on the spool's disk is `Failure` BUNDLER, or BUNDLER / NO_SPACE."""
    try:
        yield
    except OSError as error:
        subkind = "NO_SPACE" if is_no_space(error) else None
        raise Failure(
            Kind.BUNDLER, f"the bundle cannot be spooled: {error.strerror}", subkind=subkind
        ) from error
