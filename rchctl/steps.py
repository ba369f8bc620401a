"""How far a step is: what its tool's log and its worker's events tell, in a few words."""

from __future__ import annotations

import os
from typing import Any

from rchctl.terminal import one_line
from rchctl.tool_log import ToolLog

# Of a log that grows faster than anybody reads, the last part is looked at.
_MOST_READ = 256 << 10
_LONGEST_WORD = 60


class StepMeter:
    """One step of a run (`RunView` and `StepView` as dicts)."""

    def __init__(self, run: dict[str, Any], step: dict[str, Any]) -> None:
        self._run = run
        self._action = str(step.get("action"))
        self._job_id = step.get("job_id")
        self._log = ToolLog()
        self._offset = 0
        self._phase = ""
        self._tests = {"passed": 0, "failed": 0, "skipped": 0}
        self._messages = {"error": 0, "warning": 0}
        self._usual: int | None = None
        self._looked = False

    def grew(self, data: dict[str, Any]) -> bool:
        """Read what a `log` event names; whether it is of this step."""
        if data.get("job_id") != self._job_id:
            return False
        offset, length, path = data.get("offset"), data.get("length"), data.get("path")
        if not isinstance(offset, int) or not isinstance(length, int) or not isinstance(path, str):
            return False
        begin = max(min(self._offset, offset) if self._offset else offset, offset + length - _MOST_READ)
        self._log.feed(_part(path, begin, offset + length))
        self._offset = offset + length
        return True

    def told(self, data: dict[str, Any]) -> bool:
        """Count what a `job` event says; whether it is of this step."""
        facts = data.get("data")
        if data.get("job_id") != self._job_id or not isinstance(facts, dict):
            return False
        kind = data.get("type")
        counts = self._tests if kind == "test" else self._messages if kind == "diagnostic" else {}
        word = facts.get("outcome" if kind == "test" else "severity")
        if word in counts:
            counts[word] += 1
        if kind == "stage" and facts.get("state") == "started":
            self._phase = one_line(facts.get("name", ""))
        return True

    @property
    def _tests_run(self) -> bool:
        return any(self._tests.values()) or self._log.tests_begun > 0

    def text(self) -> str:
        """Where it is now: the count, then what it does."""
        if self._tests_run:
            return ", ".join([*self._test_counts(), *self._tests_left(), *self._problems()])
        parts = [*self._built(), *self._problems()]
        if self._phase and self._phase != self._action:
            parts.insert(0, f"({self._phase})")
        if self._log.doing:
            parts.append(one_line(self._log.doing)[:_LONGEST_WORD])
        return " ".join(parts)

    def summary(self) -> str:
        """What is left of it when it is over."""
        if self._tests_run:
            return ", ".join([*self._test_counts(), *self._problems()])
        return ", ".join([*self._built(), *self._problems()])

    def _built(self) -> list[str]:
        log = self._log
        if log.total:
            return [f"{log.done}/{log.total}"]
        if not log.targets:
            return []
        of = f" of {log.targets_total}" if log.targets_total > log.targets else ""
        targets = f"{log.targets}{of} {'target' if log.targets == 1 and not of else 'targets'}"
        return [f"{_count(log.done, 'command')} in {targets}"]

    def _test_counts(self) -> list[str]:
        told = [f"{count} {name}" for name, count in self._tests.items() if count]
        log = self._log
        if not told:
            told.append(f"{log.tests_begun} of {log.tests} begun")
        return told

    def _tests_left(self) -> list[str]:
        if not self._looked:
            self._looked = True
            from rchctl.report.usual import usual_tests

            self._usual = usual_tests(self._run, self._action)
        done = sum(self._tests.values())
        left = 0 if self._usual is None else self._usual - done
        return [f"~{left} left"] if left > 0 else []

    def _problems(self) -> list[str]:
        return [_count(count, name) for name, count in self._messages.items() if count]


def _count(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _part(path: str, begin: int, end: int) -> bytes:
    """These bytes of a log, as far as they can be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, max(end - begin, 0), begin)
    except OSError:
        return b""
    finally:
        os.close(fd)
