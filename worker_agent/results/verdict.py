"""The verdict on a job, from what is known of it: one order of rules for every tool (spec section 9).

A pure function. The tool's exit code is evidence, never the verdict: `swift test` and
`xcodebuild` say 0 when no test matched, `swift test` when a test ended the whole process with
code 0, and xcodebuild says 65 for a broken runner with every test passed. The order of the
rules is the contract's; whatever no rule calls a pass is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from rch.contract.errors import Kind, lookup
from rch.contract.records import Evidence
from worker_agent.model import PhaseExit
from worker_agent.results import signs
from worker_agent.results.doubts import doubts_of
from worker_agent.results.facts import Facts, OwnFailure, common_evidence, how
from worker_agent.results.signs import Sign, runner_sign
from worker_agent.results.xunit import NOT_WRITTEN, XunitFile

__all__ = ["PASSED", "Decision", "Facts", "OwnFailure", "decide"]

PASSED = "PASSED"
MAX_NAMED = 20

_CANCELLED = frozenset({"USER", "SIGNAL", "SUPERSEDED", "LEASE_EXPIRED"})
_REFUSALS = {
    64: "USAGE",
    66: "PROJECT_MISSING",
    69: "LICENSE",
    70: "NO_DESTINATION",
    74: "PACKAGE_RESOLUTION",
}
# What xcodebuild said of the same with another code, before it built or tested anything.
_REFUSAL_SIGNS = {
    signs.LICENCE: "LICENSE",
    signs.NO_DESTINATION: "NO_DESTINATION",
    signs.PROJECT_MISSING: "PROJECT_MISSING",
    signs.PACKAGE_RESOLUTION: "PACKAGE_RESOLUTION",
    signs.USAGE: "USAGE",
}
_OWN_HEAD = re.compile(r"^[-\d:. +]{10,40}xcodebuild\[[\d:]{1,32}\]\s{0,4}|^xcodebuild: error: ")
_NS_ERROR = re.compile(r'Error Domain=[\w.]{1,100} Code=-?\d{1,9} "([^"]{1,500})')
_SCRIPT = re.compile(r"PhaseScriptExecution ((?:\\ |[^\s\\]){1,200})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict. `status` is success, failed or cancelled; `outcome` is `PASSED` or the subkind."""

    status: str
    outcome: str
    exit_code: int
    evidence: tuple[Evidence, ...]
    kind: Kind | None = None
    subkind: str | None = None
    why: str = ""


Rule = Callable[[Facts], Decision | None]


def decide(facts: Facts) -> Decision:
    """The first rule that has something to say decides."""
    for rule in _RULES:
        decision = rule(facts)
        if decision is not None:
            return decision
    return _passed(facts)


def _fail(
    facts: Facts, kind: Kind, subkind: str | None, why: str, *further: Evidence, status: str = "failed"
) -> Decision:
    return Decision(
        status=status,
        outcome=subkind or str(kind),
        exit_code=lookup(kind, subkind).exit_code,
        evidence=(*common_evidence(facts), *further),
        kind=kind,
        subkind=subkind,
        why=why,
    )


def _passed(facts: Facts) -> Decision:
    return Decision(status="success", outcome=PASSED, exit_code=0, evidence=common_evidence(facts))


# --- the rules, in the order of the contract --------------------------------------------


def _ended_by_us(facts: Facts) -> Decision | None:
    if facts.ended is None:
        return None
    reason = facts.ended.reason
    note = Evidence(source="worker", fact=f"ended the job: {reason}")
    if reason in _CANCELLED:
        return _fail(facts, Kind.CANCELLED, reason, _WHY[reason], note, status="cancelled")
    why = _WHY.get(reason, reason) + (f", {len(facts.lost)} times" if reason == "WORKER_LOST" else "")
    return _fail(facts, Kind.EXECUTOR, reason, why, note)


_WHY = {
    "USER": "cancelled by the user",
    "SIGNAL": "cancelled by a signal",
    "SUPERSEDED": "cancelled: a newer run of its group took its place",
    "LEASE_EXPIRED": "cancelled: its lease was over and the host did not come back",
    "TIMEOUT_OVERALL": "took longer than timeouts.overall_seconds",
    "TIMEOUT_IDLE": "said nothing for timeouts.idle_log_seconds",
    "WORKER_LOST": "lost with its worker's processes",
}


def _not_started(facts: Facts) -> Decision | None:
    if facts.failure is not None:
        own = facts.failure
        return _fail(facts, own.kind, own.subkind, own.message, Evidence(source="worker", fact=own.message))
    phase = facts.last
    if phase is None:
        return _fail(facts, Kind.EXECUTOR, "START_FAILED", "nothing was run")
    if phase.start_error is not None:
        return _fail(facts, Kind.EXECUTOR, "START_FAILED", f"{phase.name} {how(phase)}")
    if phase.exit_code is None and phase.term_signal is None:
        return _fail(facts, Kind.EXECUTOR, "WORKER_LOST", f"how {phase.name} ended is not known")
    return None


