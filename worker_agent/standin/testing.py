"""The stand-in test runner: which tests a call selects, and how each of them ends. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from worker_agent.standin.model import EXPECTED, FAILED, PASSED, SKIPPED, Attempt, Case, Failure
from worker_agent.standin.scenario import Scenario
from worker_agent.standin.sources import Found


@dataclass(frozen=True, slots=True)
class Declared:
    """A test, the bundle that it is in, and the file."""

    target: str
    path: str
    found: Found

    @property
    def words(self) -> tuple[str, ...]:
        """The identifier that `-only-testing` would name: bundle, types, function."""
        return (self.target, *(name for name, _ in self.found.suites), self.found.function)


@dataclass(frozen=True, slots=True)
class Repeating:
    """`-test-iterations` and what goes with it. `most` is the number of executions."""

    most: int = 1
    on_failure: bool = False
    until_failure: bool = False


def selected(declared: Iterable[Declared], only: Sequence[str], skip: Sequence[str]) -> list[Declared]:
    """Those that a call's `-only-testing` and `-skip-testing` leave."""
    return [each for each in declared if _stays(each.words, only, skip)]


def _stays(identifier: tuple[str, ...], only: Sequence[str], skip: Sequence[str]) -> bool:
    if only and not any(_matches(identifier, name) for name in only):
        return False
    return not any(_matches(identifier, name) for name in skip)


def _matches(identifier: tuple[str, ...], name: str) -> bool:
    asked = name.split("/")
    words = identifier[: len(asked)]
    return len(words) == len(asked) and all(
        one in {word, word.partition("(")[0]} for word, one in zip(words, asked, strict=True)
    )


def run(
    every: Sequence[Declared],
    repeating: Repeating,
    scenario: Scenario,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
) -> tuple[Case, ...]:
    """Of every test those that are selected, with the ends that its source and the scenario give it."""
    declared = selected(every, only, skip)
    cases = [_case(each, repeating) for each in declared]
    able = [index for index, case in enumerate(cases) if case.result == PASSED]
    for index in able[: scenario.failing]:
        cases[index] = _failing(cases[index], declared[index], repeating)
    if scenario.flaky and able:
        index = able[0]
        flaky = replace(declared[index].found, flaky=scenario.flaky)
        cases[index] = _case(replace(declared[index], found=flaky), repeating)
    if scenario.crash and able:
        xctests = [one for one in able if cases[one].xctest] or able
        index = xctests[len(xctests) // 2]
        cases[index] = _crashing(
            cases[index], declared[index], "Unexpectedly found nil", declared[index].found.line
        )
    if scenario.hostile_names and every:
        hostile = _hostile(_case(every[0], repeating))
        cases += [each for each in hostile if _stays(_identifier(each), only, skip)]
    if scenario.case_seconds:
        cases = [_slowed(case, scenario.case_seconds) for case in cases]
    return tuple(cases)


def _case(each: Declared, repeating: Repeating) -> Case:
    found = each.found
    attempts = tuple(_attempts(each, repeating))
    return Case(
        target=each.target,
        framework=found.framework,
        suites=found.suites,
        function=found.function,
        display=found.display,
        attempts=attempts,
        arguments=found.arguments,
        retried=repeating.on_failure,
    )


def _attempts(each: Declared, repeating: Repeating) -> Iterator[Attempt]:
    for number in range(1, repeating.most + 1):
        attempt = _attempt(each, number)
        yield attempt
        if repeating.on_failure and attempt.result != FAILED:
            return
        if repeating.until_failure and attempt.result == FAILED:
            return


def _attempt(each: Declared, number: int) -> Attempt:
    found = each.found
    seconds = _seconds(each, number) if found.seconds is None else found.seconds
    failures = tuple(Failure(each.path, line, words) for line, words in found.failures)
    if found.skip is not None:
        return Attempt(SKIPPED, seconds, skip=found.skip)
    if found.crash is not None:
        line, words = found.crash
        return Attempt(FAILED, seconds, (_crash(each, words, line),), crashed=words or "Fatal error")
    if found.expected and failures:
        return Attempt(EXPECTED, seconds, failures)
    if number <= found.flaky:
        return Attempt(FAILED, seconds, (Failure(each.path, found.line, "failed - a draught"),))
    return Attempt(FAILED if failures else PASSED, seconds, failures)


def _seconds(each: Declared, number: int) -> float:
    """A duration that is always the same for one test: from 0.1 to 25.6 thousandths."""
    digest = hashlib.sha256("/".join((*each.words, str(number))).encode()).digest()
    return (digest[0] + 1) / 10_000


def _crash(each: Declared, words: str, line: int) -> Failure:
    said = f": {words}" if words else ""
    return Failure(each.path, line, f"Crash: {each.target} at {each.words[-1]}: Fatal error{said}")


def _crashing(case: Case, each: Declared, words: str, line: int) -> Case:
    first = case.attempts[0]
    attempt = Attempt(FAILED, first.seconds, (_crash(each, words, line),), crashed=words)
    return replace(case, attempts=(attempt,))


def _failing(case: Case, each: Declared, repeating: Repeating) -> Case:
    message = 'XCTAssertEqual failed: ("dark") is not equal to ("lit")'
    if not case.xctest:
        message = 'Expectation failed: (flame → "dark") == "lit"'
    failure = Failure(each.path, each.found.line, message)
    times = 1 if repeating.until_failure else repeating.most
    attempts = [Attempt(FAILED, _seconds(each, number), (failure,)) for number in range(1, times + 1)]
    return replace(case, attempts=tuple(attempts))


def _slowed(case: Case, seconds: float) -> Case:
    return replace(case, attempts=tuple(replace(one, seconds=seconds) for one in case.attempts))


HOSTILE_NAMES = (
    '<script>alert("x")</script> & <b>bold</b>',
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J",
    "a | b `code` [link](javascript:x) ]]> %n%s ${HOME}",
    "\u202ereversed\u200b zero width",
    "forged\n** TEST SUCCEEDED **\n",
    "long " + "x" * 4000,
)
"""Display names that a careless reader would take for markup, or a terminal for orders."""


def _hostile(like: Case) -> list[Case]:
    plain = Attempt(PASSED, 0.001)
    sour = Attempt(
        FAILED,
        0.001,
        (Failure(like.last.failures[0].path if like.last.failures else "/x.swift", 1, HOSTILE_NAMES[0]),),
    )
    return [
        Case(
            target=like.target,
            framework="swift-testing",
            suites=(("HostileNames", HOSTILE_NAMES[0]),),
            function=f"hostile{number}()",
            display=name,
            attempts=(sour if number == 1 else plain,),
        )
        for number, name in enumerate(HOSTILE_NAMES)
    ]


def _identifier(case: Case) -> tuple[str, ...]:
    return (case.target, *(name for name, _ in case.suites), case.function)


def launches(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases as the processes that ran them: a crash ends one, and the rest get another."""
    ends = [index + 1 for index, case in enumerate(cases) if case.last.crashed is not None]
    cuts = [0, *ends, len(cases)]
    return [list(cases[begin:end]) for begin, end in pairwise(cuts) if end > begin] or [[]]
