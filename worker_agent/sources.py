"""The content-addressed source store (spec section 5).

    sources/<sha256>.tar     the canonical tar, whole and verified
    sources/<sha256>.json    what `submit` needs to know of it; there before the tar
    sources/<sha256>.index   its members and where they stand; there before the tar

    sources/incoming/        uploads on their way; those in parts are in `sources_parts`

An upload in one piece is a file with a lock of its own until it is renamed: what carries no lock was left
by a process that is gone, and is swept by the next upload.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, Protocol

import msgspec

from rch.contract.ids import is_sha256
from rch.contract.worker_rpc import Code, RpcError, Stream
from rch.files.durable import (
    is_no_space,
    is_temp_name,
    make_dirs,
    replace,
    sync_file,
    temp_name,
    write_atomic,
)
from worker_agent.source_index import Index, SourceReader, decode_index, encode_index

MAX_UNPACKED_BYTES = 64 << 30
_PIECE = 1 << 20


class Readable(Protocol):
    """The body of an upload: at most `size` bytes, none only at its end."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a stored source holds: its own config, the names in its root, and how much it is."""

    config: bytes | None
    top_level: tuple[str, ...]
    entries: int
    content_bytes: int


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A source that is there: its size, and when it was last asked for (wall clock)."""

    source_sha256: str
    size: int
    used: float


class Sources:
    """The store. `max_bytes` bounds an upload, both as sent and as unpacked; 0: no bound of its own."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self.incoming = folder / "incoming"
        self._max_bytes = max_bytes

    def path(self, source_sha256: str) -> Path:
        """Where a source lies."""
        return self._folder / f"{source_sha256}.tar"

    def exists(self, source_sha256: str) -> bool:
        """Whether a source is stored."""
        return self.path(source_sha256).is_file()

    def stored(self) -> tuple[Stored, ...]:
        """Every source, the last asked for first."""
        found = []
        for entry in os.scandir(self._folder) if self._folder.is_dir() else ():
            name, _, suffix = entry.name.partition(".")
            if suffix == "tar" and is_sha256(name):
                facts = entry.stat(follow_symlinks=False)
                found.append(Stored(source_sha256=name, size=facts.st_size, used=facts.st_mtime))
        return tuple(sorted(found, key=lambda one: one.used, reverse=True))

    def touch(self, source_sha256: str) -> None:
        """Note that a source was asked for."""
        with suppress(OSError):
            os.utime(self.path(source_sha256))

    def remove(self, source_sha256: str) -> None:
        """Remove a source. The caller owns the lease table, so that nobody comes to use it meanwhile."""
        self.path(source_sha256).unlink(missing_ok=True)
        self._facts_path(source_sha256).unlink(missing_ok=True)
        self._index_path(source_sha256).unlink(missing_ok=True)

    def open(self, source_sha256: str) -> SourceReader:
        """The source's bytes; RpcError SOURCE_MISSING where it is not stored."""
        try:
            return SourceReader(self.path(source_sha256))
        except FileNotFoundError as error:
            raise missing(source_sha256) from error

    def members(self, source_sha256: str) -> Index:
        """What the source holds, as it was verified; RpcError SOURCE_MISSING where it is not stored."""
        try:
            return decode_index(self._index_path(source_sha256).read_bytes())
        except (FileNotFoundError, msgspec.DecodeError) as error:
            self.path(source_sha256).unlink(missing_ok=True)  # as in `facts`
            raise missing(source_sha256) from error

    def facts(self, source_sha256: str) -> Facts:
        """What the source holds; RpcError SOURCE_MISSING unless its bytes still have their digest."""
        tar = self.path(source_sha256)
        try:
            with tar.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            facts = msgspec.json.decode(self._facts_path(source_sha256).read_bytes(), type=Facts)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            tar.unlink(missing_ok=True)  # else the next upload would be dropped as a duplicate
            raise missing(source_sha256) from error
        if found != source_sha256:
            tar.unlink(missing_ok=True)
            raise missing(source_sha256)
        return facts

    def check_announced(self, stream: Stream) -> None:
        """Refuse an upload by its header, before a byte of it is read."""
        if stream.content_length < 0:
            raise RpcError(
                Code.INVALID_REQUEST, f"stream.content_length {stream.content_length} is negative"
            )
        if not is_sha256(stream.content_sha256):
            raise RpcError(Code.INVALID_REQUEST, "stream.content_sha256 is no SHA-256")
        if stream.compression not in {"none", "zstd"}:
            raise RpcError(
                Code.INVALID_REQUEST, f"stream.compression {stream.compression[:40]!r} is not known"
            )
        if stream.format != "tar":
            raise RpcError(Code.INVALID_REQUEST, f"stream.format {stream.format[:40]!r} is not known")
        self.check_size(stream.content_length, "stream.content_length")

    def check_size(self, size: int, what: str) -> None:
        """Refuse what is larger than this worker takes."""
        if self._max_bytes and size > self._max_bytes:
            raise self._too_large(f"{what} {size}")

    def receive(self, source_sha256: str, stream: Stream, body: Readable) -> None:
        """Take the body, verify it, store it; nothing is stored if anything is wrong."""
        make_dirs(self.incoming)
        self.sweep_incoming()
        try:
            with self._temp() as (spool, raw):
                copy_checked(body, stream, raw)
                raw.seek(0)
                self.store(source_sha256, raw, spool, compression=stream.compression)
        except OSError as error:
            if is_no_space(error):
                raise RpcError(Code.NO_SPACE, "no space is left for the source") from error
            raise

    def drop(self, stream: Stream, body: Readable) -> None:
        """Read the body of a duplicate to its end; it has to be what was announced all the same."""
        copy_checked(body, stream, None)

    def store(self, source_sha256: str, raw: BinaryIO, temp: Path, *, compression: str) -> None:
        """Unpack, verify and keep `raw`, whose name is `temp`; an uncompressed one may be renamed."""
        if compression == "none":
            self._admit(source_sha256, raw, temp)
        else:
            self._unpack(source_sha256, raw)

    def _unpack(self, source_sha256: str, raw: BinaryIO) -> None:
        from rch.files.unzstd import DecodeError, bounded_reader

        bound = self._max_bytes or MAX_UNPACKED_BYTES
        with self._temp() as (plain, tar):
            try:
                reader = bounded_reader(raw, max_output=bound)
                while piece := reader.read(_PIECE):
                    tar.write(piece)
            except DecodeError as error:
                if str(bound) in str(error):  # the one reason that names the bound
                    raise self._too_large("the unpacked source") from error
                raise refused(f"the source: {error}", "compression") from error
            tar.seek(0)
            self._admit(source_sha256, tar, plain)

    def _admit(self, source_sha256: str, tar: BinaryIO, temp: Path) -> None:
        """Verify a whole tar and give it its name."""
        from worker_agent.source_check import check_source

        facts, index = check_source(source_sha256, tar)
        tar.flush()
        sync_file(tar.fileno())
        write_atomic(self._facts_path(source_sha256), msgspec.json.encode(facts))
        write_atomic(self._index_path(source_sha256), encode_index(index))
        replace(temp, self.path(source_sha256))

    def _facts_path(self, source_sha256: str) -> Path:
        return self._folder / f"{source_sha256}.json"

    def _index_path(self, source_sha256: str) -> Path:
        return self._folder / f"{source_sha256}.index"

    def _too_large(self, what: str) -> RpcError:
        bound = self._max_bytes or MAX_UNPACKED_BYTES
        return RpcError(Code.PAYLOAD_TOO_LARGE, f"{what} is over {bound} bytes", {"max_bytes": bound})

    @contextmanager
    def _temp(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A temporary file that is locked while we live, and gone afterwards unless it was renamed."""
        while True:
            path = temp_name(self.incoming / "source")
            with path.open("x+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not path.exists():
                    continue  # a sweep was faster than the lock
                try:
                    yield path, file
                finally:
                    path.unlink(missing_ok=True)
                return

    def sweep_incoming(self) -> None:
        """Remove what uploads left behind that are over: nobody has it locked."""
        for entry in os.scandir(self.incoming) if self.incoming.is_dir() else ():
            if is_temp_name(entry.name):
                with suppress(OSError), open(entry.path, "rb") as file:  # noqa: PTH123  (a scandir entry)
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)  # noqa: PTH108  (as above)


def copy_checked(body: Readable, stream: Stream, raw: IO[bytes] | None) -> None:
    """Write a body down and hold it against its digest, before anything acts on it."""
    digest = hashlib.sha256()
    while piece := body.read(_PIECE):
        digest.update(piece)
        if raw is not None:
            raw.write(piece)
    if raw is not None:
        raw.flush()
    if digest.hexdigest() != stream.content_sha256:
        found, announced = digest.hexdigest(), stream.content_sha256
        message = f"the body's SHA-256 is {found}, stream.content_sha256 is {announced}"
        raise refused(message, "transport_digest")


def refused(message: str, reason: str) -> RpcError:
    """An upload that is not what it says; `reason` tells programs which promise it broke."""
    return RpcError(Code.INVALID_REQUEST, message, {"reason": reason})


def missing(source_sha256: str) -> RpcError:
    """A source that is not there: the host uploads it."""
    return RpcError(Code.SOURCE_MISSING, f"source {source_sha256} is not stored")
