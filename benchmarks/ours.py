"""Our side in one long-lived process: intake, a pool of workers and the performer, as the daemon has them.

What a figure asks of the product goes through here, and through the daemon's own effects, so that a
change inside of it is measured without a change here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from theirs import Loopback

from rch.config.inventory import load_inventory
from rch.contract.local_api import SubmitParams
from rch.contract.records import Accepted
from rch.contract.worker_rpc import PROTOCOL_MAX
from rch.files.paths import host_paths
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.edges.host_id import host_id
from rchd.edges.intake import Intake
from rchd.edges.performer import Performer
from rchd.edges.pool import WorkerPool
from rchd.edges.prober import Prober
from rchd.edges.ssh_channel import SshChannel
from rchd.edges.worker_client import WorkerClient

T = TypeVar("T")
WORKER_NAME = "mini"
REST_SECONDS = 0.05
_TARGET = fx.Target(worker=WORKER_NAME, protocol=PROTOCOL_MAX, deadline=30.0)


class OursError(Exception):
    """Our side did not do what is measured."""


class Ours:
    """Calls are blocking: each runs the loop until its answer is there."""

    def __init__(self, around: Loopback) -> None:
        self.paths = host_paths(around.user.env)
        for folder in (self.paths.artifacts, self.paths.spool, self.paths.host_id_file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.runner = asyncio.Runner()
        self.intake = Intake(self.paths)
        self.pool = WorkerPool(load_inventory(self.paths.workers_toml).workers)
        self.performer = Performer(
            pool=self.pool,
            prober=Prober(self.pool, lambda: load_inventory(self.paths.workers_toml)),
            host_id=host_id(self.paths.host_id_file),
            artifacts_root=self.paths.artifacts,
            spool=self.paths.spool,
        )
        self._tending = self.runner.get_loop().create_task(self.intake.tend())
        self.run(self.client.probe())

    @property
    def client(self) -> WorkerClient:
        """The worker over its standing connection."""
        return self.pool.client(WORKER_NAME)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the loop until `work` is done."""
        return self.runner.run(work)

    def close(self) -> None:
        """Hang up."""
        self._tending.cancel()
        self.intake.close()
        self.run(self.pool.close())
        self.runner.close()

    def rest(self) -> None:
        """What the daemon does beside the work has its time."""
        self.run(asyncio.sleep(REST_SECONDS))

    # --- what is measured -----------------------------------------------------------------

    async def take(self, root: Path) -> Accepted:
        """Take a request in: its bundle spooled, its records durable."""
        accepted = await self.intake.take(SubmitParams(start=str(root)))
        self.intake.release(accepted.run_id)
        return accepted

    async def has_source(self, accepted: Accepted) -> bool:
        """The worker's word whether it has the source."""
        effect = fx.HasSource(
            run_id=accepted.run_id,
            op=1,
            target=_TARGET,
            source_sha256=accepted.source.source_sha256,
            lease_id=None,
        )
        answer = await self.performer.perform(effect, _ignore)
        if not isinstance(answer, ev.SourceKnown):
            raise OursError(answer)
        return answer.exists

    async def upload(self, accepted: Accepted) -> None:
        """Until the worker says that it has verified and stored the source."""
        effect = fx.Upload(
            run_id=accepted.run_id,
            op=2,
            target=_TARGET,
            source=accepted.source,
            max_bytes=0,
            lease_id=None,
            fence=None,
        )
        answer = await self.performer.perform(effect, _ignore)
        if not isinstance(answer, ev.Uploaded):
            raise OursError(answer)

    async def resubmit(self, root: Path) -> None:
        """A request whose source the worker has, up to its word."""
        if not await self.has_source(await self.take(root)):
            raise OursError("the worker does not have the source")

    async def submit(self, root: Path) -> None:
        """A request whose source the worker lacks, up to its word that it is stored."""
        accepted = await self.take(root)
        if await self.has_source(accepted):
            raise OursError("the worker has the source already")
        await self.upload(accepted)


def _ignore(event: ev.Event) -> None:
    del event


@contextmanager
def ours(around: Loopback) -> Iterator[Ours]:
    """Our side, connected."""
    made = Ours(around)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def counted() -> Iterator[list[int]]:
    """Sizes of what is written to channels meanwhile."""
    sizes: list[int] = []
    send = SshChannel.send

    async def counting(self: SshChannel, data: bytes) -> None:
        sizes.append(len(data))
        await send(self, data)

    SshChannel.send = counting  # type: ignore[method-assign]
    try:
        yield sizes
    finally:
        SshChannel.send = send  # type: ignore[method-assign]


def now() -> float:
    """Milliseconds of a clock that all processes of this machine share."""
    return time.monotonic() * 1000
