"""All that a verdict rests on, of whichever tool (spec section 9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from rch.contract.errors import Kind
from rch.contract.records import Diagnostic, Evidence
from worker_agent.model import EndedByUs, PhaseExit
from worker_agent.results.cases import Case, Text
from worker_agent.results.lines import xctest_name
from worker_agent.results.logfacts import MAX_DIAGNOSTICS, LogFacts
from worker_agent.results.xcresult import Bundle
from worker_agent.results.xunit import XunitFile

_KINDS = {"swiftpm": Kind.SWIFTPM, "xcodebuild": Kind.XCODEBUILD}


@dataclass(frozen=True, slots=True)
class OwnFailure:
    """A failure of the worker itself before or between phases, such as no space at unpacking."""

    kind: Kind
    subkind: str | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a verdict rests on, before any judgement.

    `xunit` holds the files that the toolchain must have written, `bundle` the result bundle of
    xcodebuild. `lost` tells of earlier executions of the job that were lost, a sentence each.
    """

    action: str
    phases: tuple[PhaseExit, ...]
    backend: str = "swiftpm"
    ended: EndedByUs | None = None
    failure: OwnFailure | None = None
    log: LogFacts = field(default_factory=LogFacts)
    xunit: tuple[XunitFile, ...] = ()
    bundle: Bundle | None = None
    allow_no_tests: bool = False
    lost: tuple[str, ...] = ()

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """Every counted test case."""
        told = () if self.bundle is None else self.bundle.cases
        return (*(case for file in self.xunit for case in file.cases), *told)

    @cached_property
    def counts(self) -> Counter[str]:
        """How many cases ended how."""
        return Counter(case.outcome for case in self.cases)

    def count(self, outcome: str) -> int:
        """How many cases ended so."""
        return self.counts[outcome]

    @property
    def ran(self) -> int:
        """How many tests were run: not those that were skipped."""
        return len(self.cases) - self.count("skipped")

    @property
    def last(self) -> PhaseExit | None:
        """The phase that decided: the last one that was run."""
        return self.phases[-1] if self.phases else None

    @property
    def kind(self) -> Kind:
        """The kind of a failure that is the tool's."""
        return _KINDS[self.backend]

    @property
    def xcode(self) -> bool:
        """Whether the tool is xcodebuild."""
        return self.backend == "xcodebuild"

    def tool(self, phase: str) -> str:
        """What people call the tool of a phase."""
        return "xcodebuild" if self.xcode else f"swift {phase}"

    @cached_property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The log's, and those that the bundle alone tells; errors first, the first 200 of each kind."""
        told = self.bundle.build.diagnostics if self.bundle and self.bundle.build else ()
        if not told:
            return self.log.diagnostics
        known = {_place(one) for one in self.log.diagnostics}
        every = (*self.log.diagnostics, *(one for one in told if _place(one) not in known))
        errors = [one for one in every if one.severity == "error"]
        warnings = [one for one in every if one.severity != "error"]
        return (*errors[:MAX_DIAGNOSTICS], *warnings[:MAX_DIAGNOSTICS])

    @property
    def first_error(self) -> Diagnostic | None:
        """The first error with a place; where there is none, the first error."""
        errors = [one for one in self.diagnostics if one.severity == "error"]
        return next((one for one in errors if one.path is not None), errors[0] if errors else None)

    @property
    def error_count(self) -> int:
        """How many errors the source that knows of most of them tells."""
        build = self.bundle.build if self.bundle else None
        return max(self.log.error_count, build.error_count if build else 0)

    @property
    def warning_count(self) -> int:
        """How many warnings, likewise."""
        build = self.bundle.build if self.bundle else None
        return max(self.log.warning_count, build.warning_count if build else 0)

    @cached_property
    def runner_words(self) -> tuple[str, ...]:
        """What the bundle says of test runners as wholes, not of any test."""
        if self.bundle is None or self.bundle.tests is None:
            return ()
        said = [
            text.message
            for case in self.cases
            if case.outcome == "failed"
            for text in case.texts
            if _of_runner(case, text)
        ]
        return (*self.bundle.tests.said, *said)

    @cached_property
    def failed_tests(self) -> tuple[str, ...]:
        """The tests that failed as any source tells it, sorted: not what failed as a runner does."""
        told = {
            f"{case.suite}.{case.name}"
            for case in self.cases
            if case.outcome == "failed" and not any(_of_runner(case, text) for text in case.texts)
        }
        return tuple(sorted({*told, *self.log.failed, *self.log.failed_functions, *self.log.failing}))


def _of_runner(case: Case, text: Text) -> bool:
    """Whether a failed case stands for its runner as a whole."""
    return not case.identifier.endswith("()") and "encountered an error" in f"{case.name} {text.message}"


def console_names(case: Case) -> frozenset[str]:
    """What a console may call a case."""
    name = xctest_name(f"{case.suite}.{case.name}")
    return frozenset({name, name.removesuffix("()"), case.identifier} if case.identifier else {name})


def common_evidence(facts: Facts) -> tuple[Evidence, ...]:
    """What every verdict states: what was lost, how each phase ended, what each source of results holds."""
    lost = [Evidence(source="worker", fact=told) for told in facts.lost]
    phases = [Evidence(source=f"phase {phase.name}", fact=how(phase)) for phase in facts.phases]
    files = [Evidence(source=file.name, fact=_contents(file.cases, file.problem)) for file in facts.xunit]
    return (*lost, *phases, *files, *_of_bundle(facts.bundle))


def _of_bundle(bundle: Bundle | None) -> Iterator[Evidence]:
    if bundle is None:
        return
    if bundle.problem is not None or bundle.tests is not None:
        problem = bundle.problem if bundle.tests is None else bundle.unread
        yield Evidence(source=bundle.name, fact=_contents(bundle.cases, problem))
    if (summary := bundle.summary) is not None and summary.problem is None:
        counts = f"{summary.total} tests, {summary.failed} failed, {summary.skipped} skipped"
        yield Evidence(source=f"{bundle.name} summary", fact=f"{summary.result}: {counts}")
    if (build := bundle.build) is not None:
        counts = f"{build.error_count} errors, {build.warning_count} warnings"
        yield Evidence(source=f"{bundle.name} build", fact=build.problem or counts)
    if (database := bundle.database) is not None:
        counts = f"{database.total} results, {database.failed} failed"
        yield Evidence(source=f"{bundle.name} database", fact=database.problem or counts)


def how(phase: PhaseExit) -> str:
    """How a phase ended, for people."""
    if phase.start_error is not None:
        return f"could not start: {phase.start_error.encode(errors='replace').decode()}"
    if phase.term_signal is not None:
        return f"ended by signal {phase.term_signal}"
    return f"exit code {phase.exit_code}"


def _contents(cases: Iterable[Case], problem: str | None) -> str:
    number = Counter(case.outcome for case in cases)
    counts = f"{sum(number.values())} test cases"
    for outcome in ("failed", "skipped", "expected_failure", "unknown"):
        counts += f", {number[outcome]} {outcome.replace('_', ' ')}" if number[outcome] else ""
    return counts if problem is None else f"{problem} ({counts})"


def _place(one: Diagnostic) -> tuple[str | None, int | None, str]:
    return one.path, one.line, one.message
