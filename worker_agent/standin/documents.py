"""The JSON documents of `xcresulttool`, in the forms of Xcode 16 and of Xcode 26. Pure.

What the forms differ in is told in docs/simulation.md. Numbers of columns and lines in a
`sourceURL` count from 0, as Xcode's own do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from worker_agent.standin.facts import ARCH, Release
from worker_agent.standin.model import (
    EXPECTED,
    FAILED,
    PASSED,
    SKIPPED,
    Attempt,
    Case,
    Device,
    Failure,
    Issue,
    Outcome,
)

CONFIGURATION = {"configurationId": "1", "configurationName": "Test Scheme Action"}
_MAC_EPOCH = 978_307_200
_UNKNOWN = "unknown"


def duration(seconds: float, *, localised: bool) -> str:
    """`6s`, `0.012s`, `1m 5s`; `0,012s` where the language of the machine writes it so."""
    if seconds >= 60:
        return f"{int(seconds) // 60}m {int(seconds) % 60}s"
    if seconds >= 1 or seconds <= 0:
        return f"{round(seconds)}s"
    digits = 2
    while digits < 7 and seconds * 10 ** (digits - 1) < 1:
        digits += 1
    text = f"{seconds:.{digits}f}".rstrip("0")
    return f"{text.replace('.', ',') if localised else text}s"


def device(of: Device, release: Release) -> dict[str, Any]:
    """The device of a run; the newer form names the build of its system too."""
    told = {
        "architecture": ARCH,
        "deviceId": of.udid,
        "deviceName": of.name,
        "modelName": of.model,
        "osVersion": of.os_version,
        "platform": of.platform,
    }
    return told if release.form == "16" else {**told, "osBuildNumber": of.os_build}


def tests(outcome: Outcome, release: Release, *, localised: bool) -> dict[str, Any]:
    """`get test-results tests`."""
    forms = _Forms(release, outcome, localised=localised)
    bundles = [forms.bundle(target) for target in outcome.targets]
    plan = {"name": outcome.scheme, "nodeType": "Test Plan", "result": _whole(outcome.cases or ())}
    return {
        "devices": [device(outcome.device, release)],
        "testNodes": [{**plan, "children": bundles} if bundles else plan],
        "testPlanConfigurations": [CONFIGURATION],
    }


def _whole(cases: Sequence[Case]) -> str:
    """The result of a group: failed if one failed, and so on down."""
    results = {case.result for case in cases}
    if not results:
        return _UNKNOWN
    if results == {EXPECTED}:
        return EXPECTED
    return FAILED if FAILED in results else PASSED if results != {SKIPPED} else SKIPPED


class _Forms:
    def __init__(self, release: Release, outcome: Outcome, *, localised: bool) -> None:
        self._new = release.form != "16"
        self._outcome = outcome
        self._localised = localised

    def bundle(self, target: str) -> dict[str, Any]:
        cases = [case for case in self._outcome.cases or () if case.target == target]
        kind = "UI test bundle" if target.endswith("UITests") else "Unit test bundle"
        node = {"name": target, "nodeType": kind, "result": _whole(cases)}
        return {**node, **self._link(target), "children": self._level(cases, 0)}

    def _link(self, *words: str) -> dict[str, str]:
        if not self._new:
            return {}
        path = "/".join(quote(word) for word in (self._outcome.container, *words))
        return {"nodeIdentifierURL": f"test://com.apple.xcode/{path}"}

    def _level(self, cases: Sequence[Case], depth: int) -> list[dict[str, Any]]:
        """Suites and functions at one depth of nesting."""
        nodes = []
        for suite in dict.fromkeys(case.suites[depth] for case in cases if len(case.suites) > depth):
            inside = [case for case in cases if len(case.suites) > depth and case.suites[depth] == suite]
            title = suite[0] if suite[1] is None else suite[1]
            node = {"name": title, "nodeType": "Test Suite", "result": _whole(inside)}
            names = [name for name, _ in inside[0].suites[: depth + 1]]
            more = {"nodeIdentifier": "/".join(names), **self._link(inside[0].target, *names)}
            nodes.append(
                {**node, **(more if self._new else {}), "children": self._level(inside, depth + 1)}
            )
        return nodes + [self._case(case) for case in cases if len(case.suites) == depth]

    def _took(self, seconds: float) -> dict[str, Any]:
        text = {"duration": duration(seconds, localised=self._localised)}
        return {**text, "durationInSeconds": seconds} if self._new else text

    def _case(self, case: Case) -> dict[str, Any]:
        node: dict[str, Any] = {
            "name": case.title,
            "nodeType": "Test Case",
            "nodeIdentifier": case.identifier,
            "result": case.result,
            **self._took(case.seconds),
            **self._link(case.target, *(name for name, _ in case.suites), case.function),
        }
        if case.result == FAILED and len(case.attempts) > 1:
            retries = len(case.attempts) - (1 if self._new else 0)
            node["details"] = f"Failed after {retries} retries"
        children = self._arguments(case) if case.arguments else self._attempts(case)
        return {**node, "children": children} if children else node

    def _arguments(self, case: Case) -> list[dict[str, Any]]:
        """A node a value; the failures of the whole stand under the first."""
        nodes = []
        for number, value in enumerate(case.arguments):
            result = case.result if number == 0 or case.result != FAILED else PASSED
            node: dict[str, Any] = {"name": value, "nodeType": "Arguments", "result": result}
            below = self._attempts(case) if result != PASSED or len(case.attempts) > 1 else []
            nodes.append({**node, "children": below} if below else node)
        return nodes

    def _attempts(self, case: Case) -> list[dict[str, Any]]:
        if len(case.attempts) == 1:
            return self._messages(case, case.last)
        return [self._repetition(case, one, number) for number, one in enumerate(case.attempts, 1)]

    def _repetition(self, case: Case, attempt: Attempt, number: int) -> dict[str, Any]:
        node: dict[str, Any] = {
            "name": f"Retry {number}" if case.retried else f"Repetition {number}",
            "nodeIdentifier": str(number),
            "nodeType": "Repetition",
            "result": attempt.result,
            **self._took(attempt.seconds),
        }
        if self._new and case.retried:
            node["name"] = "First Run" if number == 1 else f"Retry {number - 1}"
        messages = self._messages(case, attempt)
        return {**node, "children": messages} if messages else node

    def _messages(self, case: Case, attempt: Attempt) -> list[dict[str, Any]]:
        if attempt.skip is not None:
            reason = f"Test skipped{' - ' if attempt.skip else ''}{attempt.skip}"
            if not case.xctest:
                reason = f"Test '{case.title}' skipped{': ' if attempt.skip else ''}{attempt.skip}"
            return [{"name": reason, "nodeType": "Failure Message", "result": SKIPPED}]
        kind = "Expected Failure" if attempt.result == EXPECTED else "Failure Message"
        return [
            {"name": _message(each), "nodeType": kind, "result": attempt.result, **self._place(each)}
            for each in attempt.failures
        ]

    def _place(self, failure: Failure) -> dict[str, Any]:
        if not self._new:
            return {}
        return {"sourceLocation": {"filePath": failure.path, "lineNumber": failure.line}}


def _message(failure: Failure) -> str:
    return f"{failure.path.rpartition('/')[2]}:{failure.line}: {failure.message}"


def summary(outcome: Outcome, release: Release) -> dict[str, Any]:
    """`get test-results summary`."""
    cases = outcome.cases or ()
    counts = {
        "passedTests": outcome.count(PASSED),
        "failedTests": outcome.count(FAILED),
        "skippedTests": outcome.count(SKIPPED),
        "expectedFailures": outcome.count(EXPECTED),
    }
    place = {"device": device(outcome.device, release), "testPlanConfiguration": CONFIGURATION, **counts}
    return {
        "title": f"Test - {outcome.scheme}",
        "environmentDescription": f"{outcome.container} · Built with macOS {outcome.system}",
        "startTime": round(outcome.started, 3),
        "finishTime": round(outcome.finished, 3),
        "result": _whole(cases),
        "totalTestCount": len(cases),
        **counts,
        "devicesAndConfigurations": [place] if cases else [],
        "statistics": [],
        "testFailures": _failures(outcome, release),
        "topInsights": [],
    }


def _failures(outcome: Outcome, release: Release) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(outcome.cases or (), 1):
        for failure in case.last.failures if case.result == FAILED else ():
            row: dict[str, Any] = {
                "failureText": failure.message,
                "targetName": case.target,
                "testIdentifier": number,
                "testIdentifierString": case.identifier,
                "testName": case.title,
            }
            if release.form != "16":
                path = quote(f"{outcome.container}/{case.target}/{case.identifier}", safe="/")
                row["testIdentifierURL"] = f"test://com.apple.xcode/{path}"
            rows.append(row)
    return rows


def build_results(outcome: Outcome, release: Release) -> dict[str, Any]:
    """`get build-results`."""
    errors = [_issue(each, outcome) for each in outcome.issues if each.severity == "error"]
    warnings = [_issue(each, outcome) for each in outcome.issues if each.severity == "warning"]
    broken = bool(errors) or (outcome.cases is None and not outcome.succeeded)
    return {
        "actionTitle": f'{"Build" if outcome.action == "build" else "Test"} "{outcome.scheme}"',
        "analyzerWarningCount": 0,
        "analyzerWarnings": [],
        "destination": device(outcome.device, release),
        "endTime": round(outcome.finished, 3),
        "errorCount": len(errors),
        "errors": errors,
        "startTime": round(outcome.started, 3),
        "status": "failed" if broken else "succeeded",
        "warningCount": len(warnings),
        "warnings": warnings,
    }


def _issue(issue: Issue, outcome: Outcome) -> dict[str, Any]:
    kind = "Swift Compiler Error" if issue.severity == "error" else "Swift Compiler Warning"
    row = {"issueType": kind, "message": _sentence(issue.message), "targetName": issue.target}
    if not issue.path:
        return row
    line, column = issue.line - 1, issue.column - 1
    place = (
        f"EndingColumnNumber={column}&EndingLineNumber={line}&StartingColumnNumber={column}"
        f"&StartingLineNumber={line}&Timestamp={outcome.started - _MAC_EPOCH:.6f}"
    )
    url = f"file://{quote(issue.path)}#{place}"
    return {**row, "className": "DVTTextDocumentLocation", "sourceURL": url}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def unknown_shape(documents: Iterable[str]) -> dict[str, Any]:
    """A document of no known form, for the scenario of that name."""
    return {
        "formatVersion": {"major": 9, "minor": 0},
        "payload": {name: {"rows": []} for name in documents},
    }
