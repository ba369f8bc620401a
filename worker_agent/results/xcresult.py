"""A result bundle as evidence: what Apple's tool says of it, and what its own database says (section 9)."""

from __future__ import annotations

import os
import plistlib
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from worker_agent.results.cases import Case
from worker_agent.results.places import Places
from worker_agent.results.tool import ToolOutput
from worker_agent.results.xcresult_db import DatabaseRead, read_database
from worker_agent.results.xcresult_summary import BuildRead, SummaryRead, parse_build, parse_summary
from worker_agent.results.xcresult_tests import TestsRead, parse_tests

T = TypeVar("T")

NAME = "result.xcresult"
STORAGE_MAJOR = 3
_MAX_PLIST = 1 << 20

TESTS = ("test-results", "tests")
SUMMARY = ("test-results", "summary")
BUILD = ("build-results",)

Get = Callable[[Sequence[str]], ToolOutput]
"""Runs `xcresulttool get WORDS --path BUNDLE` for the words it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One result bundle. `problem` tells why it is no evidence at all; the parts have their own.

    `tests` and `summary` are None where no test was asked for, `build` where the tool has no
    such report, `database` where the bundle has none.
    """

    name: str = NAME
    tests: TestsRead | None = None
    summary: SummaryRead | None = None
    build: BuildRead | None = None
    database: DatabaseRead | None = None
    problem: str | None = None

    @property
    def cases(self) -> tuple[Case, ...]:
        """Every test that the bundle tells of."""
        return () if self.tests is None else self.tests.cases

    @property
    def unread(self) -> str | None:
        """Why the tests cannot be counted; None if they can."""
        if self.problem is not None:
            return self.problem
        if self.tests is not None and self.tests.problem is not None:
            return f"tests: {self.tests.problem}"
        if self.summary is not None and self.summary.problem is not None:
            return f"summary: {self.summary.problem}"
        return None


def read_bundle(path: Path, get: Get, places: Places, *, tested: bool) -> Bundle:
    """A bundle as the tool and its own database tell it; with `tested` its tests too.

    The tool comes first: it is what writes the database.
    """
    problem = _no_bundle(path)
    if problem is not None:
        return Bundle(problem=problem)
    tests = summary = None
    if tested:
        tests = _part(get(TESTS), parse_tests, lambda why: TestsRead(problem=why))
        summary = _part(get(SUMMARY), parse_summary, lambda why: SummaryRead(problem=why))
    build = _part(get(BUILD), lambda data: parse_build(data, places), lambda why: BuildRead(problem=why))
    return Bundle(
        tests=tests,
        summary=summary,
        build=build,
        database=read_database(path) if tested else None,
    )


def _part(output: ToolOutput, parse: Callable[[bytes], T], unread: Callable[[str], T]) -> T:
    return parse(output.data) if output.problem is None else unread(f"xcresulttool {output.problem}")


def _no_bundle(path: Path) -> str | None:
    """Why a path is no bundle of a known storage version; None if it is one."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            return "is no result bundle"
        data = _small(path / "Info.plist")
    except FileNotFoundError:
        return "was not written" if not os.path.lexists(path) else "was not written to its end"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if data is None:
        return "has an Info.plist that is no small file"
    try:
        told = plistlib.loads(data)
        major = told["version"]["major"]
    except Exception as error:  # noqa: BLE001  (plistlib raises whatever a damaged list makes it)
        return f"has an Info.plist that cannot be read: {type(error).__name__}"
    if major != STORAGE_MAJOR:
        return f"has storage version {str(major)[:40]}, of which only {STORAGE_MAJOR} is read"
    return None


def _small(path: Path) -> bytes | None:
    """The bytes of a regular file under a bound; None for anything else."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = os.read(fd, _MAX_PLIST + 1)
    finally:
        os.close(fd)
    return data if len(data) <= _MAX_PLIST else None
