"""What lines of xcodebuild's own say about why it ended: a table, kind by kind (spec section 9).

A test can print whatever it likes, so a pattern is as narrow as the tool's own form lets it be:
what xcodebuild says of its runners counts only in lines that bear its name and time, in its
`xcodebuild: error:` lines, and in the block `Testing failed:`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEXT = 500
_SEARCHED = 2000


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of one kind, with the line that gave it."""

    kind: str
    text: str


PACKAGE_RESOLUTION = "package_resolution"
DEPENDENCY_GRAPH = "dependency_graph"
SCRIPT_PHASE = "script_phase"
COMPILE = "compile"
LINK = "link"
SIGNING = "signing"
LICENCE = "licence"
NO_DESTINATION = "no_destination"
PROJECT_MISSING = "project_missing"
USAGE = "usage"
LOCKED_DATABASE = "locked_database"
INFRASTRUCTURE = "infrastructure"
CRASH = "crash"
BUILD_FAILED = "build_failed"
TESTS_FAILED = "tests_failed"

BUILD_KINDS = frozenset({BUILD_FAILED, COMPILE, LINK, SCRIPT_PHASE, DEPENDENCY_GRAPH, SIGNING})
"""Kinds that mean a build that did not come to its end."""


def _any(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words))


# What the tool says in lines that are its own beyond doubt: all words of one entry, in small letters.
_OWN: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    (
        PACKAGE_RESOLUTION,
        (
            ("could not resolve package dependencies",),
            ("dependencies could not be resolved",),
            ("out-of-date resolved file was detected",),
            ("a resolved file is required when automatic dependency resolution is disabled",),
        ),
    ),
    (LICENCE, (("agreed to the xcode", "license"), ("agreeing to the xcode", "license"))),
    (
        NO_DESTINATION,
        (
            ("unable to find a destination matching",),
            ("unable to find a device matching",),
            ("no available devices matched",),
            ("found no destinations for the scheme",),
        ),
    ),
    (
        PROJECT_MISSING,
        (
            ("does not contain a scheme named",),
            ("does not contain an xcode project",),
            ("xcodebuild: error: '", "' does not exist"),
            ("is not a workspace file",),
            ("is not a project file",),
            ("unable to read project",),
            ("is not currently configured for the",),
        ),
    ),
    (
        USAGE,
        (
            ("xcodebuild: error: invalid option",),
            ("error: option '", "requires"),
            ("unknown build action",),
        ),
    ),
    (LOCKED_DATABASE, (("unable to attach db",), ("database is locked",))),
    (
        INFRASTRUCTURE,
        (
            ("operation never finished bootstrapping",),
            ("failed to install or launch the test runner",),
            ("test runner never began executing tests",),
            ("test runner", "before establishing connection"),
            ("test runner", "before starting test execution"),
            ("test runner", "before checking in"),
            ("test runner failed to",),
            ("timed out registering for testing event",),
            ("timed out while loading accessibility",),
            ("timed out while enabling automation",),
            ("lost connection to",),
            ("failed to establish communication with",),
            ("unable to boot",),
            ("failed to boot",),
            ("failed to prepare device",),
            ("failed to background test runner",),
        ),
    ),
    (CRASH, (("test runner", "before finishing running tests"), ("test crashed with",))),
)
_TIMED_KINDS = frozenset({INFRASTRUCTURE, LOCKED_DATABASE})
_ERROR_KINDS = frozenset(kind for kind, _ in _OWN) - {INFRASTRUCTURE, CRASH}
_RUNNER_KINDS = frozenset({INFRASTRUCTURE, CRASH})

