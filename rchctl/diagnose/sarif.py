"""Findings as SARIF 2.1.0, for code scanning and for whatever else reads it."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

import rch
from rchctl.diagnose.columns import span
from rchctl.diagnose.finding import COMPILER, RUN, TEST, Finding
from rchctl.diagnose.gather import Found
from rchctl.diagnose.lsp import uri

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_BASE = "ROOT"
_RULES = {
    COMPILER: "A message of the compiler or another build tool",
    TEST: "A test that failed",
    RUN: "A run that did not succeed",
}


def document(found: Found) -> str:
    """One SARIF log with one run, indented."""
    return json.dumps(log(found), indent=2) + "\n"


def log(found: Found) -> dict[str, Any]:
    """The log as JSON values; paths are relative to `originalUriBaseIds.ROOT`."""
    driver = {
        "name": "rchctl",
        "version": rch.__version__,
        "rules": [{"id": kind, "shortDescription": {"text": text}} for kind, text in _RULES.items()],
    }
    invocation: dict[str, Any] = {"executionSuccessful": found.state == "SUCCEEDED"}
    if found.exit_code is not None:
        invocation["exitCode"] = found.exit_code
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "columnKind": "utf16CodeUnits",
        "automationDetails": {"id": f"rchctl/{found.run_id}"},
        "invocations": [invocation],
        "results": [_result(each) for each in found.findings],
        "properties": {"run_id": found.run_id, "state": found.state, "simulated": found.simulated},
    }
    if found.root.startswith("/"):
        run["originalUriBaseIds"] = {_BASE: {"uri": uri(found.root.rstrip("/")) + "/"}}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.kind,
        "ruleIndex": list(_RULES).index(finding.kind),
        "level": finding.severity,
        "message": {"text": finding.said},
        "partialFingerprints": {"rchctl/v1": _fingerprint(finding)},
        "properties": {"action": finding.action, "test": finding.test},
    }
    if finding.place is not None:
        result["properties"]["changed"] = finding.place.changed
    if finding.path is not None:
        place: dict[str, Any] = {"artifactLocation": _artifact(finding.path)}
        if finding.line is not None:
            place["region"] = {"startLine": finding.line, **_columns(finding)}
        result["locations"] = [{"physicalLocation": place}]
    return result


def _artifact(path: str) -> dict[str, str]:
    return {"uri": uri(path)} if path.startswith("/") else {"uri": quote(path), "uriBaseId": _BASE}


def _columns(finding: Finding) -> dict[str, int]:
    """From 1; the end is the column after the last."""
    if finding.column is None:
        return {}
    start, end = span(finding)
    return {"startColumn": start + 1, **({"endColumn": end + 1} if end > start else {})}


def _fingerprint(finding: Finding) -> str:
    """The same finding in a later run, though its line has moved."""
    parts = (finding.kind, finding.path, finding.severity, finding.message, finding.test)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
