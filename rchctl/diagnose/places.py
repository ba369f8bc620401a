"""Where a path of the repository is on this machine, and whether it is what the run was given."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import PurePosixPath

from rchctl.diagnose.finding import Finding, Place

MAX_SOURCE = 16 << 20
"""Bytes of a file that is read for its lines; a larger one has a place and no text."""


class Project:
    """The files below `root`; `digests` has the SHA-256 of each as the run was given it."""

    def __init__(self, root: str, digests: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._digests = digests or {}
        self._read: dict[str, tuple[bytes | None, bool | None]] = {}

    def placed(self, finding: Finding) -> Finding:
        """The finding with its place, if the file is there; what is below no root has none."""
        if finding.path is None or (file := self.file(finding.path)) is None:
            return finding
        data, changed = self._contents(file, finding.path)
        if data is None:
            return finding.at(Place(file, changed=changed))
        lines = data.split(b"\n")
        at = finding.line
        text = lines[at - 1].decode("utf-8", "replace") if at and at <= len(lines) else None
        count = len(lines) - (not lines[-1])
        return finding.at(Place(file, None if text is None else text.rstrip("\r"), count, changed))

    def file(self, path: str) -> str | None:
        """The regular file that `path` is on this machine."""
        if not self._root or path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
            return None
        place = os.path.join(self._root, path)  # noqa: PTH118  (as it was typed, links and all)
        try:
            is_file = stat.S_ISREG(os.stat(place).st_mode)  # noqa: PTH116
        except (OSError, ValueError):
            return None
        return place if is_file else None

    def _contents(self, place: str, path: str) -> tuple[bytes | None, bool | None]:
        """The bytes of a file that is not too large, and whether they are others than the run's."""
        if path not in self._read:
            try:
                with open(place, "rb") as file:  # noqa: PTH123
                    data = file.read(MAX_SOURCE + 1)
            except OSError:
                data = None
            if data is None or len(data) > MAX_SOURCE:
                self._read[path] = None, None
            else:
                given = self._digests.get(path)
                changed = None if given is None else hashlib.sha256(data).hexdigest() != given
                self._read[path] = data, changed
        return self._read[path]
