"""What `rchctl watch` prints, in each of its forms: what happens to runs, and what they find."""

from __future__ import annotations

import json
from typing import Any, Protocol

from rchctl.console import Console
from rchctl.diagnose.finding import Finding
from rchctl.diagnose.lines import errorfmt_line, text_line
from rchctl.progress import position
from rchctl.render import duration, exit_code, is_over, label, state_word
from rchctl.terminal import one_line

BEGIN = "rchctl: begin {run_id}"
END = "rchctl: end {run_id} {state} {exit_code}"


class Teller(Protocol):
    """Writes to stdout. A run begins, changes and ends; between these are its findings, each once."""

    def begin(self, run: dict[str, Any]) -> None:
        """The first that is seen of a run."""

    def change(self, run: dict[str, Any]) -> None:
        """A run's view, new or as before."""

    def finding(self, run: dict[str, Any], finding: Finding) -> None:
        """What it found."""

    def end(self, run: dict[str, Any]) -> None:
        """It is over; nothing more comes of it."""

    def event(self, event: dict[str, Any]) -> None:
        """A notification as it came."""

    def snapshot(self, seq: object, runs: list[dict[str, Any]]) -> None:
        """How everything stood when the watch began, or began anew."""


class Silent:
    """Says nothing; others say what they have to."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self, run: dict[str, Any]) -> None:
        """See `Teller`."""

    def change(self, run: dict[str, Any]) -> None:
        """See `Teller`."""

    def finding(self, run: dict[str, Any], finding: Finding) -> None:
        """See `Teller`."""

    def end(self, run: dict[str, Any]) -> None:
        """See `Teller`."""

    def event(self, event: dict[str, Any]) -> None:
        """See `Teller`."""

    def snapshot(self, seq: object, runs: list[dict[str, Any]]) -> None:
        """See `Teller`."""


class TextTeller(Silent):
    """A line a transition; `named`: of which run, where there are several."""

    def __init__(self, console: Console, *, named: bool) -> None:
        super().__init__(console)
        self._named = named
        self._said: dict[str, str] = {}

    def change(self, run: dict[str, Any]) -> None:
        """Where it is now, if that is news."""
        run_id, where = str(run.get("run_id")), position(run)
        if not is_over(run) and self._said.get(run_id) != where:
            self._said[run_id] = where
            self._line(run, where)

    def finding(self, run: dict[str, Any], finding: Finding) -> None:
        """In full, so that a terminal makes a link of its place."""
        self._console.out(f"{_mark(run)}{text_line(finding)}\n")

    def end(self, run: dict[str, Any]) -> None:
        """The verdict as one line."""
        self._said.pop(str(run.get("run_id")), None)
        why = f" ({label(run)})" if label(run) else ""
        took = f" in {duration(run.get('duration_ms'))}" if run.get("duration_ms") is not None else ""
        summary = one_line(run.get("human_summary") or "")
        self._line(
            run,
            f"{state_word(run)}{why}, exit code {exit_code(run)}{took}{': ' if summary else ''}{summary}",
        )

    def _line(self, run: dict[str, Any], text: str) -> None:
        who = (
            f"{one_line(run.get('run_id', ''))} {one_line(run.get('project', ''))}: " if self._named else ""
        )
        self._console.out(f"{_mark(run)}{who}{one_line(text)}\n")


class ErrorTeller(Silent):
    """Lines for an editor's list of errors, with marks where a run begins and ends."""

    def __init__(self, console: Console, begin: str, end: str) -> None:
        super().__init__(console)
        self._begin, self._end = begin, end

    def begin(self, run: dict[str, Any]) -> None:
        """Clear the list."""
        self._mark(self._begin, run, "")

    def finding(self, run: dict[str, Any], finding: Finding) -> None:
        """One line; its message says where it is simulated."""
        del run
        self._console.out(errorfmt_line(finding) + "\n")

    def end(self, run: dict[str, Any]) -> None:
        """The list is whole."""
        self._mark(self._end, run, str(exit_code(run)))

    def _mark(self, mark: str, run: dict[str, Any], code: str) -> None:
        words = {
            "{run_id}": one_line(run.get("run_id", "")),
            "{state}": "SIMULATED" if run.get("simulated") else one_line(run.get("state", "")),
            "{exit_code}": code,
        }
        for name, value in words.items():
            mark = mark.replace(name, value)
        self._console.out(mark + "\n")


class JsonTeller(Silent):
    """JSON lines: the snapshots, and each notification but heartbeats."""

    def event(self, event: dict[str, Any]) -> None:
        """As it came."""
        if event.get("type") != "heartbeat":
            self._console.out(json.dumps(event) + "\n")

    def snapshot(self, seq: object, runs: list[dict[str, Any]]) -> None:
        """In the manner of a notification."""
        self._console.out(json.dumps({"type": "snapshot", "seq": seq, "runs": runs}) + "\n")


def _mark(run: dict[str, Any]) -> str:
    return "simulated: " if run.get("simulated") else ""
