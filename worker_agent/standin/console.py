"""The lines that `xcodebuild` prints of a run of tests, in the forms of the recordings. Pure.

Serial runs have XCTest's own lines and then Swift Testing's; parallel ones have a line a test
that names the clone, and no messages of failures.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from worker_agent.standin.facts import Release
from worker_agent.standin.model import EXPECTED, FAILED, PASSED, SKIPPED, Attempt, Case, Device
from worker_agent.standin.testing import launches


@dataclass(frozen=True, slots=True)
class Took:
    """Between the lines of a test's begin and end: how long it takes."""

    seconds: float


Item: TypeAlias = str | Took

_WORD = {PASSED: "passed", FAILED: "failed", SKIPPED: "skipped", EXPECTED: "passed"}


def stamp(at: float) -> str:
    """`2024-11-10 01:41:30.711`, in UTC."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at))}.{int(at * 1000) % 1000:03d}"


def own_line(at: float, pid: int, text: str) -> str:
    """A line of the tool's own log."""
    return f"{stamp(at)} xcodebuild[{pid}:{pid * 7 + 1}] {text}"


def serial(
    cases: Sequence[Case], target: str, device: Device, release: Release, at: float, *, all_tests: bool
) -> Iterator[Item]:
    """One bundle's tests, one after the other."""
    xctest = [case for case in cases if case.xctest]
    for number, launch in enumerate(launches(xctest)):
        yield from _xctest(
            launch, target, at, "All tests" if all_tests and not number else "Selected tests"
        )
        if launch and launch[-1].last.crashed is not None:
            yield from _again(launch[-1])
    yield from _swift_testing([case for case in cases if not case.xctest], device, release)


def _again(case: Case) -> Iterator[str]:
    """A crash is followed by a new process for the tests that are left."""
    yield (
        f"Restarting after unexpected exit, crash, or test timeout in {_short(case)}; "
        "summary will include totals from previous launches."
    )
    yield ""


def _short(case: Case) -> str:
    return ".".join(filter(None, (case.suite, case.function)))


def _xctest(cases: Sequence[Case], target: str, at: float, everything: str) -> Iterator[Item]:
    suites = list(dict.fromkeys(case.suite for case in cases))
    crashed = any(case.last.crashed is not None for case in cases)
    yield f"Test Suite '{everything}' started at {stamp(at)}."
    yield f"Test Suite '{target}.xctest' started at {stamp(at)}."
    for suite in suites:
        inside = [case for case in cases if case.suite == suite]
        yield f"Test Suite '{suite}' started at {stamp(at)}."
        for case in inside:
            yield from _xctest_case(case, target)
        if crashed and inside[-1] is cases[-1]:
            return
        yield from _suite_end(suite, inside, at)
    yield from _suite_end(f"{target}.xctest", cases, at)
    yield from _suite_end(everything, cases, at)


def _suite_end(name: str, cases: Sequence[Case], at: float) -> Iterator[str]:
    failed = [case for case in cases if case.result == FAILED]
    skipped = sum(case.result == SKIPPED for case in cases)
    failures = sum(len(one.failures) for case in cases for one in case.attempts if one.result == FAILED)
    runs = sum(len(case.attempts) for case in cases)
    tests = f"{runs} test{'' if runs == 1 else 's'}, with "
    skips = f"{skipped} test{'' if skipped == 1 else 's'} skipped and " if skipped else ""
    count = f"{failures} failure{'' if failures == 1 else 's'} (0 unexpected)"
    seconds = sum(one.seconds for case in cases for one in case.attempts)
    yield f"Test Suite '{name}' {'failed' if failed else 'passed'} at {stamp(at + seconds)}."
    yield f"\t Executed {tests}{skips}{count} in {seconds:.3f} ({seconds + 0.001:.3f}) seconds"


def _xctest_case(case: Case, target: str) -> Iterator[Item]:
    name = f"-[{target}.{case.suite} {case.function.partition('(')[0]}]"
    for number, attempt in enumerate(case.attempts, 1):
        of = f" (Iteration {number} of {len(case.attempts)})" if len(case.attempts) > 1 else ""
        yield f"Test Case '{name}' started{of}."
        yield Took(attempt.seconds)
        if attempt.crashed is not None:
            failure = attempt.failures[0]
            yield f"{failure.path}:{failure.line}: Fatal error: {attempt.crashed}"
            return
        if attempt.skip is not None:
            yield f"{name} : Test skipped{' - ' if attempt.skip else ''}{attempt.skip}"
        for failure in attempt.failures:
            how = "expected failure" if attempt.result == EXPECTED else "error"
            yield f"{failure.path}:{failure.line}: {how}: {name} : {failure.message}"
        yield f"Test Case '{name}' {_WORD[attempt.result]} ({attempt.seconds:.3f} seconds)."


