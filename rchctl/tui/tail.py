"""The end of one log, and what comes to it, as harmless text."""

from __future__ import annotations

import os

from rchctl.terminal import LogFilter

_FIRST_BYTES = 64 << 10
_MOST_AT_ONCE = 256 << 10


class Tail:
    """One log at a time."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._offset = 0
        self._filter = LogFilter()

    def turn_to(self, path: str | None) -> bool:
        """Read that one from now on; whether it is another than before."""
        if path == self._path:
            return False
        self._path, self._filter = path, LogFilter()
        self._offset = max(self._size() - _FIRST_BYTES, 0)
        return True

    def read(self) -> str:
        """What is new, of much only the last; a log that begins anew is read from its begin."""
        size = self._size()
        if size < self._offset:
            self._offset, self._filter = 0, LogFilter()
        if self._path is None or size == self._offset:
            return ""
        begin = max(self._offset, size - _MOST_AT_ONCE)
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            data = os.pread(fd, size - begin, begin)
        except OSError:
            return ""
        finally:
            os.close(fd)
        self._offset = begin + len(data)
        return self._filter.feed(data)

    def _size(self) -> int:
        try:
            return 0 if self._path is None else os.stat(self._path).st_size  # noqa: PTH116  (hot)
        except OSError:
            return 0
