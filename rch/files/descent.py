"""Folders by descriptor: the way down from a root that no link can bend (spec section 5).

Every step is one `openat` with `O_NOFOLLOW`, so a folder that is swapped for a link while we
work is an error and never a way out. The descriptors of the way to the last folder stay open:
names in sorted order open each folder once.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from rch.files.durable import sync_file

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Descent:
    """The folders below `root`, a descriptor that stays the caller's.

    `make`: a folder that is asked for is made on first sight, mode 0755, and listed in `made`;
    one that is there before its turn is `FileExistsError`. `durable`: each is synced when left.
    """

    def __init__(self, root: int, *, make: bool = False, durable: bool = False) -> None:
        self.made: dict[str, None] = {}
        self._make = make
        self._durable = durable
        self._path = ""
        self._names: list[str] = []
        self._fds = [root]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._climb(0, sync=self._durable and kind is None)

    def at(self, folder: str) -> int:
        """The descriptor of `folder`, "" being the root; it is good until the next call."""
        if folder == self._path:
            return self._fds[-1]
        names = folder.split("/") if folder else []
        shared = 0
        for old, new in zip(self._names, names, strict=False):
            if old != new:
                break
            shared += 1
        self._climb(shared, sync=self._durable)
        for name in names[shared:]:
            self._enter(name)
        return self._fds[-1]

    def _enter(self, name: str) -> None:
        parent = self._fds[-1]
        path = f"{self._path}/{name}" if self._path else name
        fresh = self._make and path not in self.made
        if fresh:
            os.mkdir(name, 0o755, dir_fd=parent)
            self.made[path] = None
        fd = os.open(name, FOLDER_FLAGS, dir_fd=parent)
        self._fds.append(fd)
        self._names.append(name)
        self._path = path
        if fresh:
            os.fchmod(fd, 0o755)  # whatever the umask

    def _climb(self, depth: int, *, sync: bool) -> None:
        try:
            while len(self._names) > depth:
                if sync:
                    sync_file(self._fds[-1])
                self._names.pop()
                os.close(self._fds.pop())
        finally:
            while len(self._names) > depth:
                self._names.pop()
                os.close(self._fds.pop())
            self._path = "/".join(self._names)
