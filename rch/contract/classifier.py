"""The gate itself: (argv, policy) -> accepted or every reason why not (spec section 6).

A pure function that both sides run. The host uses it to explain before anything leaves the
machine; the worker uses it again on `sanitized_argv` to be safe against its host. It denies
by default: a word that no table of `rch.contract.policy` knows is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import cast

import msgspec

from rch.contract.flag_values import parse_destination
from rch.contract.policy import Action, Check, ClassifierPolicy, Flag, ReasonCode
from rch.contract.records.parts import Reason
from rch.contract.words import Words, shown

_RETRY = "-retry-tests-on-failure"
_ITERATIONS = "-test-iterations"


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag_field="verdict", tag="accepted"):
    """An invocation that may run.

    `sanitized_argv` is canonical (action, flags by name, settings) and classifies to itself;
    `narrowing` holds the flags, one word each, that make the run less than the full gate.
    """

    action: Action
    original_argv: tuple[str, ...]
    sanitized_argv: tuple[str, ...]
    narrowing: tuple[str, ...] = ()


class Rejected(msgspec.Struct, frozen=True, kw_only=True, tag_field="verdict", tag="rejected"):
    """An invocation that is refused, with all reasons in the order of its words.

    `places` has for each reason the index of its word; the number of words: something is missing.
    """

    original_argv: tuple[str, ...]
    reasons: tuple[Reason, ...]
    places: tuple[int, ...] = ()
    rejected_flags: tuple[str, ...] = ()

    @property
    def rejection_reason(self) -> str:
        """The first reason as a sentence."""
        return f"{self.reasons[0].message} ({self.reasons[0].code})"


def classify(
    argv: Sequence[str], policy: ClassifierPolicy, *, resolved_destination: str | None = None
) -> Accepted | Rejected:
    """Judge a command line; with `resolved_destination` the concrete one takes its place."""
    words = Words(argv, policy, resolved_destination)
    if words.read():
        _check_action(words)
        _check_exclusive(words)
        _check_retries(words)
        _check_required(words)
    if words.reasons:
        return _rejected(words)
    flags = _canonical(words)
    return Accepted(
        action=cast("Action", words.actions[0][1]),
        original_argv=words.tokens,
        sanitized_argv=_sanitized(words, flags),
        narrowing=tuple(_one_word(flag, value) for flag, value in flags if flag.narrows),
    )


def _check_action(words: Words) -> None:
    known = [(at, word) for at, word in words.actions if word in {"build", "test"}]
    for at, word in words.actions:
        if word in words.grammar.denied_actions:
            words.refuse(at, ReasonCode.DENIED_ACTION, word, f"{word}: the gate runs build and test alone")
        elif (at, word) not in known:
            message = f"{shown(word)}: no action of the gate (build, test)"
            words.refuse(at, ReasonCode.UNKNOWN_ACTION, word, message)
    for at, word in known[1:]:
        words.refuse(at, ReasonCode.PARSE_ERROR, word, f"{word}: a second action; one job has one")
    if not words.actions:
        words.refuse(len(words.tokens), ReasonCode.MISSING_ACTION, "argv", "no action: say build or test")
    elif words.policy.backend == "swiftpm" and words.actions[0][0] > words.first:
        at, word = words.actions[0]
        words.refuse(at, ReasonCode.PARSE_ERROR, word, f"{shown(word)}: swift takes its action first")
    if len(known) == 1:
        _check_serves(words, known[0][1])


def _check_serves(words: Words, action: str) -> None:
    """Refuse flags of the other action, and a generic destination for tests (section 7)."""
    for at, flag, typed, value in words.flags:
        if action not in flag.serves:
            message = f"{typed}: serves {flag.serves[0]} alone"
            words.refuse(at, ReasonCode.DENIED_FLAG, typed, message)
        elif action == "test" and flag.check is Check.DESTINATION and _is_generic(value):
            message = f"{typed} {shown(value or '')}: a generic platform serves build alone"
            words.refuse(at, ReasonCode.DESTINATION_MISMATCH, typed, message)


def _is_generic(destination: str | None) -> bool:
    return "generic/platform" in (parse_destination(destination or "") or {})


def _check_exclusive(words: Words) -> None:
    given = {found.flag.name: found.at for found in words.flags}
    for one, other in words.grammar.exclusive:
        if one in given and other in given:
            at = max(given[one], given[other])
            words.refuse(at, ReasonCode.PARSE_ERROR, other, f"{one} and {other} exclude each other")


def _check_retries(words: Words) -> None:
    """Retrying is only by config, and only as often as it says."""
    given = {found.flag.name: (found.at, found.value) for found in words.flags}
    if _RETRY not in given:
        return
    at, most = given[_RETRY][0], words.policy.caps.retries
    times = given.get(_ITERATIONS, (at, None))[1]
    if not most:
        message = f"{_RETRY}: the config does not allow it (run.retry_tests)"
        words.refuse(at, ReasonCode.DENIED_FLAG, _RETRY, message)
    elif times is None:
        message = f"{_RETRY}: say how often with {_ITERATIONS}"
        words.refuse(at, ReasonCode.MISSING_REQUIRED_FLAG, _ITERATIONS, message)
    elif times.isdecimal() and int(times) > most:
        message = f"{_ITERATIONS} {shown(times)} is over the cap of {most} with {_RETRY}"
        words.refuse(given[_ITERATIONS][0], ReasonCode.DENIED_FLAG, _ITERATIONS, message)


def _check_required(words: Words) -> None:
    if words.policy.backend == "swiftpm":
        return
    given = {found.flag.name for found in words.flags} | {reason.subject for _, reason in words.reasons}
    container = "-workspace" if words.policy.workspace else "-project"
    for name in (container, "-scheme", "-destination"):
        if name not in given:
            message = f"{name}: required, with the value of the config"
            words.refuse(len(words.tokens), ReasonCode.MISSING_REQUIRED_FLAG, name, message)


def _rejected(words: Words) -> Rejected:
    ordered = sorted(words.reasons, key=lambda item: item[0])
    reasons = tuple(reason for _, reason in ordered)
    flags = dict.fromkeys(
        reason.subject.removesuffix("=")
        for reason in reasons
        if reason.code != ReasonCode.MISSING_REQUIRED_FLAG
        and (reason.subject.startswith("-") or reason.subject.endswith("="))
    )
    return Rejected(
        original_argv=tuple(_storable(token) for token in words.tokens),
        reasons=reasons,
        places=tuple(at for at, _ in ordered),
        rejected_flags=tuple(flags),
    )


def _storable(token: str) -> str:
    """A lone surrogate cannot be written as UTF-8; the record holds a replacement for it."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cs" else c for c in token)


def _canonical(words: Words) -> list[tuple[Flag, str | None]]:
    """The flags in the order of their names, the destination replaced by the resolved one."""
    concrete = words.resolved or words.policy.destination
    found = [
        (flag, concrete if flag.check is Check.DESTINATION else value) for _, flag, _, value in words.flags
    ]
    return sorted(found, key=lambda item: (item[0].name, item[1] or ""))


def _one_word(flag: Flag, value: str | None) -> str:
    if value is None:
        return flag.name
    return f"{flag.name}{':' if flag.check is Check.SELECTOR else '='}{value}"


def _sanitized(words: Words, flags: list[tuple[Flag, str | None]]) -> tuple[str, ...]:
    argv = [words.actions[0][1]]
    for flag, value in flags:
        if value is None or flag.check is Check.SELECTOR:
            argv.append(_one_word(flag, value))
        else:
            argv += [flag.name, value]
    return (*argv, *(f"{key}={value}" for key, value in sorted(words.settings.items())))
