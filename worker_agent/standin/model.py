"""What a run of `xcodebuild` came to, before any of it is printed or stored. Pure."""

from __future__ import annotations

from dataclasses import dataclass

PASSED, FAILED, SKIPPED, EXPECTED = "Passed", "Failed", "Skipped", "Expected Failure"
"""Results of a test as `xcresulttool` names them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed assertion. `path` is absolute."""

    path: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of a test; `skip` is the reason of a skipped one, `crashed` its last words."""

    result: str
    seconds: float
    failures: tuple[Failure, ...] = ()
    skip: str | None = None
    crashed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A test and all its executions, in order. `suites` are type and display name, outermost first."""

    target: str
    framework: str
    suites: tuple[tuple[str, str | None], ...]
    function: str
    display: str | None
    attempts: tuple[Attempt, ...]
    arguments: tuple[str, ...] = ()
    retried: bool = False

    @property
    def xctest(self) -> bool:
        """Whether it is one of XCTest's."""
        return self.framework == "xctest"

    @property
    def identifier(self) -> str:
        """`Class/testName()`, the form of `-only-testing` less the target."""
        return "/".join([*(name for name, _ in self.suites), self.function])

    @property
    def title(self) -> str:
        """The name that results show."""
        return self.display if self.display is not None else self.function

    @property
    def suite(self) -> str:
        """The type that holds it; a function without one has the empty text."""
        return ".".join(name for name, _ in self.suites)

    @property
    def last(self) -> Attempt:
        """The execution that decides."""
        return self.attempts[-1]

    @property
    def result(self) -> str:
        """With retries the last execution's result; with plain repetitions any failure counts."""
        if not self.retried and any(one.result == FAILED for one in self.attempts):
            return FAILED
        return self.last.result

    @property
    def seconds(self) -> float:
        """Of all executions, the middle of them."""
        return sum(one.seconds for one in self.attempts) / len(self.attempts)


@dataclass(frozen=True, slots=True)
class Device:
    """Where something runs. `os_build` is a simulator runtime's, or the machine's own."""

    udid: str
    name: str
    platform: str
    os_version: str
    os_build: str
    model: str
    model_code: str

    @property
    def simulator(self) -> bool:
        """Whether it is one."""
        return self.platform.endswith("Simulator")


@dataclass(frozen=True, slots=True)
class Issue:
    """A compiler's message as results hold it."""

    severity: str
    path: str
    line: int
    column: int
    message: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that a result bundle tells. Times are UNIX seconds; `cases` is None for a build alone."""

    action: str
    scheme: str
    container: str
    root: str
    device: Device
    started: float
    finished: float
    succeeded: bool
    issues: tuple[Issue, ...] = ()
    cases: tuple[Case, ...] | None = None
    system: str = ""

    def count(self, result: str) -> int:
        """How many cases ended so."""
        return sum(case.result == result for case in self.cases or ())

    @property
    def targets(self) -> tuple[str, ...]:
        """The bundles that hold cases, in order."""
        return tuple(dict.fromkeys(case.target for case in self.cases or ()))
