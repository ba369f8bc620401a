"""Space that is kept back, so that a run can be cancelled and ended on a full disk.

A file of real bytes lies beside the database. What is urgent may spend it; until it is
filled again nothing else is written, so that the urgent is never crowded out.
"""

from __future__ import annotations

import os
from pathlib import Path

from rch.files import durable

RESERVE_BYTES = 1024 * 1024


class Reserve:
    """The file at `path`; made at once if there is room."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size = size
        self._full = False
        self.fill()

    def fill(self) -> bool:
        """Make it full if it is not; False if there is no room. Other errors are `OSError`."""
        if not self._full:
            try:
                self._full = self._is_whole() or self._write()
            except OSError as error:
                if not durable.is_no_space(error):
                    raise
        return self._full

    def _is_whole(self) -> bool:
        return self._path.is_file() and self._path.stat().st_size == self._size

    def _write(self) -> bool:
        # Random bytes: a file system that compresses would keep no space for zeros.
        durable.write_atomic(self._path, os.urandom(self._size), mode=0o600)
        return True

    def spend(self) -> bool:
        """Give the space back to the disk; whether there was any."""
        if not self._full:
            return False
        self._path.unlink(missing_ok=True)
        self._full = False
        return True
