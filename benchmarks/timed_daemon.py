"""`rchd` whose workers answer at once, and which measures how long an event takes to become an effect.

`timed_daemon.py OUT TURNS`: each run's step tells of `TURNS` pieces of log before it ends. At SIGUSR1
the delays since the last time are written to OUT as a JSON list of seconds: from the moment that an
event is handed in, over decision, commit and files, to the moment that its effect begins.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.playbook import report, summary

from rch.files.paths import host_paths
from rchd import app
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.driver import Driver
from rchd.edges.performer import Performer, Post

PAUSE_SECONDS = 0.02

_delays: list[float] = []
_handed_in: dict[int, float] = {}
_asked: dict[int, float] = {}
_cores: list[Core] = []
_turns: list[int] = []


async def at_once(_self: Performer, effect: fx.Outward, _post: Post) -> ev.Answer:
    """In the place of `Performer.perform`: what is left is the daemon's own time."""
    if (asked := _asked.pop(id(effect), None)) is not None:
        _delays.append(time.monotonic() - asked)
    await asyncio.sleep(PAUSE_SECONDS)
    base: dict[str, Any] = {"at": time.time(), "run_id": effect.run_id, "op": effect.op}
    match effect:
        case fx.Probe():
            return ev.Probed(**base, reports=(report(),), embedded=False)
        case fx.Reserve():
            lease = effect.lease_id or f"lease-{effect.run_id}"
            renewal = effect.lease_id is not None
            return ev.Reserved(
                **base, worker="mac", lease_id=lease, fence=1, ttl_seconds=90, renewal=renewal
            )
        case fx.HasSource():
            return ev.SourceKnown(**base, exists=True)
        case fx.Submit():
            return ev.Submitted(**base, state="RUNNING", seq=2)
        case fx.Tail():
            return _news(base, int(effect.cursor or 0))
        case fx.Fetch():
            run = _cores[0].runs[effect.run_id]
            index = next(i for i, step in enumerate(run.accepted.steps) if step.job_id == effect.job.job_id)
            told = summary(run, index)
            at = told.created_at
            return ev.Fetched(**base, summary=told, state="SUCCEEDED", seq=3, updated_at=at)
        case fx.Publish():
            return ev.Published(**base, found=True)
        case fx.Release():
            return ev.Released(**base)
        case _:
            raise TypeError(type(effect).__name__)


def _news(base: dict[str, Any], turn: int) -> ev.TailNews:
    over = turn >= _turns[0]
    return ev.TailNews(
        **base,
        state="SUCCEEDED" if over else "RUNNING",
        seq=3 if over else 2,
        next_cursor=None if over else str(turn + 1),
        log_offset=turn * 100,
        log_bytes=100,
    )


def measure() -> None:
    """Note when events are handed in, and which effects come of them."""
    post, handle, make = Driver.post, Core.handle, Core.__init__

    def posted(self: Driver, event: ev.Event) -> None:
        _handed_in[id(event)] = time.monotonic()
        post(self, event)

    def handled(self: Core, event: ev.Event) -> list[fx.Effect]:
        began = _handed_in.pop(id(event), time.monotonic())
        effects = handle(self, event)
        _asked.update({id(effect): began for effect in effects if isinstance(effect, fx.Outward)})
        return effects

    def made(self: Core, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        _cores.append(self)

    Driver.post, Core.handle, Core.__init__ = posted, handled, made  # type: ignore[method-assign]


def main() -> None:
    """Serve."""
    out = Path(sys.argv[1])

    def tell(_number: int, _frame: object) -> None:
        out.with_suffix(".new").write_text(json.dumps(_delays))
        out.with_suffix(".new").rename(out)
        _delays.clear()

    signal.signal(signal.SIGUSR1, tell)
    _turns.append(int(sys.argv[2]))
    measure()
    Performer.perform = at_once  # type: ignore[method-assign,assignment]
    app.configure_log()
    anyio.run(app.serve, host_paths(os.environ), lambda: None)


if __name__ == "__main__":
    main()
