"""The tests of a job, one by one, from its `junit.xml`. Read as hostile: bounded, no DTD, no entities."""

from __future__ import annotations

from dataclasses import dataclass
from xml.parsers import expat

MAX_CASES = 200_000
_DEPTH = 32
_OUTCOMES = {
    "failure": "failed",
    "error": "failed",
    "skipped": "skipped",
    "flakyFailure": "flaky",
    "flakyError": "flaky",
}
_EXPECTED = "failed as expected: "


@dataclass(frozen=True, slots=True)
class Case:
    """One test. `outcome` is passed, failed, skipped, flaky (passed on a retry) or expected."""

    suite: str
    name: str
    outcome: str
    milliseconds: int

    @property
    def key(self) -> str:
        """What it is called across runs."""
        return f"{self.suite}/{self.name}" if self.suite else self.name


@dataclass(frozen=True, slots=True)
class Cases:
    """What was read, and why that is not all of it, if it is not."""

    cases: tuple[Case, ...] = ()
    problem: str | None = None


class _RefusedError(Exception):
    """A construct or a number that is not read."""


def parse_junit(data: bytes) -> Cases:
    """The cases in `data`; what was read before a fault is kept."""
    reading = _Reading()
    parser = expat.ParserCreate(encoding="UTF-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reading.refuse
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.text
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, _RefusedError) as error:
        return Cases(tuple(reading.cases), f"junit.xml: {error}")
    return Cases(tuple(reading.cases))


class _Reading:
    """The handlers, and what they have seen."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self._depth = 0
        self._suite = ""
        self._case: dict[str, str] | None = None
        self._outcome = "passed"
        self._out: list[str] | None = None

    def refuse(self, *_: object) -> None:
        """A document type is none of ours."""
        raise _RefusedError("has a document type")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._depth += 1
        if self._depth > _DEPTH:
            raise _RefusedError("is nested too deeply")
        if name == "testsuite":
            self._suite = attributes.get("name", "")
        elif name == "testcase":
            self._case, self._outcome = attributes, "passed"
        elif self._case is not None and name in _OUTCOMES and self._outcome != "failed":
            self._outcome = _OUTCOMES[name]
        elif self._case is not None and name == "system-out":
            self._out = []

    def text(self, data: str) -> None:
        """Text, of which only a test's own output is looked at."""
        if self._out is not None and len(self._out) < 4:
            self._out.append(data)

    def end(self, name: str) -> None:
        """An element ends."""
        self._depth -= 1
        if name == "system-out" and self._out is not None:
            if self._outcome == "passed" and "".join(self._out).startswith(_EXPECTED):
                self._outcome = "expected"
            self._out = None
        elif name == "testcase" and self._case is not None:
            if len(self.cases) >= MAX_CASES:
                raise _RefusedError(f"has more than {MAX_CASES} tests")
            case, self._case = self._case, None
            self.cases.append(
                Case(
                    case.get("classname", self._suite),
                    case.get("name", ""),
                    self._outcome,
                    _milliseconds(case.get("time", "")),
                )
            )


def _milliseconds(seconds: str) -> int:
    try:
        value = float(seconds)
    except ValueError:
        return 0
    return round(value * 1000) if 0 <= value < 1e9 else 0
