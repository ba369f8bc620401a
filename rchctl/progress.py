"""Where a run is, on stderr: a line a transition. On a terminal `board` stands in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rchctl.amounts import amount, number, plain_amount
from rchctl.console import Console
from rchctl.render import duration, is_over, worker_name
from rchctl.terminal import one_line

_PHASES = {
    "waiting": "queued",
    "coalescing": "queued",
    "selecting": "selecting a worker",
    "reserving": "reserving a slot",
    "checkingsource": "asking for the source",
    "uploading": "upload",
    "submitting": "submit",
    "rereserving": "reserving a slot",
    "cancelling": "cancelling",
    "fetching": "fetching artifacts",
    "publishing": "publishing artifacts",
    "releasing": "releasing the slot",
}
_HOLD_SECONDS = 5.0
# A stage that took so long is told of at its end too, where lines stay.
_LONG_SECONDS = 2.0
# Over in a moment, and of no use as a line in a log.
_BRIEF = frozenset(
    {"fetching", "reserving", "checkingsource", "uploading", "submitting", "publishing", "releasing"}
)
# What a queue says of a run that it has only just looked at.
NO_REASON = frozenset({None, "", "accepted", "resumed"})
_WAITING = {"worker_unreachable": "the worker is out of reach"}


class Progress:
    """Says each thing once. `enabled=False`: warnings alone."""

    ticks = False
    """Whether it wants to be told that time goes by."""

    def __init__(self, console: Console, *, enabled: bool = True) -> None:
        self._console = console
        self._enabled = enabled
        self._stage = ""
        self._said = ""
        self._timed = ""
        self._since = self._lasted = 0.0
        self._worker = ""
        self._held = ""
        self._held_since = 0.0
        self._warned: set[str] = set()

    def accepted(self, run: dict[str, Any]) -> None:
        """The run is durable: from here on it has a name."""
        if self._enabled:
            self._release()
            self._console.note(f"run {run.get('run_id')}")

    def stage(self, data: dict[str, Any]) -> None:
        """Progress inside a stage (`stage` events)."""
        if not self._enabled:
            return
        name = one_line(data.get("stage", ""))
        done, total = number(data.get("done")), number(data.get("total"))
        self._time(name, done, total)
        if total and done >= total and self._lasted >= _LONG_SECONDS:
            self._line(f"{name} done: {amount(total, data)} in {duration(int(self._lasted * 1000))}")
            return
        text = f"{name} {plain_amount(data, done, total)}".strip()
        if name != self._stage:
            self._release()
            self._stage, self._held_since = name, time.monotonic()
            if not total:
                self._held = text
                return
        # A stage of unknown length is told of when it is over, or has taken its time.
        if total or time.monotonic() - self._held_since > _HOLD_SECONDS:
            self._held_since = time.monotonic()
            self._line(text)
        else:
            self._held = text

    def _time(self, name: str, done: int, total: int) -> None:
        """How long the stage takes by now; it begins with its first news, and anew after its end."""
        now = time.monotonic()
        if name != self._timed:
            self._timed, self._since = name, now
        self._lasted = now - self._since
        if total and done >= total:
            self._timed = ""

    def run(self, run: dict[str, Any]) -> None:
        """A run's view changed."""
        self._announce(run)
        if not self._enabled or is_over(run):
            return
        if run.get("waiting") not in NO_REASON or run.get("phase") not in _BRIEF:
            self._release()
            self._line(position(run))

    def log(self, data: dict[str, Any]) -> None:
        """A step's log grew (`log` events)."""

    def job(self, data: dict[str, Any]) -> None:
        """A worker told of a job (`job` events)."""

    def tick(self) -> None:
        """A second went by without news."""

    def asks(self, runs: Callable[[], list[dict[str, Any]]]) -> None:
        """Take `runs`, which gives the newest runs there are, newest first."""

    def end(self) -> None:
        """Whoever followed the run leaves it."""

    def _announce(self, run: dict[str, Any]) -> None:
        """New warnings, and the worker once it is known."""
        for warning in run.get("warnings", ()):
            if warning not in self._warned:
                self._warned.add(warning)
                self._console.note(f"warning: {warning}")
        if self._enabled and run.get("worker") and (name := worker_name(run)) != self._worker:
            self._worker = name
            self._console.note(f"worker {name}")

    def _release(self) -> None:
        """Say what was held back."""
        if self._held:
            self._line(self._held)
            self._held = ""

    def _line(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._console.note(text)


def position(run: dict[str, Any]) -> str:
    """What a run that is not over does now, and why not if it does nothing."""
    if run.get("cancel_requested"):
        return "cancelling"
    waiting = run.get("waiting")
    reason = "" if waiting in NO_REASON else _WAITING.get(str(waiting), str(waiting))
    phase = str(run.get("phase") or "").lower()
    action = current_action(run)
    if run.get("state") == "QUEUED" and phase in {"", "waiting", "coalescing"}:
        name = "queued"
    elif phase in {"fetching", "publishing"} and action:
        name = f"{action}: {_PHASES[phase]}"
    else:
        name = _PHASES.get(phase) or action or phase or "running"
    reasons = [part for part in (unservable(run), reason) if part]
    return f"{name}: {'; '.join(reasons)}" if reasons else name


def unservable(run: dict[str, Any]) -> str:
    """That no worker could ever serve a waiting run, or that it is not known; else nothing."""
    words = {
        "no": "no worker can ever serve it",
        "unknown": "it is not known whether any worker can serve it",
    }
    said = words.get(str(run.get("servable")), "")
    why = run.get("servable_why")
    return f"{said} ({why})" if said and why else said


def current_action(run: dict[str, Any]) -> str:
    """The step that runs now; empty where none does."""
    steps = [step for step in run.get("steps", ()) if step.get("state") in {"RUNNING", "CANCEL_REQUESTED"}]
    return str(steps[-1].get("action")) if steps else ""
