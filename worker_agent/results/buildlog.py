"""Reads a job's log while it grows, in bounded memory (spec section 9).

The console gives places, messages and classes; it never gives counts. A test may print
whatever it likes, so that nothing here makes a job pass: it names what failed, and lets a
green that the log contradicts be doubted.

Most lines of a log say nothing. Only those that hold one of a tool's `_NEEDLES` are looked at,
and those after a line that opened something (an issue, a block); the search for the needles
costs less than taking the lines apart.
"""

from __future__ import annotations

from pathlib import Path

from rch.contract.records import Diagnostic
from worker_agent.results import lines, xcodelines
from worker_agent.results.logfacts import Happening, LogFacts, Seen
from worker_agent.results.places import Places

__all__ = ["MAX_HAPPENINGS", "Happening", "LogFacts", "LogReader", "read_log"]

MAX_HAPPENINGS = 20_000

_MAX_PENDING = 4 * lines.MAX_LINE
_ISSUE_SPAN = 12
_NO_TESTS = tuple(
    f"{head}: no tests found; create a target in the 'Tests' directory" for head in ("error", "warning")
)
_NO_SPACE = "No space left on device"

_SWIFT = (
    b"error:",
    b"warning:",
    b"Test ",
    b"Executed ",
    b"no tests found",
    b"No space left",
    b"signal code",
    b"Program crashed",
)
_XCODE = (
    *_SWIFT,
    b"Test case '",
    b"Test suite '",
    b"Testing ",
    b"Failing tests:",
    b"build commands failed:",
    b"Command ",
    b"** ",
    b"ld: ",
    b"Undefined symbol",
    b"duplicate symbol",
    b"Restarting after",
    b"xcodebuild[",
    b"the Xcode",
    b"errSec",
)
# What a line must hold for anything to be found in it.
_NEEDLES = {"swiftpm": _SWIFT, "xcodebuild": _XCODE}


