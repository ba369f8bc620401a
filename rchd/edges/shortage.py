"""Work that waits while the disk of this machine is full, and says so (fault H12)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import structlog

from rch.files.durable import is_no_space
from rchd.core import events as ev

log = structlog.get_logger("rchd.worker")

SPACE_SECONDS = 1.0

R = TypeVar("R")


class Shortage:
    """A run's wait for space in `stage`: the job goes on at its worker, and who follows is told why."""

    def __init__(self, run_id: str, stage: str, post: Callable[[ev.Event], None]) -> None:
        self._run_id, self._stage, self._post = run_id, stage, post

    async def pause(self, why: str) -> None:
        """Tell of it, and wait a little."""
        log.warning("disk.no_space", run_id=self._run_id, error=why)
        self._post(
            ev.StageNews(
                at=time.time(),
                run_id=self._run_id,
                stage=self._stage,
                done=0,
                total=0,
                unit="",
                detail=f"waits for space on this machine's disk ({why})",
            )
        )
        await anyio.sleep(SPACE_SECONDS)

    async def outlast(self, work: Callable[[], R]) -> R:
        """Do small work on this disk, again and again until there is space for it."""
        while True:
            try:
                return await anyio.to_thread.run_sync(work)
            except OSError as error:
                if not is_no_space(error):
                    raise
                await self.pause(f"{error.filename or self._stage}: {error.strerror or error}")
