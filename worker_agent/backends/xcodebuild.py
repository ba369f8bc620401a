"""Xcode projects and workspaces with `xcodebuild build` and `xcodebuild test` (spec section 11).

The flags that the worker owns come after those of the invocation, and none of them is in it: the
gate refuses them. No Xcode was at hand where this was written. What the flags do is taken from
`xcodebuild`'s manual and help; docs/simulation.md tells what stands on recordings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.contract.policy import GRAMMARS, Check
from rch.contract.records import Job
from worker_agent.backends.config import config_of
from worker_agent.model import JobLayout, Phase

BUNDLE = "result.xcresult"
"""The result bundle's name, in the scratch folder of each try: the tool refuses a path that is taken."""

PINNED = "-onlyUsePackageVersionsFromResolvedFile"
_HOLDS_PINS = frozenset({PINNED, "-disableAutomaticPackageResolution"})
_CONTAINERS = ("-workspace", "-project")
# What the resolution of packages may depend on.
_RESOLVES = frozenset({*_CONTAINERS, "-scheme", "-configuration", "-scmProvider", *_HOLDS_PINS})
_TIMEOUTS = frozenset(
    {
        "-test-timeouts-enabled",
        "-default-test-execution-time-allowance",
        "-maximum-test-execution-time-allowance",
    }
)
_MINUTE = 60
_UNBUFFERED = (("NSUnbufferedIO", "YES"),)
_PACKAGE_WORDS = (b"XCRemoteSwiftPackageReference", b"XCLocalSwiftPackageReference")
_MAX_PROJECT_BYTES = 64 << 20
_MAX_PROJECTS = 200
_DEFAULT_OVERALL, _DEFAULT_IDLE = 1800, 300


class Xcodebuild:
    """The backend `xcodebuild`."""

    @property
    def name(self) -> str:
        """`xcodebuild`."""
        return "xcodebuild"

    def phases(self, job: Job, layout: JobLayout) -> Iterator[Phase]:
        """Packages first, where there are any; then the one call, which for `test` builds too.

        Each phase is made when it is asked for: whether packages are held to their pins is known
        once they were resolved.
        """
        argv = job.job_key_inputs.sanitized_argv
        words = list(words_of(argv))
        tool = str(Path(job.job_key_inputs.toolchain["developer_dir"]) / "usr/bin/xcodebuild")
        clones = ("-clonedSourcePackagesDirPath", str(_clones(job, layout)))
        derived = ("-derivedDataPath", str(layout.build))
        pins: tuple[str, ...] = ()
        if has_packages(layout.tree, words):
            asked = [word for pair in words if pair[0] in _RESOLVES for word in pair]
            resolve = (tool, "-resolvePackageDependencies", *asked, *derived, *clones)
            yield Phase("resolve", resolve, layout.tree, _UNBUFFERED)
            held = any(flag in _HOLDS_PINS for flag, *_ in words)
            pins = () if held or not resolved_file(layout.tree, words).is_file() else (PINNED,)
        given = [word for pair in words for word in _placed(pair, job, layout)]
        owned = (
            *derived,
            *clones,
            "-resultBundlePath",
            str(layout.scratch / BUNDLE),
            "-collect-test-diagnostics",
            "never",
            *pins,
            *(_allowances(job, words) if job.action == "test" else ()),
        )
        yield Phase(job.action, (tool, *given, *owned, job.action), layout.tree, _UNBUFFERED)


def words_of(argv: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Flags with their values, and settings, of a sanitized argv; a word unknown to the gate is refused."""
    grammar = GRAMMARS["xcodebuild"]
    words = iter(argv[1:])
    for word in words:
        flag = grammar.flags.get(word)
        head, sign, _ = word.partition(":")
        named = grammar.flags.get(head) if sign else None
        selects = named is not None and named.check is Check.SELECTOR
        if selects or (flag is not None and flag.check is Check.NOTHING):
            yield (word,)
        elif flag is not None:
            value = next(words, None)
            if value is None:
                raise Failure(Kind.CLASSIFIER_REJECTED, f"{word} has no value in the sanitized argv")
            yield word, value
        elif word.partition("=")[0] in grammar.settings and "=" in word:
            yield (word,)
        else:
            raise Failure(Kind.CLASSIFIER_REJECTED, f"{word!r} is no word of a sanitized xcodebuild argv")


def _placed(pair: tuple[str, ...], job: Job, layout: JobLayout) -> tuple[str, ...]:
    """A destination by the very device: two simulators may have one name and system."""
    if pair[0] != "-destination" or layout.udid is None:
        return pair
    return "-destination", f"platform={job.job_key_inputs.destination['platform']},id={layout.udid}"


# --- packages -----------------------------------------------------------------------------


def _clones(job: Job, layout: JobLayout) -> Path:
    """Where packages are checked out: what jobs share, else beside the build products."""
    if layout.spm is not None:
        return layout.spm
    cache = config_of(job).get("cache")
    off = isinstance(cache, dict) and cache.get("spm") == "off"
    return (layout.scratch if off else layout.build) / "SourcePackages"


def resolved_file(tree: Path, words: Sequence[tuple[str, ...]]) -> Path:
    """Where the `Package.resolved` of the container lies, whether or not it is there."""
    inner = Path("xcshareddata/swiftpm/Package.resolved")
    for flag, *value in words:
        if flag == "-workspace":
            return tree / value[0] / inner
        if flag == "-project":
            return tree / value[0] / "project.xcworkspace" / inner
    return tree / inner


def has_packages(tree: Path, words: Sequence[tuple[str, ...]]) -> bool:
    """Whether there may be packages to resolve: pins, or a project of the tree that names any."""
    if resolved_file(tree, words).is_file():
        return True
    seen = 0
    for folder, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name not in {".git", "Pods", "node_modules"}]
        if folder.endswith(".xcodeproj") and "project.pbxproj" in names:
            seen += 1
            if seen > _MAX_PROJECTS or _names_packages(Path(folder, "project.pbxproj")):
                return True
    return False


def _names_packages(file: Path) -> bool:
    """What cannot be read as a whole may name some."""
    try:
        with file.open("rb") as project:
            text = project.read(_MAX_PROJECT_BYTES + 1)
    except OSError:
        return True
    return len(text) > _MAX_PROJECT_BYTES or any(word in text for word in _PACKAGE_WORDS)


# --- time ---------------------------------------------------------------------------------


def _allowances(job: Job, words: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """A bound for each test, so that one that hangs fails by its name and not with the whole job.

    Xcode counts in minutes. The bound lies below the job's own times; where those leave no whole
    minute there is none, and an invocation that speaks of such bounds keeps its own.
    """
    if any(flag in _TIMEOUTS for flag, *_ in words):
        return ()
    told = config_of(job).get("timeouts")
    table = told if isinstance(told, dict) else {}
    shortest = min(
        table.get("overall_seconds", _DEFAULT_OVERALL), table.get("idle_log_seconds", _DEFAULT_IDLE)
    )
    allowance = (int(-(-shortest // 1)) - 1) // _MINUTE * _MINUTE
    if allowance < _MINUTE:
        return ()
    return (
        "-test-timeouts-enabled",
        "YES",
        "-default-test-execution-time-allowance",
        str(allowance),
        "-maximum-test-execution-time-allowance",
        str(allowance),
    )
