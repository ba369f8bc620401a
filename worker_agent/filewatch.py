"""Hears of changes in folders as they happen: inotify on Linux, kqueue on macOS.

A watch is a hint and nothing rests on it: who waits looks again after a while in any case. The part for
macOS has not been run by the tests, which run on Linux.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_PIECE = 64 << 10


class FileWatch(Protocol):
    """What can be waited for: `fd` is readable once something has changed.

    One is kept for the life of its process: to close one costs the kernel 10 ms and more.
    """

    fd: int

    def follow(self, folders: Sequence[Path], files: Sequence[Path]) -> bool:
        """Hear of the entries of `folders` and of what is appended to `files` in them, and of no others.

        All have to be there. True where they were not followed yet: what happened before was not heard.
        """

    def clear(self) -> None:
        """Forget what was heard so far."""


def new_watch() -> FileWatch | None:
    """A watch that follows nothing yet; None where none is to be had."""
    try:
        return _Watch()
    except (OSError, AttributeError):  # a C library without the calls has no such attributes
        return None


if sys.platform == "darwin":

    class _Watch:
        """A kqueue; each file and folder is held open."""

        def __init__(self) -> None:
            self._queue = select.kqueue()
            self.fd = self._queue.fileno()
            self._open: dict[Path, int] = {}

        def follow(self, folders: Sequence[Path], files: Sequence[Path]) -> bool:
            wanted = {*folders, *files}
            if wanted == self._open.keys():
                return False
            while self._open:
                os.close(self._open.popitem()[1])
            heard = select.KQ_NOTE_WRITE | select.KQ_NOTE_EXTEND | select.KQ_NOTE_DELETE
            flags = select.KQ_EV_ADD | select.KQ_EV_CLEAR
            for path in wanted:
                fd = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._queue.control([select.kevent(fd, select.KQ_FILTER_VNODE, flags, heard)], 0)
            return True

        def clear(self) -> None:
            with suppress(OSError):
                self._queue.control(None, 64, 0)

else:

    class _Watch:
        """One inotify descriptor: a folder's watch tells of its files too."""

        _MASK = 0x2 | 0x80 | 0x100 | 0x1000000  # MODIFY, MOVED_TO, CREATE, ONLYDIR

        def __init__(self) -> None:
            import ctypes

            self._errno = ctypes.get_errno
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._followed: dict[Path, int] = {}
            self.fd = self._called(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

        def follow(self, folders: Sequence[Path], files: Sequence[Path]) -> bool:
            del files
            if self._followed.keys() == set(folders):
                return False
            for gone in self._followed.keys() - set(folders):
                # It fails where the folder is no more, and its watch with it.
                self._libc.inotify_rm_watch(self.fd, self._followed.pop(gone))
            for folder in folders:
                name = os.fsencode(folder)
                number = self._called(self._libc.inotify_add_watch(self.fd, name, self._MASK))
                self._followed[folder] = number
            return True

        def clear(self) -> None:
            with suppress(BlockingIOError):
                os.read(self.fd, _PIECE)

        def _called(self, result: int) -> int:
            if result < 0:
                number = self._errno()
                raise OSError(number, os.strerror(number))
            return result
