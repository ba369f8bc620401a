"""Tells the client that submits how far the snapshot of its source is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from rch.contract import local_api as api
from rch.contract.ids import timestamp
from rchd.edges.pace import Pace
from rchd.edges.snapshot import Progress
from rchd.edges.socket import Connection


def teller(connection: Connection) -> Callable[[Progress], None]:
    """Passes a snapshot's progress from its thread to the client that waits for it."""
    loop, pace = asyncio.get_running_loop(), Pace()

    def tell(progress: Progress) -> None:
        event = api.RunEvent(
            subscription=0,
            seq=0,
            type="stage",
            run_id=None,
            at=timestamp(time.time()),
            data=_data(progress, pace),
        )
        loop.call_soon_threadsafe(connection.tell, event)

    return tell


def _data(progress: Progress, pace: Pace) -> dict[str, Any]:
    if not progress.attempt:
        waits = "waits for other snapshots"
        return {"stage": "bundle", "done": 0, "total": 0, "unit": "bytes", "detail": waits}
    speed = pace.at(progress.bytes_done, progress.bytes_total)
    files = f"{progress.files} file{'' if progress.files == 1 else 's'}"
    if progress.files_total > progress.files:
        files = f"{progress.files} of {progress.files_total} files"
    data: dict[str, Any] = {
        "stage": "bundle",
        "done": progress.bytes_done,
        "total": progress.bytes_total,
        "unit": "bytes",
        "detail": files,
    }
    if speed.rate is not None:
        data["rate"] = round(speed.rate)
    if speed.left is not None:
        data["left_seconds"] = round(speed.left, 1)
    return data
