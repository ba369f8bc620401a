"""Sources as files, from which the trees of runs are cloned where the file system can (section 11).

    trees/<sha256>/tree             a source that is stored whole, unpacked; nobody works in it
    trees/<sha256>/record.<boot>    the stamp of each file as it was made, see `sync_record`
    trees/<sha256>.making           the same while it is made; renamed when it is whole
    trees/<sha256>.wanted           a run unpacked that source, or an edit of it

No run waits for the making, which writes the source once more and has its blocks written out: the sweep
after it does that. Whoever clones has the folder locked, shared; who makes or removes it has it locked
alone. Nothing is synced: a tree of another boot is of no use. Whatever is wrong with a kept tree, the
source is unpacked as it would be without.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from rch.contract.ids import is_sha256
from rch.contract.worker_rpc import RpcError
from rch.files.descent import FOLDER_FLAGS, Descent
from rch.files.durable import remove_tree, temp_name, write_whole
from rch.files.extract import ExtractError, open_destination
from worker_agent.clock import boot_id
from worker_agent.cloning import NOT_HERE, Cloner, Tampered, can_clone, give_up
from worker_agent.source_index import SourceMember
from worker_agent.sources import Sources
from worker_agent.sync import collector_at_rest
from worker_agent.sync_record import Record, Stamped, decode_record, encode_record
from worker_agent.trees import lay_out

MAKING = ".making"
WANTED = ".wanted"

_ROOM = 4
"""A tree is kept where so many times its bytes are free."""
_TICK_SECONDS = 0.06
"""After so long a change gives a file another time."""


class KeptTrees:
    """The kept trees in `folder`, whose parent exists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def unpack(self, sources: Sources, source_sha256: str, destination: Path) -> None:
        """Have the source in `destination`; all as `trees.unpack`."""
        sources.facts(source_sha256)
        with collector_at_rest():
            members = sources.members(source_sha256)
            os.close(open_destination(destination))
            there = self._cloned(sources, source_sha256, members, destination)
        known = {member.path for member in there}
        rest = [member for member in members if member.path not in known]
        with sources.open(source_sha256) as source:
            lay_out(source, rest, destination, there)

    def _cloned(
        self, sources: Sources, source_sha256: str, members: Sequence[SourceMember], destination: Path
    ) -> Sequence[SourceMember]:
        """The members that are in `destination` now, which holds nothing else."""
        cloner = can_clone(self.folder.parent)
        if cloner is None:
            return ()
        full = sources.full_of(source_sha256)
        try:
            with self._used(full) as record:
                if record is not None:
                    return self._clone(cloner, full, record, members, destination)
            self._throw_away(full)
        except Tampered:
            remove_tree(destination)
            self._throw_away(full)
        except OSError as error:  # a full disk, too: an unpacking tells better
            remove_tree(destination)
            if error.errno in NOT_HERE:
                give_up(self.folder.parent)
        return ()

    def _throw_away(self, full: str) -> None:
        """Remove what is of no use, and ask for another one."""
        with suppress(OSError):
            if self.drop(self.folder / full):
                self.folder.mkdir(mode=0o700, exist_ok=True)
                (self.folder / f"{full}{WANTED}").touch()

    def _clone(
        self,
        cloner: Cloner,
        full: str,
        record: Record,
        members: Sequence[SourceMember],
        destination: Path,
    ) -> Sequence[SourceMember]:
        same = [member for member in members if _has(record, member)]
        if same:
            cloner.clone_tree(self.folder / full / "tree", destination, record, same)
        return same

    @contextmanager
    def _used(self, full: str) -> Iterator[Record | None]:
        """The record of a kept tree, which stays while the body runs; None where none is of use."""
        place = self.folder / full
        fd = _locked(place, fcntl.LOCK_SH)
        if fd is None:
            yield None
            return
        try:
            yield _recorded(place)
        finally:
            os.close(fd)

    # --- making and removing --------------------------------------------------------------

    def make_wanted(self, sources: Sources) -> None:
        """Make the trees that runs asked for; one that cannot be made waits to be asked for again."""
        for mark in sorted(self.folder.glob(f"*{WANTED}")):
            full = mark.name.removesuffix(WANTED)
            with suppress(OSError, RpcError):
                mark.unlink()
                place = self.folder / full
                if is_sha256(full) and not is_useful(place) and self.drop(place):
                    self._made(sources, full)

    def _made(self, sources: Sources, full: str) -> None:
        facts = sources.facts(full)  # a difference has its digest only as a whole: the base has its own
        if shutil.disk_usage(self.folder).free < _ROOM * facts.content_bytes:
            return
        place = self.folder / f"{full}{MAKING}"
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        fd = _locked(place, fcntl.LOCK_EX)
        if fd is None:
            return
        try:
            self._make(sources, full, place)
            place.rename(self.folder / full)
        except (OSError, ExtractError):
            remove_tree(place)
        finally:
            os.close(fd)

    def _make(self, sources: Sources, full: str, place: Path) -> None:
        for left in list(place.iterdir()):  # by one that was killed
            remove_tree(left)
        members = sources.members(full)
        with sources.open(full) as source:
            lay_out(source, members, place / "tree")
        time.sleep(_TICK_SECONDS)
        record = Record(made=time.time_ns(), folders=_stamps(place / "tree", members))
        write_whole(place / f"record.{boot_id()}", encode_record(record))

    def drop(self, path: Path) -> bool:
        """Remove a kept tree, or what is left of one; False where it is in use, or stays."""
        try:
            fd = _locked(path, fcntl.LOCK_EX)
        except OSError:
            return False
        if fd is None:
            return True
        try:
            aside = temp_name(path)
            path.rename(aside)
            remove_tree(aside)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


