"""The socket's method about old runs on this machine, and the same by itself at quiet times."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
import structlog

from rch.config.daemon_config import DaemonConfig
from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rch.contract.local_gc import HostGcEntry, HostGcParams, HostGcView
from rchd.core.retention import Choice, Kept, choose
from rchd.driver import Driver
from rchd.edges.housekeeping import Housekeeper
from rchd.edges.socket import Connection

log = structlog.get_logger("rchd.gc")

MOST_ENTRIES = 2000
"""What one message of the socket holds."""
FIRST_SECONDS, AGAIN_SECONDS = 600.0, 3600.0
BUSY_SECONDS = 60.0
STARTING_SECONDS = 0.05
LONGEST_BUSY_SECONDS = 6 * 3600.0

Named = Callable[[str], Awaitable[str]]


class HostGcApi:
    """Removes what `settings` no longer keeps. `settings` are read anew each time."""

    def __init__(
        self,
        keeper: Housekeeper,
        driver: Driver,
        settings: Callable[[], DaemonConfig],
        collected: Callable[[int, int], None],
    ) -> None:
        self._keeper = keeper
        self._driver = driver
        self._settings = settings
        self._collected = collected
        self._turn = anyio.Lock()

    async def collect(self, params: HostGcParams, _connection: Connection) -> HostGcView:
        """What went, or would go."""
        for run_id, kept in ((params.keep, True), (params.release, False)):
            if run_id is not None:
                return await self._pin(run_id, kept=kept)
        return await self._collect(dry_run=params.dry_run)

    async def _pin(self, run_id: str, *, kept: bool) -> HostGcView:
        try:
            await anyio.to_thread.run_sync(lambda: self._keeper.pin(run_id, kept=kept))
        except OSError as error:
            message = f"run {run_id} cannot be marked: {error.strerror or error}"
            raise Failure(Kind.DAEMON, message, subkind="STATE") from error
        return HostGcView(
            dry_run=True,
            entries=(),
            more=False,
            runs=0,
            bytes=0,
            kept_runs=0,
            kept_bytes=0,
            held={},
            pinned=(run_id,) if kept else (),
        )

    async def _collect(self, *, dry_run: bool) -> HostGcView:
        async with self._turn:
            settings = self._settings().gc
            while not self._driver.turns:  # noqa: ASYNC110  (it makes good the last runs' files first)
                await anyio.sleep(STARTING_SECONDS)
            live = self._driver.in_hand
            found = await anyio.to_thread.run_sync(self._keeper.look, live.__contains__)
            choice = choose(found, settings, time.time())
            entries = await self._carry_out(choice, dry_run=dry_run)
        went = [each for each in entries if each.error is None]
        runs = sum(each.kind == "run" for each in went)
        freed = sum(each.bytes for each in went)
        if not dry_run:
            self._collected(runs, freed)
            if entries:
                log.info("gc.done", runs=runs, bytes=freed, failed=len(entries) - len(went))
        return HostGcView(
            dry_run=dry_run,
            entries=tuple(entries[:MOST_ENTRIES]),
            more=len(entries) > MOST_ENTRIES,
            runs=runs,
            bytes=freed,
            kept_runs=len(found) - runs,
            kept_bytes=sum(run.bytes for run in found) - freed,
            held=choice.held,
            pinned=tuple(run.run_id for run in found if run.pinned),
        )

    async def _carry_out(self, choice: Choice, *, dry_run: bool) -> list[HostGcEntry]:
        """One after the other, each in a thread of its own: who has work to do comes between."""
        entries = []
        keeper = self._keeper
        plan = [("run", keeper.remove, *each) for each in choice.runs]
        plan += [("rejected", keeper.remove_rejected, *each) for each in choice.rejected]
        for kind, act, run, reason in plan:
            error = None
            if not dry_run:
                try:
                    await anyio.to_thread.run_sync(act, run.run_id)
                except (OSError, Failure) as failed:
                    error = str(getattr(failed, "strerror", None) or failed)
                    log.warning("gc.stays", run_id=run.run_id, error=error)
                else:
                    log.info("gc.removed", kind=kind, run_id=run.run_id, reason=reason, bytes=run.bytes)
            entries.append(self._entry(kind, run, reason, error))
        return entries

    def _entry(self, kind: str, run: Kept, reason: str, error: str | None) -> HostGcEntry:
        return HostGcEntry(
            kind=kind,
            run_id=run.run_id,
            project=self._keeper.projects.get(run.run_id, ""),
            ended_at=timestamp(run.ended),
            bytes=run.bytes if kind == "run" else run.rejected,
            reason=reason,
            error=error,
        )

    async def tend(self) -> None:
        """Collect now and then, when nothing runs; after six busy hours beside what does."""
        await anyio.sleep(FIRST_SECONDS)
        while True:
            await self._quiet()
            try:
                if self._settings().gc.automatic:
                    await self._collect(dry_run=False)
            except (Failure, OSError) as error:
                log.warning("gc.failed", error=str(error))
            await anyio.sleep(AGAIN_SECONDS)

    async def _quiet(self) -> None:
        """Until no run is under way, or nothing can be written: then room is what is wanted."""
        with anyio.move_on_after(LONGEST_BUSY_SECONDS):
            while self._driver.core.runs and self._driver.trouble is None:  # noqa: ASYNC110  (many places)
                await anyio.sleep(BUSY_SECONDS)
