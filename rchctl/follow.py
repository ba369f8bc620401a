"""Follow a run to its end, over lost connections and restarts of the daemon (spec section 12)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.client import Client, ConnectionLost, RemoteFailure
from rchctl.context import Context
from rchctl.logs import Logs
from rchctl.progress import Progress
from rchctl.render import is_over
from rchctl.signals import window

# Heartbeats come more often than this; after it the daemon is asked whether it is there.
SILENCE_SECONDS = 30.0
RECONNECT_SECONDS = 30.0
TICK_SECONDS = 1.0
# Of so many runs the queue and its usual times are told.
_NEWEST = 200
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
# Another try would not help.
_FOR_GOOD = frozenset({"PROTOCOL", "PRIVATE_ENDED"})
_UNREACHABLE = "worker_unreachable"
# A line that is cut and mended within this time is no reason to leave.
UNREACHABLE_SECONDS = 60.0


class Follower:
    """One run's news, shown as they come.

    `logs=None`: no log. `leave_unreachable`: end with exit 20 when the run outlives its
    worker's connection, instead of waiting with it (spec section 4). `for_reader`: end when
    nobody reads stdout any more.
    """

    def __init__(
        self,
        context: Context,
        client: Client,
        run_id: str,
        *,
        progress: Progress,
        logs: Logs | None = None,
        leave_unreachable: bool = False,
        for_reader: bool = False,
    ) -> None:
        self._context = context
        self.run_id = run_id
        self._progress = progress
        progress.asks(self._newest)
        self._logs = logs
        self._leave_unreachable = leave_unreachable
        self._for_reader = for_reader
        self.client: Client | None = client
        self._run: dict[str, Any] | None = None
        self._subscription: object = None
        self._seq: int | None = None
        self._unreachable_since: float | None = None
        # The daemon said that it was told to stop: who stopped it is who starts it.
        self._stopped = False
        self._trouble: object = None

    def follow(self) -> dict[str, Any]:
        """The view of the run once it is over."""
        self._mended(self._watch)
        while self._run is None or not is_over(self._run):
            self._mended(self._step)
            if self._for_reader and self._context.console.broken:
                break
        run = self._run or {}
        if self._logs is not None:
            self._logs.finish(run)
        return run

    def _step(self) -> None:
        """Take one notification, or ask after a long silence."""
        client = self._connected()
        event = self._next(client)
        if event is None:
            self._ask(client)
        elif self._is_mine(event):
            self._take(event)

    def _ask(self, client: Client) -> None:
        self._see(client.call("runs.get", {"run": self.run_id}))

    def _is_mine(self, event: dict[str, Any]) -> bool:
        return event.get("subscription") == self._subscription

    def _next(self, client: Client) -> dict[str, Any] | None:
        """The next notification, the progress told of each second until then; None after the patience."""
        patience = self._patience()
        if not self._progress.ticks:
            return client.notification(patience)
        until = time.monotonic() + patience
        while (left := until - time.monotonic()) > 0:
            event = client.notification(min(left, TICK_SECONDS))
            if event is not None:
                return event
            self._progress.tick()
        return None

    def _newest(self) -> list[dict[str, Any]]:
        """The newest runs, newest first."""
        return list(self._connected().call("runs.list", {"limit": _NEWEST}).get("runs", ()))

    def _take(self, event: dict[str, Any]) -> None:
        kind, data = event.get("type"), event.get("data")
        facts: dict[str, Any] = data if isinstance(data, dict) else {}
        if isinstance(seq := event.get("seq"), int) and kind == "run":
            self._seq = seq
        if isinstance(run := event.get("run"), dict):
            self._see(run)
        if kind == "stage":
            self._progress.stage(facts)
        elif kind == "log":
            if self._logs is not None:
                self._logs.event(facts, self._run)
            self._progress.log(facts)
        elif kind == "job":
            self._progress.job(facts)
        elif kind == "heartbeat":
            self._hear(facts.get("trouble"))
        elif kind == "end" and facts.get("reason") == "shutdown":
            self._stopped = True
        elif kind in {"gap", "end"} and not (self._run and is_over(self._run)):
            self._seq = None  # what was missed is in the new snapshot
            with window():
                time.sleep(_FIRST_PAUSE)
            self._watch()

    def _hear(self, trouble: object) -> None:
        """Why nothing goes on, once; it stands in no run's view, since that cannot be written."""
        if trouble and trouble != self._trouble:
            self._context.console.note(f"warning: the daemon's state cannot be written: {trouble}")
        self._trouble = trouble

    def _see(self, run: dict[str, Any]) -> None:
        if run.get("run_id") != self.run_id:
            return
        if self._run is not None and run.get("seq", 0) < self._run.get("seq", 0):
            return  # an older view never replaces a newer one
        self._run = run
        self._context.mark(run)
        self._progress.run(run)
        self._check_reach(run)

    def _patience(self) -> float:
        """How long to listen before the daemon is asked."""
        if self._unreachable_since is None:
            return SILENCE_SECONDS
        left = self._unreachable_since + UNREACHABLE_SECONDS - time.monotonic()
        return min(SILENCE_SECONDS, max(left, 0.05))

    def _check_reach(self, run: dict[str, Any]) -> None:
        if run.get("waiting") != _UNREACHABLE or not self._leave_unreachable:
            self._unreachable_since = None
            return
        if self._unreachable_since is None:
            self._unreachable_since = time.monotonic()
        if time.monotonic() - self._unreachable_since >= UNREACHABLE_SECONDS:
            raise Failure(
                Kind.SSH,
                f"worker {run.get('worker')} is out of reach; run {self.run_id} goes on when it is back",
                subkind="UNREACHABLE",
                hint=f"rchctl wait {self.run_id}",
            )

    def _watch(self) -> None:
        """Subscribe, anew if need be; the snapshot is news as well."""
        client = self._connected()
        if self._subscription is not None:
            with suppress(RemoteFailure):  # it may have ended by itself
                client.call("runs.unwatch", {"subscription": self._subscription})
            self._subscription = None
        cursor = {} if self._seq is None else {"after_seq": self._seq}
        view = client.call("runs.watch", {"run": self.run_id, **cursor})
        self._subscription = view.get("subscription")
        self._seq = view.get("seq")
        for run in view.get("runs", ()):
            self._see(run)
        if self._logs is not None and self._run is not None:
            self._logs.catch_up(self._run)

    def _connected(self) -> Client:
        if self.client is None:
            raise ConnectionLost("there is no connection to the daemon")
        return self.client

    def _mended(self, act: Callable[[], None]) -> None:
        """Do `act`; a connection that broke meanwhile is made anew."""
        try:
            act()
        except ConnectionLost:
            self._take_kept()
            seconds = self._reconnect_seconds()
            span = f" {seconds:.0f} s" if math.isfinite(seconds) else ""
            self._context.console.note(
                f"the daemon was stopped: waiting{span} for its start"
                if self._stopped
                else "the connection to the daemon is lost: connecting again"
            )
            self._watch_again()

    def _take_kept(self) -> None:
        """A last word that came before the connection broke."""
        while self.client is not None and (event := self.client.notification(0)) is not None:
            data = event.get("data")
            if event.get("type") == "end" and isinstance(data, dict) and data.get("reason") == "shutdown":
                self._stopped = True

    def _reconnect_seconds(self) -> float:
        """How long a daemon that is gone is waited for."""
        return RECONNECT_SECONDS

    def _watch_again(self) -> None:
        """A new connection and subscription, tried for a while."""
        self.drop()
        deadline = time.monotonic() + self._reconnect_seconds()
        pause = _FIRST_PAUSE
        while True:
            try:
                self.client = self._context.connect(start=not self._stopped)
                self._watch()
            except Failure as failure:
                self.drop()
                if failure.kind is not Kind.DAEMON or failure.subkind in _FOR_GOOD:
                    raise
                if time.monotonic() + pause > deadline:
                    raise self._left_alone(failure) from failure
                with window():
                    time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._stopped = False
                return

    def _left_alone(self, failure: Failure) -> Failure:
        if self._stopped:
            message = f"the daemon was stopped; run {self.run_id} is kept"
        else:
            message = f"the daemon does not come back ({failure.message}); run {self.run_id} is kept"
        return Failure(Kind.DAEMON, message, hint=f"rchctl wait {self.run_id}")

    def drop(self) -> None:
        """Hang up."""
        if self.client is not None:
            self.client.close()
        self.client, self._subscription = None, None
