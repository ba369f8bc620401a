"""The content-addressed source store (spec section 5): what is asked of it, and how a source comes in.

Its files are in `source_shelf`, uploads in parts in `sources_parts`. An upload in one piece is a
file with a lock of its own until it is renamed: what carries no lock was left by a process that is
gone, and is swept by the next upload.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.ids import is_sha256
from rch.contract.tar import MAX_UNPACKED_BYTES
from rch.contract.worker_rpc import Base, Code, RpcError, Stream
from rch.files.durable import is_no_space, make_dirs, replace, sync_file, sync_path, write_whole
from worker_agent.source_index import CutShort, Index, SourceReader, decode_index, encode_index
from worker_agent.source_shelf import Opened, Shelf, stamp_of
from worker_agent.source_thin import Run, check_base, runs_of, virtual
from worker_agent.source_words import (
    PIECE,
    Facts,
    Readable,
    Stored,
    base_missing,
    copy_checked,
    missing,
    refused,
)

_LOST = (FileNotFoundError, msgspec.DecodeError)


@dataclass(frozen=True, slots=True)
class Ground:
    """A base that something is built on: the tar beneath it is `full_sha256`, its own or its base's."""

    source_sha256: str
    full_sha256: str
    opened: Opened
    runs: tuple[Run, ...]
    facts: Facts


