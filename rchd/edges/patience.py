"""Outward work that waits for descriptors, threads and memory instead of failing a run (fault H13)."""

from __future__ import annotations

import anyio
import structlog

from rch.contract.errors import Failure, Kind
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.edges.exhaustion import is_exhausted
from rchd.edges.performer import Performer, Post

log = structlog.get_logger("rchd.worker")

PAUSE_SECONDS = 1.0


class PatientPerformer(Performer):
    """A performer that does an effect again while this machine is short of something.

    Each effect is idempotent by its ids, and the job goes on at its worker meanwhile. What kept
    a worker from being reached is told to the core, which has its own retries for that.
    """

    async def _dispatch(self, effect: fx.Outward, post: Post) -> ev.Answer:
        while True:
            try:
                return await super()._dispatch(effect, post)
            except (OSError, RuntimeError, Failure) as error:
                if not _passes(error):
                    raise
                log.warning("effect.waits", effect=type(effect).__name__, error=str(error))
            await anyio.sleep(PAUSE_SECONDS)


def _passes(error: OSError | RuntimeError | Failure) -> bool:
    if isinstance(error, Failure):
        cause = error.__cause__
        return error.kind is not Kind.SSH and cause is not None and is_exhausted(cause)
    return is_exhausted(error)
