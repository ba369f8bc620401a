"""Swift packages with the toolchain's own `swift build` and `swift test` (spec section 11).

What was found with Swift 6.3.1, and decides about the flags here:

- `swift test` writes XCTest results to the xunit file only with `--parallel`, which runs each
  test in a process of its own. So it always gets that flag, and one worker unless the
  invocation asks for parallel tests: the tests still run one after the other.
- Swift Testing gets the words of the command line as they stand and looks for
  `--no-parallel`; SwiftPM takes the last of the two. Both words together are what
  `--no-parallel` means, with results.
- A passing or skipped XCTest is seen on the console only with `--verbose`, and the xunit file
  does not tell a skipped test, nor one that ended its process with code 0, from a passed one.
- `swift build --build-tests` in release does not turn testability on, as `swift test` does by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.contract.policy import GRAMMARS, Check, Flag
from rch.contract.records import Job
from worker_agent.backends.config import config_of
from worker_agent.model import JobLayout, Phase

XUNIT = "xunit.xml"
"""The file that `swift test` writes XCTest's results to, in the job's scratch folder."""

XUNIT_SWIFT_TESTING = "xunit-swift-testing.xml"
"""The file that Swift Testing writes beside it."""


class SwiftPM:
    """The backend `swiftpm`."""

    @property
    def name(self) -> str:
        """`swiftpm`."""
        return "swiftpm"

    def phases(self, job: Job, layout: JobLayout) -> tuple[Phase, ...]:
        """One `swift build`; for a test job with the tests, and a `swift test` after it."""
        inputs = job.job_key_inputs
        swift = str(Path(inputs.toolchain["toolchain_dir"]) / "bin" / "swift")
        package = package_folder(job, layout)
        places = (
            "--package-path",
            str(package),
            "--scratch-path",
            str(layout.build),
            *_shared(job, layout),
        )
        flags = list(flags_of(inputs.sanitized_argv))
        if job.action == "build":
            return (Phase("build", (swift, "build", *places, *_words(flags)), package),)
        shared = [(flag, value) for flag, value in flags if "build" in flag.serves]
        testable = ("-Xswiftc", "-enable-testing") if _configuration(flags) == "release" else ()
        build = (swift, "build", *places, "--build-tests", *_words(shared), *testable)
        results = ("--xunit-output", str(layout.scratch / XUNIT), "--verbose")
        asked = [(flag, value) for flag, value in flags if flag.name not in _PARALLEL]
        test = (swift, "test", *places, "--skip-build", *results, *_words(asked), *testable)
        return (Phase("build", build, package), Phase("test", (*test, *_parallel(flags)), package))


def _shared(job: Job, layout: JobLayout) -> tuple[str, ...]:
    """Where SwiftPM keeps what packages share of dependencies and manifests; no words: with its account."""
    if layout.spm is not None:
        return ("--cache-path", str(layout.spm))
    cache = config_of(job).get("cache")
    off = isinstance(cache, dict) and cache.get("spm") == "off"
    return ("--disable-dependency-cache", "--manifest-cache", "local") if off else ()


_PARALLEL = frozenset({"--parallel", "--no-parallel"})


def package_folder(job: Job, layout: JobLayout) -> Path:
    """The folder of `Package.swift`; a `project.package` outside of the tree is refused."""
    project = config_of(job).get("project") or {}
    named = str(project.get("package") or ".")
    if named.startswith("/") or ".." in named.split("/"):
        message = f"project.package {named!r} is not inside the project root"
        raise Failure(Kind.CLASSIFIER_REJECTED, message)
    return layout.tree / named


def flags_of(argv: Sequence[str]) -> Iterator[tuple[Flag, str | None]]:
    """Flags and values of a sanitized `swift` argv; a word that the gate does not know is refused."""
    words = iter(argv[1:])
    for word in words:
        flag = GRAMMARS["swiftpm"].flags.get(word)
        if flag is None:
            raise Failure(Kind.CLASSIFIER_REJECTED, f"{word!r} is no flag of a sanitized swift argv")
        value = None if flag.check is Check.NOTHING else next(words, None)
        if value is None and flag.check is not Check.NOTHING:
            raise Failure(Kind.CLASSIFIER_REJECTED, f"{word} has no value in the sanitized argv")
        yield flag, value


def _words(flags: Sequence[tuple[Flag, str | None]]) -> tuple[str, ...]:
    return tuple(word for flag, value in flags for word in (flag.name, value) if word is not None)


def _configuration(flags: Sequence[tuple[Flag, str | None]]) -> str | None:
    return next((value for flag, value in flags if flag.name == "--configuration"), None)


def _parallel(flags: Sequence[tuple[Flag, str | None]]) -> tuple[str, ...]:
    asked = {flag.name for flag, _ in flags}
    if "--parallel" in asked:
        return ("--parallel",)
    serial = ("--no-parallel",) if "--no-parallel" in asked else ()
    return (*serial, "--parallel", "--num-workers", "1")
