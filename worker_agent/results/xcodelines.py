"""What single lines and blocks of xcodebuild's output say.

Its console has three forms of tests beside one another: XCTest's and Swift Testing's own (as
under `swift test`, read by `lines`), and `Test case 'X' passed on 'device'` of parallel runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from worker_agent.results import signs
from worker_agent.results.lines import Said, TestSaid, xctest_name
from worker_agent.results.signs import Sign

MAX_BLOCK = 500
MAX_KEPT = 200
MAX_SIGNS = 5
MAX_REASON = 4

_PARALLEL = re.compile(r"Test case '([^'\x00]{1,1024})' (passed|failed|skipped)(?: on '|\b)")
_BEGAN = re.compile(
    r"(?:Test Suite '[^'\x00]{1,512}' started|Test suite '[^'\x00]{1,512}' started on"
    r"|\S{1,2}\s{1,2}Test run started|Test [Cc]ase '[^'\x00]{1,1024}' (?:started|passed|failed|skipped)\b)"
)
_PLACED = re.compile(
    r"(/[^:|\x00]{1,1024}?)(?::(\d{1,7}))?(?::PACKAGE-TARGET:[^:\x00]{1,256})?"
    r": (fatal error|error|warning): (.+)"
)
_BARE = re.compile(r"(?:(?:xcodebuild|clang|swiftc|ld): )?(fatal error|error|warning): (.+)")
_LD = re.compile(r"ld: (?!warning: |error: )(\S.*)|(Undefined symbols? for architecture .*)")
_LD_WARNING = re.compile(r"ld: warning: (.+)")

# What stands indented below a message that ends with a colon.
_REASON = "reason"
_HEADS = {
    "Failing tests:": "failing",
    "Testing failed:": "failed",
    "The following build commands failed:": "commands",
}


def begins_tests(line: str) -> bool:
    """Whether tests run from here on, so that later lines may be anything that a test prints."""
    return _BEGAN.match(line) is not None


def parallel_case(line: str) -> TestSaid | None:
    """A test of either framework as a parallel run tells of it, all at its end."""
    found = _PARALLEL.match(line)
    if found is None:
        return None
    name, outcome = found[1], found[2]
    if "/" in name or "." not in name:
        return TestSaid("swift-testing", name, outcome)
    return TestSaid("xctest", xctest_name(name.removesuffix("()")), outcome)


def diagnostic(line: str) -> Said | None:
    """An error or warning with a path and no column, or with no place at all; the linker's too."""
    if (found := _PLACED.match(line)) is not None:
        return Said(_severity(found[3]), found[4].strip(), found[1], int(found[2]) if found[2] else None)
    if (found := _BARE.match(line)) is not None:
        return Said(_severity(found[1]), found[2].strip())
    if (found := _LD_WARNING.match(line)) is not None:
        return Said("warning", found[1].strip())
    if (found := _LD.match(line)) is not None:
        return Said("error", (found[1] or found[2]).strip())
    return None


def _severity(word: str) -> str:
    return "warning" if word == "warning" else "error"


@dataclass(slots=True)
class Blocks:
    """Signs, and the three blocks of names and commands that xcodebuild ends with.

    `failing` are tests in the tool's own words; `commands` the build commands that failed.
    """

    signs: list[Sign] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    _block: str | None = None
    _left: int = 0

    @property
    def open(self) -> bool:
        """Whether the next line belongs to a block."""
        return self._block is not None

    def take(self, line: str) -> None:
        """Look at one line."""
        if self._block is not None:
            self._left -= 1
            if line.startswith(("\t", "  ") if self._block == _REASON else "\t") and self._left > 0:
                self._member(line.strip())
                return
            self._block = None
        head = _HEADS.get(line.strip())
        if head is not None and not line.startswith((" ", "\t")):
            self._block, self._left = head, MAX_BLOCK
            if head == "failed":
                self.note(Sign(signs.TESTS_FAILED, line.strip()))
            if head == "commands":
                self.note(Sign(signs.BUILD_FAILED, line.strip()))
            return
        found = signs.sign_of(line)
        if found is not None and self.note(found) and line.rstrip().endswith(":"):
            self._block, self._left = _REASON, MAX_REASON

    def close(self) -> None:
        """The end of the output."""
        self._block = None

    def note(self, sign: Sign) -> bool:
        """Keep a sign: the first few of each kind. Whether it was kept."""
        if sum(one.kind == sign.kind for one in self.signs) >= MAX_SIGNS or sign in self.signs:
            return False
        self.signs.append(sign)
        return True

    def _member(self, text: str) -> None:
        if self._block == _REASON:
            last = self.signs[-1]
            self.signs[-1] = Sign(last.kind, f"{last.text} {text}"[: signs.MAX_TEXT])
        elif self._block == "failing":
            if not text.endswith(":") and len(self.failing) < MAX_KEPT:
                self.failing.append(text[:500])
        elif self._block == "commands":
            if len(self.commands) < MAX_KEPT:
                self.commands.append(text[:500])
            kind = signs.kind_of_command(text.partition(" ")[0])
            if kind != signs.BUILD_FAILED:
                self.note(Sign(kind, text[: signs.MAX_TEXT]))
        elif (found := signs.runner_sign(text)) is not None and "encountered an error" in text:
            self.note(found)


def failing_name(name: str) -> str:
    """A name of the block `Failing tests:` as `lines.xctest_name` gives it, where it is XCTest's."""
    bare = name.removesuffix("()")
    if bare.startswith(("-[", "+[")):
        return xctest_name(bare)
    return bare if "/" in bare else xctest_name(bare)
