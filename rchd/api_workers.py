"""The socket's methods about workers."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import msgspec
from anyio import to_thread

import rch
from rch.config.inventory import Inventory, WorkerEntry, load_inventory
from rch.contract import local_api as api
from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rch.contract.local_workers import WorkerDrainParams, WorkerDrainView, WorkerListView, WorkerView
from rch.contract.states import RunState
from rch.contract.versions import lags
from rchd.core import events as ev
from rchd.core.select import drained_text
from rchd.driver import Driver
from rchd.edges.drained import Drain, Drained
from rchd.edges.prober import Prober
from rchd.edges.socket import Connection

PROBE_SECONDS = 30.0
MOST_REASON = 200


class WorkersApi:
    """Lists and probes the inventory at `path`; `driver` has what the core knows of the workers.

    `drained` are those that are to get no new run.

    Whoever probes a worker that is set aside asks it all the same: where it answers well, it may
    serve again at once.
    """

    def __init__(self, path: Path, prober: Prober, driver: Driver, drained: Drained) -> None:
        self._path = path
        self._prober = prober
        self._driver = driver
        self._drained = drained
        self._draining = anyio.Lock()

    async def listed(self, _params: api.NoParams, _connection: Connection) -> WorkerListView:
        """The inventory, in the order of selection."""
        inventory = load_inventory(self._path)
        views = [
            self._with_standing(_worker_view(entry, inventory, "listed", ""))
            for entry in in_order(inventory)
        ]
        return self._worker_list(inventory, views)

    async def probed(self, params: api.WorkerParams, _connection: Connection) -> WorkerListView:
        """What one worker, or each, says now."""
        inventory = load_inventory(self._path)
        entries = [e for e in in_order(inventory) if params.name in {None, e.name}]
        if not entries:
            known = ", ".join(entry.name for entry in inventory.workers) or "none"
            raise Failure(Kind.USAGE, f"no worker {params.name!r} in the inventory (known: {known})")
        views: dict[str, WorkerView] = {}

        async def ask(entry: WorkerEntry) -> None:
            report = await self._prober.look(inventory, entry, PROBE_SECONDS, self._heard)
            view = _probed_view(entry, inventory, report)
            views[entry.name] = self._with_drain(view) if report.result else self._with_standing(view)

        async with anyio.create_task_group() as group:
            for entry in entries:
                group.start_soon(ask, entry)
        return self._worker_list(inventory, [views[entry.name] for entry in entries])

    def _heard(self, report: ev.ProbeReport) -> None:
        self._driver.post(ev.WorkerProbed(at=time.time(), report=report))

    async def drain(self, params: WorkerDrainParams, _connection: Connection) -> WorkerDrainView:
        """Durable when it is answered; a run that asks the worker for a slot already may still get it."""
        async with self._draining:  # file and core hear of two calls in one order
            return await self._drain(params)

    async def _drain(self, params: WorkerDrainParams) -> WorkerDrainView:
        name, before = params.name, self._drained.get(params.name)
        if before is None and name not in {entry.name for entry in load_inventory(self._path).workers}:
            raise Failure(
                Kind.USAGE, f"no worker {name[:64]!r} in the inventory", hint="rchctl workers list"
            )
        if len(params.reason) > MOST_REASON or not params.reason.isprintable():
            raise Failure(Kind.USAGE, f"a reason is one line of at most {MOST_REASON} characters")
        drain = None
        if not params.off:
            # Once more, without a word, is no other reason.
            kept = before is not None and params.reason in {"", before.reason}
            drain = before if kept else Drain(reason=params.reason, since=timestamp(time.time()))
        await to_thread.run_sync(self._drained.set, name, drain)
        reason = None if drain is None else drain.reason
        self._driver.post(ev.WorkerDrained(at=time.time(), worker=name, reason=reason))
        runs = self._driver.core.runs.values()
        return WorkerDrainView(
            name=name,
            drained=drain is not None,
            reason=reason or "",
            since=None if drain is None else drain.since,
            runs_running=sum(run.worker == name and run.state == RunState.RUNNING for run in runs),
        )

    def _with_drain(self, view: WorkerView) -> WorkerView:
        drain = self._drained.get(view.name)
        if drain is None:
            return view
        said = drained_text(drain.reason)
        since = drain.since[:16].replace("T", " ") + "Z"  # as `list` shows a run's
        detail = f"{said}; {view.detail}" if view.detail else f"{said} since {since}"
        return msgspec.structs.replace(view, detail=detail, drained=drain.reason)

    def _with_standing(self, view: WorkerView) -> WorkerView:
        told = _with_agent(view, self._driver.core.fleet.agent(view.name))
        return self._with_drain(self._with_aside(told))

    def _with_aside(self, view: WorkerView) -> WorkerView:
        """The view, with why the worker is set aside, if it is."""
        aside = self._driver.core.fleet.aside(view.name)
        if aside is None:
            return view
        detail = view.detail or f"set aside until {aside.until}: {aside.message}"
        return msgspec.structs.replace(view, detail=detail, aside=aside.message, aside_until=aside.until)

    def _worker_list(self, inventory: Inventory, views: list[WorkerView]) -> WorkerListView:
        return WorkerListView(
            workers=tuple(views),
            inventory=str(self._path),
            embedded=inventory.implied_local,
        )


def in_order(inventory: Inventory) -> list[WorkerEntry]:
    """The workers in the order of selection."""
    return sorted(inventory.workers, key=lambda entry: (entry.priority, entry.name))


def _worker_view(entry: WorkerEntry, inventory: Inventory, status: str, detail: str) -> WorkerView:
    return WorkerView(
        name=entry.name,
        transport=entry.transport,
        host=entry.host or "localhost",
        priority=entry.priority,
        tags=tuple(entry.tags),
        status=status,
        detail=detail,
        embedded=inventory.implied_local,
    )


def _with_agent(view: WorkerView, agent: str | None) -> WorkerView:
    """With the version of its program, and what to do where that is old; this machine's own never is."""
    if agent is None or view.transport != "ssh" or not lags(agent, rch.__version__):
        return msgspec.structs.replace(view, agent=agent)
    said = f"rch-worker {agent} lags behind {rch.__version__} here: rchctl workers upgrade {view.name}"
    detail = f"{view.detail}; {said}" if view.detail else said
    return msgspec.structs.replace(view, agent=agent, lags=True, detail=detail)


def _probed_view(entry: WorkerEntry, inventory: Inventory, report: ev.ProbeReport) -> WorkerView:
    base = _worker_view(entry, inventory, "ok", "")
    if report.result is None:
        detail = report.error or "no answer"
        return msgspec.structs.replace(base, status="failed", detail=detail, probe_ms=report.duration_ms)
    capabilities = report.result.capabilities
    tools = ", ".join(f"{each.kind} {each.version}" for each in capabilities.toolchains) or "no toolchain"
    where = f"{capabilities.os_name} {capabilities.os_version} {capabilities.arch}"
    kind = "simulated, its tools are stand-ins: " if capabilities.simulated else ""
    view = msgspec.structs.replace(
        base,
        detail=f"{kind}{tools} on {where}",
        probe=msgspec.to_builtins(report.result),
        probe_ms=report.duration_ms,
    )
    return _with_agent(view, capabilities.agent_version)
