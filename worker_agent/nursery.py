"""Supervisors and sweeps by fork: a standing channel has loaded what they need; no program need start.

Only a process that serves a channel forks, for it alone is known to have one thread and nothing open
but its channel; whoever else submits starts a program. So does a channel whose code on disk is not
what it has loaded any more: an upgrade is in force from the next job on.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import rch

# What a job needs from its submit to its end, the small ones first: between two of them a channel hears
# whether it is asked something.
_NEEDED = [
    "subprocess",
    "rch.contract.classifier",
    "rch.config.invocation",
    "rch.config.worker_config",
    "rch.contract.redact",
    "ctypes",
    "rch.files.extract",
    "worker_agent.leases",
    "worker_agent.submit",
    "worker_agent.capabilities",
    "worker_agent.processes",
    "worker_agent.workspaces",
    "worker_agent.slots",
    "worker_agent.caches",
    "worker_agent.backends",
    "worker_agent.backends.env",
    "worker_agent.buildfiles",
    "worker_agent.results.buildlog",
    "xml.etree.ElementTree",
    "junitparser",
    "nacl.bindings",
    "nacl.signing",
    "worker_agent.results.junit",
    "worker_agent.results.xunit",
    "worker_agent.results.finish",
    "worker_agent.keys",
    "worker_agent.launch",
    "worker_agent.kept_trees",
    "worker_agent.supervisor",
    "worker_agent.execution",
]
_CODE = tuple(Path(each).with_name("__init__.py") for each in (rch.__file__, __file__) if each)
# Apple's libraries may refuse to work in a fork that starts no program; there it was never tried.
_FORKS = sys.platform == "linux"
_FDS = "/dev/fd"
_MOST_FDS = 4096


def _mark_of_the_code() -> tuple[object, ...]:
    """What differs once another version is installed."""
    try:
        return tuple((stat.st_ino, stat.st_mtime_ns) for stat in map(os.stat, _CODE))
    except OSError:
        return (None,)


class Nursery:
    """Where supervisors come from in this process."""

    def __init__(self) -> None:
        self._opened: tuple[object, ...] | None = None
        self._left = list(_NEEDED)

    def open(self) -> None:
        """From now on this process may fork: it serves a channel and does nothing else."""
        self._opened = _mark_of_the_code()

    def warm(self) -> bool:
        """Load one more of what a job needs; False when all is loaded."""
        if _FORKS and self._opened is not None and self._left:
            import_module(self._left.pop(0))
        return _FORKS and self._opened is not None and bool(self._left)

    def is_open(self) -> bool:
        """Whether a fork is as good as a new program."""
        threads = sys.modules.get("threading")
        alone = threads is None or threads.active_count() == 1
        return _FORKS and self._opened is not None and alone and self._opened == _mark_of_the_code()

    def load(self) -> None:
        """Load all that a job needs, so that its fork need not."""
        while self.warm():
            pass

    @staticmethod
    def fork(name: str, life: Callable[[], int], kept: tuple[int, ...], errors: int) -> int:
        """The pid of a child of its own session that does `life` and has nothing of ours but `kept`.

        Lists of processes call it `name`, of at most 15 letters. Its output goes to `errors`.
        """
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            _leave_the_parent(kept, errors)
            take_a_name(name)
            status = life()
        except BaseException:  # noqa: BLE001  (nothing may return into the channel that this once was)
            with suppress(OSError):
                traceback.print_exc()
        finally:
            os._exit(status)


def take_a_name(name: str) -> None:
    """On Linux `ps` and `top` tell us from the channel that we were forked from."""
    if sys.platform == "linux":
        with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as comm:  # noqa: PTH123
            comm.write(name)


def _leave_the_parent(kept: tuple[int, ...], errors: int) -> None:
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, number in ((nothing, 0), (errors, 1), (errors, 2)):
        os.dup2(fd, number)
    # The channel above all: whoever holds it keeps its client waiting.
    try:
        open_ = [int(name) for name in os.listdir(_FDS)]  # noqa: PTH208  (numbers, not paths)
    except OSError:
        open_ = list(range(_MOST_FDS))
    for fd in open_:
        if fd > 2 and fd not in kept:
            with suppress(OSError):
                os.close(fd)


nursery = Nursery()
