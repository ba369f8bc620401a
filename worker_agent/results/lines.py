"""What single lines of swift's output say, in the forms of Linux and macOS.

Every pattern is anchored or bounded, so that a hostile line costs no more than its length;
callers cut lines to `MAX_LINE` characters first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE = 4096
"""Characters of a line that are looked at."""

_ANSI = re.compile(r"\x1b\[[0-9;]{0,32}[A-Za-z]")
# No `|`: the compiler quotes source lines as `12 | text`, and the text may look like anything.
_DIAGNOSTIC = re.compile(r"([^:|\x00]{1,1024}):(\d{1,7}):(\d{1,7}): (fatal error|error|warning): (.+)")
_ERROR = re.compile(r"(?:[^:|\x00]{1,1024}: )?(?:fatal )?error: (.+)")
_XCTEST_CASE = re.compile(r"Test Case '([^'\x00]{1,512})' (started|passed|failed|skipped)\b")
_XCTEST_OPENS = re.compile(r"Test Suite '[^'\x00]{1,512}' started\b")
_XCTEST_CLOSES = re.compile(r"\bExecuted \d{1,9} tests?, with ")
_XCTEST_FAILURE = re.compile(r"([^:\x00]{1,1024}):(\d{1,7}): error: ([^:]{1,512}?) : (.*)")
_OBJC_NAME = re.compile(r"[-+]\[(\S+) (\S+)\]")
_SUITE_END = re.compile(r"\S{1,2}\s{1,2}Test (.{1,1024}?) (passed|failed) after [\d.]{1,16} seconds")
_SUITE_START = re.compile(r"\S{1,2}\s{1,2}Test (.{1,1024}?) started\.$")
_SUITE_SKIP = re.compile(r"\S{1,2}\s{1,2}Test (.{1,1024}?) skipped\b")
_ISSUE = re.compile(r"\S{1,2}\s{1,2}Test (.{1,1024}?) recorded an issue\b")
_PLACE = re.compile(r" at ([^\s:]{1,255}):(\d{1,7}):(\d{1,7}): ")
_AKA = re.compile(r"\(aka '([^']{1,512})'\)$")
_CASES = re.compile(r" with \d{1,7} test cases?$")
# Anywhere in a line: SwiftPM says it on stderr, in the midst of what the dying test still prints.
_SIGNAL = re.compile(r"[Ee]xited with (?:unexpected )?signal code (\d{1,3})")
_FATAL = re.compile(r"(?:([^:\x00]{1,1024}):(\d{1,7}): )?[Ff]atal error: (.+)")
_CRASHED = re.compile(r"\*\*\* Program crashed: (.{1,200}?) \*\*\*")


@dataclass(frozen=True, slots=True)
class Said:
    """A compiler's message as it stands: `path` as printed, None where the tool names no place."""

    severity: str
    message: str
    path: str | None = None
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class TestSaid:
    """A test that started or ended. `name` is `Class.test`, a function or a display name."""

    __test__ = False

    framework: str
    name: str
    outcome: str


@dataclass(frozen=True, slots=True)
class FailureSaid:
    """An assertion that failed. `path` is absolute for XCTest, a bare file name for Swift Testing."""

    framework: str
    name: str
    message: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class CrashSaid:
    """A sign of a crash.

    `signal` is set where SwiftPM itself says that a test process was ended by one; `kind` is
    signal, trap (the runtime's last words) or headline (of the backtrace that follows them).
    """

    text: str
    kind: str
    signal: int | None = None


def clean(raw: bytes) -> str:
    """A line as text: no colours, no carriage return, bytes that are no UTF-8 replaced, cut."""
    text = raw[: 4 * MAX_LINE].decode(errors="replace")[:MAX_LINE].rstrip("\r\n")
    return _ANSI.sub("", text) if "\x1b" in text else text


