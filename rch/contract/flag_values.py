"""Checks of one flag value against the policy, and destination strings (spec sections 6, 7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from rch.contract.policy import Check, ClassifierPolicy, ReasonCode

Fault = tuple[ReasonCode, str]
"""A code and the rest of a sentence that begins with the flag and its value."""

_NAME = re.compile(r"\w[\w .+-]{0,127}")
_SELECTOR = re.compile(r"\w[\w .+-]{0,127}(/\w+(/\w+(\(\))?)?)?")
_FILTER = re.compile(r"[\w.^$|()*+?\[\]{}/\\ -]{1,256}")
_BRACKET = re.compile(r"\\.|[()\[\]]")
_DIALECTS = re.compile(r"\\Q|\[\^?\]|\[(\\.|[^\]\\])*\[")
_NUMBER = re.compile(r"[1-9][0-9]{0,6}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,2}")
_REGION = re.compile(r"[A-Z]{2}|[0-9]{3}")
_SDK = re.compile(r"[a-z]{3,32}([0-9]{1,3}\.[0-9]{1,3})?")
_ARCH = re.compile(r"[a-z][a-z0-9_]{2,15}")
_OS_VERSION = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}")

_DESTINATION_KEYS = frozenset({"platform", "generic/platform", "name", "OS", "arch", "variant"})
_RESOLVED_MAY_ADD = frozenset({"OS", "arch", "name"})


def parse_destination(text: str) -> dict[str, str] | None:
    """`key=value,...` as a mapping, or None if it is no destination that the gate serves.

    Exactly one of `platform` and `generic/platform` is required; `id` is never served.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    found = {key: value for key, _, value in pairs}
    well_formed = (
        len(found) == len(pairs)
        and set(found) <= _DESTINATION_KEYS
        and all(value and value == value.strip() for value in found.values())
        and ("platform" in found) != ("generic/platform" in found)
    )
    return found if well_formed else None


def refines(resolved: str, constraint: str) -> bool:
    """Whether a concrete destination is one that the constraint allows (section 7)."""
    concrete, asked = parse_destination(resolved), parse_destination(constraint)
    if concrete is None or asked is None or not set(concrete) - set(asked) <= _RESOLVED_MAY_ADD:
        return False
    if asked.get("OS") == "latest":
        asked["OS"] = concrete.get("OS", "")
        if not _OS_VERSION.fullmatch(asked["OS"]):
            return False
    return all(concrete.get(key) == value for key, value in asked.items())


def inside_root(path: str) -> bool:
    """Whether a POSIX path is relative and stays below the root, without `.`, `..` or `//`."""
    return bool(path) and not {"", ".", ".."} & set(path.split("/")) and "\\" not in path


def valid_name(text: str) -> bool:
    """Whether a text can name a scheme, configuration, target, product or test plan."""
    return _NAME.fullmatch(text) is not None


def valid_selector(text: str) -> bool:
    """Whether a text is `Target[/Suite[/test[()]]]`."""
    return _SELECTOR.fullmatch(text) is not None


def _is(pattern: re.Pattern[str], what: str) -> Callable[[str, ClassifierPolicy], Fault | None]:
    def check(value: str, _: ClassifierPolicy) -> Fault | None:
        return None if pattern.fullmatch(value) else (ReasonCode.PARSE_ERROR, f"is not {what}")

    return check


def _one_of(*allowed: str) -> Callable[[str, ClassifierPolicy], Fault | None]:
    def check(value: str, _: ClassifierPolicy) -> Fault | None:
        if value in allowed:
            return None
        return ReasonCode.PARSE_ERROR, f"is not one of {', '.join(allowed)}"

    return check


def _up_to(cap_of: Callable[[ClassifierPolicy], int]) -> Callable[[str, ClassifierPolicy], Fault | None]:
    def check(value: str, policy: ClassifierPolicy) -> Fault | None:
        if not _NUMBER.fullmatch(value):
            return ReasonCode.PARSE_ERROR, "is not a number from 1"
        cap = cap_of(policy)
        return None if int(value) <= cap else (ReasonCode.DENIED_FLAG, f"is over the cap of {cap}")

    return check


def _container(value: str, configured: str | None, code: ReasonCode, key: str) -> Fault | None:
    if not inside_root(value):
        return code, "must be a plain relative path inside the project root"
    if value != configured:
        return code, f"is not project.{key} of the config ({configured or 'which names none'})"
    return None


def _workspace(value: str, policy: ClassifierPolicy) -> Fault | None:
    return _container(value, policy.workspace, ReasonCode.WORKSPACE_MISMATCH, "workspace")


def _project(value: str, policy: ClassifierPolicy) -> Fault | None:
    return _container(value, policy.project, ReasonCode.PROJECT_MISMATCH, "project")