def _refused(facts: Facts) -> Decision | None:
    """Exit codes by which xcodebuild says that it did not get as far as the project's code."""
    phase = facts.last
    if not facts.xcode or phase is None or phase.exit_code in {0, None}:
        return None
    sign = facts.log.sign(*_REFUSAL_SIGNS)
    subkind = _REFUSALS.get(phase.exit_code or 0)
    if subkind is None and sign is not None and not facts.cases and not _build_signs(facts):
        subkind = _REFUSAL_SIGNS[sign.kind]
    if subkind is None:
        return None
    matching = sign if sign is not None and _REFUSAL_SIGNS[sign.kind] == subkind else None
    first = facts.first_error
    why = _own_words(matching.text) if matching else first.message if first else f"xcodebuild: {how(phase)}"
    return _fail(facts, Kind.XCODEBUILD, subkind, why, *_seen(sign))


def _unresolved(facts: Facts) -> Decision | None:
    """Packages were not resolved, in whichever way that call ended."""
    phase = facts.last
    if not facts.xcode or phase is None or phase.name != "resolve" or phase.ok:
        return None
    first = facts.first_error
    why = first.message if first else f"the resolution of packages: {how(phase)}"
    return _fail(facts, Kind.XCODEBUILD, "PACKAGE_RESOLUTION", why)


def _build_failed(facts: Facts) -> Decision | None:
    phase = _failed_build(facts)
    if phase is None:
        return None
    log = facts.log
    seen = Evidence(source="build.log", fact=f"{log.error_count} errors, {log.warning_count} warnings")
    first = facts.first_error
    if log.no_space and (first is None or first.path is None or _about_space(first.message)):
        return _fail(facts, Kind.EXECUTOR, "NO_SPACE", "no space left on the worker", seen)
    locked = log.sign(signs.LOCKED_DATABASE)
    if locked is not None and (first is None or first.path is None):
        return _fail(facts, Kind.EXECUTOR, "INFRASTRUCTURE", _own_words(locked.text), seen, *_seen(locked))
    sign = _build_signs(facts)
    script = _script(facts)
    if first is not None and (first.path is not None or script is None):
        place = ":".join(str(part) for part in (first.path, first.line, first.column) if part is not None)
        why = f"{place}: error: {first.message}" if place else f"error: {first.message}"
    else:
        why = script or (sign.text if sign else f"{facts.tool('build')}: {how(phase)}")
    return _fail(facts, facts.kind, "BUILD_FAILED", why, seen, *_seen(sign))


def _failed_build(facts: Facts) -> PhaseExit | None:
    """The phase in which the build failed; xcodebuild's `test` builds too, and runs nothing then."""
    phase = next((one for one in facts.phases if one.name == "build" and not one.ok), None)
    if phase is not None or not facts.xcode:
        return phase
    last = facts.last
    if last is None or last.exit_code in {0, None} or facts.cases or _tests_began(facts):
        return None
    build = facts.bundle.build if facts.bundle else None
    errors = build is not None and build.error_count > 0
    return last if errors or _build_signs(facts) or facts.log.no_space or _locked(facts) else None


def _tests_began(facts: Facts) -> bool:
    log = facts.log
    return bool(log.passed or log.failed or log.skipped or log.unfinished or log.running)


def _build_signs(facts: Facts) -> Sign | None:
    order = (signs.SCRIPT_PHASE, signs.DEPENDENCY_GRAPH, signs.SIGNING, signs.LINK, signs.COMPILE)
    return next((one for kind in (*order, signs.BUILD_FAILED) if (one := facts.log.sign(kind))), None)


def _locked(facts: Facts) -> bool:
    return facts.log.sign(signs.LOCKED_DATABASE) is not None


def _script(facts: Facts) -> str | None:
    for command in facts.log.commands:
        if (found := _SCRIPT.match(command)) is not None:
            name = found[1].replace("\\ ", " ")
            return f"the script phase {name!r} failed"
    return None


def _about_space(message: str) -> bool:
    return "No space left on device" in message


