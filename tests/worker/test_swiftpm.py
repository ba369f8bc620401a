from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET
from support import jobs

from rch.config.worker_config import WorkerConfig
from rch.contract.errors import Failure, Kind
from rch.contract.records import Summary, ToolchainEntry
from worker_agent.backends import backend_for
from worker_agent.backends.config import allow_no_tests, config_of
from worker_agent.backends.env import job_env
from worker_agent.capabilities import toolchains
from worker_agent.model import Phase, PhaseExit
from worker_agent.results.buildlog import LogReader
from worker_agent.results.finish import Ending, finish

PACKAGES = Path(__file__).parents[1] / "packages"


def phases(tmp_path: Path, *argv: str) -> tuple[Phase, ...]:
    asked = jobs.job(*argv)
    return tuple(backend_for(asked).phases(asked, jobs.layout(tmp_path)))


def words(phase: Phase) -> str:
    return " ".join(phase.argv)


@pytest.mark.spec("11")
def test_a_build_job_is_one_swift_build_with_the_workers_own_folders(tmp_path: Path) -> None:
    (build,) = phases(tmp_path, "build", "--configuration", "debug", "--jobs", "2", "--product", "Greeter")
    layout = tmp_path / "run"
    assert build.name == "build"
    assert build.cwd == layout / "tree"
    assert words(build) == (
        f"/opt/swift/usr/bin/swift build --package-path {layout}/tree --scratch-path {layout}/build"
        " --configuration debug --jobs 2 --product Greeter"
    )


@pytest.mark.spec("11")
def test_a_test_job_builds_the_tests_and_then_runs_them_with_results(tmp_path: Path) -> None:
    build, test = phases(tmp_path, "test", "--filter", "A|B", "--filter", "C", "--sanitize", "thread")
    assert (build.name, test.name) == ("build", "test")
    assert words(build).endswith("--build-tests --sanitize thread")
    assert f"--skip-build --xunit-output {tmp_path}/job/scratch/xunit.xml --verbose" in words(test)
    assert "--filter A|B --filter C --sanitize thread" in words(test)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ((), "--parallel --num-workers 1"),
        (("--parallel",), "--parallel"),
        (("--no-parallel",), "--no-parallel --parallel --num-workers 1"),
    ],
)
def test_tests_run_one_after_the_other_unless_asked_otherwise(
    tmp_path: Path, asked: tuple[str, ...], given: str
) -> None:
    build, test = phases(tmp_path, "test", *asked)
    assert words(test).partition("--verbose ")[2] == given
    assert "parallel" not in words(build)


@pytest.mark.spec("11")
def test_swiftpm_keeps_dependencies_where_the_config_says(tmp_path: Path) -> None:
    off = jobs.job("test", config={"cache": {"spm": "off"}})
    layout = jobs.layout(tmp_path)
    for phase in backend_for(off).phases(off, layout):
        assert "--disable-dependency-cache --manifest-cache local" in words(phase)
    shared = jobs.job("test", config={"cache": {"spm": "shared", "namespace": "app"}})
    for phase in backend_for(shared).phases(shared, replace(layout, spm=tmp_path / "spm")):
        assert f"--cache-path {tmp_path}/spm" in words(phase)
    for phase in backend_for(shared).phases(shared, layout):
        assert "cache" not in words(phase).replace(str(tmp_path), "")


def test_a_release_test_is_built_testable_in_both_phases(tmp_path: Path) -> None:
    build, test = phases(tmp_path, "test", "--configuration", "release")
    assert all("-Xswiftc -enable-testing" in words(phase) for phase in (build, test))
    (plain,) = phases(tmp_path / "other", "build", "--configuration", "release")
    assert "-enable-testing" not in words(plain)


