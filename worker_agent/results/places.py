"""From a path that a tool prints to one of the repository."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

_MAX_FILES = 200_000
_NOT_SOURCE = frozenset({".build", ".git", ".swiftpm", "DerivedData"})


class Places:
    """Paths below `tree`, under its name and under its real one (`/tmp` is a link on macOS)."""

    def __init__(self, tree: Path, build: Path | None = None) -> None:
        self._tree = tree
        self._roots = tuple(dict.fromkeys(str(root) for root in (tree, _real(tree))))
        self._built = tuple(
            dict.fromkeys(str(root) for root in (build, _real(build) if build else None) if root)
        )
        self._by_name: dict[str, str | None] | None = None

    def relative(self, printed: str) -> str:
        """Relative to the tree where it lies in it; what the build made keeps its file name alone."""
        path = os.path.normpath(printed)
        for root in self._roots:
            if path.startswith(root + "/"):
                return path[len(root) + 1 :]
        if any(path.startswith(root + "/") for root in self._built):
            return PurePosixPath(path).name
        return path

    def named(self, name: str) -> str | None:
        """The one source file of that name; None where there is none, or more than one."""
        if self._by_name is None:
            self._by_name = self._walk()
        return self._by_name.get(name)

    def _walk(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        seen = 0
        for folder, folders, files in os.walk(self._tree):
            folders[:] = sorted(one for one in folders if one not in _NOT_SOURCE)
            for name in files:
                if name.endswith(".swift"):
                    path = os.path.relpath(f"{folder}/{name}", self._tree)
                    found[name] = None if name in found else path
            seen += len(files)
            if seen > _MAX_FILES:  # the only one so far is not known to be the only one
                return {}
        return found


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        return path
