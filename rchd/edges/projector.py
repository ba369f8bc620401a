"""Writes the projections of runs, and makes good what could not be written (spec section 4; fault H10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from rch.files.durable import make_dirs, sync_path, write_whole
from rchd.core import model as m
from rchd.core.projections import projections
from rchd.edges.leavings import clear_names, clear_temps

log = structlog.get_logger("rchd.driver")


class Projector:
    """Files below `artifacts`. Called from one thread at a time."""

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._late: dict[str, bytes] = {}
        self._why = ""
        self._unsynced: set[Path] = set()

    @property
    def trouble(self) -> str | None:
        """Why something is late, if something is."""
        return f"files of runs: {self._why}" if self._late else None

    @property
    def is_late(self) -> bool:
        """Whether something still has to be written."""
        return bool(self._late)

    @property
    def late_runs(self) -> frozenset[str]:
        """The runs of which something still has to be written."""
        return frozenset(path.partition("/")[0] for path in self._late)

    def write(self, writes: Mapping[str, bytes]) -> None:
        """Put each at its path, what is late first; what fails is late.

        A run's files are written in their order, the index last: it never names what is not there.
        """
        due = {path: data for path, data in self._late.items() if path not in writes} | dict(writes)
        late: dict[str, bytes] = {}
        stuck: set[str] = set()
        for path, data in due.items():
            run_id = path.partition("/")[0]
            if run_id not in stuck and not self._put(self._artifacts / path, data):
                stuck.add(run_id)
            if run_id in stuck:
                late[path] = data
        # Only now: whoever asks meanwhile hears of all that is not written yet.
        self._late = late

    def take_unsynced(self) -> set[Path]:
        """What was written since the last call, for `sync`; in turn with the calls that write."""
        taken, self._unsynced = self._unsynced, set()
        return taken

    @staticmethod
    def sync(paths: Iterable[Path]) -> None:
        """Make these files and folders durable; may run beside anything else.

        The row was durable before them, and at a start they are made anew from it: so nobody waits
        for this, and what fails is told in the log alone.
        """
        for path in paths:
            try:
                sync_path(path)
            except FileNotFoundError:
                continue  # a published set took its folder's place
            except OSError as error:
                log.warning("projection.not_synced", path=str(path), error=str(error))

    def look_over(self, files: Mapping[str, Mapping[str, bytes]]) -> None:
        """Write what of these runs' files is not as it should be; run -> path -> bytes.

        In a run's folder itself nobody but this object writes, so a temporary file there is what a
        daemon that died left.
        """
        for run_id, wanted in files.items():
            clear_names(self._artifacts / run_id)
            wrong = {
                path: data for path, data in wanted.items() if not _holds(self._artifacts / path, data)
            }
            if wrong:
                log.warning("projection.made_good", run_id=run_id)
                self.write(wrong)

    def make_good(self, ended: Iterable[m.Run]) -> None:
        """Write the files of ended runs whose last one, the index, is not as it should be.

        Live runs are written anew at start by the core. A run without a folder is left alone:
        it was collected.
        """
        for run in ended:
            files = projections(run)
            index = f"{run.run_id}/run_index.json"
            if (self._artifacts / run.run_id).is_dir() and self._read(index) != files[index]:
                log.warning("projection.made_good", run_id=run.run_id)
                clear_temps(self._artifacts / run.run_id)
                self.write(files)

    def _read(self, path: str) -> bytes | None:
        try:
            return (self._artifacts / path).read_bytes()
        except OSError:
            return None

    def _put(self, target: Path, data: bytes) -> bool:
        try:
            if (target.parent / "manifest.json").exists():
                return True  # a published set stands there: nothing of ours may touch it
            if _holds(target, data):
                return True  # at a start most files are as they should be, and a sync costs
            make_dirs(target.parent, 0o755)
            write_whole(target, data)
            self._unsynced |= {target, target.parent}
        except OSError as error:
            self._why = str(error)
            log.warning("projection.failed", path=str(target), error=str(error))
            return False
        return True


def _holds(target: Path, data: bytes) -> bool:
    try:
        with target.open("rb", buffering=0) as file:
            return file.read(len(data) + 1) == data
    except OSError:
        return False
