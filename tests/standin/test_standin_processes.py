"""The launchers, as programs: where they lie, who finds them, what they do with signals."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.standin import PHONE, Machine, a_machine

from rch.config.worker_config import WorkerConfig
from worker_agent.capabilities import capabilities
from worker_agent.standin.facts import MACOS_BUILD, MACOS_VERSION, release_named
from worker_agent.standin.layout import apple_tools, environment, install

CONFIG = WorkerConfig(swift="/no/such/swift")  # to ask a real one takes a second
WORDS = ["-project", "Lantern.xcodeproj", "-scheme", "Lantern", "-destination", PHONE]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Machine, dict[str, str]]:
    """A machine whose path has a space and a quote, and the environment of its worker."""
    machine = a_machine(tmp_path_factory.mktemp("it's [here]"))
    return machine, {"HOME": str(machine.home), **environment(machine.home, base={"PATH": os.defpath})}


@contextmanager
def started(
    installed: tuple[Machine, dict[str, str]], scenario: str, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`xcodebuild test` in a session of its own, which is ended whatever comes."""
    machine, env = installed
    derived = machine.home / f"derived-{scenario.partition(':')[0]}"
    process = subprocess.Popen(
        ["xcodebuild", "test", *WORDS, "-derivedDataPath", str(derived)],
        executable=str(machine.root / "bin" / "xcodebuild"),
        cwd=machine.tree,
        env={**env, "RCH_STANDIN_SCENARIO": scenario, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    assert process.stdout is not None
    seen = b""
    while words not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


def test_making_it_again_changes_nothing(tmp_path: Path) -> None:
    programs = install(tmp_path / "standin")
    before = {file: file.stat().st_mtime_ns for file in programs.parent.rglob("*")}
    (programs / "xcrun").write_text("cut")
    assert install(tmp_path / "standin") == programs
    after = {file: file.stat().st_mtime_ns for file in programs.parent.rglob("*")}
    changed = {file.name for file in before if before[file] != after[file]}
    assert (changed, set(before) == set(after)) == ({"xcrun", "bin"}, True)
    assert "worker_agent.standin.run" in (programs / "xcrun").read_text()


def test_there_is_no_stand_in_for_every_xcode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no stand-in for Xcode '9\.1': only for 16\.2, 26\.0\.1"):
        environment(tmp_path, xcode="9.1")
    assert release_named("26.0.1").build == "17A400"


@pytest.mark.spec("7", "9")
def test_probes_find_the_stand_ins_only_where_they_are_told_to(
    installed: tuple[Machine, dict[str, str]], tmp_path: Path
) -> None:
    machine, env = installed
    apple = apple_tools(machine.home)
    told = capabilities(CONFIG, tmp_path, slots_free=1, slots_total=1, env=env, apple=apple)
    assert [
        (each.version, each.build, each.active) for each in told.toolchains if each.kind == "xcode"
    ] == [
        ("16.2", "16C5032a", True),
        ("26.0.1", "17A400", False),
    ]
    assert (told.os_name, told.os_version, told.os_build, told.arch, told.simulated) == (
        "macOS",
        MACOS_VERSION,
        MACOS_BUILD,
        "arm64",
        True,
    )
    assert ("iPhone 16", True) in [(each.name, each.available) for each in told.devices]
    elsewhere = tmp_path / "Xcode_9.app/Contents/Developer/usr/bin/xcodebuild"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text("#!/bin/sh\nprintf 'Xcode 9.0\\nBuild version 9A235\\n'\n")
    elsewhere.chmod(0o755)
    stray = {**env, "DEVELOPER_DIR": str(elsewhere.parents[2])}
    again = capabilities(CONFIG, tmp_path, slots_free=1, slots_total=1, env=stray, apple=apple)
    assert {each.build for each in again.toolchains if each.kind == "xcode"} == {"16C5032a", "17A400"}
    plain = {"PATH": env["PATH"], "HOME": env["HOME"]}
    own = capabilities(CONFIG, tmp_path, slots_free=1, slots_total=1, env=plain)
    assert not [each for each in own.toolchains if str(machine.home) in each.path]
    assert own.simulated is False
    assert not {each.udid for each in told.devices} & {each.udid for each in own.devices}


@pytest.mark.spec("7")
def test_the_tools_agree_on_the_xcode_that_is_meant(installed: tuple[Machine, dict[str, str]]) -> None:
    machine, env = installed

    def said(*argv: str, **more: str) -> str:
        done = subprocess.run(
            argv, env={**env, **more}, capture_output=True, cwd=machine.tree, check=False, text=True
        )
        return done.stdout + done.stderr

    newer = str(machine.root / "Xcode_26.0.1.app/Contents/Developer")
    assert said(str(machine.root / "bin/xcode-select"), "-p").strip() == env["DEVELOPER_DIR"]
    assert said(str(machine.root / "bin/xcodebuild"), "-version", DEVELOPER_DIR=newer) == (
        "Xcode 26.0.1\nBuild version 17A400\n"
    )
    assert said(f"{newer}/usr/bin/xcodebuild", "-version").startswith("Xcode 26.0.1\n")
    assert newer in said(str(machine.root / "bin/xcrun"), "--find", "simctl", DEVELOPER_DIR=newer)
    wrong = said(str(machine.root / "bin/xcrun"), "simctl", "list", DEVELOPER_DIR="/Applications/Xcode.app")
    assert wrong == "xcrun: error: missing DEVELOPER_DIR path: /Applications/Xcode.app\n"


@pytest.mark.spec("11")
def test_an_interrupt_ends_it_in_the_midst(installed: tuple[Machine, dict[str, str]]) -> None:
    with started(installed, "stall", NSUnbufferedIO="YES") as process:
        read_until(process, b"Test Case '-[LanternTests.WickTests testItBurnsDown]' started.")
        os.killpg(process.pid, signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
        assert (process.returncode, b"** TEST INTERRUPTED **" in rest) == (75, True)


@pytest.mark.spec("11")
def test_a_tool_that_ignores_an_interrupt_ends_by_term(installed: tuple[Machine, dict[str, str]]) -> None:
    with started(installed, "ignore-int; stall", NSUnbufferedIO="YES") as process:
        read_until(process, b"Test Case '-[LanternTests.WickTests testItBurnsDown]' started.")
        os.killpg(process.pid, signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == -signal.SIGTERM


@pytest.mark.spec("11")
def test_an_orphan_outlives_the_tool_and_holds_its_output(
    installed: tuple[Machine, dict[str, str]],
) -> None:
    with started(installed, "orphan:seconds=600") as process:
        assert process.wait(timeout=60) == 0
        for number in (signal.SIGINT, signal.SIGTERM):
            os.killpg(process.pid, number)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        assert b"** TEST SUCCEEDED **" in (process.stdout.read() or b"")
        assert process.stdout.read() is None  # nothing to read, and no end either
        os.killpg(process.pid, signal.SIGKILL)
        os.set_blocking(process.stdout.fileno(), True)
        assert process.stdout.read() == b""


@pytest.mark.spec("11")
def test_a_flood_is_as_long_as_it_was_asked_to_be(installed: tuple[Machine, dict[str, str]]) -> None:
    size = 16 << 20
    with started(installed, f"flood:bytes={size}") as process:
        begun = time.monotonic()
        out = process.communicate(timeout=60)[0]
        assert size <= len(out) < size + 100_000
        assert time.monotonic() - begun < 30


def test_caffeinate_becomes_the_program_that_it_is_given(installed: tuple[Machine, dict[str, str]]) -> None:
    machine, env = installed
    program = str(machine.root / "bin" / "caffeinate")
    done = subprocess.run(
        [program, "-i", "/bin/sh", "-c", "echo awake; exit 3"], env=env, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, b"awake\n")
    sleeper = subprocess.Popen([program, "-w", "999999999"], env=env)
    assert sleeper.wait(timeout=60) == 0
