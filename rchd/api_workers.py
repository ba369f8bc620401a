"""The socket's methods about workers."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import msgspec

from rch.config.inventory import Inventory, WorkerEntry, load_inventory
from rch.contract import local_api as api
from rch.contract.errors import Failure, Kind
from rchd.core import events as ev
from rchd.driver import Driver
from rchd.edges.prober import Prober
from rchd.edges.socket import Connection

PROBE_SECONDS = 30.0


class WorkersApi:
    """Lists and probes the inventory at `path`; `driver` has what the core knows of the workers.

    Whoever probes a worker that is set aside asks it all the same: where it answers well, it may
    serve again at once.
    """

    def __init__(self, path: Path, prober: Prober, driver: Driver) -> None:
        self._path = path
        self._prober = prober
        self._driver = driver

    async def listed(self, _params: api.NoParams, _connection: Connection) -> api.WorkerListView:
        """The inventory, in the order of selection."""
        inventory = load_inventory(self._path)
        views = [
            self._with_aside(_worker_view(entry, inventory, "listed", "")) for entry in in_order(inventory)
        ]
        return self._worker_list(inventory, views)

    async def probed(self, params: api.WorkerParams, _connection: Connection) -> api.WorkerListView:
        """What one worker, or each, says now."""
        inventory = load_inventory(self._path)
        entries = [e for e in in_order(inventory) if params.name in {None, e.name}]
        if not entries:
            known = ", ".join(entry.name for entry in inventory.workers) or "none"
            raise Failure(Kind.USAGE, f"no worker {params.name!r} in the inventory (known: {known})")
        views: dict[str, api.WorkerView] = {}

        async def ask(entry: WorkerEntry) -> None:
            report = await self._prober.probe(inventory, entry, PROBE_SECONDS)
            view = _probed_view(entry, inventory, report)
            if report.result is None:
                view = self._with_aside(view)
            views[entry.name] = view
            self._driver.post(ev.WorkerProbed(at=time.time(), report=report))

        async with anyio.create_task_group() as group:
            for entry in entries:
                group.start_soon(ask, entry)
        return self._worker_list(inventory, [views[entry.name] for entry in entries])

    def _with_aside(self, view: api.WorkerView) -> api.WorkerView:
        """The view, with why the worker is set aside, if it is."""
        aside = self._driver.core.fleet.aside(view.name)
        if aside is None:
            return view
        detail = view.detail or f"set aside until {aside.until}: {aside.message}"
        return msgspec.structs.replace(view, detail=detail, aside=aside.message, aside_until=aside.until)

    def _worker_list(self, inventory: Inventory, views: list[api.WorkerView]) -> api.WorkerListView:
        return api.WorkerListView(
            workers=tuple(views),
            inventory=str(self._path),
            embedded=inventory.implied_local,
        )


def in_order(inventory: Inventory) -> list[WorkerEntry]:
    """The workers in the order of selection."""
    return sorted(inventory.workers, key=lambda entry: (entry.priority, entry.name))


def _worker_view(entry: WorkerEntry, inventory: Inventory, status: str, detail: str) -> api.WorkerView:
    return api.WorkerView(
        name=entry.name,
        transport=entry.transport,
        host=entry.host or "localhost",
        priority=entry.priority,
        tags=tuple(entry.tags),
        status=status,
        detail=detail,
        embedded=inventory.implied_local,
    )


def _probed_view(entry: WorkerEntry, inventory: Inventory, report: ev.ProbeReport) -> api.WorkerView:
    base = _worker_view(entry, inventory, "ok", "")
    if report.result is None:
        detail = report.error or "no answer"
        return msgspec.structs.replace(base, status="failed", detail=detail, probe_ms=report.duration_ms)
    capabilities = report.result.capabilities
    tools = ", ".join(f"{each.kind} {each.version}" for each in capabilities.toolchains) or "no toolchain"
    where = f"{capabilities.os_name} {capabilities.os_version} {capabilities.arch}"
    kind = "simulated, its tools are stand-ins: " if capabilities.simulated else ""
    return msgspec.structs.replace(
        base,
        detail=f"{kind}{tools} on {where}",
        probe=msgspec.to_builtins(report.result),
        probe_ms=report.duration_ms,
    )
