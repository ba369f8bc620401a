"""From the records of one step to its part of the page. Pure, as `page_model`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import UNSET

from rch.contract.policy import ClassifierPolicy
from rch.contract.records import Accepted, BuildSummary, Diagnostic, TestFailure, TestNote, TestSummary
from rch.contract.remedies import remedy
from rchctl.render import duration
from rchctl.report.excerpts import Excerpt, Place
from rchctl.report.junit import Case
from rchctl.report.model import Fact, Message, Slow, StepPage, SuiteRows, TestRow
from rchctl.report.provenance import provenance, transfer
from rchctl.report.records import StepRecords
from rchctl.report.text import cut

MOST_TESTS = 10_000
"""So many tests are listed, those that did not pass first; a line tells of the rest."""
MOST_DIAGNOSTICS = 200
_LONGEST = 8_000
_LONGEST_NAME = 600
_LOG_WIDTH = 400
_TONES = {
    "success": ("good", "✔"),
    "failed": ("bad", "✘"),
    "rejected": ("bad", "⊘"),
    "cancelled": ("warn", "■"),
}
_OUTCOME_ORDER = ("failed", "flaky", "expected", "skipped", "passed")
_CSS = {"failed": "f", "flaky": "k", "expected": "x", "skipped": "s", "passed": "p"}
Excerpts = Callable[[Place], Excerpt]


def step_page(
    step: StepRecords, index: int, excerpt: Excerpts, accepted: Accepted | None, *, simulated: bool
) -> StepPage:
    """The part of one step; what stand-in tools made says so, and bears no sign of success."""
    status = step.status or "not over"
    tone, mark = _TONES.get(status, ("plain", "…"))
    if simulated:
        tone, mark, status = "warn", "◐", f"simulated: {status}"
    summary = step.summary
    verdict = None if summary is None or summary.verdict is UNSET else summary.verdict
    suites, shown, unlisted = _test_rows(() if step.cases is None else step.cases.cases)
    diagnostics, left_out = _diagnostics(step.build, excerpt)
    return StepPage(
        anchor=f"step-{index}",
        action=step.action,
        status=status,
        tone=tone,
        mark=mark,
        summary="" if summary is None else summary.human_summary,
        took="" if summary is None else duration(summary.duration_ms),
        verdict="" if verdict is None else verdict.outcome,
        evidence=()
        if verdict is None
        else tuple(Fact(each.source, each.fact) for each in verdict.evidence),
        reasons=_reasons(step, accepted),
        failures=_failures(step.tests, excerpt),
        diagnostics=diagnostics,
        counts=_counts(step.tests),
        suites=suites,
        tests_shown=shown,
        notes=_notes(step.tests),
        slowest=_slowest(step.tests),
        left_out=(*left_out, *unlisted, *_unlisted_failures(step.tests), *_not_kept(step)),
        log_end=tuple(cut(line, _LOG_WIDTH) for line in step.log_end),
        transfer=transfer(step, accepted),
        provenance=provenance(step),
    )


def _reasons(step: StepRecords, accepted: Accepted | None) -> tuple[Message, ...]:
    """Why the gate refused it, word by word."""
    if step.summary is None or step.summary.rejection_reasons is UNSET:
        return ()
    steps = () if accepted is None else accepted.steps
    line = next((" ".join(each.original_argv) for each in steps if each.job_id == step.job_id), "")
    policy = _policy(accepted)
    found = []
    for each in step.summary.rejection_reasons:
        instead = "" if policy is None else f"instead: {remedy(each, policy)}"
        text = "\n".join(part for part in (each.message, instead, line) if part)
        found.append(Message(each.code, "bad", each.subject, cut(text, _LONGEST)))
    return tuple(found)


def _policy(accepted: Accepted | None) -> ClassifierPolicy | None:
    """What it was judged by, where that can be read."""
    try:
        return None if accepted is None else msgspec.convert(accepted.policy, ClassifierPolicy)
    except msgspec.ValidationError:  # one of another version
        return None


def _failures(tests: TestSummary | None, excerpt: Excerpts) -> tuple[Message, ...]:
    return () if tests is None else tuple(_failure(each, excerpt) for each in tests.failures)


def _failure(test: TestFailure, excerpt: Excerpts) -> Message:
    name = f"{test.suite}/{test.name}" if test.suite else test.name
    device = "" if test.device is UNSET else f" on {test.device}"
    took = "" if test.duration_ms is UNSET else f", {duration(test.duration_ms)}"
    place = "" if test.path is None else f"{test.path}:{test.line}" if test.line else test.path
    shown = excerpt(Place(test.path, test.line)) if test.path is not None and test.line else None
    return Message(
        cut(name, _LONGEST_NAME) + device + took, "bad", place, cut(test.message, _LONGEST), shown
    )


def _diagnostics(
    build: BuildSummary | None, excerpt: Excerpts
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The messages of the build, errors first, and a line about those that are left out."""
    if build is None:
        return (), ()
    ordered = sorted(
        build.diagnostics, key=lambda each: (each.severity != "error", each.severity != "warning")
    )
    shown = tuple(_diagnostic(each, excerpt) for each in ordered[:MOST_DIAGNOSTICS])
    known = build.error_count + build.warning_count
    told = sum(each.severity in {"error", "warning"} for each in ordered[:MOST_DIAGNOSTICS])
    rest = max(len(ordered) - len(shown), known - told)
    return shown, (
        f"{rest} more messages of the build are not listed here: see build.log",
    ) if rest > 0 else ()


