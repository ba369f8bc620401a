"""The live view on a terminal: the stage at hand in one line that is rewritten, one for each that ended.

What is known of a stage comes from the daemon's `stage` events, the worker's `job` events, the log's
own text and, for what is still to come, from earlier runs. Estimates are marked with `~`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rchctl.amounts import live_amount, number, plain_amount
from rchctl.console import Console
from rchctl.progress import NO_REASON, Progress, current_action, position
from rchctl.render import duration, is_over
from rchctl.steps import StepMeter
from rchctl.terminal import one_line

_ASK_AGAIN_SECONDS = 5.0
# A stage of less is not worth a line where nothing is to be said of it.
_BRIEF_SECONDS = 1.0
_BEFORE_WORK = frozenset({"selecting", "reserving", "checkingsource", "rereserving"})
_WORKS = frozenset({"submitting", "following"})
_LEAVES = frozenset({"fetching", "publishing"})
_QUEUE = "queue"


def shown(console: Console, *, enabled: bool) -> Progress:
    """The form that suits where stderr goes."""
    return Board(console) if enabled and console.live else Progress(console, enabled=enabled)


class Board(Progress):
    """Progress on a terminal."""

    ticks = True

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._name = ""
        self._began = 0.0
        self._text = self._sum = ""
        self._run: dict[str, Any] = {}
        self._step: StepMeter | None = None
        self._newest: Callable[[], list[dict[str, Any]]] | None = None
        self._asked = -_ASK_AGAIN_SECONDS
        self._start: tuple[str, float] | None = None

    def accepted(self, run: dict[str, Any]) -> None:
        """The run is durable: its source is bundled."""
        self._leave()
        super().accepted(run)

    def stage(self, data: dict[str, Any]) -> None:
        """Bytes that are bundled, sent or fetched."""
        name = one_line(data.get("stage", ""))
        done, total = number(data.get("done")), number(data.get("total"))
        self._enter(name)
        self._sum = plain_amount(data, done, total)
        self._show(live_amount(data, done, total))

    def run(self, run: dict[str, Any]) -> None:
        """Another stage, or news of the one at hand."""
        self._announce(run)
        self._run = run
        if is_over(run):
            self._leave()
            return
        phase, action = str(run.get("phase") or ""), _action(run)
        if run.get("cancel_requested"):
            self._enter("cancel")
            self._show("")
        elif run.get("state") == "QUEUED":
            self._enter(_QUEUE)
            self._wait()
        elif phase in _WORKS and action and run.get("waiting") in NO_REASON:
            self._enter(action)
            self._work()
        elif phase in _LEAVES:
            self._enter("fetch")
            self._show("and verify")
        elif phase in _BEFORE_WORK and self._name == _QUEUE:
            self._leave()
            self._console.status(position(run))
        elif self._name != "upload" or phase != "uploading":
            self._console.status(position(run))

    def log(self, data: dict[str, Any]) -> None:
        """What the tool says of its own progress."""
        if self._step is not None and self._step.grew(data):
            self._work()

    def job(self, data: dict[str, Any]) -> None:
        """Tests that ended, and messages of the compiler."""
        if self._step is not None and self._step.told(data):
            self._work()

    def tick(self) -> None:
        """The seconds go on, also where nothing is said."""
        if self._name == _QUEUE:
            self._wait()
        elif self._name:
            self._show(self._text)

    def asks(self, runs: Callable[[], list[dict[str, Any]]]) -> None:
        """Whom to ask for the newest runs."""
        self._newest = runs

    def end(self) -> None:
        """No stage any more."""
        self._name = ""
        self._console.clear_status()

    def _enter(self, name: str) -> None:
        if name == self._name:
            return
        self._leave()
        self._name, self._began = name, time.monotonic()
        self._text = self._sum = ""
        steps = [each for each in self._run.get("steps", ()) if each.get("action") == name]
        self._step = StepMeter(self._run, steps[0]) if steps else None

    def _leave(self) -> None:
        """The line that a stage leaves behind."""
        name, took = self._name, time.monotonic() - self._began
        told = self._step.summary() if self._step is not None else self._sum
        self.end()
        self._step = None
        if name and (told or took >= _BRIEF_SECONDS):
            spent = duration(int(took * 1000))
            self._console.note(f"{name} {told} in {spent}" if told else f"{name} {spent}")

    def _show(self, text: str) -> None:
        self._text = text
        gone = int(time.monotonic() - self._began)
        since = f"  {_seconds(gone)}" if gone else ""
        self._console.status(f"{self._name} {text}".strip() + since)

    def _work(self) -> None:
        if self._step is not None:
            self._show(self._step.text())

    def _wait(self) -> None:
        """Why, behind how many, and when it may begin."""
        run = self._run
        why, when = position(run).removeprefix("queued: ").removeprefix("queued"), ""
        self._look_ahead()
        if self._start is not None:
            place, at = self._start
            left = int(max(at - time.monotonic(), 0))
            when = f"{place}, starts {f'in ~{_seconds(left)}' if left else 'soon'}"
        self._show(": ".join(part for part in (when, why) if part))

    def _look_ahead(self) -> None:
        """Ask now and then what else waits and runs: who only just came begins mostly at once."""
        now = time.monotonic()
        if (
            self._newest is None
            or now - self._began < _BRIEF_SECONDS
            or now - self._asked < _ASK_AGAIN_SECONDS
        ):
            return
        self._asked = now
        from rch.contract.ids import timestamp
        from rchctl.expect import ahead_of, in_line, starts_ms

        runs = self._newest()
        ahead = ahead_of(self._run)
        wait = starts_ms(runs, timestamp(time.time())).get(str(self._run.get("run_id")))
        self._start = None
        if ahead is not None and wait is not None:
            place = f"number {ahead + 1} of {max(len(in_line(runs)), ahead + 1)}"
            self._start = place, time.monotonic() + wait / 1000


def _seconds(count: int) -> str:
    return f"{count} s" if count < 60 else duration(count * 1000)


def _action(run: dict[str, Any]) -> str:
    """The step that runs, else the next."""
    if now := current_action(run):
        return now
    ahead = [step for step in run.get("steps", ()) if step.get("state") in {"PLANNED", "QUEUED"}]
    return str(ahead[0].get("action") or "") if ahead else ""
