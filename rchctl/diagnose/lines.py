"""Findings as lines: for people, for an editor's error list, and as annotations of GitHub Actions."""

from __future__ import annotations

from rchctl.diagnose.finding import Finding
from rchctl.diagnose.gather import Found

_CHANGED = " (the file has changed since)"
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}
_WORDS = {"error": "error", "warning": "warning", "note": "notice"}


def text(found: Found) -> str:
    """`path:line:column: severity: message`, a line each."""
    return "".join(f"{text_line(each)}\n" for each in found.findings)


def text_line(finding: Finding) -> str:
    """The parts that are known; the path is this machine's where the file is here."""
    place = finding.place
    path = finding.path if place is None else place.path
    parts = [str(each) for each in (path, finding.line, finding.column) if each is not None] if path else []
    changed = _CHANGED if place is not None and place.changed else ""
    return f"{':'.join(parts)}{': ' if parts else ''}{finding.severity}: {finding.said}{changed}"


def errorfmt(found: Found) -> str:
    """As `errorfmt_line`, a line each."""
    return "".join(f"{errorfmt_line(each)}\n" for each in found.findings)


def errorfmt_line(finding: Finding) -> str:
    """Always `path:line:column: severity: message`; where there is no such file, `severity: message`."""
    if finding.place is None:
        where = f"{finding.path}: " if finding.path else ""
        return f"{finding.severity}: {where}{finding.said}"
    where = f"{finding.place.path}:{finding.line or 1}:{finding.column or 1}"
    return f"{where}: {finding.severity}: {finding.said}"


def github(found: Found) -> str:
    """One workflow command a finding."""
    return "".join(f"{github_line(each)}\n" for each in found.findings)


def github_line(finding: Finding) -> str:
    """`::error file=…,line=…,col=…,title=…::…`, escaped as the runner reads it."""
    path = finding.path if finding.place is None else finding.place.path
    facts = [
        ("file", path),
        ("line", finding.line if path else None),
        ("col", finding.column if path else None),
        ("title", finding.test or (f"rchctl {finding.action}" if finding.action else "rchctl")),
    ]
    said = ",".join(
        f"{name}={_escaped(str(value), _PROPERTY)}" for name, value in facts if value is not None
    )
    return f"::{_WORDS[finding.severity]} {said}::{_escaped(finding.message, _DATA)}"


def _escaped(value: str, table: dict[str, str]) -> str:
    return "".join(table.get(char, char) for char in value)
