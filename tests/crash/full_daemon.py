"""`rchd` in the foreground whose disk is full for a while, or broken, from the n-th step on.

`full_daemon.py full N MANY TRACE`: steps N to N + MANY - 1 find no space, N = 0 none. A step is a write
to a regular file, a new name or a name that is given anew, and each transaction of the database.
`full_daemon.py broken N MANY TRACE`: steps are the syncs of files and folders, which fail with EIO.
TRACE has a line for each step.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rch.files.paths import host_paths
from rchd import __main__ as program
from rchd import driver
from rchd.edges import shortage, store_health
from rchd.edges.store import Batch, SqliteStore

_PYTHON_CACHE = ".pyc"
_PAUSE = 0.02
_write = os.write


class Disk:
    """Counts, writes down, and is full when it is time."""

    def __init__(self, number: int, full_at: int, many: int, trace: int) -> None:
        self._number = number
        self._full = range(full_at, full_at + many) if full_at else range(0)
        self._trace = trace
        self._lock = threading.Lock()
        self._done = 0

    def is_full(self, what: str) -> bool:
        """Count one step; whether there is no space for it."""
        with self._lock:
            self._done += 1
            full = self._done in self._full
            _write(self._trace, f"{'full ' if full else ''}{what}\n".encode())
        return full

    def step(self, what: str, path: object) -> None:
        """Count one step, which fails when it is time."""
        if self.is_full(what):
            raise OSError(self._number, os.strerror(self._number), str(path))

    def names(self, name: str) -> None:
        """Let `os.<name>`, which makes a name, be a step."""
        real: Callable[..., Any] = getattr(os, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.step(f"{name} {Path(args[-1 if name != 'mkdir' else 0]).name}", args[0])
            return real(*args, **kwargs)

        setattr(os, name, counted)

    def files(self) -> None:
        """Let each file that is opened to be written anew be a step."""
        real_open, real_io = os.open, io.open

        def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & os.O_CREAT and _PYTHON_CACHE not in str(path):
                self.step(f"open {Path(str(path)).name}", path)
            return real_open(path, flags, *args, **kwargs)

        def opened_too(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if set(mode) & set("wax") and not isinstance(file, int):
                self.step(f"open {Path(str(file)).name}", file)
            return real_io(file, mode, *args, **kwargs)

        os.open, io.open = opened, opened_too

    def writes(self, name: str) -> None:
        """Let `os.<name>`, where it writes to a file, be a step."""
        real: Callable[..., int] = getattr(os, name)

        def counted(fd: int, data: memoryview, *where: int) -> int:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                self.step(f"{name} {len(data)}", fd)
            return real(fd, data, *where)

        setattr(os, name, counted)

    def syncs(self) -> None:
        """Let each sync be a step."""
        real = os.fsync

        def counted(fd: int) -> None:
            self.step(f"sync {Path(f'/proc/self/fd/{fd}').readlink().name}", fd)
            real(fd)

        os.fsync = counted  # type: ignore[assignment]

    def transactions(self) -> None:
        """Let each transaction be a step: what the reserve is spent for is tried once more."""
        real = SqliteStore._attempt  # below it there is SQLite alone

        def counted(store: SqliteStore, batch: Batch) -> None:
            if self.is_full(f"transaction {' '.join(run.state for run in batch.runs)}"):
                raise store_health.space_failure(host_paths(os.environ).database)
            real(store, batch)

        SqliteStore._attempt = counted  # type: ignore[assignment,method-assign]


def main() -> None:
    """Count, and serve."""
    trace = os.open(sys.argv[4], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    is_broken = sys.argv[1] == "broken"
    disk = Disk(errno.EIO if is_broken else errno.ENOSPC, int(sys.argv[2]), int(sys.argv[3]), trace)
    if is_broken:
        disk.syncs()
    else:
        for name in ("mkdir", "rename", "replace"):
            disk.names(name)
        for name in ("write", "pwrite"):
            disk.writes(name)
        disk.files()
        disk.transactions()
    driver.RETRY_SECONDS = shortage.SPACE_SECONDS = _PAUSE
    sys.argv[1:] = ["run"]
    program.main()


if __name__ == "__main__":
    main()
