"""How a job of a scenario goes: its log, its events, its tests and its end. Pure.

Nothing is built, and the log says so. A job is a function of the time since its submit, so that no
process has to live between two requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rch.contract.errors import Kind, lookup
from rch.contract.records import Diagnostic, Job
from rch.contract.toolchain import backend_of
from rch.contract.worker_rpc import JobEvent, SubmitRequest
from rch_conformance.mock.scenario import Job as Script

SUITE = "MockTests"
SAID = "rch-mock-worker: nothing is built here; this log is made up"
_STATES = {"success": "SUCCEEDED", "failed": "FAILED", "cancelled": "CANCELLED"}
_EXIT_CODES = {"swiftpm": 1, "xcodebuild": 65}
_TIMEOUTS = frozenset({"TIMEOUT_OVERALL", "TIMEOUT_IDLE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One test: `failure` is its message, empty where it passed."""

    __test__ = False

    name: str
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ends: `status` and kinds as in `summary.json`, the tool's exit code, what it found."""

    status: str = "success"
    outcome: str = "PASSED"
    kind: Kind | None = None
    sentence: str = ""
    backend_exit_code: int | None = 0
    tests: tuple[Test, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = field(default=())

    @property
    def state(self) -> str:
        """The job's last state."""
        return _STATES[self.status]

    @property
    def exit_code(self) -> int:
        """That of the registry."""
        return 0 if self.kind is None else lookup(self.kind, self.outcome).exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job that is over. `seq` is that of its end, `at` its time; `log` is all of it."""

    submit: SubmitRequest
    ending: Ending
    seq: int
    at: str
    log: bytes
    events: tuple[JobEvent, ...]


def ending(job: Job, script: Script) -> Ending:
    """How the job ends if it is left alone."""
    tool = backend_of(job.job_key_inputs.toolchain)[0]
    kind, code = Kind.XCODEBUILD if tool == "xcodebuild" else Kind.SWIFTPM, _EXIT_CODES[tool]
    tests = (Test(name="testOne"), Test(name="testTwo")) if job.action == "test" else ()
    failed = Ending(status="failed", kind=kind, backend_exit_code=code)
    match script.outcome if script.on in {"any", job.action} else "success":
        case "build-failed":
            found = Diagnostic(
                path="Sources/Mock/Mock.swift",
                line=3,
                column=9,
                severity="error",
                message="cannot find 'lantern' in scope",
            )
            return _with(failed, "BUILD_FAILED", f"build failed: {found.message}", diagnostics=(found,))
        case "tests-failed":
            tests = (Test(name="testOne"), Test(name="testTwo", failure="1 is not 2"))
            return _with(failed, "TESTS_FAILED", f"1 of 2 tests failed: {SUITE}.testTwo", tests=tests)
        case "tests-crashed":
            return _with(failed, "TESTS_CRASHED", f"the tests crashed: {SUITE}.testTwo", tests=tests[:1])
        case "no-tests":
            return _with(failed, "NO_TESTS_RAN", "no test ran")
        case "infrastructure":
            away = Ending(status="failed", kind=Kind.EXECUTOR, backend_exit_code=code)
            return _with(away, "INFRASTRUCTURE", "the test runner never started")
        case _:
            what = f"{len(tests)} tests passed" if tests else "build succeeded"
            return Ending(sentence=f"{what} (made up)", tests=tests)


def _with(
    base: Ending,
    outcome: str,
    sentence: str,
    *,
    tests: tuple[Test, ...] = (),
    diagnostics: tuple[Diagnostic, ...] = (),
) -> Ending:
    return Ending(
        status=base.status,
        kind=base.kind,
        backend_exit_code=base.backend_exit_code,
        outcome=outcome,
        sentence=f"{sentence} (made up)",
        tests=tests,
        diagnostics=diagnostics,
    )


def cancelled(reason: str) -> Ending:
    """How a job ends that is cancelled for `reason`: a time that is over is a failure of its own."""
    late = reason in _TIMEOUTS
    return Ending(
        status="failed" if late else "cancelled",
        kind=Kind.EXECUTOR if late else Kind.CANCELLED,
        outcome=reason,
        sentence=f"ended: {reason}",
        backend_exit_code=None,
    )


def log_lines(job: Job, script: Script, end: Ending) -> tuple[str, ...]:
    """The whole log, a line each."""
    tool, version = backend_of(job.job_key_inputs.toolchain)
    lines = [SAID, f"{tool} {version}: {' '.join(job.job_key_inputs.sanitized_argv)}"]
    lines += [f"[{number}/{script.lines}] Compiling Mock" for number in range(1, script.lines + 1)]
    lines += [
        f"{one.path}:{one.line}:{one.column}: {one.severity}: {one.message}" for one in end.diagnostics
    ]
    for test in end.tests:
        word = "failed" if test.failure else "passed"
        lines += [f"Test Case '{SUITE}.{test.name}' {word} (0.001 seconds)"]
    return (*lines, end.sentence)


def written(lines: tuple[str, ...], share: float) -> bytes:
    """What of the log is there when `share` of the job's time, 0 to 1, is over."""
    there = lines[: max(1, int(len(lines) * share))]
    return "".join(f"{line}\n" for line in there).encode()
