"""One client per worker of the inventory, made on demand."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rch.config.inventory import StandbyEntry, WorkerEntry
from rch.contract.errors import Failure, Kind
from rch.files.paths import HOME_VARIABLE, SIMULATE_VARIABLE
from rchd.edges.channels import Transport
from rchd.edges.local import LocalTransport
from rchd.edges.ssh_transport import Agent, SshTarget, SshTransport, no_agent
from rchd.edges.worker_client import Deadlines, WorkerClient

# The worker that is installed beside this daemon.
LOCAL_COMMAND = (sys.executable, "-m", "worker_agent", "xcode", "rpc")


@dataclass(frozen=True, slots=True)
class _Member:
    client: WorkerClient
    transport: Transport


class WorkerPool:
    """Clients by worker name. `local_env` is the environment of `local` workers (None: ours).

    `standby_home` is the home of the worker that stands by for simulations, `agent` names the key
    agent that is asked when a worker is dialled.
    """

    def __init__(
        self,
        entries: Iterable[WorkerEntry],
        *,
        deadlines: Deadlines | None = None,
        local_env: Mapping[str, str] | None = None,
        standby_home: Path | None = None,
        agent: Agent = no_agent,
    ) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._deadlines = deadlines or Deadlines()
        self._local_env = local_env
        self._standby_home = standby_home
        self._agent = agent
        self._members: dict[str, _Member] = {}

    def client(self, name: str) -> WorkerClient:
        """The worker's client; `Failure` CONFIG when the inventory has no worker of that name."""
        member = self._members.get(name)
        if member is None:
            entry = self._entries.get(name)
            if entry is None:
                raise Failure(Kind.CONFIG, f"there is no worker {name!r} in workers.toml")
            transport = self._transport(entry)
            member = _Member(WorkerClient(name, transport, deadlines=self._deadlines), transport)
            self._members[name] = member
        return member.client

    async def replace(self, entries: Iterable[WorkerEntry]) -> None:
        """Take a new inventory; clients of workers that changed or went are closed."""
        before, self._entries = self._entries, {entry.name: entry for entry in entries}
        for name in [name for name in self._members if self._entries.get(name) != before.get(name)]:
            await self.drop(name)

    async def drop(self, name: str) -> None:
        """Close a worker's client; the next `client` makes a new one."""
        if (member := self._members.pop(name, None)) is not None:
            await member.client.close()

    async def close(self) -> None:
        """Close every client."""
        while self._members:
            await self.drop(next(iter(self._members)))

    def _transport(self, entry: WorkerEntry) -> Transport:
        if isinstance(entry, StandbyEntry):
            return LocalTransport(LOCAL_COMMAND, self._standby_env())
        if entry.transport == "local":
            return LocalTransport(entry.command or LOCAL_COMMAND, self._local_env)
        return SshTransport(target_of(entry, self._deadlines.connect), agent=self._agent)

    def _standby_env(self) -> dict[str, str]:
        """Stand-in tools, and places of its own: nothing of a simulation lies beside what is real."""
        env = dict(os.environ if self._local_env is None else self._local_env)
        env[SIMULATE_VARIABLE] = "1"
        if self._standby_home is not None:
            env[HOME_VARIABLE] = str(self._standby_home)
        return env


def target_of(entry: WorkerEntry, connect_timeout: float) -> SshTarget:
    """How the inventory's entry is dialled."""
    return SshTarget(
        name=entry.name,
        host=entry.host or entry.name,
        user=entry.user,
        port=entry.port,
        fingerprint=entry.known_host_fingerprint,
        known_hosts=_path(entry.known_hosts),
        key_path=_path(entry.ssh_key_path),
        connect_timeout=connect_timeout,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text).expanduser()
