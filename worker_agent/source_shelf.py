"""Where the store keeps what (spec section 5): names, locks, and what is known of a file's bytes.

    sources/<sha256>.tar     the canonical tar, whole and verified
    sources/<sha256>.json    what `submit` needs to know of it; there before the tar
    sources/<sha256>.index   its members and where they stand; there before the tar
    sources/<sha256>.thin    instead of the three: a source that is kept as a difference (`source_thin`)
    sources/<sha256>.seen    when it was last asked for, by its time; by its text, which files had the
                             digest in which boot. It may be lost at any time

Whoever builds on a tar has it locked, shared; who removes it locks it alone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.ids import is_sha256
from rch.files.durable import is_temp_name, temp_name, write_whole
from worker_agent.clock import boot_id
from worker_agent.source_index import Segment, SourceReader
from worker_agent.source_thin import Plan, read_plan
from worker_agent.source_words import Stored

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size and both times of a file, in nanoseconds: other bytes, another stamp."""


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    boot: str
    stamps: tuple[Stamp, ...]


class Opened(SourceReader):
    """A stored source, and how it is put together."""

    def __init__(self, files: Sequence[BinaryIO], segments: Sequence[Segment], plan: Plan | None) -> None:
        super().__init__(files, segments)
        self.files = files
        self.plan = plan

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """What tells whether the files are still those that they were."""
        return tuple(map(stamp_of, self.files))