class LogReader:
    """Takes the bytes of `build.log` as they come, and gives the news in them.

    `tree` is the unpacked source, whose paths become relative; `tool` is swiftpm or xcodebuild.
    Outside of a phase that `begin` named, a line is looked at in every way. xcodebuild builds
    and tests in one phase: there its compiler's messages end where the tests begin.
    """

    def __init__(self, tree: Path, build: Path | None = None, *, tool: str = "swiftpm") -> None:
        self._places = Places(tree, build)
        self._needles = _NEEDLES[tool]
        self._xcode = tool == "xcodebuild"
        self._phase: str | None = None
        self._pending = b""
        self._overlong = False
        self._issue: tuple[str, int] | None = None
        self._testing = False
        self._told = 0
        self._seen = Seen()

    def begin(self, phase: str) -> None:
        """Name the phase (build or test) whose output comes now."""
        self._phase = phase
        self._testing = False

    def feed(self, data: bytes) -> list[Happening]:
        """Take the next bytes; news of the lines that they complete."""
        end = data.rfind(b"\n")
        news: list[Happening] = []
        if end >= 0:
            block = self._pending + data[:end]
            if self._overlong:  # the end of a line whose beginning was already read
                start = block.find(b"\n")
                block = block[start + 1 :] if start >= 0 else b""
                self._overlong = False
            news, self._pending = self._block(block), b""
        rest = self._pending + data[end + 1 :]
        if len(rest) > _MAX_PENDING and not self._overlong:
            news += self._line(rest)
            self._overlong = True
        self._pending = b"" if self._overlong else rest
        return news

    def end(self) -> list[Happening]:
        """Close a phase: the last line may have no end."""
        rest, self._pending = self._pending, b""
        news = self._line(rest) if rest and not self._overlong else []
        self._overlong, self._issue, self._phase = False, None, None
        self._seen.blocks.close()
        return news

    def facts(self) -> LogFacts:
        """What was said so far."""
        return self._seen.facts()

    def _block(self, block: bytes) -> list[Happening]:
        """Whole lines: those with a needle, and those that follow an opening one."""
        news: list[Happening] = []
        at = 0
        for start, end in self._spans(block):
            while self._open and at < start:
                stop = _line_end(block, at)
                news += self._line(block[at:stop])
                at = stop + 1
            if start >= at:
                news += self._line(block[start:end])
                at = end + 1
        while self._open and at < len(block):
            stop = _line_end(block, at)
            news += self._line(block[at:stop])
            at = stop + 1
        return news

    def _spans(self, block: bytes) -> list[tuple[int, int]]:
        found: set[tuple[int, int]] = set()
        for needle in self._needles:
            at = block.find(needle)
            while at >= 0:
                end = _line_end(block, at)
                found.add((block.rfind(b"\n", 0, at) + 1, end))
                at = block.find(needle, end)
        return sorted(found)

    @property
    def _open(self) -> bool:
        return self._issue is not None or (self._xcode and self._seen.blocks.open)

    def _line(self, raw: bytes) -> list[Happening]:
        line = lines.clean(raw)
        if self._xcode:
            news = self._xcode_line(line)
        else:
            news = self._build_line(line) if self._phase != "test" else []
            news += self._test_line(line) if self._phase != "build" else []
        return [told for one in news if (told := self._within_limit(one)) is not None]

    def _within_limit(self, news: Happening) -> Happening | None:
        self._told += 1
        if self._told == MAX_HAPPENINGS:
            return Happening("note", {"text": "further events are left out"})
        return news if self._told < MAX_HAPPENINGS else None

    def _xcode_line(self, line: str) -> list[Happening]:
        blocks, opened = self._seen.blocks, self._seen.blocks.open
        blocks.take(line)
        if opened and blocks.open:
            return []
        self._testing = self._testing or xcodelines.begins_tests(line)
        if not self._testing:
            return self._build_line(line)
        told = xcodelines.parallel_case(line)
        return self._test_line(line) if told is None else self._seen.test(told, whole=True)

    # Building ----------------------------------------------------------------------------

    def _build_line(self, line: str) -> list[Happening]:
        said = None
        if "error:" in line or "warning:" in line:
            said = lines.diagnostic(line)
            if said is None and self._phase == "build" and not self._xcode:
                said = lines.bare_error(line)
        if said is None and self._xcode:
            said = xcodelines.diagnostic(line)
        if said is None:
            return []
        if _NO_SPACE in said.message:
            self._seen.no_space = True
        found = Diagnostic(
            path=None if said.path is None else self._places.relative(said.path),
            line=said.line,
            column=said.column,
            severity=said.severity,
            message=said.message[:1000],
        )
        return self._seen.diagnostic(found)

    # Testing -----------------------------------------------------------------------------

    def _test_line(self, line: str) -> list[Happening]:
        if line.startswith(_NO_TESTS):
            self._seen.no_tests_found = True
        failure = self._failure(line)
        news = [] if failure is None else self._seen.failure(failure, self._place(failure))
        died = lines.crash(line)
        if died is not None:
            return news + self._seen.crash(died)
        if lines.suite_closes(line):
            self._seen.close_suite()
        elif lines.suite_opens(line):
            self._seen.open_suite()
        said = lines.test_case(line)
        return news if said is None else news + self._seen.test(said)

    def _place(self, failure: lines.FailureSaid) -> str:
        """Where a failed assertion is, in the repository if that can be told."""
        if failure.framework == "xctest":
            return self._places.relative(failure.path)
        return self._places.named(failure.path) or failure.path

    def _failure(self, line: str) -> lines.FailureSaid | None:
        if (name := lines.issue_start(line)) is not None:
            self._issue = name, _ISSUE_SPAN
        if self._issue is not None:
            name, left = self._issue
            found = lines.issue_place(line, name)
            self._issue = None if found or left <= 1 else (name, left - 1)
            if found is not None:
                return found
        return lines.xctest_failure(line) if ": error: " in line else None


def _line_end(block: bytes, at: int) -> int:
    end = block.find(b"\n", at)
    return end if end >= 0 else len(block)


def read_log(path: Path, tree: Path, *, tool: str = "swiftpm") -> LogFacts:
    """The facts of a log on disk; phases are not known, so bare `error:` lines are not taken."""
    reader = LogReader(tree, tool=tool)
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 16):
                reader.feed(chunk)
    except FileNotFoundError:
        return LogFacts()
    reader.end()
    return reader.facts()
