"""What the screen shows of the daemon's runs and workers: news in, rows of harmless text out."""

from __future__ import annotations

from typing import Any, NamedTuple

from rchctl.amounts import live_amount, number
from rchctl.progress import current_action, position
from rchctl.render import duration, is_over, state_word
from rchctl.steps import StepMeter
from rchctl.terminal import one_line

MOST_RUNS = 200
RUN_HEADS = ("RUN", "STATE", "STAGE", "PROGRESS", "WORKER", "PROJECT", "WAITS FOR")
WORKER_HEADS = ("WORKER", "STATUS", "SLOTS", "RUNS", "DETAIL")
# The part of an id that holds its time: a beginning that names one run.
_ID_CHARACTERS = 13
_ORDER = {"RUNNING": 0, "QUEUED": 1}
_NO_STAGE = frozenset({"following", "submitting"})


class Row(NamedTuple):
    """One line of a table; `key` is the run's id or the worker's name, as the daemon has it."""

    key: str
    cells: tuple[str, ...]


class Model:
    """The newest of what was told."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self._workers: list[dict[str, Any]] = []
        self._stages: dict[str, tuple[str, str]] = {}
        self._meters: dict[str, tuple[str, StepMeter]] = {}

    def snapshot(self, runs: list[dict[str, Any]]) -> None:
        """What the daemon has now, in the place of all that was known."""
        self.runs = {str(run["run_id"]): run for run in runs if run.get("run_id")}
        self._forget()

    def workers(self, workers: list[dict[str, Any]]) -> None:
        """The inventory."""
        self._workers = workers

    def take(self, event: dict[str, Any]) -> None:
        """One `RunEvent` as a dict."""
        kind, run_id, data = event.get("type"), str(event.get("run_id")), event.get("data")
        facts: dict[str, Any] = data if isinstance(data, dict) else {}
        if isinstance(run := event.get("run"), dict):
            self._see(run)
        elif kind == "stage":
            done, total = number(facts.get("done")), number(facts.get("total"))
            self._stages[run_id] = one_line(facts.get("stage", "")), live_amount(facts, done, total)
        elif kind in {"log", "job"} and (meter := self._meter(run_id)) is not None:
            if kind == "log":
                meter.grew(facts)
            else:
                meter.told(facts)

    def _see(self, run: dict[str, Any]) -> None:
        run_id = str(run.get("run_id"))
        before = self.runs.get(run_id)
        if before is not None and run.get("seq", 0) < before.get("seq", 0):
            return
        self.runs[run_id] = run
        self._stages.pop(run_id, None)
        if is_over(run):
            self._meters.pop(run_id, None)
        self._forget()

    def _forget(self) -> None:
        """The oldest of those that are over."""
        over = sorted(run_id for run_id, run in self.runs.items() if is_over(run))
        for run_id in over[: max(len(self.runs) - MOST_RUNS, 0)]:
            del self.runs[run_id]
        for known in (self._stages, self._meters):
            for run_id in [each for each in known if each not in self.runs]:
                del known[run_id]

    def _meter(self, run_id: str) -> StepMeter | None:
        """How far the step that runs now is."""
        run = self.runs.get(run_id)
        action = "" if run is None else current_action(run)
        if run is None or not action:
            return None
        known = self._meters.get(run_id)
        if known is None or known[0] != action:
            step = next(each for each in run["steps"] if each.get("action") == action)
            known = self._meters[run_id] = action, StepMeter(run, step)
        return known[1]

    def run_rows(self) -> list[Row]:
        """What runs, what waits, first come first, then what is over, newest first."""
        found = sorted(self.runs.items(), key=lambda item: str(item[0]))
        live = [each for each in found if not is_over(each[1])]
        live.sort(key=lambda item: _ORDER.get(str(item[1].get("state")), 2))
        over = [each for each in reversed(found) if is_over(each[1])]
        return [self._run_row(run_id, run) for run_id, run in [*live, *over]]

    def _run_row(self, run_id: str, run: dict[str, Any]) -> Row:
        stage, progress = "", ""
        if is_over(run):
            progress = duration(run.get("duration_ms"))
        else:
            stage, progress = self._now(run_id, run)
        waits = "" if is_over(run) or run.get("state") != "QUEUED" else position(run)
        state = state_word(run)
        cells = (
            run_id[:_ID_CHARACTERS],
            "CANCELLING" if run.get("cancel_requested") and not is_over(run) else state,
            stage,
            progress,
            run.get("worker") or "-",
            run.get("project") or "",
            waits.removeprefix("queued: ") if waits != "queued" else "",
        )
        return Row(run_id, tuple(one_line(each) for each in cells))

    def _now(self, run_id: str, run: dict[str, Any]) -> tuple[str, str]:
        if run_id in self._stages:
            return self._stages[run_id]
        phase, action = str(run.get("phase") or ""), current_action(run)
        if phase in _NO_STAGE or action:
            known = self._meters.get(run_id)
            return action or phase, known[1].text() if known and known[0] == action else ""
        return phase, ""

    def count(self, state: str) -> int:
        """So many runs are in that state."""
        return sum(run.get("state") == state for run in self.runs.values())

    def worker_rows(self) -> list[Row]:
        """The inventory with what runs where."""
        return [self._worker_row(each) for each in self._workers]

    def _worker_row(self, worker: dict[str, Any]) -> Row:
        name = str(worker.get("name", ""))
        here = sum(run.get("worker") == name for run in self.runs.values() if not is_over(run))
        facts: Any = worker.get("probe")
        for name_of_part in ("capabilities", "capacity"):
            facts = facts.get(name_of_part, facts) if isinstance(facts, dict) else {}
        total, free = (facts.get(key) for key in ("slots_total", "slots_free"))
        slots = f"{free} of {total} free" if isinstance(total, int) and isinstance(free, int) else "-"
        detail = worker.get("aside") or worker.get("detail") or ""
        cells = (name, worker.get("status", ""), slots, here or "", detail)
        return Row(name, tuple(one_line(each) for each in cells))

    def log_path(self, run_id: str) -> str | None:
        """The log of the run's newest step that has one."""
        steps = self.runs.get(run_id, {}).get("steps") or ()
        paths = [step.get("log_path") for step in steps if isinstance(step.get("log_path"), str)]
        return paths[-1] if paths else None

    def may_cancel(self, run_id: str) -> bool:
        """Whether there is something to cancel."""
        run = self.runs.get(run_id)
        return run is not None and not is_over(run) and not run.get("cancel_requested")
