"""One thing that a run found, as a value, and what makes two of them the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from rchctl.terminal import one_line

SEVERITIES = ("error", "warning", "note")
COMPILER, TEST, RUN = "compiler", "test", "run"
_LONGEST = 2000
_MARK = "simulated: "


@dataclass(frozen=True, slots=True)
class Place:
    """A file of this machine. `text` is the line in question, `lines` how many the file has.

    `changed`: whether it differs from what the run was given; None where that is not known.
    """

    path: str
    text: str | None = None
    lines: int = 0
    changed: bool | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A compiler's message, a failed test, or why a run ended that names neither.

    `path` is relative to the project's root, or as the tool printed it; `line` and `column` count
    from 1, the column in bytes of UTF-8, as compilers do. `kind` is compiler, test or run.
    """

    kind: str
    action: str
    severity: str
    message: str
    path: str | None = None
    line: int | None = None
    column: int | None = None
    test: str | None = None
    place: Place | None = None

    @property
    def said(self) -> str:
        """The message, and the test that it is about."""
        return f"{self.message} [{self.test}]" if self.test else self.message

    @property
    def key(self) -> tuple[object, ...]:
        """Two findings with one key are one: each step of a run compiles anew."""
        return (self.kind, self.path, self.line, self.column, self.severity, self.message, self.test)

    @property
    def spot(self) -> tuple[object, ...]:
        """The same, without words: what is told while a test runs may be worded otherwise at its end."""
        what: object = self.severity if self.path else self.message
        return (self.kind, self.path, self.line, None if self.kind == TEST else self.column, what)

    def at(self, place: Place | None) -> Finding:
        """The same with its place on this machine."""
        return replace(self, place=place)

    def as_json(self) -> dict[str, Any]:
        """For the envelope; `file` is the place on this machine."""
        return {
            "kind": self.kind,
            "action": self.action,
            "severity": self.severity,
            "message": self.message,
            "test": self.test,
            "path": self.path,
            "line": self.line,
            "column": self.column,
            "file": None if self.place is None else self.place.path,
            "changed": None if self.place is None else self.place.changed,
        }


def diagnostic(data: dict[str, Any], action: str, *, simulated: bool = False) -> Finding | None:
    """A compiler's message of `build_summary.json` or of a `diagnostic` event; None if it says nothing."""
    message = _words(data.get("message"))
    if not message:
        return None
    word = data.get("severity")
    return Finding(
        kind=COMPILER,
        action=action,
        severity=word if word in SEVERITIES else "note",
        message=(_MARK if simulated else "") + message,
        path=_path(data.get("path")),
        line=_count(data.get("line")),
        column=_count(data.get("column")),
    )


def failure(data: dict[str, Any], action: str, *, simulated: bool = False) -> Finding:
    """A failed test of `test_summary.json`, or one assertion of a `failure` event."""
    suite, name = _words(data.get("suite")), _words(data.get("name"))
    return Finding(
        kind=TEST,
        action=action,
        severity="error",
        message=(_MARK if simulated else "") + (_words(data.get("message")) or "failed"),
        path=_path(data.get("path")),
        line=_count(data.get("line")),
        test=f"{suite}.{name}" if suite else name or "a test",
    )


def verdict(state: str, summary: str, *, simulated: bool = False) -> Finding:
    """That a run did not succeed, where nothing else says so."""
    message = _words(summary) or f"the run ended {state}"
    return Finding(kind=RUN, action="", severity="error", message=(_MARK if simulated else "") + message)


def stood_in() -> Finding:
    """That nothing of this is a verdict."""
    return Finding(kind=RUN, action="", severity="note", message=f"{_MARK}stand-in tools, no verdict")


def distinct(findings: Iterable[Finding]) -> list[Finding]:
    """Each once, errors first, else in the order they came."""
    found: dict[tuple[object, ...], Finding] = {}
    for each in findings:
        found.setdefault(each.key, each)
    return sorted(found.values(), key=lambda each: SEVERITIES.index(each.severity))


def _words(value: object) -> str:
    """Text from another machine: one line, harmless to a terminal, of bounded length."""
    return one_line(value[: 4 * _LONGEST])[:_LONGEST] if isinstance(value, str) else ""


def _path(value: object) -> str | None:
    """A path that fits on a line of its own; others are no path."""
    return value if isinstance(value, str) and value and one_line(value) == value else None


def _count(value: object) -> int | None:
    """A line or column from 1."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31
    return int(value) if fits and isinstance(value, int) else None
