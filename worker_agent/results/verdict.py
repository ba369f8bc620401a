"""The verdict on a Swift package's job, from what is known of it (spec section 9).

A pure function. The tool's exit code is evidence, never the verdict: `swift test` says 0 when
no test matched, and when a test ended the whole process with code 0. The order of the rules is
the contract's; whatever no rule calls a pass is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from rch.contract.errors import Kind, lookup
from rch.contract.records import Evidence
from worker_agent.model import EndedByUs, PhaseExit
from worker_agent.results.buildlog import LogFacts
from worker_agent.results.lines import xctest_name
from worker_agent.results.xunit import Case, XunitFile

PASSED = "PASSED"

_CANCELLED = frozenset({"USER", "SIGNAL", "SUPERSEDED", "LEASE_EXPIRED"})


@dataclass(frozen=True, slots=True)
class OwnFailure:
    """A failure of the worker itself before or between phases, such as no space at unpacking."""

    kind: Kind
    subkind: str | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a verdict rests on. `xunit` holds the files that the toolchain must have written.

    `lost` tells of earlier executions of the job that were lost, a sentence each.
    """

    action: str
    phases: tuple[PhaseExit, ...]
    ended: EndedByUs | None = None
    failure: OwnFailure | None = None
    log: LogFacts = field(default_factory=LogFacts)
    xunit: tuple[XunitFile, ...] = ()
    allow_no_tests: bool = False
    lost: tuple[str, ...] = ()

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """Every counted test case."""
        return tuple(case for file in self.xunit for case in file.cases)

    def count(self, outcome: str) -> int:
        """How many cases ended so."""
        return sum(case.outcome == outcome for case in self.cases)

    @property
    def last(self) -> PhaseExit | None:
        """The phase that decided: the last one that was run."""
        return self.phases[-1] if self.phases else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict. `status` is success, failed or cancelled; `outcome` is `PASSED` or the subkind."""

    status: str
    outcome: str
    exit_code: int
    evidence: tuple[Evidence, ...]
    kind: Kind | None = None
    subkind: str | None = None
    why: str = ""


Rule = Callable[[Facts], Decision | None]


def decide(facts: Facts) -> Decision:
    """The first rule that has something to say decides."""
    for rule in _RULES:
        decision = rule(facts)
        if decision is not None:
            return decision
    return _passed(facts)


def _fail(
    facts: Facts, kind: Kind, subkind: str | None, why: str, *further: Evidence, status: str = "failed"
) -> Decision:
    return Decision(
        status=status,
        outcome=subkind or str(kind),
        exit_code=lookup(kind, subkind).exit_code,
        evidence=(*_common(facts), *further),
        kind=kind,
        subkind=subkind,
        why=why,
    )


def _common(facts: Facts) -> tuple[Evidence, ...]:
    """What every verdict states: what was lost, how each phase ended, what each results file holds."""
    lost = [Evidence(source="worker", fact=told) for told in facts.lost]
    phases = [Evidence(source=f"phase {phase.name}", fact=_how(phase)) for phase in facts.phases]
    files = [Evidence(source=file.name, fact=_contents(file)) for file in facts.xunit]
    return (*lost, *phases, *files)


def _how(phase: PhaseExit) -> str:
    if phase.start_error is not None:
        return f"could not start: {phase.start_error.encode(errors='replace').decode()}"
    if phase.term_signal is not None:
        return f"ended by signal {phase.term_signal}"
    return f"exit code {phase.exit_code}"


def _contents(file: XunitFile) -> str:
    counts = f"{len(file.cases)} test cases"
    for outcome in ("failed", "skipped"):
        number = sum(case.outcome == outcome for case in file.cases)
        counts += f", {number} {outcome}" if number else ""
    return counts if file.problem is None else f"{file.problem} ({counts})"


# --- the rules, in the order of the contract --------------------------------------------


def _ended_by_us(facts: Facts) -> Decision | None:
    if facts.ended is None:
        return None
    reason = facts.ended.reason
    note = Evidence(source="worker", fact=f"ended the job: {reason}")
    if reason in _CANCELLED:
        return _fail(facts, Kind.CANCELLED, reason, _WHY[reason], note, status="cancelled")
    why = _WHY.get(reason, reason) + (f", {len(facts.lost)} times" if reason == "WORKER_LOST" else "")
    return _fail(facts, Kind.EXECUTOR, reason, why, note)


_WHY = {
    "USER": "cancelled by the user",
    "SIGNAL": "cancelled by a signal",
    "SUPERSEDED": "cancelled: a newer run of its group took its place",
    "LEASE_EXPIRED": "cancelled: its lease was over and the host did not come back",
    "TIMEOUT_OVERALL": "took longer than timeouts.overall_seconds",
    "TIMEOUT_IDLE": "said nothing for timeouts.idle_log_seconds",
    "WORKER_LOST": "lost with its worker's processes",
}


def _not_started(facts: Facts) -> Decision | None:
    if facts.failure is not None:
        own = facts.failure
        return _fail(facts, own.kind, own.subkind, own.message, Evidence(source="worker", fact=own.message))
    phase = facts.last
    if phase is None:
        return _fail(facts, Kind.EXECUTOR, "START_FAILED", "nothing was run")
    if phase.start_error is not None:
        why = f"{phase.name} {_how(phase)}"
        return _fail(facts, Kind.EXECUTOR, "START_FAILED", why)
    if phase.exit_code is None and phase.term_signal is None:
        return _fail(facts, Kind.EXECUTOR, "WORKER_LOST", f"how {phase.name} ended is not known")
    return None


def _build_failed(facts: Facts) -> Decision | None:
    phase = next((one for one in facts.phases if one.name == "build" and not one.ok), None)
    if phase is None:
        return None
    log = facts.log
    seen = Evidence(source="build.log", fact=f"{log.error_count} errors, {log.warning_count} warnings")
    first = log.first_error
    if log.no_space and (first is None or first.path is None or _about_space(first.message)):
        return _fail(facts, Kind.EXECUTOR, "NO_SPACE", "no space left on the worker", seen)
    if first is not None:
        place = ":".join(str(part) for part in (first.path, first.line, first.column) if part is not None)
        why = f"{place}: error: {first.message}" if place else f"error: {first.message}"
        return _fail(facts, Kind.SWIFTPM, "BUILD_FAILED", why, seen)
    return _fail(facts, Kind.SWIFTPM, "BUILD_FAILED", f"swift build: {_how(phase)}", seen)


def _about_space(message: str) -> bool:
    return "No space left on device" in message


def _crashed(facts: Facts) -> Decision | None:
    phase = facts.last
    if facts.action != "test" or phase is None or phase.ok:
        return None
    log = facts.log
    if phase.term_signal is not None:
        return _fail(
            facts, Kind.SWIFTPM, "TESTS_CRASHED", f"swift test was ended by signal {phase.term_signal}"
        )
    if log.signal is None:
        return None
    where = f"{', '.join(log.unfinished[:3])}: " if log.unfinished else ""
    signs = [Evidence(source="build.log", fact=text) for text in log.crashes[:5]]
    return _fail(facts, Kind.SWIFTPM, "TESTS_CRASHED", f"{where}{log.crash}", *signs)


def _tests_failed(facts: Facts) -> Decision | None:
    """Failed tests that the exit code admits; with code 0 the sources disagree."""
    phase = facts.last
    if facts.action != "test" or phase is None or phase.ok or not facts.count("failed"):
        return None
    return _fail(facts, Kind.SWIFTPM, "TESTS_FAILED", "")


def _no_tests_ran(facts: Facts) -> Decision | None:
    phase = facts.last
    if facts.action != "test" or phase is None or phase.name != "test":
        return None
    explained = phase.ok or facts.log.no_tests_found
    whole = facts.log.no_tests_found or (facts.xunit and not _problems(facts))
    if facts.count("passed") or facts.count("failed") or not explained or not whole:
        return None
    if facts.allow_no_tests:
        return _passed(facts)
    return _fail(facts, Kind.SWIFTPM, "NO_TESTS_RAN", "no test ran")


def _problems(facts: Facts) -> list[str]:
    return [f"{file.name} {file.problem}" for file in facts.xunit if file.problem is not None]


def _inconsistent(facts: Facts) -> Decision | None:
    doubts = [doubt for check in _CHECKS for doubt in check(facts)]
    if not doubts:
        return None
    notes = [Evidence(source="comparison", fact=doubt) for doubt in doubts]
    return _fail(facts, Kind.SWIFTPM, "INCONSISTENT", "; ".join(doubts[:3]), *notes)


def _passed(facts: Facts) -> Decision:
    return Decision(status="success", outcome=PASSED, exit_code=0, evidence=_common(facts))


# --- what must agree before a pass --------------------------------------------------------


def _exit_codes(facts: Facts) -> list[str]:
    failed = facts.count("failed")
    doubts = [
        f"{one.name} said {one.exit_code} without a failed test" for one in facts.phases if not one.ok
    ]
    if failed and not doubts:
        return [f"swift test said 0 with {failed} failed tests"]
    return doubts


def _all_phases(facts: Facts) -> list[str]:
    run = [phase.name for phase in facts.phases]
    wanted = ["build", "test"] if facts.action == "test" else ["build"]
    return [] if run == wanted else [f"phases {', '.join(run)} were run in place of {', '.join(wanted)}"]


def _files_whole(facts: Facts) -> list[str]:
    if facts.action == "test" and not facts.xunit:
        return ["there is no results file"]
    problems, early = _problems(facts), _ended_early(facts)
    return [f"{early}: {'; '.join(problems)}"] if problems and early else problems


def _ended_early(facts: Facts) -> str | None:
    """The likely reason of a results file that is not whole: one of the tests that ran called `exit`."""
    if running := facts.log.running:
        others = f" and {len(running) - 3} more" if len(running) > 3 else ""
        return f"the tests ended early while {', '.join(name[:80] for name in running[-3:])}{others} ran"
    cut = any(file.problem is not None and file.problem.startswith("is cut short") for file in facts.xunit)
    return "the tests ended early" if cut else None


def _build_said_errors(facts: Facts) -> list[str]:
    first = facts.log.first_error
    if first is None or first.path is None or first.path.startswith("/"):
        return []
    return [f"the build said 0 and {first.path}:{first.line}: error: {first.message}"]


def _console_agrees(facts: Facts) -> list[str]:
    """Only tests that the results file knows count: a test may print any other project's log."""
    passed = {xctest_name(f"{case.suite}.{case.name}") for case in facts.cases if case.outcome == "passed"}
    log = facts.log
    return [
        *(
            f"{name} failed on the console and passed in the results"
            for name in sorted(passed & log.failed)
        ),
        *(f"{name} started and never ended" for name in sorted(passed.intersection(log.unfinished))),
    ]


_CHECKS = (_exit_codes, _all_phases, _files_whole, _build_said_errors, _console_agrees)
_RULES: tuple[Rule, ...] = (
    _ended_by_us,
    _not_started,
    _build_failed,
    _crashed,
    _tests_failed,
    _no_tests_ran,
    _inconsistent,
)
