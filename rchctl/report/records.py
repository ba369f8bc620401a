"""Reads the records of one run, by way of its indices. What cannot be read is a note, not an end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rch.contract.decoding import decode_json
from rch.contract.errors import Failure
from rch.contract.records import (
    Accepted,
    Attestation,
    AttestationVerification,
    BuildSummary,
    Destination,
    HostMetrics,
    Invocation,
    JobKeyInputs,
    Manifest,
    Metrics,
    Record,
    RunPlan,
    RunStateRecord,
    RunSummary,
    Summary,
    TestSummary,
    Toolchain,
    WorkerSelection,
    decode_record,
)
from rch.files.regular import open_regular
from rchctl.indices import Item, manifest_digests, run_index, step_items, steps_of
from rchctl.report.junit import Cases, parse_junit

MAX_BYTES = 64 << 20
"""A larger record is not read."""
_TAIL_BYTES = 16 << 10
_TAIL_LINES = 40

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class StepRecords:
    """One step: what the run's index says of it, and its job's records; None where there is none."""

    action: str
    job_id: str
    status: str | None
    exit_code: int | None
    files: tuple[Item, ...]
    summary: Summary | None
    tests: TestSummary | None
    build: BuildSummary | None
    metrics: Metrics | None
    host_metrics: HostMetrics | None
    toolchain: Toolchain | None
    destination: Destination | None
    invocation: Invocation | None
    attestation: Attestation | None
    verification: AttestationVerification | None
    manifest: Manifest | None
    key_inputs: JobKeyInputs | None
    cases: Cases | None
    log_end: tuple[str, ...]

    @property
    def log(self) -> Path | None:
        """Its log, the job's own or else the live one."""
        named = {item.name: item.path for item in self.files if not item.missing}
        return named.get("build_log", named.get("live_log"))


@dataclass(frozen=True, slots=True)
class RunRecords:
    """A run's own records and those of its steps, in order; `notes` say what could not be read.

    `altered` are the files that were read and are not what the manifest of their set lists.
    """

    run_dir: Path
    run_id: str
    simulated: bool
    accepted: Accepted | None
    summary: RunSummary | None
    state: RunStateRecord | None
    plan: RunPlan | None
    selection: WorkerSelection | None
    source_manifest: Path | None
    steps: tuple[StepRecords, ...]
    notes: tuple[str, ...]
    altered: tuple[str, ...] = ()


@dataclass(slots=True)
class Reading:
    """Reads files below one run, and remembers what went wrong.

    `digests` are those of the sets' manifests; what was read and is not as listed stands in `altered`.
    """

    run_dir: Path
    notes: list[str] = field(default_factory=list)
    digests: Mapping[Path, str] = field(default_factory=dict)
    altered: list[str] = field(default_factory=list)

    def record(self, path: Path | None, kind: type[R]) -> R | None:
        """The record at `path`; None without one."""
        data = self.data(path)
        try:
            return None if data is None else decode_record(data, kind)
        except ValueError as error:
            self.notes.append(f"{self._name(path)}: {error}")
            return None

    def key_inputs(self, path: Path | None) -> JobKeyInputs | None:
        """What a job's key was made of, which has no envelope."""
        data = self.data(path)
        try:
            return None if data is None else decode_json(data, JobKeyInputs)
        except ValueError as error:
            self.notes.append(f"{self._name(path)}: {error}")
            return None

    def cases(self, path: Path | None) -> Cases | None:
        """The tests one by one."""
        data = self.data(path)
        found = None if data is None else parse_junit(data)
        if found is not None and found.problem:
            self.notes.append(found.problem)
        return found

    def data(self, path: Path | None) -> bytes | None:
        """The bytes of a regular file that is not too large."""
        if path is None:
            return None
        try:
            with open_regular(path) as file:
                found = file.read(MAX_BYTES + 1)
        except OSError as error:
            self.notes.append(f"{self._name(path)}: {error.strerror or error}")
            return None
        if len(found) > MAX_BYTES:
            self.notes.append(f"{self._name(path)}: over {MAX_BYTES} bytes, not read")
            return None
        self._compare(path, hashlib.sha256(found).hexdigest())
        return found

    def _compare(self, path: Path, digest: str) -> None:
        if self.digests.get(path, digest) != digest and self._name(path) not in self.altered:
            self.altered.append(self._name(path))

    def end_of(self, path: Path | None) -> tuple[str, ...]:
        """The last lines of a log."""
        if path is None:
            return ()
        try:
            with open_regular(path) as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TAIL_BYTES))
                data = file.read(_TAIL_BYTES)
                if path in self.digests and size <= MAX_BYTES:
                    file.seek(0)
                    self._compare(path, hashlib.sha256(file.read()).hexdigest())
                lines = data.decode("utf-8", "replace").splitlines()
        except OSError as error:
            self.notes.append(f"{self._name(path)}: {error.strerror or error}")
            return ()
        return tuple(lines[-_TAIL_LINES:] if size <= _TAIL_BYTES else lines[1:][-_TAIL_LINES:])

    def _name(self, path: Path | None) -> str:
        if path is None or not path.is_relative_to(self.run_dir):
            return str(path)
        return str(path.relative_to(self.run_dir))