def is_useful(place: Path) -> bool:
    """Whether a kept tree is of this boot."""
    return (place / f"record.{boot_id()}").is_file()


def last_use(place: Path) -> float:
    """When a kept tree was last cloned from, or made; by the wall clock."""
    with suppress(OSError):
        return (place / f"record.{boot_id()}").stat().st_mtime
    with suppress(OSError):
        return place.lstat().st_mtime
    return 0.0


def in_use(place: Path) -> bool:
    """Whether somebody has it locked; a hint."""
    try:
        fd = _locked(place, fcntl.LOCK_EX)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    if fd is not None:
        os.close(fd)
    return False


def _locked(place: Path, how: int) -> int | None:
    """The folder, locked; None where it is gone. `BlockingIOError` where another has it locked."""
    try:
        fd = os.open(place, FOLDER_FLAGS)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        current = os.path.samestat(os.fstat(fd), place.lstat())
    except BaseException as error:
        os.close(fd)
        if isinstance(error, FileNotFoundError):
            return None
        raise
    if current:
        return fd
    os.close(fd)
    return None


def _recorded(place: Path) -> Record | None:
    """What was recorded in this boot; from now on it was just used."""
    path = place / f"record.{boot_id()}"
    with suppress(OSError, msgspec.DecodeError):
        record = decode_record(path.read_bytes())
        os.utime(path)
        return record
    return None


def _has(record: Record, member: SourceMember) -> bool:
    folder, _, name = member.path.rpartition("/")
    known = record.folders.get(folder, {}).get(name)
    return (
        known is not None
        and known.sha256 == member.sha256
        and known.target == member.target
        and known.executable == member.executable
    )


def _stamps(tree: Path, members: Sequence[SourceMember]) -> dict[str, dict[str, Stamped]]:
    found: dict[str, dict[str, Stamped]] = {}
    root = os.open(tree, FOLDER_FLAGS)
    try:
        with Descent(root) as descent:
            for member in members:
                folder, _, name = member.path.rpartition("/")
                info = os.stat(name, dir_fd=descent.at(folder), follow_symlinks=False)
                found.setdefault(folder, {})[name] = Stamped(
                    member.sha256,
                    member.executable,
                    member.target,
                    info.st_dev,
                    info.st_ino,
                    info.st_size,
                    info.st_mtime_ns,
                    info.st_ctime_ns,
                )
    finally:
        os.close(root)
    return found
