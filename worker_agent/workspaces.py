"""The working tree of a run, which its steps use one after the other (spec section 11)."""

from __future__ import annotations

from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.files.durable import is_no_space, make_dirs, remove_tree
from rch.files.locks import FileLock
from rch.files.paths import WorkerPaths
from worker_agent.clock import boot_id
from worker_agent.sources import Sources


class RunRoom:
    """`runs/<run_id>/`: `tree`, `build`, and `source`, which names what `tree` holds.

    The name is written after the tree is whole, and removed before it is touched again. The boot
    stands beside it: the tree is not synced, so that a power cut may have emptied its files.
    """

    def __init__(self, paths: WorkerPaths, run_id: str) -> None:
        self.folder = paths.runs / run_id
        self.tree = self.folder / "tree"
        self.build = self.folder / "build"
        self.lock = FileLock(paths.locks / f"run-{run_id}.lock", f"run {run_id}")

    def prepare(self, source_sha256: str, sources: Sources, *, fresh: bool) -> None:
        """Have the source unpacked in `tree`; the caller owns the lock.

        `fresh` throws away what an earlier execution left, its build products too. `Failure`
        EXECUTOR (NO_SPACE where the disk is full), after which nothing half-made is left.
        """
        marker = self.folder / "source"
        holds = f"{source_sha256} {boot_id()}"
        try:
            make_dirs(self.folder)
            if not fresh and _holds(marker) == holds:
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
                Kind.EXECUTOR, f"the source was not unpacked: {error.strerror}", subkind=subkind
            ) from error

    def _unpack(self, source_sha256: str, sources: Sources) -> None:
        from rch.files.extract import ExtractError, Limits, extract

        facts = sources.facts(source_sha256)
        limits = Limits(max_entries=facts.entries, max_bytes=facts.content_bytes)
        try:
            with sources.open(source_sha256) as tar:
                extract(tar, self.tree, limits=limits, canonical=True)
        except ExtractError as error:
            remove_tree(self.tree)
            raise Failure(Kind.EXECUTOR, f"the source was not unpacked: {error.reason}") from error


def _holds(marker: Path) -> str | None:
    try:
        return marker.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