def _quoted(display: str | None, name: str) -> str:
    return name if display is None else f'"{display}"'


def _swift_testing(cases: Sequence[Case], device: Device, release: Release) -> Iterator[Item]:
    platform = "arm64-apple-ios13.0-simulator" if device.simulator else "arm64e-apple-macos14.0"
    yield "◇ Test run started."
    if release.form == "16":
        yield f"↳ Testing Library Version: {release.testing_library} ({platform})"
    else:
        yield f"↳ Testing Library Version: {release.testing_library}"
        yield f"↳ Target Platform: {platform}"
    for suite in dict.fromkeys(case.suites for case in cases):
        inside = [case for case in cases if case.suites == suite]
        if suite:
            title = _quoted(suite[-1][1], suite[-1][0])
            yield f"◇ Suite {title} started."
        for case in inside:
            yield from _function(case, release)
        if suite:
            yield _ended(f"Suite {title}", inside)
    run = f"Test run with {len(cases)} test{'' if len(cases) == 1 else 's'}"
    suites = len({case.suites for case in cases if case.suites})
    where = f" in {suites} suite{'' if suites == 1 else 's'}" if release.form != "16" else ""
    yield _ended(run + where, cases)


def _issues(cases: Iterable[Case]) -> int:
    return sum(len(one.failures) for case in cases for one in case.attempts if one.result == FAILED)


def _ended(what: str, cases: Sequence[Case]) -> str:
    seconds = sum(one.seconds for case in cases for one in case.attempts)
    issues = _issues(cases)
    if any(case.result == FAILED for case in cases):
        return (
            f"✘ {what} failed after {seconds:.3f} seconds with {issues} issue{'' if issues == 1 else 's'}."
        )
    return f"✔ {what} passed after {seconds:.3f} seconds."


def _function(case: Case, release: Release) -> Iterator[Item]:
    title = _quoted(case.display, case.function)
    for attempt in case.attempts:
        if attempt.skip is not None:
            yield f"➜ Test {title} skipped{': ' if attempt.skip else ''}" + (
                f'"{attempt.skip}"' if attempt.skip else "."
            )
            continue
        yield f"◇ Test {title} started."
        yield Took(attempt.seconds)
        if attempt.crashed is not None:
            yield f"{attempt.failures[0].path}:{attempt.failures[0].line}: Fatal error: {attempt.crashed}"
            yield from _again(case)
            return
        label = case.function.partition("(")[2].partition(":")[0] or "value"
        for value in case.arguments:
            if release.form == "16":
                yield f"◇ Passing 1 argument {label} → {value} to {title}"
            else:
                yield f"◇ Test case passing 1 argument {label} → {value} to {title} started."
        yield from _function_end(case, title, attempt)


def _function_end(case: Case, title: str, attempt: Attempt) -> Iterator[str]:
    known = attempt.result == EXPECTED
    for failure in attempt.failures:
        first, _, more = failure.message.partition(": ")
        what = "recorded a known issue" if known else "recorded an issue"
        said = f"{first}: {more}" if more and first != "Issue recorded" else first
        file = failure.path.rpartition("/")[2]
        yield f"✘ Test {title} {what} at {file}:{failure.line}:9: {said}"
        if first == "Issue recorded" and more:
            yield f"↳ {more}"
    cases = f" with {len(case.arguments)} test cases" if case.arguments else ""
    count = f"{len(attempt.failures)} issue{'' if len(attempt.failures) == 1 else 's'}"
    if attempt.result == FAILED:
        yield f"✘ Test {title}{cases} failed after {attempt.seconds:.3f} seconds with {count}."
    else:
        after = f" with {len(attempt.failures)} known issue{'' if len(attempt.failures) == 1 else 's'}"
        yield f"✔ Test {title}{cases} passed after {attempt.seconds:.3f} seconds{after if known else ''}."


def parallel(cases: Sequence[Case], host: str, device: Device, pid: int) -> Iterator[Item]:
    """One bundle's tests on clones of a simulator (or on the machine itself, which has none)."""
    where = f"{'Clone 1 of ' if device.simulator else ''}{device.name} - {host} ({pid})"
    suite = None
    for case in cases:
        if case.suite != suite and case.suite:
            suite = case.suite
            yield f"Test suite '{suite}' started on '{where}'"
        name = _short(case) if case.xctest else case.identifier
        for attempt in case.attempts:
            yield Took(attempt.seconds)
            yield f"Test case '{name}' {_WORD[attempt.result]} on '{where}' ({attempt.seconds:.3f} seconds)"
