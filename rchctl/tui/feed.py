"""What the daemon tells, by threads of their own: `runs.watch all`, and the workers now and then."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, Protocol

from rch.contract.errors import Failure
from rchctl.client import Client
from rchctl.context import Context

_LISTED = 100
_PROBE_SECONDS = 15.0
_PROBE_PATIENCE = 600.0
_LOOK_SECONDS = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Screen(Protocol):
    """Who is told. Every method may be called from the feed's thread."""

    def take_snapshot(self, runs: list[dict[str, Any]]) -> None:
        """All runs anew."""

    def take_workers(self, workers: list[dict[str, Any]]) -> None:
        """The inventory anew."""

    def take_event(self, event: dict[str, Any]) -> None:
        """One `RunEvent`."""

    def take_daemon(self, words: str) -> None:
        """How it is with the daemon, in one line."""


class Feed(Protocol):
    """Where news come from."""

    def start(self, screen: Screen) -> None:
        """Begin to tell."""

    def cancel(self, run_id: str) -> str:
        """Ask for a run's end; what came of it, in words. It may wait for the daemon."""

    def stop(self) -> None:
        """Tell nothing any more."""


class DaemonFeed:
    """The daemon of the usual places, met again when it goes away."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()

    def start(self, screen: Screen) -> None:
        """Follow in threads."""
        for each in (self._follow, self._probe):
            thread = threading.Thread(target=each, args=(screen,), name=f"top{each.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def cancel(self, run_id: str) -> str:
        """On a connection of its own."""
        try:
            view = self._context.call("runs.cancel", {"run": run_id, "reason": "USER"})
        except Failure as failure:
            return f"not cancelled: {failure.message}"
        return f"run {view.get('run_id')}: {'cancelling' if view.get('cancel_requested') else 'is over'}"

    def stop(self) -> None:
        """At most a moment later nothing is told; who waits for a worker just then is left to it."""
        self._over.set()
        for thread in self._threads:
            thread.join(_LOOK_SECONDS * 2)

    def _probe(self, screen: Screen) -> None:
        """How the workers are, which may take its time and is no reason to miss news."""
        while not self._over.is_set():
            with suppress(Failure):
                known = self._context.call("workers.probe", {}, timeout=_PROBE_PATIENCE)
                screen.take_workers(known.get("workers", []))
            self._over.wait(_PROBE_SECONDS)

    def _follow(self, screen: Screen) -> None:
        pause = _FIRST_PAUSE
        while not self._over.is_set():
            try:
                client = self._context.connect()
                try:
                    screen.take_daemon(f"rchd {client.server.get('version', '')}")
                    pause = _FIRST_PAUSE
                    self._listen(client, screen)
                finally:
                    client.close()
            except Failure as failure:
                screen.take_daemon(f"no daemon: {failure.message}; trying again")
            self._over.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _listen(self, client: Client, screen: Screen) -> None:
        """Until it hangs up, or missed news ask for a new look."""
        view = client.call("runs.watch", {"run": "all"})
        past = client.call("runs.list", {"limit": _LISTED}).get("runs", [])
        newest = {str(run.get("run_id")): run for run in [*past, *view.get("runs", [])]}
        screen.take_snapshot(list(newest.values()))
        screen.take_workers(client.call("workers.list", {}).get("workers", []))
        while not self._over.is_set():
            event = client.notification(_LOOK_SECONDS)
            if event is None:
                continue
            if event.get("type") in {"gap", "end"}:
                return
            screen.take_event(event)
