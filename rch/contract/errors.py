"""The one registry of failures: kind x subkind -> exit code, retryable, remedy (spec section 8).

Every refusal that reaches a user is a `Failure`; its kind decides the exit code, so that
scripts can rely on it. Standard library alone: the thin client imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What went wrong, in the words of the contract."""

    CLASSIFIER_REJECTED = "CLASSIFIER_REJECTED"
    SSH = "SSH"
    TRANSFER = "TRANSFER"
    EXECUTOR = "EXECUTOR"
    XCODEBUILD = "XCODEBUILD"
    SWIFTPM = "SWIFTPM"
    ARTIFACTS = "ARTIFACTS"
    CANCELLED = "CANCELLED"
    WORKER_BUSY = "WORKER_BUSY"
    WORKER_INCOMPATIBLE = "WORKER_INCOMPATIBLE"
    BUNDLER = "BUNDLER"
    ATTESTATION = "ATTESTATION"
    INTERNAL = "INTERNAL"
    USAGE = "USAGE"
    CONFIG = "CONFIG"
    DAEMON = "DAEMON"


class Entry(NamedTuple):
    """One row of the registry. `remedy` is one line for the user.

    `retryable`: the same call may succeed without anybody changing anything. Of a run that is the
    same request as a new run. Then the remedy says to run again or to wait, before anything else.
    """

    exit_code: int
    retryable: bool
    remedy: str


_KINDS: Mapping[Kind, Entry] = {
    Kind.CLASSIFIER_REJECTED: Entry(10, False, "see what is allowed: rchctl verify --help"),
    Kind.SSH: Entry(20, True, "check the worker: rchctl workers probe"),
    Kind.TRANSFER: Entry(30, True, "run the same command again"),
    Kind.EXECUTOR: Entry(40, False, "read the job's build.log: rchctl tail <run>"),
    Kind.XCODEBUILD: Entry(50, False, "read the first diagnostic: rchctl tail <run>"),
    Kind.SWIFTPM: Entry(50, False, "read the first diagnostic: rchctl tail <run>"),
    Kind.ARTIFACTS: Entry(70, True, "run the same command again"),
    Kind.CANCELLED: Entry(80, True, "run the same command again"),
    Kind.WORKER_BUSY: Entry(90, True, "wait, or add a worker to workers.toml"),
    Kind.WORKER_INCOMPATIBLE: Entry(91, False, "see each worker's reason: rchctl workers probe"),
    Kind.BUNDLER: Entry(92, False, "mend the named path or exclude it in .rchignore"),
    Kind.ATTESTATION: Entry(93, False, "do not trust this worker until its key is explained"),
    Kind.INTERNAL: Entry(1, False, "read the daemon's log: rchctl daemon status names it"),
    Kind.USAGE: Entry(2, False, "see rchctl --help"),
    Kind.CONFIG: Entry(3, False, "mend the named key"),
    Kind.DAEMON: Entry(4, True, "rchctl daemon start"),
}

