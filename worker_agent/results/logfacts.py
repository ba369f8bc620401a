"""What a log says, as a value; and how it is gathered, in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rch.contract.records import Diagnostic
from worker_agent.results import lines
from worker_agent.results.signs import Sign
from worker_agent.results.xcodelines import Blocks, failing_name

MAX_DIAGNOSTICS = 200
MAX_FAILURES = 500
MAX_NAMES = 100_000
MAX_CRASHES = 20


@dataclass(frozen=True, slots=True)
class Happening:
    """News for `events.jsonl`: `type` is diagnostic, failure, test or note."""

    type: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """What a log says. Names of XCTest's tests are `Class.test`.

    `diagnostics` are distinct, errors first, the first 200 of each kind; `failures` are failed
    assertions in order; `unfinished` tests of XCTest started and never ended, `running` ones of
    Swift Testing too, the last begun last; `vouched` ended without a failure in a suite of XCTest
    that was closed, each as often as it did;
    `failed_functions` are Swift Testing's; `signal` is the one that SwiftPM says ended a test
    process.

    Of xcodebuild alone: `signs` of why it ended, the tests that it lists as `failing`, and the
    build `commands` that it lists as failed.
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
    vouched: tuple[str, ...] = ()
    failed_functions: frozenset[str] = frozenset()
    no_tests_found: bool = False
    no_space: bool = False
    signs: tuple[Sign, ...] = ()
    failing: frozenset[str] = frozenset()
    commands: tuple[str, ...] = ()

    @property
    def first_error(self) -> Diagnostic | None:
        """The first error with a place; where there is none, the first error."""
        errors = [one for one in self.diagnostics if one.severity == "error"]
        return next((one for one in errors if one.path is not None), errors[0] if errors else None)

    def sign(self, *kinds: str) -> Sign | None:
        """The first sign of these kinds."""
        return next((one for one in self.signs if one.kind in kinds), None)

    @property
    def crash(self) -> str:
        """What a crash said for itself: the trap's own words before a signal's number."""
        return self.trap or (self.crashes[0] if self.crashes else f"ended by signal {self.signal}")


@dataclass(slots=True)
class Seen:
    """What was gathered so far. Each method gives the news that it makes."""

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
    functions: set[str] = field(default_factory=set)
    ended: list[str] = field(default_factory=list)
    vouched: list[str] = field(default_factory=list)
    no_tests_found: bool = False
    no_space: bool = False
    blocks: Blocks = field(default_factory=Blocks)

    def diagnostic(self, found: Diagnostic) -> list[Happening]:
        """Count a diagnostic once, and keep the first ones."""
        key = hash((found.path, found.line, found.column, found.severity, found.message))
        if key in self.distinct or len(self.distinct) >= MAX_NAMES:
            return []
        self.distinct.add(key)
        self.counts[found.severity] += 1
        kept = self.errors if found.severity == "error" else self.warnings
        if len(kept) >= MAX_DIAGNOSTICS:
            return []
        kept.append(found)
        place = {"path": found.path, "line": found.line, "column": found.column}
        return [Happening("diagnostic", {**place, "severity": found.severity, "message": found.message})]

    def crash(self, died: lines.CrashSaid) -> list[Happening]:
        """Keep a sign of a crash."""
        if died.signal is not None:
            self.signal = died.signal
        elif died.kind == "trap":  # a test may print such words too: the last before the end count
            self.words = died.text[:500]
        else:
            self.trap = self.trap or self.words
        if len(self.crashes) >= MAX_CRASHES:
            return []
        self.crashes.append(died.text[:500])
        return [Happening("note", {"text": died.text[:500]})]

    def failure(self, found: lines.FailureSaid, path: str) -> list[Happening]:
        """Keep a failed assertion; `path` is where it is told to be, relative where it can be."""
        if len(self.failures) >= MAX_FAILURES:
            return []
        self.failures.append(found)
        said = {"framework": found.framework, "name": found.name[:500], "message": found.message[:1000]}
        return [Happening("failure", {**said, "path": path, "line": found.line})]

    def test(self, said: lines.TestSaid, *, whole: bool = False) -> list[Happening]:
        """A test that started or ended; `whole`: told once, at its end."""
        if whole:
            self._outcome(said)
        elif said.framework == "xctest":
            known = len(self.running) < MAX_NAMES or said.name in self.running
            if known:
                self.running[said.name] += 1 if said.outcome == "started" else -1
            if known and said.outcome != "started":
                self.outcomes[said.outcome].add(said.name)
            if said.outcome in {"passed", "skipped"} and len(self.ended) < MAX_NAMES:
                self.ended.append(said.name)
        else:
            self._in_suite(said)
        if said.outcome == "started":
            return []
        return [
            Happening(
                "test", {"framework": said.framework, "name": said.name[:500], "outcome": said.outcome}
            )
        ]

    def open_suite(self) -> None:
        """A suite of XCTest begins: what ended before in one that was not closed is not vouched for."""
        self.ended.clear()

    def close_suite(self) -> None:
        """A suite of XCTest was closed, and with it the tests that ended in it."""
        self.vouched += self.ended[: MAX_NAMES - len(self.vouched)]
        self.ended.clear()

    def _outcome(self, said: lines.TestSaid) -> None:
        names = self.outcomes[said.outcome]
        if len(names) < MAX_NAMES:
            names.add(said.name)

    def _in_suite(self, said: lines.TestSaid) -> None:
        """Count a function up and down: suites may have functions of one name. The last begun is last."""
        if said.outcome == "failed" and len(self.functions) < MAX_NAMES:
            self.functions.add(said.name)
        times = self.in_suites.pop(said.name, 0) + (1 if said.outcome == "started" else -1)
        if times > 0 and len(self.in_suites) < MAX_NAMES:
            self.in_suites[said.name] = times

    def facts(self) -> LogFacts:
        """What was said so far."""
        return LogFacts(
            diagnostics=(*self.errors, *self.warnings),
            error_count=self.counts["error"],
            warning_count=self.counts["warning"],
            failures=tuple(self.failures),
            crashes=tuple(self.crashes),
            trap=self.trap or self.words,
            signal=self.signal,
            passed=frozenset(self.outcomes["passed"]),
            failed=frozenset(self.outcomes["failed"]),
            skipped=frozenset(self.outcomes["skipped"]),
            unfinished=tuple(sorted(name for name, times in self.running.items() if times > 0)),
            running=tuple(self.in_suites),
            vouched=tuple(self.vouched),
            failed_functions=frozenset(self.functions),
            no_tests_found=self.no_tests_found,
            no_space=self.no_space,
            signs=tuple(self.blocks.signs),
            failing=frozenset(failing_name(name) for name in self.blocks.failing),
            commands=tuple(self.blocks.commands),
        )
