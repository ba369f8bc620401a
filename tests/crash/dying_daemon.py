"""`rchd` in the foreground that dies by SIGKILL at the n-th step that is to survive it.

`dying_daemon.py N TRACE`: steps are counted from the start of the process; N = 0 never dies.
A step is a write to a regular file (which is torn in the middle), a sync, a rename, a new or a
removed name, and each commit twice: before it and after it. TRACE has a line for each.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio

from rch.files.paths import host_paths
from rchd.app import serve
from rchd.edges.logfile import configure_log
from rchd.edges.store import Batch, SqliteStore

_PYTHON_CACHE = ".pyc"
_write = os.write


class Steps:
    """Counts, writes down, and ends the process when it is time."""

    def __init__(self, die_at: int, trace: int) -> None:
        self._die_at = die_at
        self._trace = trace
        self._lock = threading.Lock()
        self._done = 0

    def is_last(self, what: str) -> bool:
        """Count one step; whether it is the one to die at: then no other thread does another."""
        self._lock.acquire()
        self._done += 1
        _write(self._trace, f"{what}\n".encode())
        if self._done == self._die_at:
            return True
        self._lock.release()
        return False

    def step(self, what: str) -> None:
        """Count one step, and die at it."""
        if self.is_last(what):
            die()

    def before(self, name: str) -> None:
        """Let `os.<name>` be a step."""
        real: Callable[..., Any] = getattr(os, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            said = " ".join(str(arg).rpartition("/")[2] for arg in args if not isinstance(arg, int))
            if _PYTHON_CACHE not in said:
                self.step(f"{name} {said}")
            return real(*args, **kwargs)

        setattr(os, name, counted)

    def torn(self, name: str) -> None:
        """Let `os.<name>`, which writes, be a step of which half is done."""
        real: Callable[..., int] = getattr(os, name)

        def counted(fd: int, data: memoryview, *where: int) -> int:
            if stat.S_ISREG(os.fstat(fd).st_mode) and self.is_last(f"{name} {len(data)}"):
                real(fd, memoryview(data)[: len(data) // 2], *where)
                die()
            return real(fd, data, *where)

        setattr(os, name, counted)

    def commits(self) -> None:
        """Let each commit be two steps."""
        real = SqliteStore.commit

        def counted(store: SqliteStore, batch: Batch, *, urgent: bool = False) -> None:
            states = " ".join(run.state for run in batch.runs)
            self.step(f"commit {states}")
            real(store, batch, urgent=urgent)
            self.step(f"committed {states}")

        SqliteStore.commit = counted  # type: ignore[assignment,method-assign]


def die() -> None:
    """As the power goes."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Count, and serve."""
    trace = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    steps = Steps(int(sys.argv[1]), trace)
    for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        steps.before(name)
    for name in ("write", "pwrite"):
        steps.torn(name)
    steps.commits()
    configure_log()
    anyio.run(serve, host_paths(os.environ), lambda: None)


if __name__ == "__main__":
    main()
