"""Follow several runs until one of them is over, over lost connections as `follow` does."""

from __future__ import annotations

from typing import Any

from rchctl.amounts import counted
from rchctl.client import Client
from rchctl.context import Context
from rchctl.follow import Follower
from rchctl.progress import Progress
from rchctl.render import is_over


class FirstFollower(Follower):
    """`follow` gives the first run that is over; of several that are so already the first of `run_ids`."""

    def __init__(self, context: Context, client: Client, run_ids: list[str], *, progress: Progress) -> None:
        super().__init__(context, client, run_ids[0], progress=progress)
        self._ids = run_ids
        self._live: dict[str, str] = {}
        self._subscriptions: set[object] = set()

    def _watch(self) -> None:
        client = self._connected()
        self._subscriptions.clear()
        for run_id in self._ids:
            view = client.call("runs.watch", {"run": run_id})
            self._subscriptions.add(view.get("subscription"))
            for run in view.get("runs", ()):
                self._see(run)

    def _is_mine(self, event: dict[str, Any]) -> bool:
        return event.get("subscription") in self._subscriptions

    def _ask(self, client: Client) -> None:
        for run_id in self._ids:
            self._see(client.call("runs.get", {"run": run_id}))

    def _take(self, event: dict[str, Any]) -> None:
        if event.get("type") not in {"stage", "log", "job"}:  # progress of which run nobody could tell
            super()._take(event)

    def _see(self, run: dict[str, Any]) -> None:
        run_id = str(run.get("run_id"))
        if run_id not in self._ids or self._run is not None:
            return
        if is_over(run):
            self._run, self.run_id = run, run_id
            return
        self._live[run_id] = str(run.get("state", "")).lower()
        states = [self._live[each] for each in self._ids if each in self._live]
        told = ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(states))
        self._context.console.status(f"waiting for the first of {counted(len(self._ids), 'run')}: {told}")

    def drop(self) -> None:
        """Hang up."""
        super().drop()
        self._subscriptions.clear()
