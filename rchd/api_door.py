"""The socket's methods about the way to a worker; they change nothing, here or there."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio import to_thread

from rch.config.inventory import Inventory, WorkerEntry, load_inventory
from rch.contract import local_door as door
from rch.contract.errors import Failure, Kind
from rch.contract.local_plan import FailureView
from rch.contract.worker_envelope import failure_of
from rch.contract.worker_rpc import RpcError
from rchd.api_workers import PROBE_SECONDS, in_order
from rchd.core import events as ev
from rchd.driver import Driver
from rchd.edges.drained import Drained
from rchd.edges.pool import target_of
from rchd.edges.prober import Prober, deadline, ms_since
from rchd.edges.socket import Connection
from rchd.edges.ssh_transport import Agent, SshTransport
from rchd.edges.worker_client import WorkerClient

CONNECT_SECONDS = 30.0
LOOK_SECONDS = 150.0


class DoorApi:
    """Looks at workers of the inventory at `path`, and at such as are to be put into it."""

    def __init__(self, path: Path, prober: Prober, driver: Driver, agent: Agent, drained: Drained) -> None:
        self._path = path
        self._prober = prober
        self._driver = driver
        self._agent = agent
        self._drained = drained

    async def scanned(self, params: door.AddressParams, _connection: Connection) -> door.ScanView:
        """The host keys that are shown; none of them is trusted by that."""
        ssh = await ssh_module("ssh")
        target = target_of(entry_of(params), CONNECT_SECONDS)
        where, seen, known = await ssh.shown_keys(target, self._agent)
        keys = [
            door.HostKeyView(
                type=key.type, fingerprint=key.fingerprint, known=key in known, short=key.short
            )
            for key in seen
        ]
        others = tuple(
            door.HostKeyView(type=key.type, fingerprint=key.fingerprint, known=True, short=key.short)
            for key in sorted(known - set(seen))
        )
        return door.ScanView(where=where, keys=tuple(keys), other_known=others)

    async def tried(self, params: door.AddressParams, _connection: Connection) -> door.TryView:
        """The answer to a probe, on a connection of its own."""
        entry = entry_of(params)
        transport = SshTransport(target_of(entry, CONNECT_SECONDS), agent=self._agent)
        client = WorkerClient(entry.name, transport)
        began = time.monotonic()
        try:
            with deadline(PROBE_SECONDS, entry.name):
                result = await client.probe()
        except RpcError as error:
            raise failure_of(error, "probe") from error
        finally:
            await client.close()
        return door.TryView(probe=msgspec.to_builtins(result), probe_ms=ms_since(began))

    async def keys(self, params: door.KeysParams, _connection: Connection) -> door.KeysView:
        """The public keys that a dial would offer."""
        if params.address is not None:
            entry = entry_of(params.address)
        else:
            entry = _one(load_inventory(self._path), params.name or "")
        if entry.transport != "ssh":
            raise Failure(Kind.USAGE, f"worker {entry.name} is on this machine and needs no key")
        look = await ssh_module("ssh_look")
        found = await look.offered(target_of(entry, CONNECT_SECONDS), self._agent)
        views = [
            door.KeyView(
                line=key.line,
                fingerprint=key.fingerprint,
                comment=key.comment,
                source=key.source,
                path=key.path,
            )
            for key in found
        ]
        return door.KeysView(name=entry.name, keys=tuple(views), named=entry.ssh_key_path)

    async def examined(self, params: door.ExamineParams, _connection: Connection) -> door.ExamineView:
        """Probes one worker, or each, and tries what its key opens beside the worker's command."""
        inventory = load_inventory(self._path)
        if params.address is not None:
            view = await self._opened(entry_of(params.address))
            return door.ExamineView(workers=(view,), inventory=str(self._path), embedded=False)
        entries = in_order(inventory)
        if params.name is not None:
            entries = [_one(inventory, params.name)]
        views: dict[str, door.ExaminedView] = {}

        async def look(entry: WorkerEntry) -> None:
            views[entry.name] = await self._examined(inventory, entry)

        async with anyio.create_task_group() as group:
            for entry in entries:
                group.start_soon(look, entry)
        ordered = tuple(views[entry.name] for entry in entries)
        return door.ExamineView(
            workers=ordered, inventory=str(self._path), embedded=inventory.implied_local
        )

    async def _opened(self, entry: WorkerEntry) -> door.ExaminedView:
        return door.ExaminedView(
            name=entry.name,
            transport=entry.transport,
            host=entry.host or "localhost",
            priority=entry.priority,
            **await self._door(entry),
        )

    async def _examined(self, inventory: Inventory, entry: WorkerEntry) -> door.ExaminedView:
        report = await self._prober.probe(inventory, entry, PROBE_SECONDS)
        self._driver.post(ev.WorkerProbed(at=time.time(), report=report))
        aside = self._driver.core.fleet.aside(entry.name)
        drain = self._drained.get(entry.name)
        facts: dict[str, Any] = {} if entry.transport == "local" else await self._door(entry)
        return door.ExaminedView(
            name=entry.name,
            transport=entry.transport,
            host=entry.host or "localhost",
            priority=entry.priority,
            pins=entry.attestation_pubkey_fingerprint,
            probe=None if report.result is None else msgspec.to_builtins(report.result),
            probe_ms=report.duration_ms,
            skew_seconds=report.skew_seconds,
            failure=_reported(report),
            aside=None if aside is None or report.result is not None else aside.message,
            drained=None if drain is None else drain.reason,
            **facts,
        )

    async def _door(self, entry: WorkerEntry) -> dict[str, Any]:
        """What the key opens, over a connection that is dialled for that alone."""
        ssh, look = await ssh_module("ssh"), await ssh_module("ssh_look")
        try:
            with deadline(LOOK_SECONDS, entry.name):
                connection = await ssh.dial(target_of(entry, CONNECT_SECONDS), self._agent, None)
                try:
                    found = await look.tries(connection)
                finally:
                    connection.abandon()
        except Failure as failure:
            return {"door_failure": _view(failure)}
        key = connection.host_key
        attempts = [door.AttemptView(what=each.what, open=each.open, said=each.said) for each in found]
        return {
            "host_key": door.HostKeyView(type=key.type, fingerprint=key.fingerprint),
            "trusted_by": "pin" if entry.known_host_fingerprint is not None else "known_hosts",
            "attempts": tuple(attempts),
        }


