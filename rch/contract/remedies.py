"""What to type instead of a refused word: a reason and the policy -> one line (spec section 6)."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from rch.contract.denied import WORKER_OWNED, WORKER_OWNED_ENVIRONMENT
from rch.contract.policy import GRAMMARS, ClassifierPolicy, ReasonCode
from rch.contract.records.parts import Reason

REPO_CONFIG = ".rch/xcode.toml"

_LEAVE_OUT = "leave it out"

_Remedy = Callable[[Reason, ClassifierPolicy], str]


def remedy(reason: Reason, policy: ClassifierPolicy) -> str:
    """One line for a person; it names the words and keys that mend this reason."""
    found = _REMEDIES.get(reason.code)
    return _LEAVE_OUT if found is None else found(reason, policy)


def _parse(reason: Reason, policy: ClassifierPolicy) -> str:
    tool = GRAMMARS[policy.backend].tool
    if reason.subject == "argv":
        return f"write the command: {tool} build, or {tool} test"
    if reason.subject in {"build", "test"}:
        return "keep one action: each is a job of its own"
    if reason.subject in {grammar.tool for grammar in GRAMMARS.values()}:
        return f"use {tool}, or change backend in {REPO_CONFIG}"
    if "exclude each other" in reason.message:
        return f"keep one of the two: leave {reason.subject} out"
    return "write the word anew, as the message says"


def _action(reason: Reason, policy: ClassifierPolicy) -> str:
    tool = GRAMMARS[policy.backend].tool
    if reason.subject == "clean":
        return f"leave it out: every run starts from a clean tree; {tool} build or {tool} test"
    return f"{tool} build or {tool} test"


def _denied(reason: Reason, policy: ClassifierPolicy) -> str:
    flag = GRAMMARS[policy.backend].flags.get(reason.subject)
    if reason.subject in WORKER_OWNED:
        return "leave it out: the worker sets its own, and the files come back with the run"
    if flag is not None and flag.policy_only and flag.name not in policy.allow_flags:
        return f'leave it out, or let the host permit it: [policy] allow_flags = ["{flag.name}"]'
    if flag is not None and flag.narrows and "allow_narrowing" in reason.message:
        return f"leave it out, or set run.allow_narrowing = true in {REPO_CONFIG}"
    if "cap of" in reason.message:
        return "take a number up to the cap"
    if reason.subject == "-retry-tests-on-failure":
        return f"leave it out, or set run.retry_tests (2 to 5) in {REPO_CONFIG}"
    if reason.subject == "-toolchain":
        return f"leave it out, and set [toolchain] in {REPO_CONFIG}"
    if "write " in reason.message:
        return "write it as the message says"
    return _LEAVE_OUT


def _unknown(reason: Reason, _policy: ClassifierPolicy) -> str:
    _, found, name = reason.message.rpartition(": ")
    near = name if found and name.startswith("-") else ""
    return f"did you mean {near}? else leave it out" if near else _LEAVE_OUT


def _missing(reason: Reason, policy: ClassifierPolicy) -> str:
    values = {
        "-workspace": policy.workspace,
        "-project": policy.project,
        "-scheme": next(iter(policy.schemes), None),
        "-destination": policy.destination,
        "-test-iterations": str(policy.caps.retries),
    }
    value = values.get(reason.subject)
    return f"add {reason.subject} {shlex.quote(value) if value else 'VALUE'}"


def _configured(key: str, value_of: Callable[[ClassifierPolicy], tuple[str, ...]]) -> _Remedy:
    """Take what the config names, or change the config."""

    def say(reason: Reason, policy: ClassifierPolicy) -> str:
        values = value_of(policy)
        if not values:
            return f"set {key} in {REPO_CONFIG}"
        listed = " or ".join(shlex.quote(value) for value in values)
        return f"use {reason.subject} {listed}, or change {key} in {REPO_CONFIG}"

    return say


def _one(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _setting(reason: Reason, policy: ClassifierPolicy) -> str:
    key = reason.subject.removesuffix("=")
    allowed = GRAMMARS[policy.backend].settings.get(key)
    if allowed:
        return "write " + " or ".join(f"{key}={value}" for value in allowed)
    if key in WORKER_OWNED_ENVIRONMENT:
        return "leave it out: the worker sets its own"
    if key.startswith("TEST_RUNNER_"):
        return 'leave it out, or let the host permit it: [policy] allow_flags = ["TEST_RUNNER_*"]'
    return "leave it out: settings belong into the project"


_REMEDIES: Mapping[str, _Remedy] = {
    ReasonCode.PARSE_ERROR: _parse,
    ReasonCode.MISSING_ACTION: lambda _, policy: f"add build or test: {GRAMMARS[policy.backend].tool} test",
    ReasonCode.DENIED_ACTION: _action,
    ReasonCode.UNKNOWN_ACTION: _action,
    ReasonCode.DENIED_FLAG: _denied,
    ReasonCode.UNKNOWN_FLAG: _unknown,
    ReasonCode.DUPLICATE_FLAG: lambda reason, _: f"give {reason.subject} once",
    ReasonCode.MISSING_VALUE: lambda reason, _: f"write {reason.subject} VALUE, or leave it out",
    ReasonCode.MISSING_REQUIRED_FLAG: _missing,
    ReasonCode.WORKSPACE_MISMATCH: _configured("project.workspace", lambda p: _one(p.workspace)),
    ReasonCode.PROJECT_MISMATCH: _configured("project.project", lambda p: _one(p.project)),
    ReasonCode.SCHEME_MISMATCH: _configured("project.schemes", lambda p: p.schemes),
    ReasonCode.CONFIGURATION_NOT_ALLOWED: _configured("project.configurations", lambda p: p.configurations),
    ReasonCode.DESTINATION_MISMATCH: _configured("destination.value", lambda p: _one(p.destination)),
    ReasonCode.DENIED_BUILD_SETTING: _setting,
}
