from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from support import jobs

from rch.contract.canonical import jcs, jcs_sha256
from rch.contract.errors import Failure, Kind
from rch.contract.manifest import differences, root_sha256
from rch.contract.records import (
    Attestation,
    BuildSummary,
    Destination,
    EffectiveConfig,
    Entry,
    ExecutorEnv,
    Job,
    JobIndex,
    JobStateRecord,
    Manifest,
    Metrics,
    Record,
    Summary,
    TestSummary,
    Toolchain,
    decode_record,
    stable_capabilities,
)
from rch.contract.sets import INDEXED
from rch.files import durable
from worker_agent.model import EndedByUs, JobLayout, PhaseExit
from worker_agent.results.buildlog import LogReader
from worker_agent.results.finish import Ending, Sealed, finish
from worker_agent.results.logfacts import LogFacts

R = TypeVar("R", bound=Record)

RECORDED = Path(__file__).parent / "recorded"
GREEN = (PhaseExit("build", 0, None, 900), PhaseExit("test", 0, None, 80))
RED = (PhaseExit("build", 0, None, 900), PhaseExit("test", 1, None, 80))
ALWAYS = {
    "job.json",
    "job_state.json",
    "job_key_inputs.json",
    "invocation.json",
    "classifier_policy.json",
    "effective_config.json",
    "toolchain.json",
    "destination.json",
    "summary.json",
    "metrics.json",
    "executor_env.json",
    "manifest.json",
    "attestation.json",
    "job_index.json",
    "build.log",
}
RICH = {"events.jsonl", "build_summary.json", "test_summary.json", "junit.xml"}


class Room:
    """A job that has run, up to its sealing."""

    def __init__(self, root: Path) -> None:
        self.layout: JobLayout = jobs.layout(root)
        self.job = jobs.job()
        self.limit = 0
        self.log = LogFacts()

    @property
    def folder(self) -> Path:
        return self.layout.artifacts

    def ran(self, log: str = "Build complete!\n") -> Room:
        self.layout.log.write_text(log)
        self.layout.events.write_text('{"n":1,"at":"2026-01-02T03:04:05.678Z","type":"stage"}\n')
        return self

    def green(self, *, cases: str = '<testcase classname="M.A" name="testX"/>') -> Room:
        for name, body in (("xunit.xml", cases), ("xunit-swift-testing.xml", "")):
            text = f"<testsuites><testsuite>{body}</testsuite></testsuites>"
            (self.layout.scratch / name).write_text(text)
        told = tuple(f"A.{name}" for name in re.findall(r' name="(\w+)"', cases))
        self.log = LogFacts(vouched=told)
        return self

    def red(self) -> Room:
        for name in ("xunit.xml", "xunit-swift-testing.xml"):
            (self.layout.scratch / name).write_bytes((RECORDED / f"failing-{name}").read_bytes())
        return self

    def finish(self, seed: bytes | None = None, **ending: Any) -> Sealed:
        told: dict[str, Any] = {"phases": GREEN, "ended": None, "attempts": 1, "duration_ms": 1000}
        told |= {"state": jobs.state(self.job), "log": self.log}
        return finish(
            self.layout,
            jobs.submit(self.job),
            Ending(**{**told, **ending}),
            worker_name="mini",
            capabilities=jobs.capabilities(max_artifact_bytes=self.limit),
            now=lambda: jobs.NOW,
            seed=seed,
        )

    def read(self, name: str, kind: type[R]) -> R:
        return decode_record((self.folder / name).read_bytes(), kind)

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def found(self) -> Iterator[Entry]:
        for path in sorted(self.folder.rglob("*")):
            if path.is_dir():
                yield Entry(
                    path=path.relative_to(self.folder).as_posix(), type="directory", size=0, sha256=None
                )
            else:
                data = path.read_bytes()
                yield Entry(
                    path=path.relative_to(self.folder).as_posix(),
                    type="file",
                    size=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                )

    def check_whole(self) -> None:
        """As a host does it: entries, root, attestation, and every pointer of the index."""
        manifest = self.read("manifest.json", Manifest)
        assert differences(manifest.entries, self.found()) == []
        assert manifest.artifact_root_sha256 == root_sha256(manifest.entries)
        attestation = self.read("attestation.json", Attestation)
        stored = hashlib.sha256((self.folder / "manifest.json").read_bytes()).hexdigest()
        assert attestation.manifest_sha256 == stored
        index = self.read("job_index.json", JobIndex)
        assert {*index.files.values(), "job_index.json"} == self.names()


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.mark.spec("8")
def test_a_rich_set_holds_every_file_and_its_index_points_to_each(room: Room) -> None:
    sealed = room.ran().green().finish()
    assert sealed.summary.status == "success"
    assert room.names() == ALWAYS | RICH
    room.check_whole()


