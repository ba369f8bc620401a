"""Reads the two xunit files of `swift test` (spec section 9).

Counts are those of counted `testcase` elements: the attributes of the suites lie (Swift
Testing leaves skipped tests out of `tests`). The files are written by code of the package
under test as much as by the toolchain, so they are read as hostile: no DTD, no entities of
their own, bounded in size, depth and number. What was read before a fault is kept, beside
the fault: a file that is not whole never counts as a pass.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from worker_agent.results.cases import MAX_MESSAGE, Case

MAX_BYTES = 64 << 20
MAX_CASES = 200_000
MAX_DEPTH = 32
NOT_WRITTEN = "was not written"

# What XML 1.0 cannot hold, and references to it, which Swift Testing writes all the same.
_BAD_BYTES = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_REFERENCE = re.compile(rb"&#(?:x([0-9a-fA-F]{1,8})|([0-9]{1,10}));")


@dataclass(frozen=True, slots=True)
class XunitFile:
    """The cases of one file, and what is wrong with it: None only if it was read to its end."""

    name: str
    cases: tuple[Case, ...] = ()
    problem: str | None = None


class _RefusedError(Exception):
    """A construct or size that is not read."""


def read_xunit(path: Path) -> XunitFile:
    """One xunit file; a missing one is a problem as any other."""
    try:
        data = _read(path)
    except FileNotFoundError:
        return XunitFile(path.name, problem=NOT_WRITTEN)
    except OSError as error:
        return XunitFile(path.name, problem=f"cannot be read: {error.strerror}")
    if data is None:
        return XunitFile(path.name, problem="is no regular file")
    if len(data) > MAX_BYTES:
        return XunitFile(path.name, problem=f"is over {MAX_BYTES} bytes")
    return parse_xunit(path.name, data)


def _read(path: Path) -> bytes | None:
    """The bytes of a regular file, one more than allowed at most; None for anything else."""
    # A test may have put a pipe in its place, which must not hold up the worker.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(fd)


def parse_xunit(name: str, data: bytes) -> XunitFile:
    """The cases in `data`."""
    reading = _Reading()
    text = data.decode("utf-8", errors="replace").encode()
    try:
        reading.parser.Parse(_REFERENCE.sub(_representable, _BAD_BYTES.sub(b"?", text)), True)
    except expat.ExpatError as error:
        why = expat.errors.messages.get(error.code, "no XML")
        return XunitFile(
            name, tuple(reading.cases), f"is cut short or no XML: {why} in line {error.lineno}"
        )
    except _RefusedError as error:
        return XunitFile(name, tuple(reading.cases), str(error))
    problem = None if reading.root_seen else "is no xunit file"
    return XunitFile(name, tuple(reading.cases), problem)


def _representable(found: re.Match[bytes]) -> bytes:
    code = int(found[1], 16) if found[1] else int(found[2])
    legal = (
        code in {9, 10, 13}
        or 0x20 <= code <= 0xD7FF
        or 0xE000 <= code <= 0xFFFD
        or 0x10000 <= code <= 0x10FFFF
    )
    return found[0] if legal else b"?"


class _Reading:
    """One pass of expat over a file."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.root_seen = False
        self._depth = 0
        self._open: dict[str, str] | None = None
        self._outcome = "passed"
        self._message: str | None = None
        self._in_result = False
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        self.parser = parser

    def _doctype(self, *_: object) -> None:
        raise _RefusedError("holds a document type, which is not read")

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _RefusedError(f"nests deeper than {MAX_DEPTH}")
        if self._depth == 1:
            self.root_seen = tag in {"testsuites", "testsuite"}
        if tag == "testcase":
            if self._open is not None:
                raise _RefusedError("holds a testcase within a testcase")
            if len(self.cases) >= MAX_CASES:
                raise _RefusedError(f"holds more than {MAX_CASES} test cases")
            self._open = {key: value[:1000] for key, value in attributes.items()}
            self._outcome, self._message = "passed", None
        elif self._open is not None and tag in {"failure", "error", "skipped"}:
            self._result("skipped" if tag == "skipped" else "failed", attributes.get("message", ""))

    def _result(self, outcome: str, message: str) -> None:
        """Take a result; the first message counts, and a failure counts before a skip."""
        if self._message is None or (outcome == "failed" and self._outcome != "failed"):
            self._outcome, self._message, self._in_result = outcome, message[:MAX_MESSAGE], True

    def _text(self, data: str) -> None:
        if self._in_result and self._message is not None and len(self._message) < MAX_MESSAGE:
            self._message = (self._message + data)[:MAX_MESSAGE]

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if tag in {"failure", "error", "skipped"}:
            self._in_result = False
        if tag != "testcase" or self._open is None:
            return
        self.cases.append(
            Case(
                suite=self._open.get("classname", ""),
                name=self._open.get("name", ""),
                outcome=self._outcome,
                message=(self._message or "").strip(),
                milliseconds=_milliseconds(self._open.get("time", "")),
            )
        )
        self._open = None


def _milliseconds(seconds: str) -> int:
    """Milliseconds of a decimal number of seconds; 0 for anything else."""
    found = re.fullmatch(r"([0-9]{1,9})(?:\.([0-9]{1,30}))?", seconds)
    if found is None:
        return 0
    return int(found[1]) * 1000 + int((found[2] or "0")[:3].ljust(3, "0"))
