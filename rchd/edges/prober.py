"""Asks workers what they can, and keeps their answers while they are young."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import msgspec
import structlog

from rch.config.inventory import Inventory, StandbyEntry, WorkerEntry
from rch.contract.errors import Failure, Kind
from rch.contract.ids import parse_timestamp
from rch.contract.worker_envelope import failure_of
from rch.contract.worker_rpc import HeardProbe, RpcError
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.edges.pool import WorkerPool

log = structlog.get_logger("rchd.worker")

MAX_CLOCK_SKEW_SECONDS = 30.0
SILENT_SECONDS = 60.0
SHORT_SECONDS = 2.0
MOST_LOOKS = 8
"""Probes at a time that clients asked for: each may be a process of its own."""

Heard = Callable[[ev.ProbeReport], None]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What a worker said, and the entry under which it was asked: another entry, another worker."""

    entry: WorkerEntry
    at: float
    result: HeardProbe
    took_ms: int
    skew: int | None


@dataclass(frozen=True, slots=True)
class _Silence:
    """That a worker gave no answer, and since when."""

    entry: WorkerEntry
    at: float
    report: ev.ProbeReport


class Prober:
    """Probes workers. `inventory` is read anew for each selection.

    A worker that gave no answer is not waited for again by every run while others serve: for
    `SILENT_SECONDS` it is left out, after that it has `SHORT_SECONDS` to show that it is back.
    """

    def __init__(self, pool: WorkerPool, inventory: Callable[[], Inventory]) -> None:
        self._pool = pool
        self._inventory = inventory
        self._probes: dict[str, _Snapshot] = {}
        self._silent: dict[str, _Silence] = {}
        self._looks: dict[str, tuple[WorkerEntry, asyncio.Task[ev.ProbeReport]]] = {}
        self._places = anyio.CapacityLimiter(MOST_LOOKS)

    def forget(self, worker: str) -> None:
        """The snapshot of `worker` is not to be used again."""
        self._probes.pop(worker, None)

    def pins(self, worker: str) -> tuple[str, ...] | None:
        """The keys that may sign for `worker`, as the inventory says now; None where it cannot be read.

        Also None for a worker that it does not name.
        """
        try:
            inventory = self._inventory()
        except Failure:
            return None
        entry = next((each for each in inventory.everyone if each.name == worker), None)
        return None if entry is None else entry.attestation_pubkey_fingerprint

    async def probed(self, effect: fx.Probe) -> ev.Probed:
        """Ask the inventory as it is now, or the one worker of it that `effect` names."""
        inventory = self._inventory()
        await self._pool.replace(inventory.everyone)
        entries = [entry for entry in inventory.everyone if effect.worker in {None, entry.name}]
        # Who could not serve is not asked; the core says why it is left out.
        reports = {entry.name: _report(entry, 0) for entry in entries}
        wanted = [
            entry
            for entry in entries
            if set(effect.tags) <= set(entry.tags)
            and effect.aside.get(entry.name) != mark_of(entry)
            and (effect.simulate or not isinstance(entry, StandbyEntry))
        ]

        async def ask(entry: WorkerEntry, seconds: float) -> None:
            reports[entry.name] = await self.probe_worker(entry, effect.max_age, seconds)

        quiet = {} if effect.worker or not effect.max_age else self._quiet(wanted)
        async with anyio.create_task_group() as group:
            for entry in wanted:
                if (silence := quiet.get(entry.name)) is None:
                    group.start_soon(ask, entry, effect.deadline)
                elif time.monotonic() - silence.at < SILENT_SECONDS:
                    reports[entry.name] = silence.report
                else:
                    group.start_soon(ask, entry, min(SHORT_SECONDS, effect.deadline))
        if quiet and not any(reports[entry.name].result for entry in wanted):
            # Nobody else is there: now it matters whether they are back.
            async with anyio.create_task_group() as group:
                for name in quiet:
                    group.start_soon(ask, quiet[name].entry, effect.deadline)
        return ev.Probed(
            at=time.time(),
            run_id=effect.run_id,
            op=effect.op,
            reports=tuple(reports[entry.name] for entry in entries),
            embedded=inventory.implied_local,
            whole=effect.worker is None,
        )

    def _quiet(self, entries: list[WorkerEntry]) -> dict[str, _Silence]:
        """Who of them gave no answer when last asked, under the same entry."""
        known = ((entry, self._silent.get(entry.name)) for entry in entries)
        return {entry.name: each for entry, each in known if each is not None and each.entry == entry}

    async def probe(self, inventory: Inventory, entry: WorkerEntry, seconds: float) -> ev.ProbeReport:
        """What one worker of `inventory` says now."""
        await self._pool.replace(inventory.everyone)
        return await self.probe_worker(entry, 0.0, seconds)

    async def look(
        self,
        inventory: Inventory,
        entry: WorkerEntry,
        seconds: float,
        heard: Callable[[ev.ProbeReport], None],
    ) -> ev.ProbeReport:
        """As `probe`, but whoever comes while a worker is being asked has that answer too.

        `heard` is told of each answer once, by whoever asked for it first.
        """
        known, task = self._looks.get(entry.name, (None, None))
        if task is None or task.done() or known != entry:
            task = asyncio.create_task(self._look(inventory, entry, seconds, heard))
            self._looks[entry.name] = entry, task
        return await asyncio.shield(task)

    async def _look(
        self,
        inventory: Inventory,
        entry: WorkerEntry,
        seconds: float,
        heard: Callable[[ev.ProbeReport], None],
    ) -> ev.ProbeReport:
        async with self._places:
            report = await self.probe(inventory, entry, seconds)
        heard(report)
        return report

    async def probe_worker(self, entry: WorkerEntry, max_age: float, seconds: float) -> ev.ProbeReport:
        """What one worker says; a snapshot younger than `max_age` seconds is good enough."""
        known = self._probes.get(entry.name)
        if known is not None and known.entry == entry and (age := time.monotonic() - known.at) < max_age:
            return _report(entry, known.took_ms, age=age, fresh=False, result=known.result, skew=known.skew)
        began = time.monotonic()
        try:
            with deadline(seconds, entry.name):
                result = await self._pool.client(entry.name).probe()
        except (Failure, RpcError) as error:
            self._probes.pop(entry.name, None)
            if isinstance(error, RpcError):
                return _report(entry, ms_since(began), failure=failure_of(error, "probe"))
            broken = error.subkind == "PROTOCOL_ERROR"
            report = _report(entry, ms_since(began), failure=error, broken=broken)
            if error.subkind == "UNREACHABLE":
                self._silent[entry.name] = _Silence(entry, time.monotonic(), report)
            return report
        self._silent.pop(entry.name, None)
        took, skew = ms_since(began), _skew(result)
        if skew is not None:
            log.warning("worker.clock_skew", worker=entry.name, seconds=skew)
        self._probes[entry.name] = _Snapshot(entry, time.monotonic(), result, took, skew)
        return _report(entry, took, result=result, skew=skew)