@pytest.mark.spec("8")
def test_every_record_has_the_envelope_of_its_job(room: Room) -> None:
    room.ran().green().finish(env={"PATH": "/bin", "HOME": "/root"}, stages_ms={"unpack": 7})
    kinds: dict[str, type[Any]] = {
        "summary.json": Summary,
        "job.json": Job,
        "toolchain.json": Toolchain,
        "destination.json": Destination,
        "effective_config.json": EffectiveConfig,
        "metrics.json": Metrics,
        "executor_env.json": ExecutorEnv,
        "build_summary.json": BuildSummary,
        "test_summary.json": TestSummary,
        "attestation.json": Attestation,
    }
    read = {name: room.read(name, kind) for name, kind in kinds.items()}
    for record in read.values():
        assert (record.run_id, record.job_id) == (room.job.run_id, room.job.job_id)
        assert record.job_key == room.job.job_key
        assert record.created_at == jobs.NOW
    assert read["toolchain.json"].swift_version == "6.3.1"
    assert read["destination.json"].name == "host"
    assert read["executor_env.json"].keys == ("HOME", "PATH")
    assert read["metrics.json"].stages_ms == {"unpack": 7, "build": 900, "test": 80}
    assert read["metrics.json"].host_timings == {"upload": 12}
    assert read["effective_config.json"].config["backend"] == "swiftpm"
    assert read["effective_config.json"].sources[0].origin == "default"


@pytest.mark.spec("7")
def test_the_inputs_of_the_job_key_are_its_very_bytes(room: Room) -> None:
    room.ran().green().finish()
    data = (room.folder / "job_key_inputs.json").read_bytes()
    assert data == jcs(room.job.job_key_inputs)
    assert hashlib.sha256(data).hexdigest() == room.job.job_key


@pytest.mark.spec("10")
def test_the_attestation_names_source_worker_backend_and_nonce_unsigned(room: Room) -> None:
    room.ran().green().finish()
    told = msgspec.json.decode((room.folder / "attestation.json").read_bytes())
    assert told["worker"] == {"name": "mini", "fingerprint": None}
    assert told["backend"] == {"name": "swiftpm", "version": "6.3.1"}
    assert told["host_nonce"] == "nonce-1"
    assert told["source_sha256"] == room.job.job_key_inputs.source_sha256
    assert told["capabilities_sha256"] == jcs_sha256(stable_capabilities(jobs.capabilities()))
    assert told["simulated"] is False
    assert not {"public_key", "public_key_fingerprint", "signature"} & told.keys()


def test_a_minimal_set_leaves_the_rich_files_out(room: Room) -> None:
    room.job = jobs.job(profile="minimal")
    room.ran().green().finish()
    assert room.names() == ALWAYS
    room.check_whole()


def test_a_build_job_has_no_test_results(room: Room) -> None:
    room.job = jobs.job("build")
    sealed = room.ran().finish(phases=GREEN[:1])
    assert sealed.summary.human_summary == "build succeeded"
    assert room.names() == ALWAYS | RICH - {"test_summary.json", "junit.xml"}
    room.check_whole()


