"""When a run that waits may begin, from how long its like took before: a guess, and shown as one.

Pure: all comes from views of runs (`RunView` as a dict) and the time of the look.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from heapq import heapify, heapreplace
from typing import Any

_BEHIND = re.compile(r"behind (\d{1,7}) in the queue")
_HELD = "after run "  # of its group, which is in line for both
_LOOKED_AT = 5
Run = Mapping[str, Any]


def ahead_of(run: Run) -> int | None:
    """How many runs are before it in the queue, as the daemon says; None where it does not wait in line."""
    waiting = str(run.get("waiting") or "")
    if run.get("state") != "QUEUED" or run.get("phase") == "coalescing" or waiting.startswith(_HELD):
        return None
    found = _BEHIND.match(waiting)
    return int(found[1]) if found else 0


def usual_ms(runs: Sequence[Run], like: Run) -> int | None:
    """The median length of the newest five runs of the project of `like` that came to an end by themselves.

    `runs` are newest first. Simulations speak for simulations alone, and part of a gate for no whole one.
    """
    took = [
        int(each["duration_ms"])
        for each in runs
        if each.get("root") == like.get("root")
        and each.get("state") in {"SUCCEEDED", "FAILED"}
        and isinstance(each.get("duration_ms"), int)
        and bool(each.get("simulated")) == bool(like.get("simulated"))
        and bool(each.get("scope")) == bool(like.get("scope"))
    ]
    newest = sorted(took[:_LOOKED_AT])
    middle = len(newest) // 2
    return (newest[middle] + newest[-middle - 1]) // 2 if newest else None


def starts_ms(runs: Sequence[Run], now: str) -> dict[str, int]:
    """Of each waiting run, in how many milliseconds it may begin; `runs` are newest first, `now` RFC 3339.

    As many runs go on at once as do so now. Left out are runs that nobody can serve, and all that come
    after one of unknown length or that are not among `runs`.
    """
    usual = {str(each.get("run_id")): usual_ms(runs, each) for each in runs if is_live(each)}
    free: list[int] = []
    for each in runs:
        if each.get("state") == "RUNNING":
            length = usual[str(each.get("run_id"))]
            if length is None:
                return {}
            free.append(max(length - _since(each.get("updated_at"), now), 0))
    free = free or [0]
    heapify(free)
    found: dict[str, int] = {}
    line = [each for each in in_line(runs) if each.get("servable") != "no"]
    for at, run in enumerate(line):
        run_id = str(run.get("run_id"))
        if (ahead_of(run) or 0) > at:
            break
        found[run_id] = free[0]
        if (length := usual[run_id]) is None:
            break
        heapreplace(free, free[0] + length)
    return found


def in_line(runs: Sequence[Run]) -> list[Run]:
    """The runs that wait their turn, first to come first."""
    waiting = [each for each in reversed(runs) if ahead_of(each) is not None]
    return sorted(waiting, key=lambda each: ahead_of(each) or 0)


def is_live(run: Run) -> bool:
    """Whether it is not over."""
    return run.get("state") in {"QUEUED", "RUNNING"}


def _since(then: object, now: str) -> int:
    try:
        gone = datetime.fromisoformat(now) - datetime.fromisoformat(str(then))
    except (ValueError, TypeError):
        return 0
    return max(round(gone.total_seconds() * 1000), 0)
