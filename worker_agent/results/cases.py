"""Test cases as the readers of every results file and bundle give them, and what they said."""

from __future__ import annotations

from dataclasses import dataclass

MAX_MESSAGE = 2000
"""Characters of a message that are kept."""


@dataclass(frozen=True, slots=True)
class Text:
    """What a failed assertion or a skip said. `path` may be a bare file name; `line` counts from 1."""

    message: str
    path: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One repetition of a test, or one argument of it (`name` says which), with what it said."""

    name: str
    outcome: str
    milliseconds: int = 0
    texts: tuple[Text, ...] = ()
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One test on one device.

    `suite` is `Module.Class`, or bundle and suites; `outcome` is passed, failed, skipped,
    expected_failure or unknown. `attempts` are repetitions in their order, `arguments` what a
    parametrised test was called with. `device` is set only where there is more than one.
    """

    suite: str
    name: str
    outcome: str
    message: str = ""
    milliseconds: int = 0
    identifier: str = ""
    device: str = ""
    texts: tuple[Text, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    arguments: tuple[Attempt, ...] = ()

    @property
    def flaky(self) -> bool:
        """Whether it passed only on a retry."""
        return self.outcome == "passed" and bool(self.lost_attempts)

    @property
    def lost_attempts(self) -> tuple[Attempt, ...]:
        """The repetitions that failed, those of its arguments and of what did not fail too."""
        below = (one for argument in self.arguments for one in argument.attempts)
        return tuple(lost for one in (*self.attempts, *below) for lost in _lost(one))


def _lost(attempt: Attempt) -> tuple[Attempt, ...]:
    """A failed attempt, or the failed ones within one that did not fail."""
    if attempt.outcome == "failed":
        return (attempt,)
    return tuple(lost for one in attempt.attempts for lost in _lost(one))