_SUBKINDS: Mapping[tuple[Kind, str], Entry] = {
    (Kind.SSH, "HOST_KEY"): Entry(
        20, False, "compare the seen key with the worker's own, then change the pin"
    ),
    (Kind.SSH, "AUTH"): Entry(20, False, "put the worker's authorized_keys line in place"),
    (Kind.SSH, "ALGORITHMS"): Entry(
        20, False, "update sshd on the worker, or have its sshd_config allow today's algorithms"
    ),
    (Kind.SSH, "SETUP"): Entry(20, False, "mend what the step names, and run it again"),
    (Kind.SSH, "UNREACHABLE"): Entry(20, True, "check that the worker is up: rchctl workers probe"),
    (Kind.EXECUTOR, "PROTOCOL_ERROR"): Entry(40, False, "bring host and worker to the same version"),
    (Kind.EXECUTOR, "WORKER_LOST"): Entry(40, True, "run the same command again"),
    (Kind.EXECUTOR, "TIMEOUT_OVERALL"): Entry(40, False, "raise timeouts.overall_seconds"),
    (Kind.EXECUTOR, "TIMEOUT_IDLE"): Entry(40, False, "raise timeouts.idle_log_seconds"),
    (Kind.EXECUTOR, "INFRASTRUCTURE"): Entry(40, True, "run the same command again"),
    (Kind.EXECUTOR, "NO_SPACE"): Entry(40, True, "wait for other runs, or free space on the worker"),
    (Kind.EXECUTOR, "CACHE_BUSY"): Entry(40, True, "wait for the job that holds the cache, and run again"),
    (Kind.EXECUTOR, "START_FAILED"): Entry(40, False, "check the toolchain on the worker"),
    (Kind.TRANSFER, "NO_SPACE"): Entry(30, True, "wait for other runs, or free space on the worker"),
    (Kind.TRANSFER, "TRANSPORT_DIGEST"): Entry(30, True, "run the same command again"),
    (Kind.TRANSFER, "BUNDLE_DIGEST"): Entry(30, True, "run the same command again"),
    (Kind.SWIFTPM, "BUILD_FAILED"): Entry(50, False, "mend what the log names: rchctl tail <run>"),
    (Kind.SWIFTPM, "TESTS_FAILED"): Entry(50, False, "mend the named tests"),
    (Kind.SWIFTPM, "TESTS_CRASHED"): Entry(50, False, "read the crash in build.log"),
    (Kind.SWIFTPM, "NO_TESTS_RAN"): Entry(50, False, "add tests, or set run.allow_no_tests = true"),
    (Kind.SWIFTPM, "INCONSISTENT"): Entry(50, False, "read the evidence in summary.json"),
    (Kind.XCODEBUILD, "BUILD_FAILED"): Entry(50, False, "mend what the log names: rchctl tail <run>"),
    (Kind.XCODEBUILD, "TESTS_FAILED"): Entry(50, False, "mend the named tests"),
    (Kind.XCODEBUILD, "TESTS_CRASHED"): Entry(50, False, "read the crash in build.log"),
    (Kind.XCODEBUILD, "NO_TESTS_RAN"): Entry(50, False, "add tests, or set run.allow_no_tests = true"),
    (Kind.XCODEBUILD, "INCONSISTENT"): Entry(50, False, "read the evidence in summary.json"),
    (Kind.XCODEBUILD, "USAGE"): Entry(50, False, "mend the invocation"),
    (Kind.XCODEBUILD, "PROJECT_MISSING"): Entry(50, False, "check [project] in .rch/xcode.toml"),
    (Kind.XCODEBUILD, "LICENSE"): Entry(50, False, "accept the Xcode licence on the worker"),
    (Kind.XCODEBUILD, "NO_DESTINATION"): Entry(50, False, "check [destination] in .rch/xcode.toml"),
    (Kind.XCODEBUILD, "PACKAGE_RESOLUTION"): Entry(50, False, "check Package.resolved"),
    (Kind.ARTIFACTS, "INTEGRITY_MISMATCH"): Entry(70, False, "compare the kept <job_id>.rejected/ set"),
    (Kind.ARTIFACTS, "SIZE_EXCEEDED"): Entry(70, False, "raise the worker's max_artifact_bytes"),
    (Kind.ARTIFACTS, "GONE"): Entry(70, True, "run the same command again"),
    (Kind.WORKER_INCOMPATIBLE, "NO_TOOLCHAIN"): Entry(91, False, "add a worker to workers.toml"),
    (Kind.WORKER_INCOMPATIBLE, "NO_DESTINATION"): Entry(
        91, False, "install the runtime on a worker, or change destination.value"
    ),
    (Kind.WORKER_INCOMPATIBLE, "TOOLCHAIN_CHANGED"): Entry(91, True, "run the same command again"),
    (Kind.WORKER_INCOMPATIBLE, "FEATURE_MISSING"): Entry(
        91, False, "add a worker that offers it to workers.toml (docs/workers.md), or upgrade rch-worker"
    ),
    (Kind.WORKER_INCOMPATIBLE, "PROTOCOL_DRIFT"): Entry(91, True, "run the same command again"),
    (Kind.WORKER_INCOMPATIBLE, "NOT_OFFERED"): Entry(91, False, "use what this version offers"),
    (Kind.WORKER_INCOMPATIBLE, "SIMULATED"): Entry(
        91,
        False,
        "add a worker with real tools to workers.toml (docs/workers.md), then rchctl workers probe",
    ),
    (Kind.WORKER_INCOMPATIBLE, "NOT_SIMULATED"): Entry(
        91, False, "set simulate = true in the worker.toml of a worker, or leave --simulate out"
    ),
    (Kind.BUNDLER, "PATH_COLLISION"): Entry(92, False, "rename one of the two"),
    (Kind.BUNDLER, "UNSUPPORTED_FILE"): Entry(92, False, "remove it, or name it in .rchignore"),
    (Kind.BUNDLER, "SYMLINK_ESCAPE"): Entry(92, False, "link inside the root, or name it in .rchignore"),
    (Kind.BUNDLER, "SOURCE_CHANGED"): Entry(92, True, "run again when the file is at rest"),
    (Kind.BUNDLER, "SIZE_EXCEEDED"): Entry(92, False, "exclude what the build does not need in .rchignore"),
    (Kind.BUNDLER, "UNREADABLE"): Entry(92, False, "make it readable, or name it in .rchignore"),
    (Kind.BUNDLER, "BAD_NAME"): Entry(92, False, "rename it, or name it in .rchignore"),
    (Kind.BUNDLER, "NO_SPACE"): Entry(92, True, "wait for other runs, or free space on this machine"),
    (Kind.CONFIG, "NO_PROJECT"): Entry(3, False, "make .rch/xcode.toml, or run inside a Swift package"),
    (Kind.CONFIG, "AMBIGUOUS"): Entry(3, False, "name one of the pair in [project]"),
    (Kind.CONFIG, "UNKNOWN_KEY"): Entry(3, False, "use the nearest known key"),
    (Kind.CONFIG, "BAD_VALUE"): Entry(3, False, "give the value that the message asks for"),
    (Kind.CONFIG, "LOCKED"): Entry(3, False, "the host's [policy] owns this key"),
    (Kind.CONFIG, "NOT_OFFERED"): Entry(3, False, "use what this version offers"),
    (Kind.DAEMON, "ALREADY_RUNNING"): Entry(4, False, "rchctl daemon status"),
    (Kind.DAEMON, "SOCKET_PATH"): Entry(4, False, "set RCH_SOCKET or RCH_HOME to a shorter path"),
    (Kind.DAEMON, "STATE"): Entry(4, False, "keep a copy of the state directory before you change it"),
    (Kind.DAEMON, "DRAINING"): Entry(4, True, "rchctl daemon start"),
    (Kind.USAGE, "UNKNOWN_RUN"): Entry(2, False, "see the runs: rchctl list"),
    (Kind.USAGE, "NOT_OFFERED"): Entry(2, False, "use what this version offers"),
}


