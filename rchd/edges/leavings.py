"""What a daemon that died left half-done, removed before the next one takes anything in (invariant I5).

Called when the daemon holds its locks and serves nobody yet: every temporary file is stale then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import structlog

from rch.files.durable import is_temp_name, remove_tree
from rch.files.paths import HostPaths
from rchd.core import model as m
from rchd.edges.store_rows import StateStore

log = structlog.get_logger("rchd.leavings")

# What intake writes before there is a row; the projections of a run that was accepted come after it.
_BEFORE_THE_ROW = frozenset({"source_manifest.json", "accepted.json"})


def clear(paths: HostPaths, store: StateStore, live: Iterable[m.Run]) -> None:
    """Remove the temporary files of host state and of `live` runs, and runs that were never accepted.

    The runs that wait are left to `Projector.look_over`, for they may be thousands. What cannot
    be removed is logged and left.
    """
    for folder in (paths.state_dir, paths.spool):
        clear_names(folder)
    known = {run.run_id: run for run in live}
    for run in known.values():
        if not isinstance(run.phase, m.Waiting):
            clear_temps(paths.artifacts / run.run_id)
    for entry in _entries(paths.artifacts):
        if entry.name not in known and _never_accepted(entry, store):
            log.info("leavings.run", run_id=entry.name)
            _remove(Path(entry.path))


def clear_temps(folder: Path | str) -> None:
    """Remove the temporary files anywhere below `folder`."""
    for entry in clear_names(folder):
        if entry.is_dir(follow_symlinks=False):
            clear_temps(entry.path)


def clear_names(folder: Path | str) -> list[os.DirEntry[str]]:
    """Remove the temporary files in `folder` itself; what else lies there."""
    entries = _entries(folder)
    for entry in entries:
        if is_temp_name(entry.name):
            _remove(Path(entry.path))
    return [entry for entry in entries if not is_temp_name(entry.name)]


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in `folder`, without a look at each: there are tens of thousands at a start."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:  # it is not there, or is no folder
        return []


def _never_accepted(folder: os.DirEntry[str], store: StateStore) -> bool:
    """Whether intake was cut off before the run's row: its client was never answered."""
    if not folder.is_dir(follow_symlinks=False) or Path(folder.path, "run_index.json").exists():
        return False
    names = {entry.name for entry in _entries(folder.path) if not is_temp_name(entry.name)}
    return names <= _BEFORE_THE_ROW and store.run(folder.name) is None


def _remove(path: Path) -> None:
    try:
        remove_tree(path)
    except OSError as error:
        log.warning("leavings.stay", path=str(path), error=str(error))
