"""Reads the words of an argv: actions, flags with checked values, settings (spec section 6).

Each refusal is kept with the position of its word, so that all reasons can be listed in the
order in which a user typed them. What only the whole can tell is `classifier`'s.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from rch.contract.denied import WORKER_OWNED_ENVIRONMENT
from rch.contract.flag_values import CHECKS, Fault, check_destination
from rch.contract.policy import (
    GRAMMARS,
    TEST_RUNNER,
    Check,
    ClassifierPolicy,
    Flag,
    ReasonCode,
)
from rch.contract.records.parts import Reason

MAX_TOKENS = 4096
MAX_TOKEN_CHARS = 1024

_JOINED = re.compile(r"(-[^:=]*)([:=])(.*)", re.DOTALL)
_RUNNER_KEY = re.compile(r"TEST_RUNNER_[A-Za-z_][A-Za-z0-9_]*")
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def shown(token: str) -> str:
    """A token as one printable word of at most 80 characters."""
    text = "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in token[:80])
    return text + "…" if len(token) > 80 else text


class Given(NamedTuple):
    """An allowed flag where it stands; `typed` is the spelling that the user chose."""

    at: int
    flag: Flag
    typed: str
    value: str | None


class Words:
    """One pass over an argv. After it, `actions`, `flags`, `settings` and `reasons` are filled.

    `actions` holds every bare word; `flags` every allowed flag with its value; positions are
    indices into `tokens`.
    """

    def __init__(self, argv: Sequence[str], policy: ClassifierPolicy, resolved: str | None) -> None:
        self.policy = policy
        self.resolved = resolved
        self.grammar = GRAMMARS[policy.backend]
        self.tokens = tuple(argv)
        self.actions: list[tuple[int, str]] = []
        self.flags: list[Given] = []
        self.settings: dict[str, str] = {}
        self.reasons: list[tuple[int, Reason]] = []
        self.first = 1 if self.tokens[:1] == (self.grammar.tool,) else 0
        self._at = self.first

    def refuse(self, at: int, code: ReasonCode, subject: str, message: str) -> None:
        """Note one reason."""
        self.reasons.append((at, Reason(code=str(code), subject=shown(subject), message=message)))

    def read(self) -> bool:
        """Read every word; False if there is nothing that could be judged further."""
        if not self._readable():
            return False
        while self._at < len(self.tokens):
            at, token = self._at, self.tokens[self._at]
            self._at += 1
            if self._garbled(at, token):
                continue
            if token == "--":  # noqa: S105  (a separator, no secret)
                self.refuse(at, ReasonCode.DENIED_FLAG, token, "--: passes words on unread")
            elif token.startswith("@"):
                message = f"{shown(token)}: a response file hides the words it holds"
                self.refuse(at, ReasonCode.DENIED_FLAG, token, message)
            elif token.startswith("-"):
                self._read_flag(at, token)
            elif "=" in token:
                self._read_setting(at, token)
            else:
                self.actions.append((at, token))
        return True

    def _readable(self) -> bool:
        tools = {grammar.tool for grammar in GRAMMARS.values()} - {self.grammar.tool}
        if not self.tokens:
            self.refuse(0, ReasonCode.PARSE_ERROR, "argv", "an empty command line")
        elif len(self.tokens) > MAX_TOKENS:
            self.refuse(0, ReasonCode.PARSE_ERROR, "argv", f"more than {MAX_TOKENS} words")
        elif (tool := self.tokens[0]) in tools:
            message = f"{tool}: does not serve a config with backend = {self.policy.backend}"
            self.refuse(0, ReasonCode.PARSE_ERROR, tool, message)
        return not self.reasons

    def _garbled(self, at: int, token: str) -> bool:
        if len(token) > MAX_TOKEN_CHARS:
            what = f"a word over {MAX_TOKEN_CHARS} characters"
        elif not token:
            what = "an empty word"
        elif any(unicodedata.category(c) in _UNPRINTABLE for c in token):
            what = "a control character"
        else:
            return False
        self.refuse(at, ReasonCode.PARSE_ERROR, token, f"{shown(token) or repr(token)}: {what}")
        return True

    def _read_flag(self, at: int, token: str) -> None:
        joined = _JOINED.fullmatch(token)
        name, sign, value = (joined[1], joined[2], joined[3]) if joined else (token, "", "")
        flag, denied = self.grammar.flags.get(name), self.grammar.denied.get(name)
        if denied is not None:
            self.refuse(at, ReasonCode.DENIED_FLAG, name, f"{name}: {denied.why}")
            if denied.takes and not sign:
                self._pass_over(dashed=name.startswith("-X"))
        elif flag is None:
            self._unknown_flag(at, name, sign)
        elif sign and not self._may_join(flag, name, sign):
            message = f"{name}: write {flag.name}{' VALUE' if flag.check is not Check.NOTHING else ''}"
            self.refuse(at, ReasonCode.DENIED_FLAG, name, message)
        elif flag.check is Check.NOTHING:
            self._found(Given(at, flag, name, None))
        else:
            self._read_value(at, flag, name, value if sign else self._next())

    def _may_join(self, flag: Flag, name: str, sign: str) -> bool:
        if self.policy.backend == "swiftpm":
            return sign == "=" and name.startswith("--") and flag.check is not Check.NOTHING
        return flag.check is Check.SELECTOR

    def _next(self) -> str | None:
        if self._at < len(self.tokens) and not self.tokens[self._at].startswith("-"):
            self._at += 1
            return self.tokens[self._at - 1]
        return None

    def _pass_over(self, *, dashed: bool) -> None:
        """Leave out the value of a refused flag, so that it is not blamed a second time."""
        if dashed:
            self._at += 1
        else:
            self._next()

    def _unknown_flag(self, at: int, name: str, sign: str) -> None:
        if sign == "=" and not name.startswith("--"):
            message = f"{shown(name)}=...: an unknown user default"
            self.refuse(at, ReasonCode.DENIED_FLAG, name, message)
            return
        known = [*self.grammar.flags, *self.grammar.denied]
        same = next((spelling for spelling in known if spelling.lower() == name.lower()), None)
        near = difflib.get_close_matches(name[:80], list(self.grammar.flags), 1)
        hint = f"; flags mind their case: {same}" if same else f"; near it: {near[0]}" if near else ""
        self.refuse(at, ReasonCode.UNKNOWN_FLAG, name, f"{shown(name)}: unknown to the gate{hint}")
        following = self.tokens[self._at] if self._at < len(self.tokens) else ""
        is_action = following in {"build", "test"} | self.grammar.denied_actions
        if not sign and not is_action and "=" not in following:
            self._pass_over(dashed=False)

    def _read_value(self, at: int, flag: Flag, name: str, value: str | None) -> None:
        if not value or value.startswith("-"):
            self.refuse(at, ReasonCode.MISSING_VALUE, name, f"{name}: its value is missing")
        elif not self._garbled(at, value):
            self._found(Given(at, flag, name, value))

    def _found(self, given: Given) -> None:
        at, flag, name, value = given
        same = [old.value for old in self.flags if old.flag is flag]
        if value in same or (same and not flag.repeats):
            self.refuse(at, ReasonCode.DUPLICATE_FLAG, name, f"{name}: given twice")
            return
        self.flags.append(given)
        if flag.policy_only and flag.name not in self.policy.allow_flags:
            message = f"{name}: only [policy] allow_flags of the host can permit it"
            self.refuse(at, ReasonCode.DENIED_FLAG, name, message)
        if value is not None and (fault := self._fault(flag, value)) is not None:
            self.refuse(at, fault[0], name, f"{name} {shown(value)} {fault[1]}")

    def _fault(self, flag: Flag, value: str) -> Fault | None:
        if flag.check is Check.DESTINATION:
            return check_destination(value, self.policy, self.resolved)
        return CHECKS[flag.check](value, self.policy)

    def _read_setting(self, at: int, token: str) -> None:
        key, _, value = token.partition("=")
        subject = f"{key}="
        allowed = self.grammar.settings.get(key, ())
        if key in self.settings:
            self.refuse(at, ReasonCode.DUPLICATE_FLAG, subject, f"{key}: given twice")
        elif value in allowed or self._is_runner_variable(key):
            self.settings[key] = value
        elif key in WORKER_OWNED_ENVIRONMENT:
            message = f"{key}: the worker owns this variable"
            self.refuse(at, ReasonCode.DENIED_BUILD_SETTING, subject, message)
        else:
            only = f"only {' or '.join(f'{key}={v}' for v in allowed)}" if allowed else "no setting"
            message = f"{shown(subject)}...: {only} of that name is allowed"
            self.refuse(at, ReasonCode.DENIED_BUILD_SETTING, subject, message)

    def _is_runner_variable(self, key: str) -> bool:
        permitted = TEST_RUNNER in self.policy.allow_flags and self.policy.backend == "xcodebuild"
        return permitted and _RUNNER_KEY.fullmatch(key) is not None
