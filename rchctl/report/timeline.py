"""The stages of a run as bars, from the durations on record. Pure.

The records hold how long each stage took, not when it began: the stages of a run follow one another, so
each bar begins where the one before it ends. What no record accounts for is told as such, never drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_BEFORE = ("bundle", "queue", "selecting", "reserving", "checkingsource", "uploading")
_TOWARDS = ("submitting",)
_BACK = ("fetching", "publishing")
_AFTER = ("releasing",)
_WORDS = {
    "bundle": "bundle the source",
    "queue": "wait in the queue",
    "selecting": "choose a worker",
    "reserving": "reserve a slot",
    "checkingsource": "ask for the source",
    "uploading": "upload",
    "submitting": "submit",
    "fetching": "fetch and verify",
    "publishing": "publish",
    "releasing": "give the slot back",
    "unpack": "unpack the source",
    "serve": "serve from the cache",
}
WIDTH = 1000
"""Units of the drawing's width."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One stage. `x` and `width` in units of the drawing; `side` is host or worker."""

    group: str
    label: str
    side: str
    milliseconds: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class StageTimes:
    """What is on record of one step: stages of host and worker in ms; `job_ms` is the job's own length."""

    action: str
    host: Mapping[str, int]
    worker: Mapping[str, int]
    job_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The bars in order, the sum of all of them, and what of the run is in no record (both in ms)."""

    bars: tuple[Bar, ...] = ()
    total_ms: int = 0
    unrecorded_ms: int = 0


def timeline(steps: Sequence[StageTimes], run_ms: int | None) -> Timeline:
    """The bars of a run that took `run_ms` from its acceptance on."""
    found = _stages(steps)
    total = sum(milliseconds for *_, milliseconds in found)
    bars, at = [], 0
    for group, name, side, milliseconds in found:
        x = at * WIDTH / total if total else 0.0
        width = milliseconds * WIDTH / total if total else 0.0
        # A stage that was quick is still to be seen.
        shown = max(width, 2.0)
        bars.append(
            Bar(
                group,
                _WORDS.get(name, name),
                side,
                milliseconds,
                round(min(x, WIDTH - shown), 1),
                round(shown, 1),
            )
        )
        at += milliseconds
    before = sum(milliseconds for _, name, _, milliseconds in found if name == "bundle")
    rest = 0 if run_ms is None else max(0, run_ms - (total - before))
    return Timeline(tuple(bars), total, rest)


def _stages(steps: Sequence[StageTimes]) -> list[tuple[str, str, str, int]]:
    """Group, stage, side and length of each stage that is on record, in order."""
    if not any(step.host or step.worker for step in steps):
        return []
    first = next((step.host for step in steps if step.host), {})
    found = [("before the steps", name, "host", first[name]) for name in _BEFORE if name in first]
    for step in steps:
        found += [(step.action, name, "host", step.host[name]) for name in _TOWARDS if name in step.host]
        found += [(step.action, name, "worker", ms) for name, ms in step.worker.items()]
        rest = 0 if step.job_ms is None else step.job_ms - sum(step.worker.values())
        if step.worker and rest > 0:
            found.append((step.action, "the rest of the job", "worker", rest))
        found += [(step.action, name, "host", step.host[name]) for name in _BACK if name in step.host]
    found += [("after the steps", name, "host", first[name]) for name in _AFTER if name in first]
    return [(group, name, side, max(0, ms)) for group, name, side, ms in found]