class Sources:
    """The store. `max_bytes` bounds an upload, both as sent and as unpacked; 0: no bound of its own."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.shelf = Shelf(folder)
        self.incoming = self.shelf.incoming
        self._max_bytes = max_bytes

    # --- what is there --------------------------------------------------------------------

    def path(self, source_sha256: str) -> Path:
        """Where a source lies that is stored whole."""
        return self.shelf.tar(source_sha256)

    def exists(self, source_sha256: str) -> bool:
        """Whether a source is stored, with all that it is made of."""
        if self.path(source_sha256).is_file():
            return True
        base = self.shelf.base_of(source_sha256)
        return base is not None and self.path(base).is_file()

    def stored(self) -> tuple[Stored, ...]:
        """Every source, the last asked for first."""
        return self.shelf.stored()

    def touch(self, source_sha256: str) -> None:
        """Note that a source was asked for."""
        self.shelf.touch(source_sha256)

    def remove(self, source_sha256: str) -> bool:
        """Remove a source, unless another one is built on it.

        The caller owns the lease table, so that nobody comes to use it meanwhile.
        """
        return self.shelf.remove(source_sha256)

    def open(self, source_sha256: str) -> SourceReader:
        """The source's bytes; RpcError SOURCE_MISSING where it is not stored."""
        return self._opened(source_sha256)

    def _opened(self, source_sha256: str) -> Opened:
        try:
            return self.shelf.open(source_sha256)
        except _LOST as error:
            raise self._lost(source_sha256) from error

    def _lost(self, source_sha256: str) -> RpcError:
        """SOURCE_MISSING; what is left of it would have its next upload dropped as a duplicate."""
        self.shelf.lose(source_sha256)
        return missing(source_sha256)

    def members(self, source_sha256: str) -> Index:
        """What the source holds, as it was verified; RpcError SOURCE_MISSING where it is not stored."""
        with self._opened(source_sha256) as source:
            plan = source.plan
        if plan is None:
            return self._full_index(source_sha256)
        return virtual(runs_of(self._full_index(plan.base_sha256), plan))

    def full_of(self, source_sha256: str) -> str:
        """The source whose tar this one rests on: itself, or its base; RpcError SOURCE_MISSING."""
        with self._opened(source_sha256) as source:
            return source_sha256 if source.plan is None else source.plan.base_sha256

    def _full_index(self, source_sha256: str) -> Index:
        try:
            return decode_index(self.shelf.index(source_sha256).read_bytes())
        except _LOST as error:
            raise self._lost(source_sha256) from error

    def facts(self, source_sha256: str) -> Facts:
        """What the source holds; RpcError SOURCE_MISSING unless its bytes have their digest.

        Bytes that were read in this boot are not read again while nobody has touched their files.
        """
        with self._opened(source_sha256) as source:
            stamps = source.stamps
            if not self.shelf.is_verified(source_sha256, stamps):
                self._verify(source_sha256, source)
                self.shelf.note_verified(source_sha256, stamps)
            if source.plan is not None:
                return source.plan.facts
        return self._full_facts(source_sha256)

    def _full_facts(self, source_sha256: str) -> Facts:
        try:
            return decode_json(self.shelf.facts(source_sha256).read_bytes(), Facts)
        except _LOST as error:
            raise self._lost(source_sha256) from error

    def _verify(self, source_sha256: str, source: Opened) -> None:
        if self._digest_of(source) == source_sha256:
            return
        if source.plan is not None:  # then its base may be what is damaged
            base = source.plan.base_sha256
            with self._opened(base) as whole:
                if self._digest_of(whole) != base:
                    self.shelf.lose(base)
        raise self._lost(source_sha256)

    def _digest_of(self, source: SourceReader) -> str | None:
        """The digest of what is there; None where a file is cut short."""
        try:
            return source.sha256()
        except CutShort:
            return None

    # --- uploads --------------------------------------------------------------------------

    def check_announced(self, stream: Stream, base: Base | None = None) -> None:
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
        if base is not None:
            check_base(base)
            if not is_sha256(base.source_sha256):
                raise RpcError(Code.INVALID_REQUEST, "base.source_sha256 is no SHA-256")

    def require_base(self, base: Base | None) -> None:
        """BASE_MISSING where it is not stored: before a byte is read that would be of no use."""
        if base is not None and not self.exists(base.source_sha256):
            raise base_missing(base.source_sha256)

    def check_size(self, size: int, what: str) -> None:
        """Refuse what is larger than this worker takes."""
        if self._max_bytes and size > self._max_bytes:
            raise self._too_large(f"{what} {size}")

    def receive(self, source_sha256: str, stream: Stream, body: Readable, base: Base | None = None) -> None:
        """Take the body, verify it, store it; nothing is stored if anything is wrong."""
        make_dirs(self.incoming)
        self.sweep_incoming()
        try:
            with self.shelf.temp() as (spool, raw):
                copy_checked(body, stream, raw)
                raw.seek(0)
                self.store(source_sha256, raw, spool, compression=stream.compression, base=base)
        except OSError as error:
            if is_no_space(error):
                raise RpcError(Code.NO_SPACE, "no space is left for the source") from error
            raise

    def drop(self, stream: Stream, body: Readable) -> None:
        """Read the body of a duplicate to its end; it has to be what was announced all the same."""
        copy_checked(body, stream, None)

    def store(
        self,
        source_sha256: str,
        raw: BinaryIO,
        temp: Path,
        *,
        compression: str,
        base: Base | None = None,
    ) -> None:
        """Unpack, verify and keep `raw`, whose name is `temp`; an uncompressed one may be renamed.

        With a `base` it holds what is new or changed there.
        """
        if base is not None:
            from worker_agent.source_splice import store_spliced

            store_spliced(self, source_sha256, self.unpacked(raw, compression), base)
            return
        from worker_agent.source_check import check_source
        from worker_agent.source_flow import beside, written

        if compression == "none":
            with beside(lambda: sync_file(raw.fileno())):
                facts, index = check_source(source_sha256, self.unpacked(raw, compression))
            self.publish(source_sha256, temp, raw, facts, index)
            return
        with self.shelf.temp() as (plain, tar):
            pieces = self.unpacked(raw, compression)
            facts, index = check_source(source_sha256, pieces, written(tar))
            self.publish(source_sha256, plain, tar, facts, index)

    def unpacked(self, raw: BinaryIO, compression: str) -> Iterator[bytes]:
        """The pieces of a tar that came, within this worker's bound."""
        if compression == "none":
            while piece := raw.read(PIECE):
                yield piece
            return
        from rch.files.unzstd import DecodeError, TooLargeError, bounded_reader

        bound = self._max_bytes or MAX_UNPACKED_BYTES
        reader = bounded_reader(raw, max_output=bound)
        try:
            while piece := reader.read(PIECE):
                yield piece
        except TooLargeError as error:
            raise self._too_large("the unpacked source") from error
        except DecodeError as error:
            raise refused(f"the source: {error}", "compression") from error

    def publish(self, source_sha256: str, temp: Path, tar: BinaryIO, facts: Facts, index: Index) -> None:
        """Give a whole tar that was verified its name."""
        tar.flush()
        sync_file(tar.fileno())
        for path, data in (
            (self.shelf.facts(source_sha256), msgspec.json.encode(facts)),
            (self.shelf.index(source_sha256), encode_index(index)),
        ):
            write_whole(path, data)
            sync_path(path)
        self.finish(source_sha256, temp, self.path(source_sha256), (tar,))
        self.shelf.thin(source_sha256).unlink(missing_ok=True)  # its base was gone

    def finish(self, source_sha256: str, temp: Path, place: Path, files: tuple[BinaryIO, ...]) -> None:
        """Rename what is whole and synced. `files`: those whose bytes were just found to be the source."""
        replace(temp, place)
        self.shelf.note_verified(source_sha256, tuple(map(stamp_of, files)))

    @contextmanager
    def based(self, source_sha256: str) -> Iterator[Ground]:
        """A base, which stays while the body runs; RpcError BASE_MISSING where it is not all there."""
        try:
            opened = self.shelf.open(source_sha256)
        except _LOST as error:
            raise base_missing(source_sha256) from error
        with opened:
            yield self._ground(source_sha256, opened)

    def _ground(self, source_sha256: str, opened: Opened) -> Ground:
        full, plan = opened.files[0], opened.plan
        name = source_sha256 if plan is None else plan.base_sha256
        fcntl.flock(full, fcntl.LOCK_SH)
        try:
            if not os.path.samestat(os.fstat(full.fileno()), self.path(name).stat()):
                raise base_missing(source_sha256)  # it was removed before we had the lock
            index = self._full_index(name)
            facts = self._full_facts(name) if plan is None else plan.facts
        except (FileNotFoundError, RpcError) as error:
            raise base_missing(source_sha256) from error
        return Ground(source_sha256, name, opened, runs_of(index, plan), facts)

    def require_sound(self, source_sha256: str) -> None:
        """BASE_MISSING unless a base's bytes, read anew, are its own; what is damaged is removed."""
        try:
            with self._opened(source_sha256) as source:
                self._verify(source_sha256, source)
        except RpcError as error:
            raise base_missing(source_sha256) from error

    def _too_large(self, what: str) -> RpcError:
        bound = self._max_bytes or MAX_UNPACKED_BYTES
        return RpcError(Code.PAYLOAD_TOO_LARGE, f"{what} is over {bound} bytes", {"max_bytes": bound})

    def sweep_incoming(self) -> None:
        """Remove what uploads left behind that are over: nobody has it locked."""
        self.shelf.sweep_incoming()