def _diagnostic(each: Diagnostic, excerpt: Excerpts) -> Message:
    place = ":".join(str(part) for part in (each.path, each.line, each.column) if part is not None)
    shown = None
    if each.path is not None and each.line:
        shown = excerpt(Place(each.path, each.line, each.column))
    tone = {"error": "bad", "warning": "warn"}.get(each.severity, "plain")
    return Message(each.severity, tone, place, cut(each.message, _LONGEST), shown)


def _counts(tests: TestSummary | None) -> tuple[Fact, ...]:
    if tests is None:
        return ()
    found = [
        ("tests", tests.total),
        ("passed", tests.passed),
        ("failed", tests.failed),
        ("skipped", tests.skipped),
        ("flaky", len(tests.flaky)),
        ("failed as expected", tests.expected_failures),
    ]
    facts = [Fact(name, f"{count:,}") for name, count in found if count or name in {"tests", "failed"}]
    return (*facts, Fact("took", duration(tests.duration_ms)))


def _test_rows(cases: Sequence[Case]) -> tuple[tuple[SuiteRows, ...], int, tuple[str, ...]]:
    """The list of tests by suite, how many it holds, and a line about the rest."""
    ranks = {outcome: rank for rank, outcome in enumerate(_OUTCOME_ORDER)}
    ordered = sorted(cases, key=lambda each: ranks[each.outcome])  # stable: else as they ran
    suites: dict[str, list[TestRow]] = {}
    for case in ordered[:MOST_TESTS]:
        took = duration(case.milliseconds) if case.milliseconds else ""
        row = TestRow(cut(case.name, _LONGEST_NAME), case.outcome, _CSS[case.outcome], took)
        suites.setdefault(case.suite, []).append(row)
    rest = len(ordered) - MOST_TESTS
    line = f"{rest:,} more tests are not listed here, the last of those that passed: see junit.xml"
    found = tuple(SuiteRows(cut(name, _LONGEST_NAME), tuple(rows)) for name, rows in suites.items())
    return found, min(len(ordered), MOST_TESTS), (line,) if rest > 0 else ()


def _unlisted_failures(tests: TestSummary | None) -> tuple[str, ...]:
    rest = 0 if tests is None else tests.failed - len(tests.failures)
    return (f"{rest:,} more failed tests have no details on record",) if rest > 0 else ()


def _not_kept(step: StepRecords) -> tuple[str, ...]:
    """What a set of the small profile has not."""
    if step.summary is None or step.summary.artifact_profile != "minimal" or step.tests is not None:
        return ()
    return ('no messages and no tests are listed: artifact_profile = "minimal" keeps none',)


def _notes(tests: TestSummary | None) -> tuple[Message, ...]:
    """Flaky, skipped and expectedly failing tests with what they said."""
    if tests is None:
        return ()
    found: list[Message] = []
    for word, tone, notes in (
        ("flaky: passed only on a retry", "warn", tests.flaky),
        ("skipped", "plain", tests.skips),
        ("failed as expected", "plain", tests.expected),
    ):
        found += _noted(word, tone, notes)
    return tuple(found)


def _noted(word: str, tone: str, notes: Iterable[TestNote]) -> list[Message]:
    return [
        Message(word, tone, cut(f"{each.suite}/{each.name}", _LONGEST_NAME), cut(each.message, _LONGEST))
        for each in notes
    ]


def _slowest(tests: TestSummary | None) -> tuple[Slow, ...]:
    if tests is None or not tests.slowest:
        return ()
    top = max(each.duration_ms for each in tests.slowest) or 1
    return tuple(
        Slow(
            cut(f"{each.suite}/{each.name}", _LONGEST_NAME),
            duration(each.duration_ms),
            round(each.duration_ms * 100 / top, 1),
        )
        for each in tests.slowest
        if each.duration_ms > 0
    )
