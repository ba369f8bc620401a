"""What a daemon that died left half-done, removed before the next one takes anything in (invariant I5).

Called when the daemon holds its locks and serves nobody yet: every temporary file is stale then.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import structlog

from rch.files.durable import is_temp_name, remove_tree
from rch.files.paths import HostPaths
from rchd.edges.store_rows import StateStore

log = structlog.get_logger("rchd.leavings")

# What intake writes before there is a row; the projections of a run that was accepted come after it.
_BEFORE_THE_ROW = frozenset({"source_manifest.json", "accepted.json"})


def clear(paths: HostPaths, store: StateStore, live: Iterable[str]) -> None:
    """Remove the temporary files of host state and of `live` runs, and runs that were never accepted.

    What cannot be removed is logged and left.
    """
    for folder in (paths.state_dir, paths.spool):
        _clear_names(folder.glob("*"))
    for run_id in live:
        clear_temps(paths.artifacts / run_id)
    for folder in paths.artifacts.iterdir():
        if _never_accepted(folder, store):
            log.info("leavings.run", run_id=folder.name)
            _remove(folder)


def clear_temps(folder: Path) -> None:
    """Remove the temporary files anywhere below `folder`."""
    _clear_names(folder.rglob("*"))


def _clear_names(found: Iterable[Path]) -> None:
    for path in list(found):
        if is_temp_name(path.name):
            _remove(path)


def _never_accepted(folder: Path, store: StateStore) -> bool:
    """Whether intake was cut off before the run's row: its client was never answered."""
    if (folder / "run_index.json").exists() or not folder.is_dir() or folder.is_symlink():
        return False
    names = {path.name for path in folder.iterdir() if not is_temp_name(path.name)}
    return names <= _BEFORE_THE_ROW and store.run(folder.name) is None


def _remove(path: Path) -> None:
    try:
        remove_tree(path)
    except OSError as error:
        log.warning("leavings.stay", path=str(path), error=str(error))
