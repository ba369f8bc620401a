"""The socket's method about what is over on the workers (spec sections 11, 12)."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec

from rch.config.inventory import load_inventory
from rch.contract.errors import Failure, Kind
from rch.contract.local_gc import WorkerGcView, WorkersGcParams, WorkersGcView
from rch.contract.worker_rpc import Feature, GcRequest, RpcError
from rchd.edges.pool import WorkerPool
from rchd.edges.socket import Connection

MOST_ENTRIES = 2000
"""Of all workers together: what one message of the socket holds."""


class GcApi:
    """Has the workers of the inventory at `path` remove what is over, all at once."""

    def __init__(self, path: Path, pool: WorkerPool) -> None:
        self._path = path
        self._pool = pool

    async def collected(self, params: WorkersGcParams, _connection: Connection) -> WorkersGcView:
        """What went on one worker, or on each. One that does not answer keeps no other waiting for ever."""
        inventory = load_inventory(self._path)
        await self._pool.replace(inventory.everyone)
        ordered = sorted(inventory.workers, key=lambda entry: (entry.priority, entry.name))
        names = [entry.name for entry in ordered if params.name in {None, entry.name}]
        if not names:
            known = ", ".join(entry.name for entry in inventory.workers) or "none"
            raise Failure(Kind.USAGE, f"no worker {params.name!r} in the inventory (known: {known})")
        views: dict[str, WorkerGcView] = {}

        async def ask(name: str) -> None:
            try:
                views[name] = await self._ask(name, GcRequest(dry_run=params.dry_run))
            except (Failure, RpcError) as error:
                views[name] = WorkerGcView(name=name, error=error.message)

        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(ask, name)
        most = MOST_ENTRIES // len(names)
        shown = tuple(_cut(views[name], most) for name in names)
        return WorkersGcView(dry_run=params.dry_run, workers=shown)

    async def _ask(self, name: str, request: GcRequest) -> WorkerGcView:
        client = self._pool.client(name)
        await client.probe()
        if not client.offers(Feature.GC):
            return WorkerGcView(name=name, error="this worker cannot be asked: rch there is older")
        result = await client.gc(request)
        return WorkerGcView(name=name, entries=result.entries, totals=result.totals, more=result.more)


def _cut(view: WorkerGcView, most: int) -> WorkerGcView:
    """The view with its largest entries alone."""
    if len(view.entries) <= most:
        return view
    return msgspec.structs.replace(view, entries=view.entries[:most], more=True)