def mark_of(entry: WorkerEntry) -> str:
    """Tells an inventory entry from any other."""
    return hashlib.sha256(msgspec.json.encode(entry)).hexdigest()[:16]


@contextmanager
def deadline(seconds: float, worker: str) -> Iterator[None]:
    """Turns an overrun into a `Failure` that names the worker."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        message = f"worker {worker} did not answer within {seconds:g} s"
        raise Failure(Kind.SSH, message, subkind="UNREACHABLE") from error


def ms_since(began: float) -> int:
    """Milliseconds since `began` on the monotonic clock."""
    return round((time.monotonic() - began) * 1000)


def _report(
    entry: WorkerEntry,
    duration_ms: int,
    *,
    age: float = 0.0,
    fresh: bool = True,
    result: HeardProbe | None = None,
    skew: int | None = None,
    failure: Failure | None = None,
    broken: bool = False,
) -> ev.ProbeReport:
    return ev.ProbeReport(
        worker=entry.name,
        host=entry.host or "localhost",
        priority=entry.priority,
        tags=tuple(entry.tags),
        duration_ms=duration_ms,
        age_seconds=int(age),
        fresh=fresh,
        pins=entry.attestation_pubkey_fingerprint,
        mark=mark_of(entry),
        skew_seconds=skew,
        broken=broken,
        standby=isinstance(entry, StandbyEntry),
        result=result,
        error=None if failure is None else failure.message,
        error_kind=None if failure is None else str(failure.kind),
        error_subkind=None if failure is None else failure.subkind,
        hint=None if failure is None else failure.hint,
    )


def _skew(result: HeardProbe) -> int | None:
    """Seconds that the worker's clock is ahead; None within half a minute (spec section 2).

    Clocks are never compared for ordering, but a wrong one is worth a word.
    """
    try:
        skew = parse_timestamp(result.capabilities.probed_at) - time.time()
    except ValueError:
        return None
    return round(skew) if abs(skew) > MAX_CLOCK_SKEW_SECONDS else None