def lookup(kind: Kind, subkind: str | None = None) -> Entry:
    """The row of a pair; an unknown subkind falls back to its kind's row."""
    if subkind is not None and (entry := _SUBKINDS.get((kind, subkind))) is not None:
        return entry
    return _KINDS[kind]


def registry() -> list[tuple[Kind, str | None, Entry]]:
    """Every row, kinds first, for docs and tests."""
    rows: list[tuple[Kind, str | None, Entry]] = [(kind, None, entry) for kind, entry in _KINDS.items()]
    rows += [(kind, subkind, entry) for (kind, subkind), entry in _SUBKINDS.items()]
    return rows


class Failure(Exception):  # noqa: N818  (a failure is the contract's word)
    """A refusal with a place in the registry.

    `message` is one line that names the thing and the value; `hint` overrides the
    registry's remedy; `data` holds further facts as JSON values.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        subkind: str | None = None,
        hint: str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.subkind = subkind
        self.message = message
        self.data: dict[str, object] = dict(data or {})
        self._hint = hint

    def reworded(self, message: str, **data: object) -> Failure:
        """The same refusal in other words, with more facts."""
        return Failure(
            self.kind, message, subkind=self.subkind, hint=self._hint, data={**self.data, **data}
        )

    @property
    def exit_code(self) -> int:
        """The exit code of the registry."""
        return lookup(self.kind, self.subkind).exit_code

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return lookup(self.kind, self.subkind).retryable

    @property
    def hint(self) -> str:
        """One line that mends it."""
        return self._hint or lookup(self.kind, self.subkind).remedy

    @property
    def label(self) -> str:
        """`KIND` or `KIND / SUBKIND`."""
        return f"{self.kind} / {self.subkind}" if self.subkind else str(self.kind)
