"""From facts and verdict to `summary.json`, `build_summary.json` and `test_summary.json` (section 8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import nlargest
from itertools import islice

from msgspec import UNSET

from rch.contract.policy import GRAMMARS, Check
from rch.contract.records import (
    BuildSummary,
    Job,
    Summary,
    TestDevice,
    TestFailure,
    TestNote,
    TestSummary,
    Verdict,
)
from worker_agent.results.cases import Case
from worker_agent.results.doubts import BUILT
from worker_agent.results.facts import Facts
from worker_agent.results.given import envelope
from worker_agent.results.lines import FailureSaid, xctest_name
from worker_agent.results.places import Places
from worker_agent.results.signs import BUILD_KINDS
from worker_agent.results.verdict import PASSED, Decision

MAX_FAILURES = 500
_NAMED = 5
_LISTED = 20
_SLOWEST = 10
_LINE = 300
_HELD_BACK = (
    "swift test holds the output of an XCTest back until it ends:"
    " if one takes longer than idle_log_seconds, raise timeouts.idle_log_seconds"
)


def narrowing(argv: Sequence[str], backend: str = "swiftpm") -> tuple[str, ...]:
    """The words of a sanitized argv that make it less than the full gate: `--filter=X` and the like."""
    found: list[str] = []
    flags = GRAMMARS["xcodebuild" if backend == "xcodebuild" else "swiftpm"].flags
    words = iter(argv[1:])
    for word in words:
        selector = flags.get(word.partition(":")[0])
        if selector is not None and selector.check is Check.SELECTOR:
            if selector.narrows:
                found.append(word)
            continue
        flag = flags.get(word)
        if flag is not None:
            value = None if flag.check is Check.NOTHING else next(words, "")
            if flag.narrows:
                found.append(flag.name if value is None else f"{flag.name}={value}")
    return tuple(found)


def failures(facts: Facts, places: Places) -> tuple[TestFailure, ...]:
    """The failed tests, with the console's message and place where it has them, the first 500."""
    said: defaultdict[str, list[FailureSaid]] = defaultdict(list)
    for one in facts.log.failures:
        said[one.name].append(one)
    found: list[TestFailure] = []
    for case in facts.cases:
        if case.outcome == "failed" and len(found) < MAX_FAILURES:
            found.append(_failure(case, said, facts, places))
    return tuple(found)


def _failure(
    case: Case, said: defaultdict[str, list[FailureSaid]], facts: Facts, places: Places
) -> TestFailure:
    if case.texts:
        return _told_failure(case, places)
    xctest = xctest_name(f"{case.suite}.{case.name}")
    console = said.get(xctest) or _same_message(said.get(case.name, []), case)
    if console:
        first = console[0]
        path = (
            places.relative(first.path) if first.framework == "xctest" else places.named(first.path or "")
        )
        return TestFailure(
            name=case.name,
            suite=case.suite,
            message=one_line(first.message),
            path=path if path is not None else first.path,
            line=first.line,
        )
    message = case.message
    if facts.log.signal is not None and xctest in facts.log.unfinished:
        message = facts.log.crash
    return TestFailure(name=case.name, suite=case.suite, message=one_line(message) or "failed")


def _told_failure(case: Case, places: Places) -> TestFailure:
    """A failure whose source told its place; a bare file name is looked for in the tree."""
    text = next((one for one in case.texts if one.path is not None), case.texts[0])
    path = text.path
    if path is not None:
        path = places.relative(path) if path.startswith("/") else places.named(path) or path
    return TestFailure(
        name=case.name,
        suite=case.suite,
        message=one_line(text.message) or "failed",
        path=path,
        line=text.line,
        identifier=case.identifier or UNSET,
        device=case.device or UNSET,
        duration_ms=case.milliseconds,
    )


def _same_message(said: list[FailureSaid], case: Case) -> list[FailureSaid]:
    """Of issues in functions of one name, those of this case: its results file repeats the message."""
    return [one for one in said if one.message and case.message.startswith(one.message)]


def one_line(text: str, limit: int = _LINE) -> str:
    """Text as one printable line of at most `limit` characters."""
    words = "".join(char if char.isprintable() else " " for char in text[: 4 * limit]).split()
    line = " ".join(words)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def human_summary(
    facts: Facts, decision: Decision, failed: Sequence[TestFailure], scope: Sequence[str]
) -> str:
    """One line for people."""
    line = one_line(_sentence(facts, decision, failed))
    return f"{line} (narrowed: {one_line(', '.join(scope), 120)})" if scope else line


def _sentence(facts: Facts, decision: Decision, failed: Sequence[TestFailure]) -> str:
    if decision.outcome == PASSED:
        return _success(facts)
    if decision.subkind == "BUILD_FAILED":
        return f"build failed: {decision.why}"
    if decision.subkind == "TESTS_FAILED":
        return f"{facts.count('failed')} of {len(facts.cases)} tests failed: {_names(failed)}"
    if decision.subkind == "TESTS_CRASHED":
        return f"the tests crashed: {decision.why}"
    if decision.subkind == "INCONSISTENT":
        named = f" (failed: {_names(failed)})" if failed else ""
        return f"the results disagree: {decision.why}{named}"
    if decision.subkind == "TIMEOUT_IDLE" and _is_held_back(facts):
        return f"{decision.why}; {_HELD_BACK}"
    return decision.why or decision.outcome


def _is_held_back(facts: Facts) -> bool:
    """Whether it was `swift test` that said nothing."""
    return not facts.xcode and facts.last is not None and facts.last.name == "test"


