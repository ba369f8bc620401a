"""Reads `xcresulttool get test-results summary` and `get build-results` (Xcode 16 and later)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from rch.contract.records import Diagnostic
from worker_agent.results.places import Places
from worker_agent.results.strictjson import decode
from worker_agent.results.xcresult_tests import foreign_major, unread

MAX_ISSUES = 200
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Failure(msgspec.Struct, frozen=True, rename="camel", gc=False):
    failure_text: str = ""
    test_name: str = ""
    target_name: str = ""


class _Summary(msgspec.Struct, frozen=True, rename="camel"):
    result: str
    total_test_count: _Count
    passed_tests: _Count
    failed_tests: _Count
    skipped_tests: _Count
    expected_failures: _Count
    test_failures: tuple[_Failure, ...] = ()
    schema_version: str | None = None


class _Issue(msgspec.Struct, frozen=True):
    message: str
    issue_type: str = msgspec.field(name="issueType", default="")
    source_url: str | None = msgspec.field(name="sourceURL", default=None)
    target_name: str | None = msgspec.field(name="targetName", default=None)


class _Build(msgspec.Struct, frozen=True, rename="camel"):
    errors: tuple[_Issue, ...]
    warnings: tuple[_Issue, ...]
    analyzer_warnings: tuple[_Issue, ...] = ()
    error_count: _Count | None = None
    warning_count: _Count | None = None
    analyzer_warning_count: _Count | None = None
    status: str | None = None
    schema_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRead:
    """What the bundle says of itself in numbers; `problem` tells why that could not be read."""

    result: str = ""
    total: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    expected: int = 0
    failures: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRead:
    """What the build said, as diagnostics: errors first, the first 200 of each kind, and full counts.

    `targets` are those that an issue names; `problem` tells why nothing could be read.
    """

    diagnostics: tuple[Diagnostic, ...] = ()
    error_count: int = 0
    warning_count: int = 0
    targets: tuple[str, ...] = ()
    status: str = ""
    problem: str | None = None


def parse_summary(data: bytes) -> SummaryRead:
    """The summary in `data`; never an exception."""
    try:
        told = decode(data, _Summary)
    except (msgspec.MsgspecError, RecursionError) as error:
        return SummaryRead(problem=unread(data, error))
    if (foreign := foreign_major(told.schema_version)) is not None:
        return SummaryRead(problem=foreign)
    return SummaryRead(
        result=told.result[:100],
        total=told.total_test_count,
        passed=told.passed_tests,
        failed=told.failed_tests,
        skipped=told.skipped_tests,
        expected=told.expected_failures,
        failures=tuple(f"{one.test_name}: {one.failure_text}"[:500] for one in told.test_failures[:20]),
    )


def parse_build(data: bytes, places: Places) -> BuildRead:
    """The build's issues in `data`, their paths relative to the tree; never an exception."""
    try:
        told = decode(data, _Build)
    except (msgspec.MsgspecError, RecursionError) as error:
        return BuildRead(problem=unread(data, error))
    if (foreign := foreign_major(told.schema_version)) is not None:
        return BuildRead(problem=foreign)
    warnings = (*told.warnings, *told.analyzer_warnings)
    issues = [(one, "error") for one in told.errors[:MAX_ISSUES]]
    issues += [(one, "warning") for one in warnings[:MAX_ISSUES]]
    named = {issue.target_name for issue in (*told.errors, *warnings) if issue.target_name}
    return BuildRead(
        diagnostics=tuple(_diagnostic(issue, severity, places) for issue, severity in issues),
        error_count=max(len(told.errors), told.error_count or 0),
        warning_count=max(len(warnings), (told.warning_count or 0) + (told.analyzer_warning_count or 0)),
        targets=tuple(sorted(name[:200] for name in named))[:MAX_ISSUES],
        status=(told.status or "")[:100],
    )


def _diagnostic(issue: _Issue, severity: str, places: Places) -> Diagnostic:
    path, line, column = _place(issue.source_url or "")
    return Diagnostic(
        path=None if path is None else places.relative(path),
        line=line,
        column=column,
        severity=severity,
        message=(issue.message.strip() or issue.issue_type or severity)[:1000],
    )


def _place(url: str) -> tuple[str | None, int | None, int | None]:
    """Path, line and column of `file:///a/B.swift#StartingLineNumber=3&…`, whose numbers count from 0."""
    try:
        parts = urlsplit(url[:4096])
        if parts.scheme != "file" or not parts.path.startswith("/"):
            return None, None, None
        members = parse_qs(parts.fragment, max_num_fields=32)
    except ValueError:
        return None, None, None
    return (
        unquote(parts.path, errors="replace"),
        _number(members.get("StartingLineNumber")),
        _number(members.get("StartingColumnNumber")),
    )


def _number(values: list[str] | None) -> int | None:
    text = values[0] if values else ""
    return int(text) + 1 if text.isascii() and text.isdecimal() and len(text) < 8 else None