async def ssh_module(name: str) -> Any:
    """A module that speaks SSH; its library takes a while to load."""
    return await to_thread.run_sync(import_module, f"rchd.edges.{name}")


def entry_of(params: door.AddressParams) -> WorkerEntry:
    """The address as the inventory would have it; `Failure` USAGE names the member that it would refuse."""
    try:
        return msgspec.convert(msgspec.to_builtins(params), WorkerEntry)
    except msgspec.ValidationError as error:
        raise Failure(Kind.USAGE, f"worker {params.name[:64]!r}: {error}") from error


def _one(inventory: Inventory, name: str) -> WorkerEntry:
    found = next((entry for entry in inventory.workers if entry.name == name), None)
    if found is None:
        known = ", ".join(entry.name for entry in inventory.workers) or "none"
        raise Failure(
            Kind.USAGE, f"no worker {name!r} in the inventory (known: {known})", hint="rchctl workers list"
        )
    return found


def _reported(report: ev.ProbeReport) -> FailureView | None:
    if report.error is None or report.error_kind is None:
        return None
    kind = Kind(report.error_kind)
    return _view(Failure(kind, report.error, subkind=report.error_subkind, hint=report.hint))


def _view(failure: Failure) -> FailureView:
    return FailureView(
        kind=str(failure.kind),
        subkind=failure.subkind,
        exit_code=failure.exit_code,
        message=failure.message,
        hint=failure.hint,
    )
