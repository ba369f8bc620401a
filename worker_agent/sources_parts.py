"""Uploads that go on where they were cut (feature `upload_resumable`, spec section 5).

    sources/incoming/<source_sha256>-<key>.part

One file holds the bytes of one upload so far; `key` follows from its id and the host that sends
it, so that nobody meets another's bytes. A part is held against its digest before a byte of it is
added, under the file's own lock, which nobody keeps while it waits for the line. So the file's
length is the offset to go on at, whoever died when. A source is made of it only once length and
digest of the whole are those that came with the last part.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from rch.contract.ids import is_id, is_sha256
from rch.contract.worker_rpc import Code, Resume, RpcError, Stream, UploadRequest, UploadResult
from rch.files.durable import is_no_space, make_dirs
from worker_agent.source_words import Readable, copy_checked, refused
from worker_agent.sources import Sources

if TYPE_CHECKING:
    from worker_agent.worker import Worker

KEEP_SECONDS = 86_400.0
"""How long an upload that was cut may be gone on with."""
IDLE_SECONDS = 600.0
"""After so long without a part, an upload gives way to newer ones."""
KEEP_PARTIALS = 32
IN_MEMORY = 16 << 20
"""A part up to this size is held in memory until its digest is known, a larger one in a file."""

_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{32}\.part")


def partials_of(worker: Worker) -> Partials:
    """Those of a worker, bounded as what it keeps of sources that nothing uses."""
    return Partials(worker.sources, max_bytes=worker.config.keep_sources_bytes)


class Partials:
    """The uploads that are on their way. `max_bytes` bounds what all of them hold; 0: no bound."""

    def __init__(self, sources: Sources, *, max_bytes: int) -> None:
        self._sources = sources
        self._folder = sources.incoming
        self._max_bytes = max_bytes

    def take(self, request: UploadRequest, host_id: str, body: Readable) -> UploadResult:
        """Add one part, or say where to go on; the last one stores the source.

        `RpcError` INVALID_REQUEST with `data.next_offset` for a part that belongs elsewhere: what is
        there is kept. What does not fit its totals, or is no source, is removed.
        """
        resume, stream, source_sha256 = request.resume, request.stream, request.source_sha256
        if resume is None or not is_id(resume.upload_id):
            shown = "" if resume is None else resume.upload_id[:80]
            raise RpcError(Code.INVALID_REQUEST, f"resume.upload_id {shown!r} is no id")
        path = self._path(source_sha256, resume.upload_id, host_id)
        if self._sources.exists(source_sha256):
            self._sources.drop(stream, body)
            remove(path)
            return UploadResult(stored=True)
        self._sources.require_base(request.base)
        self._sources.check_size(max(0, resume.offset) + stream.content_length, "the end of the part")
        asks = not stream.content_length and not resume.last
        if not asks:
            self._check_place(resume, stream, _size(path))
            self._admit_new(path)
        try:
            with tempfile.SpooledTemporaryFile(IN_MEMORY, dir=_made(self._folder)) as part:
                copy_checked(body, stream, part)
                return self._asked(path) if asks else self._add(path, request, resume, part)
        except OSError as error:
            if is_no_space(error):
                remove(path)  # what cannot be ended must not hold what others could use
                raise RpcError(Code.NO_SPACE, "no space is left for the source") from error
            raise

    def _asked(self, path: Path) -> UploadResult:
        return UploadResult(stored=False, next_offset=_size(path))

    def _add(self, path: Path, request: UploadRequest, resume: Resume, part: IO[bytes]) -> UploadResult:
        source_sha256, stream = request.source_sha256, request.stream
        with _locked(path) as held:
            if self._sources.exists(source_sha256):  # while we waited for the lock
                path.unlink()
                return UploadResult(stored=True)
            size = held.seek(0, os.SEEK_END)
            self._check_place(resume, stream, size)
            part.seek(0)
            shutil.copyfileobj(part, held, 1 << 20)
            held.flush()
            if not resume.last:
                return UploadResult(stored=False, next_offset=held.tell())
            try:
                held.seek(0)
                _check_total(held, resume)
                held.seek(0)
                self._sources.store(
                    source_sha256, held, path, compression=stream.compression, base=request.base
                )
            finally:
                path.unlink(missing_ok=True)  # also where it is wrong: sent again, it would be no better
        self._drop_others(source_sha256)
        return UploadResult(stored=True)

    def _check_place(self, resume: Resume, stream: Stream, size: int) -> None:
        """Refuse a part that does not go on where the bytes end, or whose totals cannot hold."""
        if resume.offset != size:
            message = f"resume.offset is {resume.offset}, {size} bytes are there"
            raise RpcError(Code.INVALID_REQUEST, message, {"reason": "offset", "next_offset": size})
        end, total = resume.offset + stream.content_length, resume.total_length
        if (resume.last and total != end) or (total is not None and total < end):
            message = f"the part ends at {end}, resume.total_length is {total}"
            raise RpcError(Code.INVALID_REQUEST, message, {"reason": "totals", "next_offset": size})
        if resume.last and not is_sha256(resume.total_sha256):
            raise RpcError(Code.INVALID_REQUEST, "resume.total_sha256 of the last part is no SHA-256")

    # --- what is kept ---------------------------------------------------------------------

    def sweep(self, now: float, *, room: int = 0) -> None:
        """Remove what `over` names and nobody adds to just now."""
        for path, _ in self.over(now, room=room):
            remove(path, unless_used=True)

    def over(self, now: float, *, room: int = 0) -> tuple[tuple[Path, str], ...]:
        """What nobody went on with for too long, and the idlest beyond number and bytes; each with why.

        `room` is how many more are to find a place.
        """
        kept, total, over = room, room, []
        for idle, size, path in sorted(
            (now - changed, size, path) for changed, size, path in self._found()
        ):
            kept, total = kept + 1, total + size
            beyond = kept > KEEP_PARTIALS or bool(self._max_bytes and total > self._max_bytes)
            if idle > KEEP_SECONDS:
                over.append((path, "nobody went on with it for a day"))
            elif beyond and idle > IDLE_SECONDS:
                over.append((path, "it is idle, and newer ones need its place"))
        return tuple(over)

    def _admit_new(self, path: Path) -> None:
        """Make room for an upload that begins; FEATURE_MISSING sends the host back to a whole one."""
        if path.exists():
            return
        self._sources.sweep_incoming()
        self.sweep(time.time(), room=1)
        found = self._found()
        full = self._max_bytes and sum(size for _, size, _ in found) >= self._max_bytes
        if len(found) >= KEEP_PARTIALS or full:
            message = f"{len(found)} uploads are on their way in parts, which is all this worker keeps"
            raise RpcError(Code.FEATURE_MISSING, message, {"reason": "too_many_parts"})

    def _found(self) -> list[tuple[float, int, Path]]:
        """Last change (wall clock), size and place of every upload on its way."""
        found = []
        for entry in os.scandir(self._folder) if self._folder.is_dir() else ():
            if _NAME.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    facts = entry.stat(follow_symlinks=False)
                    found.append((facts.st_mtime, facts.st_size, Path(entry.path)))
        return found

    def _drop_others(self, source_sha256: str) -> None:
        """The source is there: whoever is still sending it learns so with the next part."""
        for path in self._folder.glob(f"{source_sha256}-*.part"):
            remove(path, unless_used=True)

    def _path(self, source_sha256: str, upload_id: str, host_id: str) -> Path:
        key = hashlib.sha256(f"{host_id}\n{upload_id}".encode()).hexdigest()[:32]
        return self._folder / f"{source_sha256}-{key}.part"


def _check_total(held: BinaryIO, resume: Resume) -> None:
    found = hashlib.file_digest(held, "sha256").hexdigest()  # type: ignore[arg-type]
    if found != resume.total_sha256:
        message = f"the SHA-256 of all parts is {found}, resume.total_sha256 is {resume.total_sha256}"
        raise refused(message, "transport_digest")


def _made(folder: Path) -> str:
    make_dirs(folder)
    return str(folder)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file, which nobody else changes meanwhile; made if it is not there."""
    while True:
        with os.fdopen(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b"
        ) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    yield file
                    return
            # It was removed or stored between open and lock.


def remove(path: Path, *, unless_used: bool = False) -> bool:
    """Remove an upload that nobody adds to just now; waits for who does, or leaves it to them."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if unless_used else 0))
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            path.unlink()
            return True
    return False