@pytest.mark.spec("9")
def test_failed_tests_are_sealed_with_their_names(room: Room) -> None:
    (room.layout.tree / "SumSuite.swift").touch()
    reader = LogReader(room.layout.tree)
    reader.begin("test")
    reader.feed((RECORDED / "failing.txt").read_bytes())
    sealed = room.ran().red().finish(phases=RED, log=reader.facts())
    assert sealed.summary.failure_subkind == "TESTS_FAILED"
    assert sealed.state.state == "FAILED"
    told = room.read("test_summary.json", TestSummary)
    assert (told.total, told.failed, told.skipped) == (9, 4, 2)
    assert [(one.name, one.path) for one in told.failures][1] == ("none()", "SumSuite.swift")
    room.check_whole()


def test_a_toolchain_before_6_has_one_results_file(room: Room) -> None:
    room.job = jobs.job(swift=msgspec.structs.replace(jobs.SWIFT, version="5.10.1"))
    room.ran().green()
    (room.layout.scratch / "xunit-swift-testing.xml").unlink()
    assert room.finish().summary.status == "success"


def test_with_6_and_later_a_missing_results_file_is_no_pass(room: Room) -> None:
    room.ran().green()
    (room.layout.scratch / "xunit-swift-testing.xml").unlink()
    summary = room.finish().summary
    assert (summary.status, summary.failure_subkind) == ("failed", "INCONSISTENT")
    assert "xunit-swift-testing.xml was not written" in summary.human_summary


@pytest.mark.spec("4")
@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "CANCEL_REQUESTED"])
def test_a_cancelled_job_is_sealed_too(room: Room, state: str) -> None:
    sealed = room.finish(phases=(), ended=EndedByUs("USER"), state=jobs.state(room.job, state=state, seq=3))
    assert (sealed.state.state, sealed.state.seq) == ("CANCELLED", 4)
    assert (sealed.summary.status, sealed.summary.exit_code) == ("cancelled", 80)
    assert room.read("job_state.json", JobStateRecord) == sealed.state
    assert room.layout.log.read_bytes() == b""
    room.check_whole()


def test_a_failure_of_the_workers_own_is_sealed_too(room: Room) -> None:
    failure = Failure(Kind.EXECUTOR, "no space left to unpack", subkind="NO_SPACE")
    summary = room.finish(phases=(), failure=failure).summary
    assert (summary.failure_kind, summary.failure_subkind, summary.exit_code) == (
        "EXECUTOR",
        "NO_SPACE",
        40,
    )
    assert summary.human_summary == "no space left to unpack"
    room.check_whole()


def test_the_attempts_and_a_cut_log_are_on_record(room: Room) -> None:
    room.ran().green().finish(attempts=2, log_truncated=True)
    told = msgspec.json.decode((room.folder / "summary.json").read_bytes())
    assert (told["attempts"], told["log_truncated"], told["duration_ms"]) == (2, True, 1000)
    assert "ephemeral_cleanup_failed" not in told


def test_a_config_without_its_record_is_sealed_as_one(room: Room) -> None:
    room.job = msgspec.structs.replace(room.job, effective_config={"backend": "swiftpm"})
    room.ran().green().finish()
    told = room.read("effective_config.json", EffectiveConfig)
    assert (told.config, told.sources, told.redactions) == ({"backend": "swiftpm"}, (), ())


@pytest.mark.spec("8")
def test_what_is_no_file_and_no_folder_is_not_in_a_set(room: Room) -> None:
    room.ran().green()
    (room.folder / "link").symlink_to("/etc/passwd")
    (room.folder / "extra").mkdir()
    (room.folder / "extra" / "up").symlink_to("..")
    os.mkfifo(room.folder / "pipe")
    durable.temp_name(room.folder / "x").write_text("cut")
    room.finish()
    listed = [entry.path for entry in room.read("manifest.json", Manifest).entries]
    assert listed == sorted(listed, key=str.encode)
    assert "extra" in listed
    assert not {"link", "pipe", "extra/up"} & set(listed)
    assert {path.name for path in room.folder.rglob("*")} == ALWAYS | RICH | {"extra"}


