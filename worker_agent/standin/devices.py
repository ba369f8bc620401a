"""The simulators of the stand-in machine: one state file under a lock.

A device that boots slowly has the moment from which on it counts as booted; nothing runs.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker_agent.standin import facts
from worker_agent.standin.context import locked, read_json, write_json
from worker_agent.standin.model import Device

BOOTED, SHUTDOWN, BOOTING = "Booted", "Shutdown", "Booting"
_SPACE = uuid.UUID("6f1d5c0e-5a0e-4d0a-9a43-7f1f0c6b7a10")


def state_file(root: Path) -> Path:
    """Where the state is kept."""
    return root / "CoreSimulator" / "devices.json"


class Simulators:
    """The devices, as rows of the state file: `udid name type runtime state ready_at`."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def find(self, named: str) -> dict[str, Any] | None:
        """By identifier, by name, or any that is booted."""
        for row in self.rows:
            if named.upper() == row["udid"] or (named == "booted" and state(row) == BOOTED):
                return row
        return next((row for row in self.rows if row["name"] == named), None)

    def create(self, name: str, kind: facts.DeviceType, runtime: facts.SimRuntime) -> str:
        """A new device; its identifier."""
        udid = str(uuid.uuid4()).upper()
        self.rows.append(_row(udid, name, kind.identifier, runtime.identifier))
        return udid


def state(row: dict[str, Any]) -> str:
    """`Booting` until its time has come."""
    if row["state"] == BOOTED and time.time() < row["ready_at"]:
        return BOOTING
    return str(row["state"])


def _row(udid: str, name: str, kind: str, runtime: str) -> dict[str, Any]:
    return {
        "udid": udid,
        "name": name,
        "type": kind,
        "runtime": runtime,
        "state": SHUTDOWN,
        "ready_at": 0.0,
        "last_booted": None,
    }


def _new() -> list[dict[str, Any]]:
    rows = []
    for name, runtime in facts.FIRST_DEVICES:
        kind = facts.device_type(name)
        udid = str(uuid.uuid5(_SPACE, f"{name}/{runtime}")).upper()
        rows.append(_row(udid, name, kind.identifier if kind else name, runtime))
    return rows


def look(root: Path) -> Simulators:
    """The devices as they are; a new machine has its first ones."""
    kept = read_json(state_file(root), None)
    rows = kept.get("devices") if isinstance(kept, dict) else None
    return Simulators(rows if isinstance(rows, list) else _new())


@contextlib.contextmanager
def change(root: Path) -> Iterator[Simulators]:
    """The devices for a change, which is kept unless the block raises."""
    with locked(state_file(root)):
        simulators = look(root)
        yield simulators
        write_json(state_file(root), {"devices": simulators.rows})


def boot(root: Path, udid: str) -> None:
    """Boot a device that is off; one that is gone or on stays as it is."""
    with change(root) as simulators:
        row = simulators.find(udid)
        if row is not None and row["state"] == SHUTDOWN:
            row.update(state=BOOTED, ready_at=0.0, last_booted=now_text())


def now_text() -> str:
    """`2024-06-25T06:23:41Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def destinations(root: Path) -> list[Device]:
    """All that something can run on: the machine first, then its simulators."""
    mac = Device(
        facts.HOST_UDID, "My Mac", "macOS", facts.MACOS_VERSION, facts.MACOS_BUILD, "MacBook Pro", "Mac15,6"
    )
    found = [mac]
    for row in look(root).rows:
        kind, runtime = facts.device_type(row["type"]), facts.runtime(row["runtime"])
        if kind is not None and runtime is not None:
            platform = f"{runtime.platform} Simulator"
            found.append(
                Device(
                    row["udid"],
                    row["name"],
                    platform,
                    runtime.version,
                    runtime.build,
                    kind.name,
                    kind.model,
                )
            )
    return found