def _success(facts: Facts) -> str:
    warnings = _counted(facts.warning_count, "warning")
    if facts.action != "test":
        return f"build succeeded, {warnings}" if facts.warning_count else "build succeeded"
    parts = [_counted(facts.count("passed"), "test") + " passed"]
    for number, word in (
        (facts.count("skipped"), "skipped"),
        (facts.count("expected_failure"), "failed as expected"),
        (sum(case.flaky for case in facts.cases), "flaky"),
    ):
        parts += [f"{number} {word}"] if number else []
    return ", ".join(parts)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _names(failed: Sequence[TestFailure]) -> str:
    names = [f"{one.suite.rpartition('.')[2]}.{one.name}" if one.suite else one.name for one in failed]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def summary(
    job: Job,
    facts: Facts,
    decision: Decision,
    *,
    created_at: str,
    attempts: int,
    duration_ms: int,
    failed: Sequence[TestFailure],
    log_truncated: bool,
    simulated: bool,
    cleanup_failed: bool = False,
) -> Summary:
    """`summary.json`."""
    scope = narrowing(job.job_key_inputs.sanitized_argv, facts.backend)
    last = facts.last
    return Summary(
        **envelope(job, created_at),
        status=decision.status,
        failure_kind=None if decision.kind is None else str(decision.kind),
        failure_subkind=decision.subkind or UNSET,
        exit_code=decision.exit_code,
        attempts=attempts,
        backend=facts.backend,
        backend_exit_code=UNSET if last is None or last.exit_code is None else last.exit_code,
        backend_term_signal=UNSET if last is None or last.term_signal is None else last.term_signal,
        human_summary=human_summary(facts, decision, failed, scope),
        duration_ms=duration_ms,
        artifact_profile=job.artifact_profile,
        simulated=simulated,
        verdict=Verdict(outcome=decision.outcome, evidence=decision.evidence),
        log_truncated=log_truncated or UNSET,
        scope=scope or UNSET,
        ephemeral_cleanup_failed=cleanup_failed or UNSET,
    )


def build_summary(job: Job, facts: Facts, *, created_at: str) -> BuildSummary:
    """`build_summary.json`."""
    told = facts.bundle.build if facts.bundle else None
    return BuildSummary(
        **envelope(job, created_at),
        succeeded=_built(facts),
        error_count=facts.error_count,
        warning_count=facts.warning_count,
        diagnostics=facts.diagnostics,
        first_error=facts.first_error,
        targets=told.targets if told else (),
        failed_commands=tuple(one_line(command) for command in facts.log.commands[:_LISTED]),
    )


def _built(facts: Facts) -> bool:
    """Whether a build was run and said so, and nothing tells of an error or of a command that failed.

    A `test` of xcodebuild has built where a test ran.
    """
    told = facts.bundle.build if facts.bundle else None
    broken = facts.error_count or facts.log.commands or facts.log.sign(*BUILD_KINDS)
    if broken or (told is not None and told.status not in BUILT):
        return False
    build = next((phase for phase in facts.phases if phase.name == "build"), None)
    if build is not None or not facts.xcode:
        return build is not None and build.ok
    return facts.last is not None and bool(facts.last.ok or facts.ran)


def test_summary(job: Job, facts: Facts, failed: Sequence[TestFailure], *, created_at: str) -> TestSummary:
    """`test_summary.json`, from counted cases."""
    return TestSummary(
        **envelope(job, created_at),
        total=len(facts.cases),
        passed=facts.count("passed"),
        failed=facts.count("failed"),
        skipped=facts.count("skipped"),
        failures=tuple(failed),
        duration_ms=sum(phase.duration_ms for phase in facts.phases if phase.name == "test"),
        expected_failures=facts.count("expected_failure"),
        flaky=tuple(_flaky(case) for case in _first(case for case in facts.cases if case.flaky)),
        skips=_notes(facts, "skipped"),
        expected=_notes(facts, "expected_failure"),
        slowest=tuple(_note(case, "") for case in nlargest(_SLOWEST, _timed(facts), key=_duration)),
        devices=_devices(facts),
    )


def _notes(facts: Facts, outcome: str) -> tuple[TestNote, ...]:
    cases = _first(case for case in facts.cases if case.outcome == outcome)
    return tuple(_note(case, case.message) for case in cases)


def _flaky(case: Case) -> TestNote:
    """A test that passed only on a retry, with what the first failed attempt said."""
    texts = [text.message for one in case.lost_attempts for text in one.texts]
    return _note(case, texts[0] if texts else "failed at first")


def _note(case: Case, message: str) -> TestNote:
    return TestNote(
        name=case.name,
        suite=case.suite,
        message=one_line(message),
        duration_ms=case.milliseconds,
        identifier=case.identifier or UNSET,
        device=case.device or UNSET,
    )


def _first(cases: Iterable[Case]) -> Iterable[Case]:
    return islice(cases, MAX_FAILURES)


def _timed(facts: Facts) -> Iterable[Case]:
    return (case for case in facts.cases if case.milliseconds)


def _duration(case: Case) -> int:
    return case.milliseconds


def _devices(facts: Facts) -> tuple[TestDevice, ...]:
    tests = facts.bundle.tests if facts.bundle else None
    return tuple(
        TestDevice(
            name=one_line(device.device_name),
            os_version=one_line(device.os_version),
            platform=one_line(device.platform),
            model=one_line(device.model_name),
            architecture=one_line(device.architecture),
            os_build=one_line(device.os_build_number),
            udid=one_line(device.device_id),
        )
        for device in (tests.devices[:_LISTED] if tests else ())
    )


def session_failure(
    facts: Facts, decision: Decision, failed: Sequence[TestFailure]
) -> tuple[str, str] | None:
    """Outcome and sentence of a job that did not pass for more than failed tests; None for others."""
    if decision.outcome in {PASSED, "TESTS_FAILED"}:
        return None
    return decision.outcome, one_line(_sentence(facts, decision, failed))
