"""Which kept trees go: with their source, with the boot, and all but the last used (section 11).

Their bytes are counted as the files say: that much comes free, for the runs whose trees share the blocks
are over by then. What is locked is in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rch.contract.ids import is_sha256
from rch.files.durable import remove_tree
from worker_agent.kept_trees import MAKING, WANTED, KeptTrees, in_use, is_useful, last_use
from worker_agent.leftovers import plan_sources
from worker_agent.upkeep import Doomed, size_of
from worker_agent.worker import Worker

KEEP_TREES = 4


def plan_trees(worker: Worker, now: float) -> Iterator[Doomed]:
    """Kept trees that are of no more use, and what is left of some."""
    folder = worker.paths.trees
    if not folder.is_dir():
        return
    paths = sorted(
        (Path(entry.path) for entry in os.scandir(folder) if not entry.name.endswith(WANTED)),
        key=last_use,
        reverse=True,
    )
    going = {doomed.name for doomed in plan_sources(worker, now)}
    kept = 0
    for path in paths:
        reason = _reason(worker, path, going, kept)
        if reason is None:
            kept += 1
        elif not in_use(path):
            yield Doomed(
                kind="tree",
                name=path.name,
                age_seconds=now - last_use(path),
                reason=reason,
                size=partial(size_of, path),
                remove=partial(_remove, KeptTrees(folder), path),
            )


def _reason(worker: Worker, path: Path, going: set[str], kept: int) -> str | None:
    if path.name.endswith(MAKING):
        return "its maker is gone"
    if not is_sha256(path.name):
        return "it was thrown away"
    if path.name in going or not worker.sources.path(path.name).exists():
        return "its source goes"
    if not is_useful(path):
        return "the machine was restarted since"
    return f"not among the {KEEP_TREES} last used" if kept >= KEEP_TREES else None


def _remove(trees: KeptTrees, path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        return trees.drop(path)
    remove_tree(path)
    return True
