"""Findings as diagnostics of the Language Server Protocol 3.17: `{uri: [Diagnostic]}`."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from rchctl.diagnose.columns import span
from rchctl.diagnose.finding import Finding
from rchctl.diagnose.gather import Found

_SEVERITY = {"error": 1, "warning": 2, "note": 3}


def document(found: Found) -> str:
    """One JSON object on one line. What has no file here stands under the project's folder."""
    documents: dict[str, list[dict[str, Any]]] = {}
    for each in found.findings:
        path = found.root or "/" if each.place is None else each.place.path
        documents.setdefault(uri(path), []).append(diagnostic(each, found.run_id))
    return json.dumps(documents) + "\n"


def uri(path: str) -> str:
    """`file:` of an absolute path."""
    return "file://" + quote(path)


def diagnostic(finding: Finding, run_id: str) -> dict[str, Any]:
    """Lines and UTF-16 columns from 0, within the file as it is now."""
    place = finding.place
    line, start, end = 0, 0, 0
    if place is not None:
        line = max((finding.line or 1) - 1, 0)
        start, end = span(finding)
        if place.lines and line >= place.lines:  # it has become shorter since
            line, start, end = place.lines - 1, 0, 0
    where = f"{finding.path}:{finding.line or 1}: " if place is None and finding.path else ""
    return {
        "range": {"start": {"line": line, "character": start}, "end": {"line": line, "character": end}},
        "severity": _SEVERITY[finding.severity],
        "source": "rchctl",
        "code": finding.kind,
        "message": where + finding.said,
        "data": {
            "run_id": run_id,
            "action": finding.action,
            "changed": None if place is None else place.changed,
        },
    }