@pytest.mark.parametrize(
    "argv", [("build", "--scratch-path", "/x"), ("build", "--jobs"), ("build", "word")]
)
def test_an_argv_that_is_not_sanitized_is_refused(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with pytest.raises(Failure) as refused:
        phases(tmp_path, *argv)
    assert refused.value.kind is Kind.CLASSIFIER_REJECTED


@pytest.mark.parametrize("package", ["/etc", "..", "a/../../b"])
def test_a_package_outside_of_the_tree_is_refused(tmp_path: Path, package: str) -> None:
    asked = jobs.job("build", config={"project": {"package": package}})
    with pytest.raises(Failure) as refused:
        backend_for(asked).phases(asked, jobs.layout(tmp_path))
    assert package in refused.value.message


def test_a_package_in_a_subfolder_is_built_there(tmp_path: Path) -> None:
    asked = jobs.job("build", config={"project": {"package": "pkg/core"}})
    (build,) = backend_for(asked).phases(asked, jobs.layout(tmp_path))
    assert build.cwd == tmp_path / "run/tree/pkg/core"


@pytest.mark.parametrize(
    ("toolchain", "named"),
    [({"gcc": "12"}, "gcc"), ({}, "nothing")],
)
def test_another_build_tool_is_refused_by_name(toolchain: dict[str, str], named: str) -> None:
    asked = jobs.job("build")
    inputs = msgspec.structs.replace(asked.job_key_inputs, toolchain=toolchain)
    with pytest.raises(Failure) as refused:
        backend_for(msgspec.structs.replace(asked, job_key_inputs=inputs))
    assert (refused.value.kind, refused.value.subkind) == (Kind.WORKER_INCOMPATIBLE, "NOT_OFFERED")
    assert named in refused.value.message


def test_the_config_is_read_with_and_without_its_record() -> None:
    table = {"run": {"allow_no_tests": True}}
    wrapped = jobs.job(config=table)
    plain = msgspec.structs.replace(wrapped, effective_config=table)
    assert config_of(wrapped) == config_of(plain) == table
    assert allow_no_tests(wrapped)
    assert allow_no_tests(plain)
    assert not allow_no_tests(jobs.job(config={"run": {"allow_no_tests": "yes"}}))
    assert not allow_no_tests(jobs.job(config={}))


@pytest.mark.spec("11")
def test_the_environment_is_an_allowlist(tmp_path: Path) -> None:
    base = {
        "HOME": "/home/me",
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
        "SECRET": "s",
        "LD_PRELOAD": "evil.so",
        "TMPDIR": "/elsewhere",
        "DEVELOPER_DIR": "/elsewhere",
        "NSUnbufferedIO": "NO",
        "MINE": "1",
    }
    pass_env = ("MINE", "TMPDIR", "DEVELOPER_DIR", "ABSENT")
    env = job_env(base, toolchain_dir="/opt/swift/usr", tmp=tmp_path, pass_env=pass_env)
    assert env == {
        "HOME": "/home/me",
        "LANG": "C.UTF-8",
        "MINE": "1",
        "PATH": "/opt/swift/usr/bin:/usr/bin",
        "TMPDIR": str(tmp_path),
    }


def test_without_a_path_the_usual_one_serves(tmp_path: Path) -> None:
    assert job_env({}, toolchain_dir="/t", tmp=tmp_path)["PATH"].startswith(
        "/t/bin:/usr/local/bin:/usr/bin"
    )


@pytest.mark.parametrize(
    ("toolchain", "developer"),
    [
        (
            "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr",
            "/Applications/Xcode.app/Contents/Developer",
        ),
        ("/Library/Developer/CommandLineTools/usr", "/Library/Developer/CommandLineTools"),
        ("/Library/Developer/Toolchains/swift-6.3.xctoolchain/usr", None),
    ],
)
def test_a_toolchain_of_xcode_brings_its_developer_folder(
    tmp_path: Path, toolchain: str, developer: str | None
) -> None:
    env = job_env({}, toolchain_dir=toolchain, tmp=tmp_path)
    assert env.get("DEVELOPER_DIR") == developer


def real_swift(tmp_path: Path) -> ToolchainEntry:
    found = [entry for entry in toolchains(WorkerConfig(), tmp_path / "probe") if entry.kind == "swift"]
    if not found:
        pytest.skip("no Swift toolchain on PATH or in the usual places")
    return found[0]


class RealJob:
    """A package on the machine's own toolchain, its phases run as a supervisor runs them."""

    def __init__(self, package: Path, root: Path) -> None:
        self.swift = real_swift(root)
        self.layout = jobs.layout(root / "job")
        shutil.copytree(package, self.layout.tree, dirs_exist_ok=True)
        self.job = jobs.job("test", swift=self.swift)
        self.phases = {phase.name: phase for phase in backend_for(self.job).phases(self.job, self.layout)}

    def run(self, name: str, reader: LogReader, base: Mapping[str, str]) -> PhaseExit:
        phase = self.phases[name]
        env = job_env(base, toolchain_dir=self.swift.path, tmp=self.layout.tmp, pass_env=("ODD",))
        reader.begin(name)
        done = subprocess.run(
            phase.argv,
            cwd=phase.cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        reader.feed(done.stdout)
        reader.end()
        return PhaseExit(name, done.returncode, None, 1)

    def summary(self, phases: tuple[PhaseExit, ...], reader: LogReader) -> Summary:
        shutil.rmtree(self.layout.artifacts)
        self.layout.artifacts.mkdir()
        ending = Ending(
            phases=phases,
            ended=None,
            state=jobs.state(self.job),
            attempts=1,
            duration_ms=1,
            log=reader.facts(),
        )
        return finish(
            self.layout,
            jobs.submit(self.job),
            ending,
            worker_name="mini",
            capabilities=jobs.capabilities(swift=self.swift),
            now=lambda: jobs.NOW,
        ).summary


@pytest.mark.swift
@pytest.mark.spec("9")
@pytest.mark.timeout(180)
def test_a_real_swift_is_believed_only_as_far_as_its_results_go(tmp_path: Path) -> None:
    real = RealJob(PACKAGES / "odd", tmp_path)
    built = LogReader(real.layout.tree, real.layout.build)
    build = real.run("build", built, os.environ)
    assert build.ok, built.facts().first_error
    outcomes = {}
    for way in ("", "xctest-exit", "suite-exit", "suite-crash"):
        shutil.rmtree(real.layout.scratch)
        real.layout.scratch.mkdir()
        reader = LogReader(real.layout.tree, real.layout.build)
        test = real.run("test", reader, {**os.environ, "ODD": way})
        summary = real.summary((build, test), reader)
        outcomes[way] = (summary.status, summary.failure_subkind, summary.human_summary)
    assert outcomes[""] == ("success", UNSET, "5 tests passed, 2 skipped")
    status, subkind, line = outcomes["xctest-exit"]
    assert (status, subkind) == ("failed", "INCONSISTENT")
    assert "OddTests.testMayEndTheProcess started and never ended" in line
    status, subkind, line = outcomes["suite-exit"]
    assert (status, subkind) == ("failed", "INCONSISTENT")
    early, _, rest = line.partition(" ran: ")
    assert "the tests ended early while " in early
    assert "mayEndTheProcess()" in early
    assert rest.startswith("xunit-swift-testing.xml is cut short")
    status, subkind, line = outcomes["suite-crash"]
    assert (status, subkind) == ("failed", "TESTS_CRASHED")
    assert "Fatal error: in a suite" in line