def diagnostic(line: str) -> Said | None:
    """`path:line:column: error|warning: message`."""
    found = _DIAGNOSTIC.match(line)
    if found is None:
        return None
    severity = "warning" if found[4] == "warning" else "error"
    return Said(severity, found[5].strip(), found[1], int(found[2]), int(found[3]))


def bare_error(line: str) -> Said | None:
    """`error: message` of a tool that names no place: a manifest, a link, a missing dependency."""
    found = _ERROR.match(line)
    return Said("error", found[1].strip()) if found else None


def test_case(line: str) -> TestSaid | None:
    """A test of either framework that started, passed, failed or was skipped."""
    if (found := _XCTEST_CASE.search(line)) is not None:
        return TestSaid("xctest", xctest_name(found[1]), found[2])
    if " Test " not in line:
        return None
    if (found := _SUITE_END.match(line) or _end_amid(line)) is not None:
        outcome = found[2]
    elif (found := _SUITE_START.match(line)) is not None:
        outcome = "started"
    else:
        found, outcome = _SUITE_SKIP.match(line), "skipped"
    if found is None or found[1] == "run" or found[1].startswith(("run with ", "case passing ")):
        return None
    return TestSaid("swift-testing", function_name(_CASES.sub("", found[1])), outcome)


def _end_amid(line: str) -> re.Match[str] | None:
    """The end of a test behind what was printed without an end of line: the last in the line."""
    at = line.rfind(" Test ")
    return _SUITE_END.match(line, max(0, at - 1)) if at > 0 and " after " in line else None


def suite_opens(line: str) -> bool:
    """Whether a suite of XCTest begins: what had not ended before it never will."""
    return _XCTEST_OPENS.search(line) is not None


def suite_closes(line: str) -> bool:
    """Whether XCTest closes a suite, which it does only where its process was not ended by a test."""
    return _XCTEST_CLOSES.search(line) is not None


def xctest_failure(line: str) -> FailureSaid | None:
    """`path:line: error: test : message`."""
    found = _XCTEST_FAILURE.match(line)
    if found is None:
        return None
    message = found[4].strip().removesuffix(" -").strip() or "failed"
    return FailureSaid("xctest", xctest_name(found[3].strip()), message, found[1], int(found[2]))


def issue_start(line: str) -> str | None:
    """The test of which Swift Testing records an issue in this line."""
    if " recorded an issue" not in line:
        return None
    found = _ISSUE.match(line)
    return function_name(_CASES.sub("", found[1])) if found else None


def issue_place(line: str, name: str) -> FailureSaid | None:
    """Where the issue is and what it says: in the line of `issue_start`, or a few lines below."""
    found = _PLACE.search(line)
    if found is None:
        return None
    return FailureSaid("swift-testing", name, line[found.end() :].strip(), found[1], int(found[2]))


def crash(line: str) -> CrashSaid | None:
    """SwiftPM's word that a test process died, the runtime's trap, or the backtracer's headline."""
    if "signal code" in line and (found := _SIGNAL.search(line)) is not None:
        return CrashSaid(f"a test process ended with signal {found[1]}", "signal", int(found[1]))
    if "atal error: " in line and (found := _FATAL.match(line)) is not None:
        place = f"{found[1]}:{found[2]}: " if found[1] else ""
        return CrashSaid(f"{place}Fatal error: {found[3].strip()}", "trap")
    if (found := _CRASHED.match(line)) is not None:
        return CrashSaid(f"crashed: {found[1]}", "headline")
    return None


def xctest_name(name: str) -> str:
    """`Class.test` of `-[Module.Class test]`, `Module.Class.test` or `Class.test`."""
    found = _OBJC_NAME.fullmatch(name)
    if found is not None:
        return f"{found[1].rpartition('.')[2]}.{found[2]}"
    return ".".join(name.split(".")[-2:])


def function_name(name: str) -> str:
    """The function behind a display name where the line tells it, else the name without quotes."""
    found = _AKA.search(name)
    if found is not None:
        return found[1]
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name
