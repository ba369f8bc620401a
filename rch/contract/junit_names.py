"""The names of the tests in a set's own `junit.xml`, by how they ended: what a test-result statement lists.

Worker and host read the same bytes with this, so that neither has to believe the other's list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_NAMES = 500
MAX_NAME_BYTES = 24 << 10
MAX_BYTES = 256 << 20
_MAX_DEPTH = 16
_MARKS = {"failure": "failed", "error": "failed", "skipped": "skipped", "flakyFailure": "warned"}


@dataclass(slots=True)
class TestNames:
    """Names as `suite.name`, and how many were left out to keep the lists short.

    `warned` passed only on a retry. Skipped tests are in no list.
    """

    __test__ = False

    passed: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_out: int = 0


class _RefusedError(Exception):
    """A construct that no `junit.xml` of a worker has."""


def names_in(junit: bytes | None) -> TestNames | None:
    """The names, failed ones first where there are too many; None for no file or one that is no XML."""
    if junit is None or len(junit) > MAX_BYTES:
        return None
    reading = _Reading()
    try:
        reading.parser.Parse(junit, True)
    except (expat.ExpatError, _RefusedError):
        return None
    found = TestNames()
    lists = {"failed": found.failed, "warned": found.warned, "passed": found.passed}
    count, size = 0, 0
    for outcome, names in lists.items():
        found.left_out += reading.beyond[outcome]
        for name in reading.names[outcome]:
            count, size = count + 1, size + len(name.encode())
            if count > MAX_NAMES or size > MAX_NAME_BYTES:
                found.left_out += 1
            else:
                names.append(name)
    return found


class _Reading:
    """One pass of expat over the file."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {"passed": [], "warned": [], "failed": [], "skipped": []}
        # Of each list the first are kept, for no more of them can be told: of the others how many.
        self.beyond = dict.fromkeys(self.names, 0)
        self._depth = 0
        self._case, self._outcome = "", ""
        parser = expat.ParserCreate("utf-8")
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        self.parser = parser

    def _doctype(self, *_: object) -> None:
        raise _RefusedError

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _RefusedError
        if tag == "testcase":
            self._case = f"{attributes.get('classname', '')}.{attributes.get('name', '')}"
            self._outcome = "passed"
        elif tag in _MARKS and self._outcome != "failed":
            self._outcome = _MARKS[tag]

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "testcase" and self._outcome:
            if len(kept := self.names[self._outcome]) < MAX_NAMES:
                kept.append(self._case)
            else:
                self.beyond[self._outcome] += 1
            self._outcome = ""