_TIMED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{1,9}(?: ?[+-]\d{4})? xcodebuild\[[\d:]{1,32}\]")
_OWN_ERROR = re.compile(r"xcodebuild: error: ")
_BARE_ERROR = re.compile(r"error: ")
_LICENCE = re.compile(r"(?:xcodebuild: error: )?(?:You have not agreed to|Agreeing to) the Xcode")
_RESTART = re.compile(r"Restarting after unexpected exit, crash, or test timeout")
_BANNER = re.compile(r"\*\* (BUILD|TEST(?: EXECUTE| BUILD)?|ARCHIVE) (FAILED|INTERRUPTED) \*\*$")
_COMMAND = re.compile(r"Command (\w{1,80}) failed(?: with a nonzero exit code| with exit code|:|\.)")
_CANCELLED = re.compile(r"(?:Testing failed:\s*)?Testing cancelled because the build failed")
_LINKER = re.compile(r"(?:Undefined symbols? for architecture |ld: (?!warning: )\S|duplicate symbol )")
_SIGNING = _any(
    r"error: Signing for ",
    r"error: No (?:profiles|signing certificate) ",
    r"error: (?:No )?[Pp]rovisioning profile ",
    r"requires a provisioning profile",
    r"errSecInternalComponent",
)
_CRASHED = _any("[Cc]rash(?:ed)?(?: with signal|:| in | at )", "[Tt]est crashed")

_COMMANDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (SCRIPT_PHASE, ("PhaseScriptExecution",)),
    (DEPENDENCY_GRAPH, ("ComputeTargetDependencyGraph", "ComputePackagePrebuildTargetDependencyGraph")),
    (LINK, ("Ld", "Libtool", "CreateUniversalBinary")),
    (SIGNING, ("CodeSign", "ProcessProductPackaging")),
    (
        COMPILE,
        (
            "CompileSwift",
            "CompileSwiftSources",
            "SwiftCompile",
            "SwiftDriver",
            "CompileC",
            "EmitSwiftModule",
        ),
    ),
)


def sign_of(line: str) -> Sign | None:
    """The sign in a line that stands outside of any block; None for most lines."""
    if _TIMED.match(line) is not None:
        return own_sign(line, _TIMED_KINDS)
    if _OWN_ERROR.match(line) is not None and (found := own_sign(line)) is not None:
        return found
    # tests print such lines too: nothing is taken from them that would take a failed test's place
    if _BARE_ERROR.match(line) is not None and (found := own_sign(line, _ERROR_KINDS)) is not None:
        return found
    for kind, pattern in (
        (CRASH, _RESTART),
        (LICENCE, _LICENCE),
        (BUILD_FAILED, _CANCELLED),
        (LINK, _LINKER),
    ):
        if pattern.match(line) is not None:
            return Sign(kind, line[:MAX_TEXT])
    if (banner := _BANNER.match(line)) is not None:
        built = banner[1] in {"BUILD", "TEST BUILD", "ARCHIVE"}
        return Sign(BUILD_FAILED if built else TESTS_FAILED, line[:MAX_TEXT])
    if (command := _COMMAND.match(line)) is not None:
        return Sign(kind_of_command(command[1]), line[:MAX_TEXT])
    if "rror: " in line or "errSec" in line:
        return Sign(SIGNING, line[:MAX_TEXT]) if _SIGNING.search(line) is not None else None
    return None


def own_sign(text: str, kinds: frozenset[str] | None = None) -> Sign | None:
    """The sign in words that are xcodebuild's own, or a result bundle's about a runner."""
    small = text[:_SEARCHED].lower()
    for kind, entries in _OWN:
        if kinds is not None and kind not in kinds:
            continue
        for first, *others in entries:
            if first in small and all(word in small for word in others):
                return Sign(kind, text.strip()[:MAX_TEXT])
    return None


def runner_sign(text: str) -> Sign | None:
    """The sign in what is said of a test runner as a whole: trouble of the place, or a crash."""
    found = own_sign(text, _RUNNER_KINDS)
    if found is not None:
        return found
    return Sign(CRASH, text.strip()[:MAX_TEXT]) if _CRASHED.search(text) is not None else None


def kind_of_command(command: str) -> str:
    """Which kind of failure a failed build command is: `Ld`, `PhaseScriptExecution` and so on."""
    return next((kind for kind, names in _COMMANDS if command in names), BUILD_FAILED)
