"""Stay and follow one run or all of them, and tell what they find as they find it.

The daemon's news have each message as the worker finds it in the growing log. What came before the
watch, or while no daemon was there, is in the records of each step once it is over; told twice it is not.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure
from rchctl.client import Client
from rchctl.context import Context
from rchctl.diagnose import finding as f
from rchctl.diagnose.gather import found_in
from rchctl.diagnose.places import Project
from rchctl.follow import SILENCE_SECONDS, Follower
from rchctl.progress import Progress
from rchctl.render import is_over
from rchctl.tellers import Teller

ALL = "all"
_STDOUT = 1
_OVER = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED", "REJECTED"})

Wanted = Callable[[dict[str, Any]], bool]


@dataclass(slots=True)
class _Watched:
    """A run that is not over: its newest view, and what was told of it."""

    view: dict[str, Any]
    project: Project
    told: set[tuple[object, ...]] = field(default_factory=set)
    steps_over: int = 0

    def is_news(self, found: f.Finding, *, by_spot: bool) -> bool:
        """Whether it was not told yet; `by_spot`: in whatever words."""
        if found.key in self.told or (by_spot and found.spot in self.told):
            return False
        self.told |= {found.key, found.spot}
        return True


class Watcher(Follower):
    """As `Follower`, of a run's id or `ALL`; only the runs that are `wanted` are told of."""

    def __init__(
        self,
        context: Context,
        client: Client,
        run_id: str,
        teller: Teller,
        wanted: Wanted = lambda _run: True,
    ) -> None:
        quiet = Progress(context.console, enabled=False)
        super().__init__(context, client, run_id, progress=quiet, for_reader=True)
        self._teller = teller
        self._wanted = wanted
        self._watched: dict[str, _Watched] = {}
        self._over: set[str] = set()
        self._snapshot: list[dict[str, Any]] | None = None

    def _step(self) -> None:
        if _is_unread():
            self._context.console.broken = True
            return
        if self.run_id != ALL:
            super()._step()
        elif (event := self._connected().notification(SILENCE_SECONDS)) is None:
            self._connected().call("daemon.health", {})
        elif event.get("subscription") == self._subscription:
            self._take(event)

    def _reconnect_seconds(self) -> float:
        return math.inf if self.run_id == ALL else super()._reconnect_seconds()

    def _watch(self) -> None:
        self._snapshot = []
        super()._watch()
        runs, self._snapshot = self._snapshot, None
        self._teller.snapshot(self._seq, [each for each in runs if self._wanted(each)])
        for run in runs:
            self._news_of(run)

    def _take(self, event: dict[str, Any]) -> None:
        run_id, data = str(event.get("run_id")), event.get("data")
        run = event.get("run")
        watched = self._watched.get(run_id)
        view = run if isinstance(run, dict) else None if watched is None else watched.view
        if (view is not None and self._wanted(view)) or event.get("run_id") is None:
            self._teller.event(event)
        if event.get("type") == "job" and watched is not None and isinstance(data, dict):
            self._job_event(watched, data)
        super()._take(event)

    def _see(self, run: dict[str, Any]) -> None:
        if self._snapshot is not None:
            self._snapshot.append(run)
        else:
            self._news_of(run)

    def _news_of(self, run: dict[str, Any]) -> None:
        """A run's view, of a snapshot or as news; an older one than the last is none."""
        run_id = str(run.get("run_id"))
        if run_id in self._over or not self._wanted(run) or self.run_id not in {ALL, run_id}:
            return
        watched = self._watched.get(run_id)
        if watched is None:
            watched = self._watched[run_id] = _Watched(run, Project(str(run.get("root", ""))))
            self._teller.begin(run)
        elif run.get("seq", 0) < watched.view.get("seq", 0):
            return
        watched.view = run
        self._teller.change(run)
        over = sum(str(step.get("state")) in _OVER for step in run.get("steps", ()))
        if over > watched.steps_over or is_over(run):
            watched.steps_over = over
            self._make_good(watched)
        if is_over(run):
            self._teller.end(run)
            del self._watched[run_id]
            self._over.add(run_id)
        if self.run_id != ALL:
            self._run = run

    def _job_event(self, watched: _Watched, data: dict[str, Any]) -> None:
        """What the worker found just now."""
        kind, said = data.get("type"), data.get("data")
        if not isinstance(said, dict):
            return
        steps = watched.view.get("steps", ())
        action = next(
            (str(each["action"]) for each in steps if each.get("job_id") == data.get("job_id")), ""
        )
        simulated = bool(watched.view.get("simulated"))
        found = None
        if kind == "diagnostic":
            found = f.diagnostic(said, action, simulated=simulated)
        elif kind == "failure":
            found = f.failure(said, action, simulated=simulated)
        if found is not None and watched.is_news(found, by_spot=False):
            self._teller.finding(watched.view, watched.project.placed(found))

    def _make_good(self, watched: _Watched) -> None:
        """What the records have and nobody was told of."""
        run_dir = Path(str(watched.view.get("run_dir", "")))
        try:
            found = found_in(run_dir)
        except Failure as failure:
            if is_over(watched.view):
                self._context.console.note(f"its records are not read: {failure.message}")
            return
        for each in found.findings:
            if watched.is_news(each, by_spot=True):
                self._teller.finding(watched.view, each)


def _is_unread() -> bool:
    """Whether nobody reads stdout any more: an editor that is gone wants no more news."""
    poll = select.poll()
    poll.register(_STDOUT, 0)
    return any(said & (select.POLLERR | select.POLLNVAL) for _, said in poll.poll(0))
