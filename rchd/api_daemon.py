"""The methods that are about the daemon itself: `hello` and `daemon.*` (spec section 12)."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable

import anyio
import structlog
from anyio.abc import TaskGroup

import rch
from rch.contract import local_api as api
from rch.contract.errors import Failure, Kind
from rch.contract.messages import MAX_HEADERS
from rch.contract.states import RunState
from rch.files.paths import HostPaths
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.session import MAX_IN_FLIGHT, MAX_SUBSCRIPTIONS
from rchd.driver import Driver
from rchd.edges.agents import Agents
from rchd.edges.service import Service
from rchd.edges.socket import Connection

log = structlog.get_logger("rchd")

LOOK_SECONDS = 0.1
# Where the state cannot be written, the core's answer waits for it; whoever ends the daemon does not.
REPLY_SECONDS = 2.0
LONGEST_DRAIN_SECONDS = 7 * 86400.0


class Replies:
    """Who waits for the core's answer."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[fx.Reply]] = {}

    def expect(self) -> tuple[int, asyncio.Future[fx.Reply]]:
        """A number for an event, and where its answer will be."""
        number = next(self._numbers)
        future: asyncio.Future[fx.Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        return number, future

    def give(self, reply: fx.Reply) -> None:
        """Hand the answer over; whoever has left is no matter."""
        future = self._waiting.pop(reply.reply, None)
        if future is not None and not future.done():
            future.set_result(reply)


class DaemonApi:
    """Says how the daemon is, and lets it drain and end. `intakes` counts submits under way."""

    def __init__(
        self,
        *,
        paths: HostPaths,
        driver: Driver,
        replies: Replies,
        connections: Callable[[], int],
        stop: Callable[[], None],
        group: TaskGroup,
        service: Service | None = None,
        agents: Agents,
    ) -> None:
        self._paths = paths
        self._driver = driver
        self._replies = replies
        self._connections = connections
        self._stop = stop
        self._group = group
        self._service = service or Service()
        self._agents = agents
        self._started = time.monotonic()
        self._instance = f"{os.getpid()}-{time.time_ns():x}"
        self._leaving: anyio.CancelScope | None = None
        self.intakes = 0

    async def hello(self, params: api.HelloParams, connection: Connection) -> api.HelloView:
        """Who answers."""
        self._agents.tell(params.agent)
        return api.HelloView(
            server="rchd",
            version=rch.__version__,
            protocol=connection.session.protocol,
            features=api.FEATURES,
            instance=self._instance,
            limits={
                "max_message_bytes": api.MAX_MESSAGE,
                "max_header_bytes": MAX_HEADERS,
                "max_in_flight": MAX_IN_FLIGHT,
                "max_subscriptions": MAX_SUBSCRIPTIONS,
            },
        )

    async def health(self, _params: api.NoParams, _connection: Connection) -> api.HealthView:
        """What the daemon does now."""
        draining = self._driver.core.draining
        return api.HealthView(
            status="draining" if draining else "ok",
            pid=os.getpid(),
            version=rch.__version__,
            uptime_seconds=int(time.monotonic() - self._started),
            runs_queued=self._count(RunState.QUEUED),
            runs_running=self._count(RunState.RUNNING),
            connections=self._connections(),
            activity=self._activity(),
            home=str(self._paths.state_dir),
            log_path=str(self._paths.log),
            exits=self._leaving is not None,
            awaited=self._awaited() if draining else (),
            supervisor=self._service.kind,
            unit=self._service.unit,
        )

    def status_line(self) -> str:
        """What the daemon does, for whoever lists services."""
        if self._driver.trouble is not None:
            return self._activity()
        state = "draining" if self._driver.core.draining else "ready"
        return f"{state}: {self._count(RunState.RUNNING)} running, {self._count(RunState.QUEUED)} queued"

    def _count(self, state: RunState) -> int:
        return sum(run.state == state for run in self._driver.core.runs.values())

    def _activity(self) -> str:
        if self._driver.trouble is not None:
            return f"state cannot be written: {self._driver.trouble}"
        doing = [f"{self.intakes} snapshots"] if self.intakes else []
        doing += [f"{run.run_id}: {type(run.phase).__name__.lower()}" for run in self._under_way()]
        lacks = self._driver.unrecorded
        return "; ".join([*(doing or ["idle"]), *([lacks] if lacks else [])])

    def _under_way(self) -> list[m.Run]:
        """The runs that have had their turn; one that has ended, until that is durable."""
        waits = m.Waiting | m.Coalescing
        return [run for run in self._driver.core.runs.values() if not isinstance(run.phase, waits)]

    def _awaited(self) -> tuple[api.AwaitedView, ...]:
        return tuple(
            api.AwaitedView(
                run_id=run.run_id,
                project=run.accepted.project,
                phase=type(run.phase).__name__.lower(),
                action=_action(run),
                worker=run.worker,
                waiting=run.waiting,
            )
            for run in self._under_way()
        )

    async def drain(self, params: api.DrainParams, _connection: Connection) -> api.DrainView:
        """Take no more runs and start none; `off` has it do both again."""
        if params.timeout_seconds is not None and not 0 <= params.timeout_seconds <= LONGEST_DRAIN_SECONDS:
            raise Failure(
                Kind.USAGE,
                f"timeout_seconds {params.timeout_seconds:g} is not 0 to {LONGEST_DRAIN_SECONDS:.0f}",
            )
        if params.off or params.exit:
            self._stay()
        await self._tell_core(off=params.off)
        if params.exit and not params.off:
            self._leaving = anyio.CancelScope()
            self._group.start_soon(self._leave, self._leaving, params.timeout_seconds)
        log.info("daemon.drain", off=params.off, exit=params.exit, timeout=params.timeout_seconds)
        return self._view()

    def _view(self) -> api.DrainView:
        draining = self._driver.core.draining
        return api.DrainView(
            draining=draining,
            runs_running=self._count(RunState.RUNNING),
            exits=self._leaving is not None,
            awaited=self._awaited() if draining else (),
        )

    async def _tell_core(self, *, off: bool) -> None:
        number, future = self._replies.expect()
        self._driver.post(ev.DrainAsked(at=time.time(), off=off, reply=number))
        with anyio.move_on_after(REPLY_SECONDS):
            await future

    def _stay(self) -> None:
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving.cancel()

    async def _leave(self, scope: anyio.CancelScope, seconds: float | None) -> None:
        """End when whoever had its turn is done and whoever submits is answered, or time is up."""
        with scope:
            with anyio.move_on_after(seconds):
                while self.intakes or self._under_way():  # noqa: ASYNC110  (both change in many places)
                    await anyio.sleep(LOOK_SECONDS)
            if not scope.cancel_called:
                log.info("daemon.drained", left=[run.run_id for run in self._under_way()])
                self._stop()

    async def shutdown(self, _params: api.NoParams, _connection: Connection) -> api.DrainView:
        """End now; what runs on a worker stays there and is taken up by the next start."""
        await self._tell_core(off=False)
        asyncio.get_running_loop().call_soon(self._stop)
        return self._view()


def _action(run: m.Run) -> str | None:
    """What its phase is about, where that is a step."""
    index = getattr(run.phase, "step", None)
    return None if index is None else run.accepted.steps[index].action
