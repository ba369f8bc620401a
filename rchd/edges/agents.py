"""Which SSH key agent is asked: that of whoever called last and has one that still answers.

A daemon outlives the terminal that started it, and with that terminal goes its agent's socket. So
every client says with its `hello` where its agent listens. The paths are kept for the whole daemon
and not for a run: connections to workers are shared by all terminals of the one user whom the socket
lets in. A path is asked only while it is a socket of that user which takes a connection.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger("rchd.agents")

MOST = 8
_PATIENCE_SECONDS = 0.5
_LONGEST = 4096


class Agents:
    """The agents that are known; `own` is the one that the daemon was started with, asked last.

    `pick` may be called from any thread, `tell` from one.
    """

    def __init__(self, own: str | None = None, *, answers: Callable[[str], bool] | None = None) -> None:
        self._own = own
        self._answers = answers or answers_at
        self._told: tuple[str, ...] = ()

    def tell(self, path: str | None) -> None:
        """A caller's agent listens at `path`; what is no path is passed over."""
        if path is None or not path.startswith("/") or len(path) > _LONGEST or not path.isprintable():
            return
        if self._told[:1] != (path,):
            self._told = (path, *(each for each in self._told if each != path))[:MOST]

    def pick(self) -> str | None:
        """The socket of the newest agent that answers now; None where none does."""
        for path in (*self._told, self._own):
            if path and self._answers(path):
                return path
            if path in self._told:
                log.info("agent.gone", path=path)
                self._told = tuple(each for each in self._told if each != path)
        return None


def answers_at(path: str) -> bool:
    """Whether `path` is a socket of this user at which somebody takes connections."""
    try:
        found = Path(path).stat()
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PATIENCE_SECONDS)
            probe.connect(path)
    except (OSError, ValueError):
        return False
    return True
