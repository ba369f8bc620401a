"""Where a job works: the tree of its run, which its steps use one after the other (spec section 11).

Warm workspaces, which outlive the run, are in `slots`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.files.durable import is_no_space, make_dirs, remove_tree
from rch.files.locks import FileLock
from rch.files.paths import WorkerPaths
from worker_agent.clock import boot_id
from worker_agent.sources import Sources


class Workspace(ABC):
    """A tree and its build products, for one job at a time.

    `stage` names what `prepare` does, `notes` tells of it in sentences, `counts` go into the metrics.
    `tree` and `build` are good once it was entered.
    """

    stage: str
    tree: Path
    build: Path

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.counts: dict[str, int] = {}

    @abstractmethod
    def enter(self) -> bool:
        """Have it to ourselves; False: not now."""

    def otherwise(self) -> Workspace:
        """What to try next after an `enter` that gave False."""
        return self

    @abstractmethod
    def prepare(self, source_sha256: str, sources: Sources) -> None:
        """Have the source in `tree`. `Failure` EXECUTOR (NO_SPACE where the disk is full)."""

    @abstractmethod
    def settle(self) -> None:
        """The job is over and its processes are gone: others may build on what it leaves."""

    @abstractmethod
    def discard(self) -> None:
        """Give up what it holds, for its space."""

    @abstractmethod
    def release(self) -> None:
        """Let others enter; done already is fine."""


class RunRoom(Workspace):
    """`runs/<run_id>/`: `tree`, `build`, and `source`, which names what `tree` holds.

    The name is written after the tree is whole, and removed before it is touched again. The boot
    stands beside it: the tree is not synced, so that a power cut may have emptied its files.
    `fresh` throws away what an earlier execution left, its build products too.
    """

    stage = "unpack"

    def __init__(self, paths: WorkerPaths, run_id: str, *, fresh: bool = False) -> None:
        super().__init__()
        self.folder = paths.runs / run_id
        self.tree = self.folder / "tree"
        self.build = self.folder / "build"
        self.lock = FileLock(paths.locks / f"run-{run_id}.lock", f"run {run_id}")
        self._trees = paths.trees
        self._fresh = fresh

    def enter(self) -> bool:
        """Take the run's lock if it is free."""
        return self.lock.try_acquire()

    def prepare(self, source_sha256: str, sources: Sources) -> None:
        """Have the source unpacked in `tree`; after a `Failure` nothing half-made is left."""
        marker = self.folder / "source"
        holds = f"{source_sha256} {boot_id()}"
        try:
            make_dirs(self.folder)
            if not self._fresh and _holds(marker) == holds:
                self.build.mkdir(exist_ok=True)
                return
            marker.unlink(missing_ok=True)
            remove_tree(self.tree)
            remove_tree(self.build)
            self.build.mkdir()
            self._unpack(source_sha256, sources)
            marker.write_text(holds, encoding="ascii")
        except OSError as error:
            remove_tree(self.tree)
            subkind = "NO_SPACE" if is_no_space(error) else None
            raise Failure(
                Kind.EXECUTOR, f"the source was not unpacked: {error.strerror or error}", subkind=subkind
            ) from error

    def settle(self) -> None:
        """Nothing: what there is was durable enough when it was unpacked."""

    def discard(self) -> None:
        """Remove tree and products, unless another job has them; the next step unpacks the source again."""
        if not self.lock.try_acquire():
            return
        remove_tree(self.build)
        (self.folder / "source").unlink(missing_ok=True)
        remove_tree(self.tree)

    def release(self) -> None:
        """Leave it to the next step of the run."""
        self.lock.release()

    def _unpack(self, source_sha256: str, sources: Sources) -> None:
        from rch.files.extract import ExtractError
        from worker_agent.kept_trees import KeptTrees

        try:
            KeptTrees(self._trees).unpack(sources, source_sha256, self.tree)
        except ExtractError as error:
            remove_tree(self.tree)
            raise Failure(Kind.EXECUTOR, f"the source was not unpacked: {error.reason}") from error


def _holds(marker: Path) -> str | None:
    try:
        return marker.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