class Recorder(durable.System):
    """Notes the names that are put in place, and fails where it is told."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.renamed: list[str] = []
        self.fail_at = fail_at
        self._lock = threading.Lock()  # files are synced side by side
        self.calls = 0

    def _call(self) -> None:
        with self._lock:
            self.calls += 1
            here = self.calls
        if here == self.fail_at:
            raise OSError(errno.ENOSPC, "No space left on device")

    def sync(self, fd: int) -> None:
        self._call()
        super().sync(fd)

    def rename(self, src: Path, dst: Path) -> None:
        self._call()
        super().rename(src, dst)
        self.renamed.append(dst.name)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recorder], Recorder]:
    def use(recorder: Recorder) -> Recorder:
        monkeypatch.setattr(durable, "_sys", recorder)
        return recorder

    return use


@pytest.mark.spec("8")
def test_manifest_attestation_and_index_come_last_in_this_order(
    room: Room, system: Callable[[Recorder], Recorder]
) -> None:
    recorder = system(Recorder())
    room.ran().green().finish()
    assert recorder.renamed[-3:] == ["manifest.json", "attestation.json", "job_index.json"]
    assert len(recorder.renamed) == len(set(recorder.renamed))


@pytest.mark.fault("W9")
def test_a_disk_that_fills_up_at_any_step_leaves_no_commit_marker(
    tmp_path: Path, system: Callable[[Recorder], Recorder]
) -> None:
    whole = system(Recorder())
    Room(tmp_path / "whole").ran().green().finish()
    steps = whole.calls
    for step in range(1, steps):  # the last step is the fsync of the folder, after the marker's rename
        system(Recorder(step))
        room = Room(tmp_path / str(step)).ran().green()
        with pytest.raises(OSError, match="No space left"):
            room.finish()
        assert not (room.folder / "job_index.json").exists()
    system(Recorder())
    room.finish()
    room.check_whole()


@pytest.mark.spec("11")
def test_a_set_over_the_limit_loses_bulk_first_and_then_the_end_of_the_log(room: Room) -> None:
    room.limit = 60_000
    room.ran("é" * 40_000)
    sealed = room.green(cases='<testcase classname="M.A" name="x"/>' * 2000).finish()
    summary = sealed.summary
    assert (summary.failure_kind, summary.failure_subkind) == ("ARTIFACTS", "SIZE_EXCEEDED")
    assert (summary.exit_code, summary.status, sealed.state.state) == (70, "failed", "FAILED")
    assert summary.log_truncated is True
    assert not RICH & room.names()
    assert sum(path.stat().st_size for path in room.folder.iterdir()) <= room.limit
    assert set(room.layout.log.read_text()) == {"é"}
    assert summary.verdict is not msgspec.UNSET
    assert "without that: PASSED" in summary.verdict.evidence[-1].fact
    room.check_whole()


def test_a_set_with_statements_fits_its_limit_as_well(room: Room) -> None:
    """The names in `junit.xml` come once more, in base64."""
    long = "".join(f'<testcase classname="M.A" name="{"x" * 90}{number}"/>' for number in range(400))
    room.ran("a line\n" * 9000).green(cases=long)
    whole = 180_000
    for limit in range(110_000, whole, 30_000):
        room.limit = limit
        room.finish(seed=bytes(32))
        taken = sum(path.stat().st_size for path in room.folder.iterdir())
        assert taken <= limit
    room.check_whole()


def test_bulk_alone_over_the_limit_leaves_the_log_whole(room: Room) -> None:
    room.limit = 60_000
    summary = room.ran().green(cases='<testcase classname="M.A" name="x"/>' * 2000).finish().summary
    assert summary.failure_subkind == "SIZE_EXCEEDED"
    assert summary.log_truncated is msgspec.UNSET
    assert room.layout.log.read_text() == "Build complete!\n"


def test_a_cancelled_job_over_the_limit_stays_cancelled(room: Room) -> None:
    room.limit = 40_000
    summary = room.ran("x" * 50_000).finish(phases=(), ended=EndedByUs("USER")).summary
    assert (summary.status, summary.exit_code, summary.log_truncated) == ("cancelled", 80, True)


def test_every_name_of_the_index_is_one_of_the_contract() -> None:
    assert set(INDEXED.values()) == (ALWAYS | RICH | {"result.xcresult"}) - {"job_index.json"}
