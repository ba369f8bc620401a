"""What a service manager gives and is told: sd_notify, the watchdog, sockets that it holds (section 12).

A few datagrams and three environment variables: small enough to be our own. Whatever is read here is
taken out of the environment, so that no worker or job takes the daemon's words for its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Protocol

import anyio
import structlog

from rch.contract.errors import Failure, Kind

log = structlog.get_logger("rchd.service")

FIRST_FD = 3
LAUNCHD_LABEL = "dev.rch.rchd"
STATUS_SECONDS = 15.0
PATIENCE_SECONDS = 1.0
"""For what is said once, and matters."""
_NOTIFY, _USEC, _PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
_LISTEN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_CGROUP = Path("/proc/self/cgroup")
_UNIT = re.compile(r"/([^/\s]+\.service)\s*$", re.MULTILINE)


class Loop(Protocol):
    """A loop that shows that it lives: `turns` rises soon after each `nudge`."""

    turns: int

    def nudge(self) -> None:
        """Have it turn once."""


class Service:
    """The manager that started this process, or none. `kind` is `systemd`, `launchd` or empty."""

    def __init__(
        self,
        *,
        notify: str = "",
        watchdog_seconds: float = 0.0,
        sockets: dict[int, str] | None = None,
        kind: str = "",
        unit: str = "",
    ) -> None:
        self._notify = notify
        self.watchdog_seconds = watchdog_seconds
        self._sockets = sockets or {}
        self.kind = kind
        self.unit = unit

    @classmethod
    def from_env(cls, env: MutableMapping[str, str]) -> Service:
        """What `env` says of the manager; its variables are gone from `env` afterwards."""
        notify = env.pop(_NOTIFY, "")
        usec, pid = env.pop(_USEC, ""), env.pop(_PID, "")
        listen_pid, count, names = (env.pop(name, "") for name in _LISTEN)
        sockets: dict[int, str] = {}
        if listen_pid == str(os.getpid()) and count.isdecimal():
            named = names.split(":") if names else []
            for index in range(int(count)):
                os.set_inheritable(FIRST_FD + index, False)
                sockets[FIRST_FD + index] = named[index] if index < len(named) else ""
        guarded = usec.isdecimal() and pid in {"", str(os.getpid())}
        kind = "systemd" if notify or sockets else ""
        if env.get("XPC_SERVICE_NAME") == LAUNCHD_LABEL:
            kind = "launchd"
        return cls(
            notify=notify,
            watchdog_seconds=int(usec) / 1e6 if guarded else 0.0,
            sockets=sockets,
            kind=kind,
            unit=_unit() if kind == "systemd" else LAUNCHD_LABEL if kind else "",
        )

    def tell(self, *, patience: float = 0.0, **news: str | int) -> None:
        """Say something, such as `READY=1`. A manager that does not listen is no matter.

        Where it has not read what it was told before, it is waited for, `patience` seconds.
        """
        if not self._notify:
            return
        # A name that begins with @ is one without a file (Linux).
        address = "\0" + self._notify[1:] if self._notify.startswith("@") else self._notify
        text = "\n".join(f"{name}={' '.join(str(value).split())}" for name, value in news.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(patience)  # 0: not at all
            sock.sendto(text.encode(), address)

    def socket_at(self, path: Path) -> socket.socket | None:
        """The listening socket at `path` that the manager holds; None where it holds none at all.

        `Failure` DAEMON where what it gave is no such socket: others would be let in, or nobody.
        """
        given, self._sockets = self._sockets, {}
        ours: socket.socket | None = None
        wrong = []
        for fd, name in given.items():
            why, sock = _examined(fd, path)
            if sock is not None and ours is None:
                ours = sock
            else:
                wrong.append(f"descriptor {fd}{f' ({name})' if name else ''} {why or 'is given twice'}")
                with contextlib.suppress(OSError):
                    os.close(fd) if sock is None else sock.close()
        if wrong:
            if ours is not None:
                ours.close()
            raise Failure(
                Kind.DAEMON,
                f"the service manager's socket cannot be used: {'; '.join(wrong)}",
                subkind="SOCKET_PATH",
                hint=f"the socket unit needs ListenStream={path} and SocketMode=0600 alone",
            )
        return ours

    async def tend(self, loop: Loop, status: Callable[[], str]) -> None:
        """Tell the status, and feed the watchdog for as long as `loop` turns."""
        if not self._notify:
            return
        pause = min(STATUS_SECONDS, self.watchdog_seconds / 2 or STATUS_SECONDS)
        while True:
            before, asked = loop.turns, time.monotonic()
            loop.nudge()
            await anyio.sleep(pause)
            if loop.turns != before:
                more = {"WATCHDOG": 1} if self.watchdog_seconds else {}
                self.tell(**more, STATUS=status())
            else:
                # Nothing is sent: if that goes on, the manager ends and restarts this process.
                log.warning("driver.stands", seconds=round(time.monotonic() - asked, 1))


def _examined(fd: int, path: Path) -> tuple[str, socket.socket | None]:
    """What is wrong with `fd` as the socket at `path`, or that socket."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return "is no socket", None
        sock = socket.socket(fileno=fd)
    except OSError as error:
        return f"is not open: {error.strerror}", None
    why = _mistake(sock, path)
    if why:
        sock.detach()
        return why, None
    sock.setblocking(False)
    return "", sock


def _mistake(sock: socket.socket, path: Path) -> str:
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        return "is no stream socket of this machine (AF_UNIX)"
    if not _listens(sock):
        return "does not listen"
    name = sock.getsockname()
    if not isinstance(name, str) or not name or not _is_same(Path(name), path):
        return f"listens at {name or 'no path'!s}, not at {path}"
    try:
        found = path.lstat()
    except OSError:
        return f"listens at {path}, whose name is gone"
    if found.st_uid != os.geteuid():
        return f"listens at a path that belongs to uid {found.st_uid}"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}, 0600 is needed"
    return ""


def _listens(sock: socket.socket) -> bool:
    if sys.platform == "darwin":  # it answers nobody who asks
        return True
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _is_same(name: Path, path: Path) -> bool:
    """Whether both are one name in one folder, links to that folder aside."""
    with contextlib.suppress(OSError):
        return name.name == path.name and name.parent.samefile(path.parent)
    return False


def _unit() -> str:
    """The unit that this process belongs to, as its control group is named."""
    with contextlib.suppress(OSError):
        if found := _UNIT.search(_CGROUP.read_text(errors="replace")):
            return found[1]
    return "rchd.service"