def read_run(run_dir: Path) -> RunRecords:
    """All that a report of the run at `run_dir` is made of; `Failure` ARTIFACTS without its indices."""
    index = run_index(run_dir)
    reading = Reading(run_dir)
    try:
        reading.digests = manifest_digests(run_dir)
    except Failure as failure:
        reading.notes.append(failure.message)

    def place(name: str) -> Path | None:
        path = index.get(name)
        return run_dir / path if isinstance(path, str) and ".." not in Path(path).parts else None

    steps = tuple(_step(reading, run_dir, each) for each in steps_of(index))
    return RunRecords(
        run_dir=run_dir,
        run_id=str(index.get("run_id", run_dir.name)),
        simulated=index.get("simulated") is True,
        accepted=reading.record(place("accepted"), Accepted),
        summary=reading.record(place("run_summary"), RunSummary),
        state=reading.record(place("run_state"), RunStateRecord),
        plan=reading.record(place("run_plan"), RunPlan),
        selection=reading.record(place("worker_selection"), WorkerSelection),
        source_manifest=place("source_manifest"),
        steps=steps,
        notes=tuple(reading.notes),
        altered=tuple(reading.altered),
    )


def _step(reading: Reading, run_dir: Path, pointer: dict[str, Any]) -> StepRecords:
    files = tuple(step_items(run_dir, pointer))
    reading.notes += [
        f"{item.scope}: {item.name} is named by an index and not there" for item in files if item.missing
    ]
    named = {item.name: item.path for item in files if item.kind == "file"}
    code, status = pointer.get("exit_code"), pointer.get("status")
    tests = reading.record(named.get("test_summary"), TestSummary)
    return StepRecords(
        action=str(pointer.get("action", "")),
        job_id=str(pointer.get("job_id", "")),
        status=status if isinstance(status, str) else None,
        exit_code=code if isinstance(code, int) else None,
        files=files,
        # What the host has to say of a job stands above the worker's word.
        summary=reading.record(named.get("host_summary", named.get("summary")), Summary),
        tests=tests,
        build=reading.record(named.get("build_summary"), BuildSummary),
        metrics=reading.record(named.get("metrics"), Metrics),
        host_metrics=reading.record(named.get("host_metrics"), HostMetrics),
        toolchain=reading.record(named.get("toolchain"), Toolchain),
        destination=reading.record(named.get("destination"), Destination),
        invocation=reading.record(named.get("invocation"), Invocation),
        attestation=reading.record(named.get("attestation"), Attestation),
        verification=reading.record(named.get("attestation_verification"), AttestationVerification),
        manifest=reading.record(named.get("manifest"), Manifest),
        key_inputs=reading.key_inputs(named.get("job_key_inputs")),
        cases=None if tests is None else reading.cases(named.get("junit")),
        log_end=()
        if status == "success"
        else reading.end_of(named.get("build_log", named.get("live_log"))),
    )
