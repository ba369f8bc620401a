"""The methods of the local socket (spec section 12).

What is read comes from the core or the store; what is changed goes through the driver as an event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import msgspec

from rch.contract import local_api as api
from rch.contract.errors import Failure, Kind
from rch.contract.local_gc import HostGcParams, HostGcView
from rch.contract.schemas import describe
from rch.contract.states import is_terminal
from rch.files.paths import HostPaths
from rchd.api_daemon import DaemonApi, Replies
from rchd.api_door import DoorApi
from rchd.api_gc import GcApi
from rchd.api_hostgc import HostGcApi
from rchd.api_metrics import MetricsApi
from rchd.api_pages import Page, past_events
from rchd.api_plan import PlanApi
from rchd.api_rerun import RerunApi
from rchd.api_setup import SetupApi
from rchd.api_taking import Taking
from rchd.api_workers import WorkersApi
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.session import Call
from rchd.core.views import run_view
from rchd.driver import Driver
from rchd.edges.core_rows import decode_run
from rchd.edges.hub import Held, Hub, with_text
from rchd.edges.intake import Intake, request_sha256
from rchd.edges.private import marked_run
from rchd.edges.socket import Connection
from rchd.edges.store import RunRow, StateStore

MOST_LISTED = 1000
MAX_LIVE_RUNS = 20_000
"""Runs that are not over: origins take turns, so that this bounds memory, and starves nobody."""
ROWS_AT_ONCE = 100  # about what one message holds
TIES = 0  # no subscription has this number

Handler = Callable[[Any, Connection], Awaitable[object]]


class Api:
    """Answers calls."""

    def __init__(
        self,
        *,
        paths: HostPaths,
        driver: Driver,
        store: StateStore,
        hub: Hub,
        intake: Intake,
        workers: WorkersApi,
        plan: PlanApi,
        gc: GcApi,
        door: DoorApi,
        setup: SetupApi,
        daemon: DaemonApi,
        replies: Replies,
        metrics: MetricsApi,
        host_gc: HostGcApi,
    ) -> None:
        self._paths = paths
        self._driver = driver
        self._store = store
        self._hub = hub
        self._intake = intake
        self._daemon = daemon
        self._replies = replies
        self._host_gc = host_gc
        self._tokens: dict[str, Taking] = {}
        self._tied: dict[str, Connection] = {}
        self._handlers: dict[str, Handler] = {
            "hello": daemon.hello,
            "daemon.health": daemon.health,
            "daemon.drain": daemon.drain,
            "daemon.shutdown": daemon.shutdown,
            "daemon.metrics": metrics.told,
            "daemon.gc": self._collect,
            "rpc.describe": self._describe,
            "runs.submit": self._submit,
            "runs.rerun": RerunApi(paths.artifacts, driver, store, self._named, self._submit).rerun,
            "runs.plan": plan.planned,
            "runs.get": self._get,
            "runs.list": self._list,
            "runs.cancel": self._cancel,
            "runs.watch": self._watch,
            "runs.unwatch": self._unwatch,
            "workers.list": workers.listed,
            "workers.probe": workers.probed,
            "workers.gc": gc.collected,
            "workers.scan": door.scanned,
            "workers.try": door.tried,
            "workers.keys": door.keys,
            "workers.examine": door.examined,
            "workers.look": setup.looked,
            "workers.install": setup.installed,
            "workers.drain": workers.drain,
            "workers.explain": plan.explained,
        }

    async def answer(self, call: Call, connection: Connection) -> object:
        """The result of `call`, or `Failure`."""
        return await self._handlers[call.method](call.params, connection)

    async def _describe(self, _params: api.NoParams, _connection: Connection) -> dict[str, Any]:
        return describe()

    async def _collect(self, params: HostGcParams, connection: Connection) -> HostGcView:
        """Old runs are removed; what is pinned is named as any run is."""
        named = {
            name: await self._named(value)
            for name in ("keep", "release")
            if (value := getattr(params, name)) is not None
        }
        return await self._host_gc.collect(msgspec.structs.replace(params, **named), connection)

    # --- runs -------------------------------------------------------------------------

    async def _submit(self, params: api.SubmitParams, connection: Connection) -> api.RunView:
        if self._driver.core.draining:
            raise Failure(
                Kind.DAEMON,
                "the daemon is draining and takes no more runs",
                subkind="DRAINING",
                hint="rchctl daemon resume, or run it again when rchctl daemon status shows no daemon",
            )
        if len(self._driver.core.runs) >= MAX_LIVE_RUNS:
            raise Failure(
                Kind.DAEMON,
                f"{MAX_LIVE_RUNS} runs wait or run already",
                hint="try again when some are over, or end some: rchctl cancel RUN",
            )
        if params.client_token is None:
            view = await self._accept(params, connection, Taking())
        else:
            view = await self._accept_once(params.client_token, params, connection)
        if params.on_disconnect == "cancel":
            self._tie(view.run_id, connection)
        return view

    def _tie(self, run_id: str, connection: Connection) -> None:
        """Cancel the run when `connection`, the last that asked for it, closes before its end.

        The tie is the daemon's memory alone: one that was started again does not know whose
        connection it was, and the run goes on.
        """
        live = self._driver.core.runs
        self._tied = {tied: to for tied, to in self._tied.items() if tied in live}
        if run_id in live:
            self._tied[run_id] = connection
            connection.at_close(TIES, lambda: self._untie(connection))

    def _untie(self, connection: Connection) -> None:
        for run_id in [tied for tied, to in self._tied.items() if to is connection]:
            del self._tied[run_id]
            self._post_cancel(run_id, "USER")

    async def _accept_once(
        self, token: str, params: api.SubmitParams, connection: Connection
    ) -> api.RunView:
        """A retry is the same run, also while the first call is still being accepted (fault C5)."""
        wanted = request_sha256(params)
        while token in self._tokens:
            first = self._tokens[token]
            if first.wanted == wanted and not first.abandoned:
                with first.awaited(params, connection):
                    return await asyncio.shield(first.answer)
            await asyncio.wait([first.answer])  # only what was accepted owns the token
        taking = self._tokens[token] = Taking(wanted, comes_back=True)
        try:
            view = await self._known(token, wanted) or await self._accept(params, connection, taking)
        except BaseException as error:
            taking.answer.set_exception(
                error if isinstance(error, Failure) else Failure(Kind.INTERNAL, "the first call ended")
            )
            raise
        else:
            taking.answer.set_result(view)
            return view
        finally:
            del self._tokens[token]

    async def _known(self, token: str, wanted: str) -> api.RunView | None:
        """The run that was accepted with `token`, if there is one."""
        row = await anyio.to_thread.run_sync(self._store.by_token, token)
        if row is None:
            return None
        run = self._driver.core.runs.get(row.run_id) or decode_run(row.doc)
        if run.accepted.request_sha256 not in {None, wanted}:
            raise Failure(
                Kind.USAGE,
                f"client_token {token[:40]!r} stands for another request: run {run.run_id}",
                hint="give each request a token of its own",
            )
        return await self._by_id(row.run_id)

    async def _accept(
        self, params: api.SubmitParams, connection: Connection, taking: Taking
    ) -> api.RunView:
        self._daemon.intakes += 1
        try:
            accepted = None
            with taking.awaited(params, connection), taking.scope:
                accepted = await self._intake.take(params, taking.tell)
            if accepted is None:
                raise Failure(Kind.CANCELLED, "cancelled before the source was taken")
            number, future = self._replies.expect()
            # The core answers when the run lives, also where nobody waits for it any more.
            run_id = accepted.run_id
            future.add_done_callback(lambda _: self._intake.release(run_id))
            self._driver.post(ev.RunAccepted(at=time.time(), accepted=accepted, reply=number))
            taking.run_id = run_id
            if taking.reason is not None:  # durable in the same commit, before anything is done about it
                self._post_cancel(run_id, taking.reason)
            return _answered(await asyncio.shield(future))
        finally:
            self._daemon.intakes -= 1

    async def _get(self, params: api.RunParams, _connection: Connection) -> api.RunView:
        return await self._view(params.run)

    async def _list(self, params: api.ListParams, _connection: Connection) -> api.RunListView:
        """The newest runs, until one message is full."""
        page, live = Page(), self._driver.core.runs
        before = None if params.before is None else await self._named(params.before)
        left = max(1, min(params.limit, MOST_LISTED))
        while left:
            rows = await self._rows(min(left, ROWS_AT_ONCE), params.state, before)
            for row in rows:
                view = await self._by_id(row.run_id) if row.run_id in live else self._row_view(row)
                if not page.add(view):
                    return api.RunListView(runs=page.views, more=True)
            if not rows:
                break
            left, before = left - len(rows), rows[-1].run_id
        more = params.limit > MOST_LISTED and not left
        return api.RunListView(
            runs=page.views, more=more and bool(await self._rows(1, params.state, before))
        )

    async def _rows(self, limit: int, state: str | None, before: str | None) -> list[RunRow]:
        return await anyio.to_thread.run_sync(partial(self._store.runs, limit, state=state, before=before))

    async def _cancel(self, params: api.CancelParams, _connection: Connection) -> api.RunView:
        if params.reason not in {"USER", "SIGNAL"}:
            raise Failure(Kind.USAGE, f"reason {params.reason[:40]!r} is not USER or SIGNAL")
        if (params.run is None) == (params.client_token is None):
            raise Failure(Kind.USAGE, "runs.cancel: either run or client_token says which run")
        if params.client_token is not None:
            view = await self._called_off(params.client_token, params.reason)
        else:
            view = await self._view(params.run or "")
        if view.run_id not in self._driver.core.runs or is_terminal(view.state):
            return view
        number, future = self._replies.expect()
        self._post_cancel(view.run_id, params.reason, reply=number)
        reply = await future
        return reply.view or await self._view(view.run_id)

    def _post_cancel(self, run_id: str, reason: str, *, reply: int | None = None) -> None:
        self._driver.post(ev.CancelAsked(at=time.time(), run_id=run_id, reason=reason, reply=reply))

    async def _called_off(self, token: str, reason: str) -> api.RunView:
        """The run of `token`; where it is still being accepted, that is ended, or comes as cancelled."""
        taking = self._tokens.get(token)
        if taking is None:
            run_id = self._driver.core.tokens.get(token)
            if run_id is None:
                row = await anyio.to_thread.run_sync(self._store.by_token, token)
                run_id = None if row is None else row.run_id
            if run_id is None:
                raise Failure(
                    Kind.USAGE, f"no run of client_token {token[:40]!r} is known", subkind="UNKNOWN_RUN"
                )
            return await self._by_id(run_id)
        taking.call_off(reason)
        if taking.run_id is not None:
            self._post_cancel(taking.run_id, reason)
        try:
            accepted = await asyncio.shield(taking.answer)
        except Failure as failure:
            if failure.kind is Kind.INTERNAL:
                raise
            raise Failure(Kind.CANCELLED, f"no run was accepted: {failure.message}") from failure
        return await self._by_id(accepted.run_id)

    async def _watch(self, params: api.WatchParams, connection: Connection) -> api.WatchView:
        run_id = None if params.run == "all" else await self._named(params.run)
        connection.session.may_follow()
        tell = with_text(connection.tell) if "log_text" in params.include else connection.tell
        sink = Held(tell)
        # News are held from here on: what the snapshot does not have yet is told after it.
        follower = self._hub.follow(run_id or "all", sink)
        connection.session.subscriptions.add(follower.number)
        connection.at_close(follower.number, lambda: self._hub.leave(follower.number))
        seq = self._driver.seq
        views, more = await self._snapshot(run_id)
        past: list[api.RunEvent] = []
        if params.after_seq is not None:
            past = await past_events(self._store, params.after_seq, seq, follower.run, follower.number)
        # The answer is written before the loop turns: news follow it, old ones first.
        asyncio.get_running_loop().call_soon(sink.release, past, views)
        return api.WatchView(subscription=follower.number, seq=seq, runs=views, more=more)

    async def _snapshot(self, run_id: str | None) -> tuple[tuple[api.RunView, ...], bool]:
        """That run, or of all that have not ended what fits into one message; whether there are more."""
        if run_id is not None:
            return (await self._by_id(run_id),), False
        page = Page()
        for each in tuple(self._driver.core.runs):
            if (view := await self._if_known(each)) is not None and not page.add(view):
                return page.views, True
        return page.views, False

    async def _unwatch(self, params: api.UnwatchParams, connection: Connection) -> dict[str, object]:
        if params.subscription in connection.session.subscriptions:
            connection.session.subscriptions.discard(params.subscription)
            connection.not_at_close(params.subscription)
            self._hub.leave(params.subscription)
        return {}

    # --- finding a run ----------------------------------------------------------------

    async def _view(self, name: str) -> api.RunView:
        """The run that `name` means, as far as it is durable."""
        return await self._by_id(await self._named(name))

    async def _named(self, name: str) -> str:
        """The id that `name` means: itself, an unambiguous beginning, or `latest`."""
        if name in self._driver.core.runs:
            return name
        prefix = None if name == "latest" else name
        rows = await anyio.to_thread.run_sync(lambda: self._store.runs(2, prefix=prefix))
        if not rows:
            raise await anyio.to_thread.run_sync(self._unknown, name)
        if prefix is not None and len(rows) > 1 and rows[0].run_id != name:
            both = ", ".join(row.run_id for row in rows)
            raise Failure(
                Kind.USAGE, f"{name[:80]!r} begins more than one run: {both}", subkind="UNKNOWN_RUN"
            )
        return rows[0].run_id

    def _unknown(self, name: str) -> Failure:
        """Why there is no such run; of those without a daemon there is a folder."""
        own = marked_run(self._paths.artifacts, "" if name == "latest" else name)
        if own is None:
            return Failure(Kind.USAGE, f"no run {name[:80]!r} is known", subkind="UNKNOWN_RUN")
        return Failure(
            Kind.USAGE,
            f"no run {name[:80]!r} is known here: {own} is a --no-daemon run, its call shows and ends it",
            subkind="UNKNOWN_RUN",
            hint=f"rchctl report {own}, or rchctl artifacts {own}",
        )

    async def _by_id(self, run_id: str) -> api.RunView:
        view = await self._if_known(run_id)
        if view is None:
            raise Failure(Kind.USAGE, f"run {run_id} is not accepted yet", subkind="UNKNOWN_RUN")
        return view

    async def _if_known(self, run_id: str) -> api.RunView | None:
        """From memory where that is durable, else from the store, which has what is."""
        runs, driver = self._driver.core.runs, self._driver
        if run_id in runs and not driver.is_settled(run_id):
            await driver.settled(run_id)
        run = runs.get(run_id)
        if run is not None and driver.is_settled(run_id):
            return self._run_view(run)
        row = await anyio.to_thread.run_sync(self._store.run, run_id)
        return None if row is None else self._row_view(row)

    def _run_view(self, run: m.Run) -> api.RunView:
        return self._driver.core.view(run)

    def _row_view(self, row: RunRow) -> api.RunView:
        return run_view(decode_run(row.doc), str(self._paths.artifacts))


def _answered(reply: fx.Reply) -> api.RunView:
    if reply.view is None:
        raise Failure(Kind.INTERNAL, "the daemon gave no answer")
    return reply.view
