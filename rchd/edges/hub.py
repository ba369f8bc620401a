"""Who follows which run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rch.contract.local_api import RunEvent, RunView
from rchd.core.effects import Announce
from rchd.core.session import event_line

Sink = Callable[[RunEvent], None]


@dataclass(frozen=True, slots=True)
class Follower:
    """One subscription: `run` is a run's id or `all`."""

    number: int
    run: str
    sink: Sink


class Hub:
    """Passes news on to followers. `sink` must not block; `resolve` makes log paths absolute."""

    def __init__(self, artifacts: str) -> None:
        self._artifacts = artifacts
        self._followers: dict[int, Follower] = {}
        self._next = 1

    def follow(self, run: str, sink: Sink) -> Follower:
        """Subscribe to `run` or `all`."""
        follower = Follower(self._next, run, sink)
        self._next += 1
        self._followers[follower.number] = follower
        return follower

    def leave(self, number: int) -> None:
        """End a subscription; an unknown one is no matter."""
        self._followers.pop(number, None)

    def announce(self, news: Announce) -> None:
        """Tell everyone whom it concerns."""
        data = news.data
        if news.type == "log":
            data = {**data, "path": f"{self._artifacts}/{data['path']}"}
        for follower in list(self._followers.values()):
            if follower.run in {"all", news.run_id}:
                follower.sink(
                    RunEvent(
                        subscription=follower.number,
                        seq=news.seq,
                        type=news.type,
                        run_id=news.run_id,
                        at=news.at,
                        run=news.view,
                        data=data,
                    )
                )

    def heartbeat(self, seq: int, at: str, trouble: str | None = None) -> None:
        """Tell everyone that nothing happened; `trouble`: why nothing can."""
        self._tell_all("heartbeat", seq, at, {} if trouble is None else {"trouble": trouble})

    def farewell(self, seq: int, at: str) -> None:
        """Tell everyone that the daemon was told to stop: runs go on at their workers."""
        self._tell_all("end", seq, at, {"reason": "shutdown"})

    def _tell_all(self, kind: str, seq: int, at: str, data: dict[str, Any]) -> None:
        for follower in list(self._followers.values()):
            follower.sink(
                RunEvent(subscription=follower.number, seq=seq, type=kind, run_id=None, at=at, data=data)
            )


class Lines:
    """Makes lines of news: what a crowd is told of one thing is encoded once."""

    def __init__(self) -> None:
        self._last: RunEvent | None = None
        self._tail = b""

    def of(self, event: RunEvent) -> bytes:
        """The notification of `event`."""
        last = self._last
        if last is None or not _is_same_news(last, event):
            line = event_line(event)
            self._last, self._tail = event, line[line.index(b",", len(_HEAD)) :]
        return b"%b%d%b" % (_HEAD, event.subscription, self._tail)


_HEAD = event_line(RunEvent(subscription=0, seq=0, type="", run_id=None, at="")).partition(b"0,")[0]


def _is_same_news(one: RunEvent, other: RunEvent) -> bool:
    """Whether they differ by the subscription alone; the parts are held, so identity says it."""
    return (
        one.run is other.run
        and one.data is other.data
        and (one.seq, one.type, one.run_id, one.at) == (other.seq, other.type, other.run_id, other.at)
    )


class Held:
    """Keeps news back until the answer and what went before them are told."""

    def __init__(self, tell: Sink) -> None:
        self._tell = tell
        self._held: list[RunEvent] | None = []

    def __call__(self, event: RunEvent) -> None:
        """Tell it, or keep it."""
        if self._held is None:
            self._tell(event)
        else:
            self._held.append(event)

    def release(self, past: list[RunEvent], snapshot: Iterable[RunView] = ()) -> None:
        """Tell `past`, then what came meanwhile; nothing twice, and nothing older than the snapshot."""
        held, self._held = self._held or [], None
        told = {event.seq for event in past if event.type == "run"}
        known = {view.run_id: view.seq for view in snapshot}
        for event in past:
            self._tell(event)
        for event in held:
            is_old = event.run is not None and event.run.seq < known.get(event.run.run_id, 0)
            if event.type != "run" or not (is_old or event.seq in told):
                self._tell(event)


def with_text(tell: Sink) -> Sink:
    """Adds the text itself to log news, for clients that cannot read the file."""

    def told(event: RunEvent) -> None:
        if event.type == "log":
            text = _log_text(event.data)
            event = msgspec.structs.replace(event, data={**event.data, "text": text})
        tell(event)

    return told


def _log_text(data: dict[str, Any]) -> str:
    try:
        with Path(data["path"]).open("rb") as file:
            file.seek(data["offset"])
            return str(file.read(data["length"]), "utf-8", "replace")
    except OSError:  # the file was taken away: the news of it are still true
        return ""
