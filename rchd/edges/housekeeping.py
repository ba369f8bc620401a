"""Looks at what ended runs take on this machine, and removes what the core has chosen (spec section 11).

A run goes in three steps, each of which a start completes: its folder is moved aside whole, emptied,
and with its rows the folder itself goes. So no row is ever left without its artifacts, nor the other
way round, and a full disk gets its space back before the database needs any.

A run's folder is in use while somebody holds a lock on it: `flock -s FOLDER COMMAND` does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import structlog

from rch.contract.errors import Failure
from rch.contract.ids import parse_timestamp
from rch.contract.states import is_terminal
from rch.files.durable import make_dirs, remove_tree, replace, sync_dir
from rchd.core.retention import Kept
from rchd.edges.store_rows import RunRow, StateStore

log = structlog.get_logger("rchd.gc")

PIN = "keep"
"""A file of this name in a run's folder keeps the run for good."""
GONE = "gone"
AT_ONCE = 200
_BLOCK = 512  # what `st_blocks` counts in, whatever the file system's own blocks are


class _Accepted(msgspec.Struct, frozen=True):
    root: str
    project: str


class _Doc(msgspec.Struct, frozen=True):
    """What of a run's row is looked at; the rest is not even decoded."""

    accepted: _Accepted


_DOC = msgspec.json.Decoder(_Doc)


class Housekeeper:
    """All ended runs below `artifacts`. Its calls block, and come from one thread at a time."""

    def __init__(self, artifacts: Path, store: StateStore) -> None:
        self._artifacts = artifacts
        self._store = store
        self._sizes: dict[str, tuple[int, int]] = {}
        self.projects: dict[str, str] = {}

    @property
    def gone(self) -> Path:
        """Where what is on its way out lies: beside the artifacts, on their disk."""
        return self._artifacts.with_name(GONE)

    def look(self, is_live: Callable[[str], bool]) -> list[Kept]:
        """Every run that is over, newest first."""
        found = [self._kept(row) for row in self._rows() if not is_live(row.run_id)]
        known = {run.run_id for run in found}
        self._sizes = {run_id: size for run_id, size in self._sizes.items() if run_id in known}
        self.projects = {run_id: name for run_id, name in self.projects.items() if run_id in known}
        return found

    def _rows(self) -> Iterator[RunRow]:
        before = None
        while rows := self._store.runs(AT_ONCE, before=before):
            yield from (row for row in rows if is_terminal(row.state))
            before = rows[-1].run_id

    def _kept(self, row: RunRow) -> Kept:
        accepted = _DOC.decode(row.doc).accepted
        self.projects[row.run_id] = accepted.project
        folder = self._artifacts / row.run_id
        if (sizes := self._sizes.get(row.run_id)) is None:
            # What is over changes no more, so it is measured once.
            sizes = self._sizes[row.run_id] = _measure(folder)
        return Kept(
            run_id=row.run_id,
            root=accepted.root,
            ended=parse_timestamp(row.updated_at),
            bytes=sizes[0],
            rejected=sizes[1],
            pinned=(folder / PIN).exists(),
            used=not _is_free(folder),
        )

    def pin(self, run_id: str, *, kept: bool) -> None:
        """Keep a run for good, or no more."""
        mark = self._artifacts / run_id / PIN
        if kept:
            mark.touch(mode=0o644)
        else:
            mark.unlink(missing_ok=True)
        sync_dir(mark.parent)

    def remove(self, run_id: str) -> None:
        """Remove a run, its rows too; `OSError` or `Failure` where something stays, which a start ends."""
        folder = self._artifacts / run_id
        with _alone(folder) as free:
            if not free:
                raise BlockingIOError(0, "somebody uses it", str(folder))
            make_dirs(self.gone, 0o755)
            with suppress(FileNotFoundError):  # its artifacts are gone already: the rows follow
                replace(folder, self.gone / run_id)
        self._finish(self.gone / run_id)
        self._sizes.pop(run_id, None)

    def remove_rejected(self, run_id: str) -> None:
        """Remove what failed its checks of a run that stays."""
        for place in _rejected(self._artifacts / run_id):
            remove_tree(place)
        self._sizes.pop(run_id, None)

    def finish(self) -> None:
        """Remove what was on its way out when the daemon ended."""
        with suppress(FileNotFoundError, NotADirectoryError):
            for folder in sorted(self.gone.iterdir()):
                try:
                    self._finish(folder)
                except (OSError, Failure) as error:
                    log.warning("gc.stays", path=str(folder), error=str(error))

    def _finish(self, folder: Path) -> None:
        if folder.is_dir() and not folder.is_symlink():
            for entry in list(os.scandir(folder)):
                remove_tree(Path(entry.path))
        self._store.forget([folder.name])
        remove_tree(folder)


def _measure(folder: Path) -> tuple[int, int]:
    """The bytes that a run's folder takes on the disk, and those of its rejected sets."""
    rejected = sum(_size(place) for place in _rejected(folder))
    return _size(folder), rejected


def _rejected(folder: Path) -> list[Path]:
    return sorted(folder.glob("steps/*/*.rejected"))


def _size(folder: Path | str) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                if entry.is_dir(follow_symlinks=False):
                    total += _size(entry.path)
    except OSError:  # it is gone, or cannot be read
        return total
    return total


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether nobody uses the folder; nobody new does meanwhile. A missing one is free."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield True
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _is_free(folder: Path) -> bool:
    with _alone(folder) as free:
        return free