def _infrastructure(facts: Facts) -> Decision | None:
    """Trouble of the place where tests run; whatever failed beside it is no verdict on the code."""
    phase = facts.last
    if not facts.xcode or facts.action != "test" or phase is None or phase.exit_code in {0, None}:
        return None
    found = facts.log.sign(signs.INFRASTRUCTURE, signs.LOCKED_DATABASE)
    told = "build.log"
    if found is None:
        said = [one for text in facts.runner_words if (one := runner_sign(text)) is not None]
        found = next((one for one in said if one.kind == signs.INFRASTRUCTURE), None)
        told = facts.bundle.name if facts.bundle else told
    if found is None:
        return None
    note = Evidence(source=told, fact=found.text)
    failed = [
        Evidence(source="results", fact=f"{name[: signs.MAX_TEXT]} failed beside it")
        for name in facts.failed_tests[:MAX_NAMED]
    ]
    return _fail(facts, Kind.EXECUTOR, "INFRASTRUCTURE", _own_words(found.text), note, *failed)


def _crashed(facts: Facts) -> Decision | None:
    phase = facts.last
    if facts.action != "test" or phase is None or phase.ok:
        return None
    log = facts.log
    if phase.term_signal is not None:
        why = f"{facts.tool('test')} was ended by signal {phase.term_signal}"
        return _fail(facts, facts.kind, "TESTS_CRASHED", why)
    if facts.xcode:
        return _crashed_in_xcode(facts)
    if log.signal is None:
        return None
    where = f"{', '.join(log.unfinished[:3])}: " if log.unfinished else ""
    marks = [Evidence(source="build.log", fact=text) for text in log.crashes[:5]]
    return _fail(facts, facts.kind, "TESTS_CRASHED", f"{where}{log.crash}", *marks)


def _crashed_in_xcode(facts: Facts) -> Decision | None:
    """A test that the bundle says crashed, a runner that did, or a restart that no time limit explains."""
    failed = [case for case in facts.cases if case.outcome == "failed"]
    for case in failed:
        said = next((text.message for text in case.texts if text.message.startswith("Crash: ")), None)
        if said is not None:
            note = Evidence(source="result.xcresult", fact=said[: signs.MAX_TEXT])
            return _fail(facts, facts.kind, "TESTS_CRASHED", f"{case.suite}.{case.name}: {said}", note)
    found = next((one for text in facts.runner_words if (one := runner_sign(text)) is not None), None)
    if found is None:
        found = facts.log.sign(signs.CRASH)
        if any("time allowance" in text.message for case in failed for text in case.texts):
            found = None
    if found is None:
        return None
    where = f"{', '.join(facts.log.unfinished[:3])}: " if facts.log.unfinished else ""
    return _fail(facts, facts.kind, "TESTS_CRASHED", f"{where}{_own_words(found.text)}", *_seen(found))


def _tests_failed(facts: Facts) -> Decision | None:
    """Failed tests that the exit code admits; with code 0 the sources disagree."""
    phase = facts.last
    if facts.action != "test" or phase is None or phase.ok or not facts.count("failed"):
        return None
    return _fail(facts, facts.kind, "TESTS_FAILED", "")


def _no_tests_ran(facts: Facts) -> Decision | None:
    phase = facts.last
    if facts.action != "test" or phase is None or phase.name != "test":
        return None
    if facts.ran or doubts_of(_without_tests(facts, phase)):
        return None
    if facts.allow_no_tests:
        return _passed(facts)
    return _fail(facts, facts.kind, "NO_TESTS_RAN", "no test ran")


def _without_tests(facts: Facts, phase: PhaseExit) -> Facts:
    """The facts, but for what SwiftPM's sentence explains that there is no test: code 1, no results."""
    if facts.xcode or not facts.log.no_tests_found or phase.exit_code not in {0, 1}:
        return facts
    if any(file.cases or file.problem not in {None, NOT_WRITTEN} for file in facts.xunit):
        return facts
    explained = replace(phase, exit_code=0)
    files = tuple(XunitFile(file.name) for file in facts.xunit)
    return replace(facts, phases=(*facts.phases[:-1], explained), xunit=files)


def _inconsistent(facts: Facts) -> Decision | None:
    doubts = doubts_of(facts)
    if not doubts:
        return None
    notes = [Evidence(source="comparison", fact=doubt) for doubt in doubts]
    return _fail(facts, facts.kind, "INCONSISTENT", "; ".join(doubts[:3]), *notes)


def _seen(sign: Sign | None) -> tuple[Evidence, ...]:
    return () if sign is None else (Evidence(source="build.log", fact=sign.text),)


def _own_words(text: str) -> str:
    """A line of xcodebuild's own without time, process and name; of an `NSError` what it says."""
    said = _NS_ERROR.search(text)
    return said[1] if said is not None else _OWN_HEAD.sub("", text)


_RULES: tuple[Rule, ...] = (
    _ended_by_us,
    _not_started,
    _refused,
    _unresolved,
    _build_failed,
    _infrastructure,
    _crashed,
    _tests_failed,
    _no_tests_ran,
    _inconsistent,
)