def _scheme(value: str, policy: ClassifierPolicy) -> Fault | None:
    if value in policy.schemes and valid_name(value):
        return None
    return ReasonCode.SCHEME_MISMATCH, f"is not in project.schemes ({_listed(policy.schemes)})"


def _configuration(value: str, policy: ClassifierPolicy) -> Fault | None:
    if value in policy.configurations and valid_name(value):
        return None
    allowed = _listed(policy.configurations)
    return ReasonCode.CONFIGURATION_NOT_ALLOWED, f"is not in project.configurations ({allowed})"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _selector(value: str, policy: ClassifierPolicy) -> Fault | None:
    if not valid_selector(value):
        return ReasonCode.PARSE_ERROR, "is not Target[/Suite[/test[()]]]"
    return _narrowing(value, policy)


def _filter(value: str, policy: ClassifierPolicy) -> Fault | None:
    if not _FILTER.fullmatch(value):
        return ReasonCode.PARSE_ERROR, "is not a test filter: letters, digits and regex signs, 256 at most"
    if (open_at := unbalanced(value)) is not None:
        sign = value[open_at]
        return ReasonCode.PARSE_ERROR, (
            f"is no whole expression: the {sign} at character {open_at + 1} has no partner"
            f" (the letter itself is \\{sign})"
        )
    return _narrowing(value, policy)


def unbalanced(expression: str) -> int | None:
    """Where a regular expression has a bracket without its partner; None if each has one.

    The tools' own dialects decide about all else. Where these differ on what a bracket is (quotes,
    sets in sets, a set that begins with `]`) nothing is found.
    """
    if _DIALECTS.search(expression):
        return None
    groups: list[int] = []
    in_set: int | None = None
    for found in _BRACKET.finditer(expression):
        sign, at = found.group(), found.start()
        if in_set is not None:
            in_set = None if sign == "]" else in_set
        elif sign == "[":
            in_set = at
        elif sign == "(":
            groups.append(at)
        elif sign == ")":
            if not groups:
                return at
            groups.pop()
    return in_set if in_set is not None else groups[0] if groups else None


def _narrowing(value: str, policy: ClassifierPolicy) -> Fault | None:
    if policy.allow_narrowing or value in policy.selectors:
        return None
    return ReasonCode.DENIED_FLAG, "narrows the gate, which the config does not allow (run.allow_narrowing)"


def _sdk(value: str, _: ClassifierPolicy) -> Fault | None:
    if _SDK.fullmatch(value):
        return None
    return ReasonCode.DENIED_FLAG, "is not the plain name of an SDK"


CHECKS: Mapping[Check, Callable[[str, ClassifierPolicy], Fault | None]] = {
    Check.WORKSPACE: _workspace,
    Check.PROJECT: _project,
    Check.SCHEME: _scheme,
    Check.CONFIGURATION: _configuration,
    Check.NAME: _is(_NAME, "a plain name"),
    Check.SELECTOR: _selector,
    Check.FILTER: _filter,
    Check.YES_NO: _one_of("YES", "NO"),
    Check.JOBS: _up_to(lambda policy: policy.caps.jobs),
    Check.WORKERS: _up_to(lambda policy: policy.caps.workers),
    Check.ITERATIONS: _up_to(lambda policy: policy.caps.iterations),
    Check.ALLOWANCE: _up_to(lambda policy: policy.allowance_below_seconds - 1),
    Check.LANGUAGE: _is(_LANGUAGE, "a language such as en or pt-BR"),
    Check.REGION: _is(_REGION, "a region such as GB"),
    Check.SANITIZER: _one_of("address", "thread", "undefined"),
    Check.SCM_PROVIDER: _one_of("system", "xcode"),
    Check.SDK: _sdk,
    Check.ARCH: _is(_ARCH, "an architecture such as arm64"),
}
"""One check per kind of value; `Check.DESTINATION` needs the resolved one and lives in the classifier."""


def check_destination(value: str, policy: ClassifierPolicy, resolved: str | None) -> Fault | None:
    """Match a destination with the configured constraint, or with the one it was resolved to."""
    constraint = policy.destination
    if constraint is None:
        return ReasonCode.DESTINATION_MISMATCH, "stands against a config that names no destination.value"
    asked = parse_destination(value)
    if asked is None:
        return ReasonCode.DESTINATION_MISMATCH, "is not platform=...,name=...,OS=... (id= is not served)"
    if resolved is not None and not refines(resolved, constraint):
        return ReasonCode.DESTINATION_MISMATCH, f"is resolved to {resolved}, outside {constraint}"
    if asked != parse_destination(constraint) and value != resolved:
        return ReasonCode.DESTINATION_MISMATCH, f"is not destination.value of the config ({constraint})"
    return None
