"""Waiting for what other processes do, and a build that waits for us."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from support.lab import Lab

_WAITS = """
echo started
touch "{marker}"
while [ ! -e "{gate}" ]; do sleep 0.02; done
echo ended
"""


def until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that another process does and no descriptor tells of."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def waiting_project(user: Lab) -> tuple[Path, Path, Path]:
    """A project whose build says that it runs (marker) and waits for a gate."""
    marker, gate = user.root / "marker", user.root / "gate"
    project = user.project(build=_WAITS.format(marker=marker, gate=gate))
    return project, marker, gate
