"""Processes of a home: which they are, what they take, and their end."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.sshd import children_of

END_SECONDS = 5


def peak_of(pid: int) -> int:
    """The most memory that a process has taken, in bytes; 0 if it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


def workers_of(home: Path) -> list[int]:
    """The pids of every worker process that has this home."""
    return [pid for pid in _with(f"RCH_WORKER_HOME={home}") if b"worker_agent" in _read(pid, "cmdline")]


def end_all(home: Path, worker_home: Path) -> None:
    """End what an interrupt left behind: a daemon on its way up, clients, a job with its owner."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        left = {*_with(f"RCH_HOME={home}"), *_with(f"RCH_WORKER_HOME={worker_home}")}
        if not left:
            return
        for one in left:
            for pid in (*_below(one), one):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _with(variable: str) -> list[int]:
    """The pids of those that were started with this in their environment, zombies excepted."""
    wanted = variable.encode()
    names = [entry.name for entry in os.scandir("/proc") if entry.name.isdigit()]
    return [int(name) for name in names if wanted in _read(int(name), "environ").split(b"\0")]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _below(pid: int) -> list[int]:
    children = children_of(pid)
    return [*(deeper for child in children for deeper in _below(child)), *children]