class Shelf:
    """The files of the store in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"

    def tar(self, source_sha256: str) -> Path:
        """Where a source lies that is stored whole."""
        return self.folder / f"{source_sha256}.tar"

    def thin(self, source_sha256: str) -> Path:
        """Where a source lies that is stored as a difference."""
        return self.folder / f"{source_sha256}.thin"

    def facts(self, source_sha256: str) -> Path:
        """What a whole source holds."""
        return self.folder / f"{source_sha256}.json"

    def index(self, source_sha256: str) -> Path:
        """Where its members stand."""
        return self.folder / f"{source_sha256}.index"

    def seen(self, source_sha256: str) -> Path:
        """When it was last asked for, and verified."""
        return self.folder / f"{source_sha256}.seen"

    # --- reading --------------------------------------------------------------------------

    def open(self, source_sha256: str) -> Opened:
        """The bytes; `FileNotFoundError` or `msgspec.DecodeError` where they are not all there."""
        try:
            tar = self.tar(source_sha256).open("rb", buffering=0)
        except FileNotFoundError:
            return self._open_thin(source_sha256)
        return Opened((tar,), (Segment(0, 0, os.fstat(tar.fileno()).st_size),), None)

    def _open_thin(self, source_sha256: str) -> Opened:
        with closed_on_error(self.thin(source_sha256).open("rb", buffering=0)) as delta:
            plan = read_plan(delta)
            base = self.tar(plan.base_sha256).open("rb", buffering=0)
            if os.fstat(base.fileno()).st_size != plan.base_size:
                base.close()
                raise msgspec.DecodeError(f"the base {plan.base_sha256} is not as long as it was")
        return Opened((base, delta), plan.segments, plan)

    def stored(self) -> tuple[Stored, ...]:
        """Every source, the last asked for first."""
        found = []
        for entry in os.scandir(self.folder) if self.folder.is_dir() else ():
            name, _, suffix = entry.name.partition(".")
            if is_sha256(name) and (suffix == "tar" or (suffix == "thin" and not self.tar(name).exists())):
                with suppress(FileNotFoundError):
                    found.append(self._stored(name, suffix, entry.stat(follow_symlinks=False)))
        return tuple(sorted(found, key=lambda one: one.used, reverse=True))

    def _stored(self, name: str, suffix: str, facts: os.stat_result) -> Stored:
        used = facts.st_mtime
        with suppress(FileNotFoundError):
            used = self.seen(name).stat().st_mtime
        if suffix == "tar":
            return Stored(source_sha256=name, size=facts.st_size, used=used)
        base = self.base_of(name)
        whole = base is not None and self.tar(base).is_file()
        return Stored(source_sha256=name, size=facts.st_size, used=used, base=base, whole=whole)

    def base_of(self, source_sha256: str) -> str | None:
        """The base of a source that is stored as a difference; None for any other."""
        with suppress(FileNotFoundError, msgspec.DecodeError), self.thin(source_sha256).open("rb") as file:
            return read_plan(file).base_sha256
        return None

    def built_on(self, source_sha256: str) -> bool:
        """Whether a source that is stored as a difference needs this one."""
        return any(self.base_of(path.stem) == source_sha256 for path in self.folder.glob("*.thin"))

    # --- what was seen --------------------------------------------------------------------

    def touch(self, source_sha256: str) -> None:
        """Note that a source was asked for."""
        path = self.seen(source_sha256)
        with suppress(OSError):
            try:
                os.utime(path)
            except FileNotFoundError:
                path.touch()

    def note_verified(self, source_sha256: str, stamps: tuple[Stamp, ...]) -> None:
        """Remember that files with these stamps made the source's digest."""
        with suppress(OSError):  # then they are read again
            note = _Seen(boot=boot_id(), stamps=stamps)
            write_whole(self.seen(source_sha256), msgspec.json.encode(note), mode=0o600)

    def is_verified(self, source_sha256: str, stamps: tuple[Stamp, ...]) -> bool:
        """Whether that was so in this boot: what a power cut did to the pages, no stamp tells."""
        with suppress(OSError, msgspec.DecodeError):
            note = decode_json(self.seen(source_sha256).read_bytes(), _Seen)
            return note == _Seen(boot=boot_id(), stamps=stamps)
        return False

    # --- changing -------------------------------------------------------------------------

    @contextmanager
    def temp(self) -> Iterator[tuple[Path, BinaryIO]]:
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

    def abandoned(self) -> Iterator[Path]:
        """What uploads left behind that are over: nobody has it locked."""
        for entry in os.scandir(self.incoming) if self.incoming.is_dir() else ():
            if is_temp_name(entry.name) and (held := _held_alone(Path(entry.path))) is not None:
                held.close()
                yield Path(entry.path)

    def drop(self, temp: Path) -> bool:
        """Remove one of those, unless it is in use."""
        held = _held_alone(temp)
        if held is None:
            return False
        with held:
            temp.unlink(missing_ok=True)
        return True

    def sweep_incoming(self) -> None:
        """Remove all of them."""
        for path in self.abandoned():
            self.drop(path)

    def stray(self) -> Iterator[Path]:
        """Files that stand beside a source which is not there: its upload died, or it was removed."""
        for entry in os.scandir(self.folder) if self.folder.is_dir() else ():
            name, _, suffix = entry.name.partition(".")
            if suffix in {"json", "index", "seen"} and is_sha256(name):
                beside = (self.tar(name),) if suffix != "seen" else (self.tar(name), self.thin(name))
                if not any(path.exists() for path in beside):
                    yield Path(entry.path)

    def lose(self, source_sha256: str) -> None:
        """Remove the names by which a source is found: what is damaged would drop its next upload."""
        self.tar(source_sha256).unlink(missing_ok=True)
        self.thin(source_sha256).unlink(missing_ok=True)

    def remove(self, source_sha256: str) -> bool:
        """Remove a source; False for one that another one needs, or that somebody builds on just now."""
        tar = self.tar(source_sha256)
        if tar.exists():
            held = _held_alone(tar)
            if held is None:
                return False
            with held:
                if self.built_on(source_sha256):  # under the lock: nobody comes to build on it meanwhile
                    return False
                tar.unlink(missing_ok=True)
        for path in (self.thin, self.facts, self.index, self.seen):
            path(source_sha256).unlink(missing_ok=True)
        return True


def _held_alone(path: Path) -> BinaryIO | None:
    """The file, locked; None where it is gone or somebody has it locked."""
    with suppress(OSError), closed_on_error(path.open("rb")) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    return None


@contextmanager
def closed_on_error(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file, which is closed only where the body raises."""
    try:
        yield file
    except BaseException:
        file.close()
        raise


def stamp_of(file: BinaryIO) -> Stamp:
    """The stamp of an open file."""
    facts = os.fstat(file.fileno())
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
