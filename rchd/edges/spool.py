"""The file that a bundle is spooled to: tar bytes in, both digests and the compressed file out."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import zstandard

from rch.contract.errors import Failure, Kind
from rch.files.durable import is_no_space, make_dirs, replace, sync_file, temp_name

_LEVEL = 3
_THREADS = min(4, os.cpu_count() or 1)
_PIECE = 1 << 20  # what is hashed and compressed at a time: small files alone would be all overhead


class Spooled(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is durable at `path`; `content_sha256` is over the compressed bytes."""

    path: Path
    source_sha256: str
    content_sha256: str
    compressed_bytes: int


class Spool:
    """Takes the `tar_bytes` of one tar. Left without `publish`, nothing of it stays.

    `flushed` is called with the bytes so far after each piece. `Failure` BUNDLER / NO_SPACE
    when the disk is full; the compressed bytes are not an identity, for they differ by version.
    """

    def __init__(self, folder: Path, tar_bytes: int, flushed: Callable[[int], None]) -> None:
        self._folder = folder
        self._flushed = flushed
        self._pending: list[bytes] = []
        self._held = 0
        self._taken = 0
        self._compressed = 0
        self._tar_hash = hashlib.sha256()
        self._content_hash = hashlib.sha256()
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL, threads=_THREADS).compressobj(size=tar_bytes)
        with _disk_errors():
            make_dirs(folder)
            self._temp = temp_name(folder / "bundle")
            self._fd = os.open(self._temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        with contextlib.suppress(OSError):
            self._temp.unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        """Take the next bytes of the tar."""
        self._pending.append(piece)
        self._held += len(piece)
        if self._held >= _PIECE:
            self._flush()

    def publish(self) -> Spooled:
        """The tar is whole: make the file durable under the name of its digests."""
        self._flush()
        self._store(self._zstd.flush())
        source, content = self._tar_hash.hexdigest(), self._content_hash.hexdigest()
        path = self._folder / f"{source}-{content}.tar.zst"
        with _disk_errors():
            sync_file(self._fd)
            replace(self._temp, path)
        return Spooled(
            path=path, source_sha256=source, content_sha256=content, compressed_bytes=self._compressed
        )

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._held = 0
        self._taken += len(data)
        self._tar_hash.update(data)
        self._store(self._zstd.compress(data))
        self._flushed(self._taken)

    def _store(self, data: bytes) -> None:
        self._content_hash.update(data)
        self._compressed += len(data)
        rest = memoryview(data)
        with _disk_errors():
            while rest:
                rest = rest[os.write(self._fd, rest) :]


def prune(folder: Path, live: Collection[str], *, newest: int, max_bytes: int) -> None:
    """Remove bundles that no live run names, but for a few of the newest: an upload may still begin.

    `newest` of them stay, and of these, after the first, only what fits into `max_bytes`.
    """
    bundles = [(*_facts(each), each) for each in folder.glob("*.tar.zst") if each.name not in live]
    kept = 0
    for place, (_, size, bundle) in enumerate(sorted(bundles, reverse=True)):
        kept += size
        if place >= newest or (place > 0 and kept > max_bytes):
            bundle.unlink(missing_ok=True)


def _facts(bundle: Path) -> tuple[float, int]:
    try:
        found = bundle.stat()
    except FileNotFoundError:
        return 0.0, 0
    return found.st_mtime, found.st_size


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        subkind = "NO_SPACE" if is_no_space(error) else None
        raise Failure(
            Kind.BUNDLER, f"the bundle cannot be spooled: {error.strerror}", subkind=subkind
        ) from error
