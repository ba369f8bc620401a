"""How far a tool is, as its log tells it while it grows: counts for people, and no verdict.

`swift` says `[12/345] Compiling App Main.swift` and, of tests that run beside one another,
`[3/40] Testing …`; xcodebuild has a line a command, with its target, and no total of commands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LONGEST_LINE = 4096
_COUNTED = re.compile(rb"\[(\d{1,6})/(\d{1,6})\] ([^\r\n]{1,400})")
_TESTING = b"Testing "
_COMMAND = re.compile(
    rb"(SwiftCompile|CompileC|CompileAssetCatalog|CompileXIB|CompileStoryboard|CompileMetalFile|Ld|Libtool"
    rb"|CodeSign|PhaseScriptExecution|ProcessInfoPlistFile|CopySwiftLibs|SwiftEmitModule) "
    rb"[^\r\n]{0,3000}\(in target '([^'\r\n]{1,200})'"
)
# Each file of Swift has two lines: that of the batch names the file with this word.
_BATCHED = b" Compiling\\ "
_TARGETS = re.compile(rb"note: Target dependency graph \((\d{1,5}) targets?\)")


@dataclass(slots=True)
class ToolLog:
    """Fed with the bytes of a step's log in order; what is between two pieces may have been left out.

    `done` of `total` as the tool counts (total 0: it tells none), `doing` is its last word.
    `tests_begun` of `tests` where the log counts them.
    """

    done: int = 0
    total: int = 0
    doing: str = ""
    tests_begun: int = 0
    tests: int = 0
    targets_total: int = 0
    _targets: set[bytes] = field(default_factory=set)
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest[-_LONGEST_LINE:]
        if newline:
            self._lines(whole)

    @property
    def targets(self) -> int:
        """So many targets were named."""
        return len(self._targets)

    def _lines(self, block: bytes) -> None:
        if b"[" in block:
            self._counted(block)
        if b"(in target '" not in block and b"dependency graph" not in block:
            return
        for line in block.split(b"\n"):
            if (graph := _TARGETS.match(line)) is not None:
                self.targets_total = max(self.targets_total, int(graph[1]))
            elif (found := _COMMAND.match(line)) is not None:
                self._targets.add(found[2])
                if found[1] == b"SwiftCompile" and _BATCHED not in line:
                    continue
                self.done += 1
                self.doing = f"{_text(found[1])} {_text(found[2])}"

    def _counted(self, block: bytes) -> None:
        for line in block.split(b"\n"):
            if not line.startswith(b"[") or (found := _COUNTED.match(line)) is None:
                continue
            if found[3].startswith(_TESTING):
                self.tests_begun, self.tests = int(found[1]), int(found[2])
            else:
                self.done, self.total, self.doing = int(found[1]), int(found[2]), _text(found[3])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
