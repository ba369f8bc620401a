"""Reads a job's log while it grows, in bounded memory (spec section 9).

The console gives places, messages and classes; it never gives counts. A test may print
whatever it likes, so that nothing here makes a job pass: it names what failed, and lets a
green that the log contradicts be doubted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rch.contract.records import Diagnostic
from worker_agent.results import lines
from worker_agent.results.places import Places

MAX_DIAGNOSTICS = 200
MAX_FAILURES = 500
MAX_NAMES = 100_000
MAX_HAPPENINGS = 20_000

_MAX_PENDING = 4 * lines.MAX_LINE
_ISSUE_SPAN = 12
_NO_TESTS = "no tests found; create a target in the 'Tests' directory"
_NO_SPACE = "No space left on device"


@dataclass(frozen=True, slots=True)
class Happening:
    """News for `events.jsonl`: `type` is diagnostic, test or note."""

    type: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """What a log says. Names of XCTest's tests are `Class.test`.

    `diagnostics` are distinct, errors first, the first 200 of each kind; `failures` are failed
    assertions in order; `unfinished` tests of XCTest started and never ended, `running` ones of
    Swift Testing too, the last begun last; `signal` is the one that SwiftPM says ended a test
    process.
    """

    diagnostics: tuple[Diagnostic, ...] = ()
    error_count: int = 0
    warning_count: int = 0
    failures: tuple[lines.FailureSaid, ...] = ()
    crashes: tuple[str, ...] = ()
    trap: str | None = None
    signal: int | None = None
    passed: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    unfinished: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    no_tests_found: bool = False
    no_space: bool = False

    @property
    def first_error(self) -> Diagnostic | None:
        """The first error with a place; where there is none, the first error."""
        errors = [one for one in self.diagnostics if one.severity == "error"]
        return next((one for one in errors if one.path is not None), errors[0] if errors else None)

    @property
    def crash(self) -> str:
        """What a crash said for itself: the trap's own words before a signal's number."""
        return self.trap or (self.crashes[0] if self.crashes else f"ended by signal {self.signal}")


@dataclass(slots=True)
class _Seen:
    """What was gathered so far."""

    errors: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    distinct: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[lines.FailureSaid] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    words: str | None = None
    trap: str | None = None
    signal: int | None = None
    outcomes: dict[str, set[str]] = field(
        default_factory=lambda: {"passed": set(), "failed": set(), "skipped": set()}
    )
    running: Counter[str] = field(default_factory=Counter)
    in_suites: dict[str, int] = field(default_factory=dict)
    no_tests_found: bool = False
    no_space: bool = False


class LogReader:
    """Takes the bytes of `build.log` as they come, and gives the news in them.

    `tree` is the unpacked source, whose paths become relative. Outside of a phase that
    `begin` named, a line is looked at in every way.
    """

    def __init__(self, tree: Path, build: Path | None = None) -> None:
        self._places = Places(tree, build)
        self._phase: str | None = None
        self._pending = b""
        self._overlong = False
        self._issue: tuple[str, int] | None = None
        self._told = 0
        self._seen = _Seen()

    def begin(self, phase: str) -> None:
        """Name the phase (build or test) whose output comes now."""
        self._phase = phase

    def feed(self, data: bytes) -> list[Happening]:
        """Take the next bytes; news of the lines that they complete."""
        *whole, rest = (self._pending + data).split(b"\n")
        if self._overlong and whole:
            del whole[0]  # the end of a line whose beginning was already read
            self._overlong = False
        news = [one for raw in whole for one in self._line(raw)]
        if len(rest) > _MAX_PENDING and not self._overlong:
            news += self._line(rest)
            self._overlong = True
        self._pending = b"" if self._overlong else rest
        return news

    def end(self) -> list[Happening]:
        """Close a phase: the last line may have no end."""
        rest, self._pending = self._pending, b""
        self._overlong, self._issue, self._phase = False, None, None
        return self._line(rest) if rest else []

    def facts(self) -> LogFacts:
        """What was said so far."""
        seen = self._seen
        return LogFacts(
            diagnostics=(*seen.errors, *seen.warnings),
            error_count=seen.counts["error"],
            warning_count=seen.counts["warning"],
            failures=tuple(seen.failures),
            crashes=tuple(seen.crashes),
            trap=seen.trap or seen.words,
            signal=seen.signal,
            passed=frozenset(seen.outcomes["passed"]),
            failed=frozenset(seen.outcomes["failed"]),
            skipped=frozenset(seen.outcomes["skipped"]),
            unfinished=tuple(sorted(name for name, times in seen.running.items() if times > 0)),
            running=tuple(seen.in_suites),
            no_tests_found=seen.no_tests_found,
            no_space=seen.no_space,
        )

    def _line(self, raw: bytes) -> list[Happening]:
        line = lines.clean(raw)
        news: list[Happening] = []
        if self._phase != "test":
            news += self._build_line(line)
        if self._phase != "build":
            news += self._test_line(line)
        return [told for one in news if (told := self._within_limit(one)) is not None]

    def _within_limit(self, news: Happening) -> Happening | None:
        self._told += 1
        if self._told == MAX_HAPPENINGS:
            return Happening("note", {"text": "further events are left out"})
        return news if self._told < MAX_HAPPENINGS else None

    # Building ----------------------------------------------------------------------------

    def _build_line(self, line: str) -> list[Happening]:
        if "error:" not in line and "warning:" not in line:
            return []
        said = lines.diagnostic(line)
        if said is None and self._phase == "build":
            said = lines.bare_error(line)
        if said is None:
            return []
        if _NO_SPACE in said.message:
            self._seen.no_space = True
        found = Diagnostic(
            path=None if said.path is None else self._places.relative(said.path),
            line=said.line,
            column=said.column,
            severity=said.severity,
            message=said.message[:1000],
        )
        return self._note_diagnostic(found)

    def _note_diagnostic(self, found: Diagnostic) -> list[Happening]:
        seen = self._seen
        key = hash((found.path, found.line, found.column, found.severity, found.message))
        if key in seen.distinct or len(seen.distinct) >= MAX_NAMES:
            return []
        seen.distinct.add(key)
        seen.counts[found.severity] += 1
        kept = seen.errors if found.severity == "error" else seen.warnings
        if len(kept) >= MAX_DIAGNOSTICS:
            return []
        kept.append(found)
        place = {"path": found.path, "line": found.line, "column": found.column}
        return [Happening("diagnostic", {**place, "severity": found.severity, "message": found.message})]

    # Testing -----------------------------------------------------------------------------

    def _test_line(self, line: str) -> list[Happening]:
        if _NO_TESTS in line:
            self._seen.no_tests_found = True
        failure = self._failure(line)
        if failure is not None and len(self._seen.failures) < MAX_FAILURES:
            self._seen.failures.append(failure)
        died = lines.crash(line)
        if died is not None:
            return self._note_crash(died)
        said = lines.test_case(line)
        return [] if said is None else self._note_test(said)

    def _failure(self, line: str) -> lines.FailureSaid | None:
        if (name := lines.issue_start(line)) is not None:
            self._issue = name, _ISSUE_SPAN
        if self._issue is not None:
            name, left = self._issue
            found = lines.issue_place(line, name)
            self._issue = None if found or left <= 1 else (name, left - 1)
            if found is not None:
                return found
        return lines.xctest_failure(line) if ": error: " in line else None

    def _note_crash(self, died: lines.CrashSaid) -> list[Happening]:
        seen = self._seen
        if died.signal is not None:
            seen.signal = died.signal
        elif died.kind == "trap":  # a test may print such words too: the last before the end count
            seen.words = died.text[:500]
        else:
            seen.trap = seen.trap or seen.words
        if len(seen.crashes) >= 20:
            return []
        seen.crashes.append(died.text[:500])
        return [Happening("note", {"text": died.text[:500]})]

    def _note_test(self, said: lines.TestSaid) -> list[Happening]:
        seen = self._seen
        if said.framework == "xctest":
            known = len(seen.running) < MAX_NAMES or said.name in seen.running
            if known:
                seen.running[said.name] += 1 if said.outcome == "started" else -1
            if known and said.outcome != "started":
                seen.outcomes[said.outcome].add(said.name)
        else:
            self._note_in_suite(said)
        if said.outcome == "started":
            return []
        return [
            Happening(
                "test", {"framework": said.framework, "name": said.name[:500], "outcome": said.outcome}
            )
        ]

    def _note_in_suite(self, said: lines.TestSaid) -> None:
        """Count a function up and down: suites may have functions of one name. The last begun is last."""
        running = self._seen.in_suites
        times = running.pop(said.name, 0) + (1 if said.outcome == "started" else -1)
        if times > 0 and len(running) < MAX_NAMES:
            running[said.name] = times


def read_log(path: Path, tree: Path) -> LogFacts:
    """The facts of a log on disk; phases are not known, so bare `error:` lines are not taken."""
    reader = LogReader(tree)
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 16):
                reader.feed(chunk)
    except FileNotFoundError:
        return LogFacts()
    reader.end()
    return reader.facts()
