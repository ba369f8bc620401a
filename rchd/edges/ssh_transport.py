"""Workers behind SSH: pooled connections, a channel per conversation (transport `ssh`).

What speaks SSH are `ssh.py` and its neighbours; their library takes a quarter of a second to load, so
it is loaded at the first dial and in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import lowlevel, to_thread

from rchd.edges.ssh_channel import SshChannel
from rchd.edges.wire import unreachable

if TYPE_CHECKING:
    from rchd.edges.ssh import Connection

WORKER_COMMAND = "rch-worker xcode rpc"
# sshd takes ten sessions a connection by default; some room is left for people.
PLACES = 8
_OPENINGS = 4

Agent = Callable[[], str | None]
"""Names the socket of the key agent to ask now; None where there is none. Called off the event loop."""


def no_agent() -> None:
    """No agent is there."""


@dataclass(frozen=True, slots=True)
class SshTarget:
    """How one worker of the inventory is dialled.

    `host` may be an alias of the SSH config, which then gives what is None here. `config` holds
    the SSH config files to read; None means the user's own. `fingerprint` pins the host key;
    without it `known_hosts`, or the usual files, must know it. `connect_timeout` is in seconds
    and covers all of a dial, jump hosts too.
    """

    name: str
    host: str
    user: str | None = None
    port: int | None = None
    fingerprint: str | None = None
    known_hosts: Path | None = None
    key_path: Path | None = None
    config: tuple[Path, ...] | None = None
    connect_timeout: float = 30.0


class SessionRefused(Exception):  # noqa: N818  (the server's word, not a mistake)
    """The server opened no session on a connection, or the connection is gone."""


class SshTransport:
    """Channels to one worker; dials again when a connection is full or gone.

    `agent` is asked at each dial, unless the SSH config names another (IdentityAgent).
    """

    def __init__(self, target: SshTarget, *, agent: Agent = no_agent) -> None:
        self._agent = agent
        self._target = target
        self._links: list[_Link] = []
        self._dialling = anyio.Lock()
        self._host_key_type: str | None = None

    @property
    def host(self) -> str:
        """See `Transport`."""
        return self._target.host

    async def open(self) -> SshChannel:
        """A session that runs the worker's command.

        `Failure` SSH / HOST_KEY, ALGORITHMS, AUTH or UNREACHABLE names what was wrong.
        """
        refusal = ""
        for _ in range(_OPENINGS):
            link = self._free_link() or await self._new_link()
            try:
                return await link.open_channel()
            except SessionRefused as error:
                refusal = str(error)
                await lowlevel.checkpoint()  # a line that was just cut is told to be lost in a moment
                if not link.lost and not link.used:
                    break
                # Gone meanwhile, or the server takes fewer sessions than we thought.
                link.places = link.used
            finally:
                self._sweep()
        raise unreachable(f"worker {self._target.name}: {self.host} opens no session: {refusal}")

    async def close(self) -> None:
        """See `Transport`."""
        links, self._links = self._links, []
        with anyio.CancelScope(shield=True):
            for link in links:
                await link.connection.close()

    def _free_link(self) -> _Link | None:
        for link in self._links:
            if not link.lost and link.used < link.places:
                link.used += 1
                return link
        return None

    async def _new_link(self) -> _Link:
        async with self._dialling:
            if (link := self._free_link()) is not None:
                return link
            ssh = await to_thread.run_sync(import_module, "rchd.edges.ssh")
            connection: Connection = await ssh.dial(self._target, self._agent, self._host_key_type)
            self._host_key_type = connection.host_key.type
            link = _Link(connection, self._sweep)
            self._links.append(link)
            return link

    def _sweep(self) -> None:
        """End what is of no more use: lost and retired links, and idle ones beyond the first."""
        kept: list[_Link] = []
        for link in self._links:
            if link.lost or (not link.used and (not link.places or kept)):
                link.connection.abandon()
            else:
                kept.append(link)
        self._links = kept


class _Link:
    """A connection and how many of its places are taken; its maker has taken one."""

    def __init__(self, connection: Connection, changed: Callable[[], None]) -> None:
        self.connection = connection
        self.used = 1
        self.places = PLACES
        self._changed = changed

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self.connection.lost

    async def open_channel(self) -> SshChannel:
        """A session on the place that the caller has taken."""
        try:
            return await self.connection.open_session(WORKER_COMMAND, self._released)
        except SessionRefused:
            self.used -= 1
            raise
        except BaseException:
            # The server may still open what nobody waits for: this link takes no more and ends.
            self.places = 0
            self._released()
            raise

    def _released(self) -> None:
        self.used -= 1
        self._changed()
