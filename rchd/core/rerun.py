"""What of a run to run again: the tests that failed there, in the words of its backend (section 6).

Pure over the run and its test summaries. It refuses wherever the tests that failed are not the whole
story: what was not run there, or what is not known, is no part of a few names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rch.contract.errors import Failure, Kind
from rch.contract.flag_values import valid_selector
from rch.contract.records import Narrowing, TestFailure, TestSummary
from rch.contract.states import is_terminal
from rchd.core import model as m

MOST_TESTS = 100
"""More failed tests than these are no longer a few: the whole step is run again."""

_FAILED = "TESTS_FAILED"
_LONGEST = 250
_PLAIN = re.compile(r"[\w/ -]")
_SIGNS = re.compile(r"[.^$|()*+?\[\]{}\\]")


def failed_steps(run: m.Run) -> list[int]:
    """The test steps of which some tests failed, and nothing worse happened; `Failure` USAGE otherwise."""
    run_id = run.run_id
    if not is_terminal(run.state):
        raise _refused(
            run, f"run {run_id} is not over, so nobody knows what fails", f"rchctl wait {run_id}"
        )
    found = []
    for index, step in enumerate(run.steps):
        action, summary = run.accepted.steps[index].action, step.summary
        if summary is None or summary.status == "success":
            continue
        if summary.failure_subkind != _FAILED or step.host_made:
            what = summary.failure_subkind or summary.failure_kind or summary.status
            raise _refused(
                run, f"step {action} of run {run_id} ended with {what}: no list of tests says it all"
            )
        found.append(index)
    if not found:
        raise _refused(run, f"no test failed in run {run_id}")
    return found


def narrowing_to(run: m.Run, summaries: Mapping[int, TestSummary]) -> Narrowing:
    """Of each test step of the run those tests alone that failed; `summaries` by the step's index."""
    backend = run.accepted.options.backend
    count = sum(told.failed for told in summaries.values())
    if count > MOST_TESTS:
        raise _refused(run, f"{count} tests failed in run {run.run_id}, more than {MOST_TESTS}")
    tests = [index for index, step in enumerate(run.accepted.steps) if step.action == "test"]
    return Narrowing(
        by_step=tuple(
            _selectors(run, summaries[index], backend) if index in summaries else () for index in tests
        )
    )


def _selectors(run: m.Run, told: TestSummary, backend: str) -> tuple[str, ...]:
    """Those of each failed test; `Failure` USAGE where one cannot be named, or not all are listed."""
    if not told.failures or told.failed > len(told.failures):
        listed = len(told.failures)
        raise _refused(run, f"{told.failed} tests failed in run {run.run_id}, and {listed} are listed")
    names = (
        (_expression(each),) if backend == "swiftpm" else _identifiers(run, each) for each in told.failures
    )
    return tuple(dict.fromkeys(name for found in names for name in found))


def _expression(failed: TestFailure) -> str:
    r"""`^Module\.Suite/test(/|$)` for `swift test --filter`; a suite without its module is one of any.

    A sign that the gate does not take stands for any: an expression may fit more than the test that it
    is made for, and never less.
    """
    text = f"{failed.suite}/{failed.name}" if failed.suite else failed.name
    start, pieces = ("^" if "." in failed.suite else "(^|\\.)"), [_piece(sign) for sign in text]
    whole = f"{start}{''.join(pieces)}(/|$)"
    if len(whole) <= _LONGEST:
        return whole
    while sum(map(len, pieces)) > _LONGEST - len(start):
        pieces.pop()
    return f"{start}{''.join(pieces)}"


def _piece(sign: str) -> str:
    if _PLAIN.fullmatch(sign):
        return sign
    return f"\\{sign}" if _SIGNS.fullmatch(sign) else "."


def _identifiers(run: m.Run, failed: TestFailure) -> tuple[str, ...]:
    """`Target/Suite/test` for `-only-testing`.

    Result bundles write `()` behind each name, and xcodebuild takes it of Swift Testing alone: what may
    be of either is named both ways. A test in nested suites, with arguments or with a name in plain words
    is named by its outermost suite, or by its target: more is run then, and never less.
    """
    target, *suites = failed.suite.split(".")
    inner = f"{target}/{suites[0]}/{failed.name}" if len(suites) == 1 else ""
    if valid_selector(inner):
        either = failed.name.startswith("test") and inner.endswith("()")
        return (inner.removesuffix("()"), inner) if either else (inner,)
    for name in (f"{target}/{suites[0]}" if suites else "", target):
        if valid_selector(name):
            return (name,)
    raise _refused(run, f"the failed test {failed.name[:80]!r} has no name that xcodebuild is told")


def _refused(run: m.Run, why: str, hint: str | None = None) -> Failure:
    instead = f"type rchctl rerun {run.run_id} to run all of it again"
    return Failure(Kind.USAGE, f"rerun --failed: {why}", hint=hint or instead)
