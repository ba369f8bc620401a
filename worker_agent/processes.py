"""Process groups of jobs: who is in one, and its certain end (spec section 11; faults W1, W2).

A group is known by its leader's pid and the moment the leader began, so that a pid that the
system gave to somebody else is never signalled. What left its group (a daemonised child) is
found by the job's own TMPDIR in its environment where the system shows that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from worker_agent.clock import boot_id, boot_seconds

_PROC = Path("/proc")
_SAME_START_SECONDS = 0.1 if sys.platform == "linux" else 2.0  # ps tells whole seconds
_PAUSE_SECONDS = 0.01
_PR_SET_CHILD_SUBREAPER = 36


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A process group on record. `started` is in boot seconds of the boot `boot`."""

    pgid: int
    started: float
    boot: str
    tmp: str


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One living process; a zombie is none. `started` is in boot seconds."""

    pid: int
    parent: int
    group: int
    session: int
    started: float


def own_group(tmp: Path) -> Group:
    """The record of the calling process, which has just become its group's leader."""
    started = boot_seconds()
    if _PROC.is_dir():
        started = _process("self", os.sysconf("SC_CLK_TCK")).started
    return Group(pgid=os.getpid(), started=started, boot=boot_id(), tmp=str(tmp))


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (Linux), so that none is lost."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_children() -> None:
    """Collect every child that has ended; only for when no `Popen` waits for one."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def members(group: Group) -> list[int]:
    """The living processes of the group, and those that left it and still carry its TMPDIR."""
    if group.boot != boot_id():
        return []
    found = {process.pid: process for process in _processes()}
    leader = found.get(group.pgid)
    if leader is not None and abs(leader.started - group.started) > _SAME_START_SECONDS:
        ours: set[int] = set()  # the number was free in between: the whole group is gone
    else:
        ours = {pid for pid, process in found.items() if group.pgid in {process.group, process.session}}
        if leader is None:
            ours = {pid for pid in ours if _may_be_ours(found[pid], group)}
    ours |= {pid for pid in found if _carries(pid, group.tmp)}
    ours.discard(os.getpid())
    return sorted(ours)


def end_at_once(group: Group, patience: float = 5.0) -> bool:
    """KILL all that is left of a group and wait until it is gone; False if something stays."""
    return _end(lambda: members(group), patience)


def end_adopted(patience: float = 5.0) -> bool:
    """As `end_at_once`, for what descends from this process: for the supervisor that adopts orphans.

    It finds what left its group and carries no TMPDIR. Only Linux hands orphans to us; on a Mac
    nothing is done.
    """
    return sys.platform != "linux" or _end(_descendants, patience)


def _descendants() -> list[int]:
    parents = {process.pid: process.parent for process in _processes()}
    found, size = {os.getpid()}, 0
    while size < len(found):
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return sorted(found - {os.getpid()})


def _end(who: Callable[[], list[int]], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while left := who():
        for pid in left:
            send(pid, signal.SIGKILL)
        reap_children()
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


def send(pid: int, number: int) -> None:
    """Signal one process; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def send_group(pgid: int, number: int) -> None:
    """Signal a whole group; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def _may_be_ours(process: Process, group: Group) -> bool:
    """Without its leader a group is told by the TMPDIR, or at least by its age."""
    if _PROC.is_dir():
        return _carries(process.pid, group.tmp)
    return process.started >= group.started - _SAME_START_SECONDS


def _carries(pid: int, tmp: str) -> bool:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return b"TMPDIR=" + os.fsencode(tmp) in environment.split(b"\0")


def _processes() -> Iterator[Process]:
    return _from_proc() if _PROC.is_dir() else _from_ps()


def _from_proc() -> Iterator[Process]:
    ticks = os.sysconf("SC_CLK_TCK")
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, _Ended):
                yield _process(entry.name, ticks)


class _Ended(Exception):  # noqa: N818  (no error: it ended while we looked)
    """A zombie."""


def _process(name: str, ticks: int) -> Process:
    with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123  (hundreds of them, each time)
        stat = file.read()
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in {b"Z", b"X"}:
        raise _Ended
    return Process(
        pid=int(stat.split(None, 1)[0]),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        started=int(fields[19]) / ticks,
    )


def _from_ps() -> Iterator[Process]:
    import subprocess

    asked = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,pgid=,stat=,etime="], capture_output=True, text=True, check=False
    )
    for line in asked.stdout.splitlines():
        pid, parent, group, state, elapsed = line.split(None, 4)
        if not state.startswith("Z"):
            started = boot_seconds() - _elapsed_seconds(elapsed)
            # A Mac's ps shows sessions as addresses: the group alone tells.
            yield Process(pid=int(pid), parent=int(parent), group=int(group), session=0, started=started)


def _elapsed_seconds(text: str) -> float:
    """Seconds of ps's `[[dd-]hh:]mm:ss`."""
    days, _, clock = text.strip().rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds + int(days or 0) * 86_400
