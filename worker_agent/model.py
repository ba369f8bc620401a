"""What the worker's rooms hand to one another: a job's folders, its phases and how they ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rch.contract.records import Job, JobKeyInputs, ToolchainEntry


@dataclass(frozen=True, slots=True)
class JobLayout:
    """A job's folders. `tree` and `build` are its run's, shared by the run's steps in turn, or a slot's.

    `spm` is where SwiftPM keeps what jobs share of dependencies; None: where it would by itself.
    `udid` is the simulator that the job has. `scratch` holds tool outputs that are read for evidence
    (xunit files, result bundles), and is empty when a try of the job begins;
    `artifacts` is the set that is sealed and fetched; `log` lies in it as `build.log`.
    """

    root: Path
    tree: Path
    build: Path
    scratch: Path
    tmp: Path
    artifacts: Path
    spm: Path | None = None
    udid: str | None = None

    @property
    def log(self) -> Path:
        """The log that `tail` serves while it grows."""
        return self.artifacts / "build.log"

    @property
    def events(self) -> Path:
        """`events.jsonl`, written as things happen."""
        return self.artifacts / "events.jsonl"


@dataclass(frozen=True, slots=True)
class Phase:
    """One process of a job. `name` is resolve, boot, build or test; `env` adds to the job's environment."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseExit:
    """How a phase ended: an exit code, a signal, or `start_error` where it could not start."""

    name: str
    exit_code: int | None
    term_signal: int | None
    duration_ms: int
    start_error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the tool said 0."""
        return self.exit_code == 0


@dataclass(frozen=True, slots=True)
class EndedByUs:
    """That we ended the job, and why.

    `reason` is USER, SIGNAL, SUPERSEDED, LEASE_EXPIRED, TIMEOUT_OVERALL, TIMEOUT_IDLE or WORKER_LOST.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """What is told of a job's simulator: members of `destination.json`, and why it could not be deleted."""

    device: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


class Backend(Protocol):
    """A build tool: what to run, and what its outputs say. Both without side effects on state."""

    @property
    def name(self) -> str:
        """`swiftpm` or `xcodebuild`."""

    def phases(self, job: Job, layout: JobLayout) -> Iterable[Phase]:
        """The processes of the job, in order; the next one is asked for, and run, after exit code 0."""


class Probe(Protocol):
    """Finds toolchains, and says whether one that a job names is still there."""

    def toolchains(self) -> tuple[ToolchainEntry, ...]:
        """What is installed."""

    def unchanged(self, inputs: JobKeyInputs) -> str | None:
        """None if the named toolchain and destination still exist unchanged, else what changed."""
