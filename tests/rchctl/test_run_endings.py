"""What a run leaves for CI at its end: `--junit` and `--format github` (spec section 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon
from support.run_folder import RunFolder

from rch.contract.records import TestFailure
from rchctl.diagnose.merge import merged_junit

FAILURE = TestFailure(name="one()", suite="S", message="no, 50%", path="A.swift", line=2)


def a_run(
    daemon: FakeDaemon, base: Path, *, state: str = "FAILED", code: int = 50, **members: Any
) -> RunFolder:
    """A run that is over, and its folder."""
    root = base / "project"
    root.mkdir(exist_ok=True)
    (root / "A.swift").write_text("a\nb\n")
    status = {"SUCCEEDED": "success"}.get(state, "failed")
    folder = RunFolder(base / "artifacts", root=str(root), status=status, **members).write()
    daemon.change(
        state=state,
        exit_code=code,
        run_dir=str(folder.path),
        root=str(root),
        failure_kind=None if status == "success" else "SWIFTPM",
        failure_subkind=None if status == "success" else "BUILD_FAILED",
        human_summary="build failed",
        simulated=members.get("simulated", False),
    )
    return folder


def cases(path: Path) -> dict[str, str]:
    """Each case of the file at `path`, and what became of it."""
    return {
        f"{case.get('classname')}.{case.get('name')}": next((child.tag for child in case), "passed")
        for case in ET.parse(path).iter("testcase")  # noqa: S314  (written here)
    }


@pytest.mark.spec("8")
@pytest.mark.parametrize(
    "argv", [["wait", "latest"], ["verify", "--quiet"], ["run", "--action", "test"], ["rerun", RUN_ID]]
)
def test_the_tests_of_a_run_are_written_where_they_are_asked_for(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path, argv: list[str]
) -> None:
    a_run(daemon, tmp_path, cases=(("S", "one()", "failed"), ("S", "two()", "passed")), failures=(FAILURE,))
    daemon.on("runs.rerun", lambda _params, _connection: daemon.runs[RUN_ID])
    done = cli(*argv, "--junit", "out.xml", "--format", "github")
    assert done.returncode == 50, done.stderr
    assert cases(tmp_path / "out.xml") == {"S.one()": "failure", "S.two()": "passed"}
    verdict, _, annotations = done.stdout.partition("::error ")
    assert "exit code  50" in verdict
    assert annotations == f"file={tmp_path}/project/A.swift,line=2,title=S.one()::no, 50%25\n"


@pytest.mark.spec("8")
def test_a_run_that_failed_before_its_tests_is_one_case_of_the_session(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path
) -> None:
    folder = a_run(daemon, tmp_path)
    for path in folder.path.rglob("junit.xml"):
        path.unlink()
    assert cli("wait", "latest", "--junit", "out.xml", "--json").returncode == 50
    assert cases(tmp_path / "out.xml") == {"session.SWIFTPM / BUILD_FAILED": "error"}
    root = ET.parse(tmp_path / "out.xml").getroot()  # noqa: S314
    assert (root.get("tests"), root.get("errors"), root.get("failures")) == ("1", "1", "0")


def test_a_run_that_failed_with_green_tests_does_not_look_green(daemon: FakeDaemon, tmp_path: Path) -> None:
    a_run(daemon, tmp_path)
    data, notes = merged_junit(daemon.runs[RUN_ID])
    assert notes == []
    assert [suite.get("name") for suite in ET.fromstring(data)] == ["x", "session"]  # noqa: S314


def test_a_success_has_its_tests_alone_and_says_where_they_are_of_stand_ins(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    a_run(daemon, tmp_path, state="SUCCEEDED", code=0, simulated=True)
    root = ET.fromstring(merged_junit(daemon.runs[RUN_ID])[0])  # noqa: S314
    assert (root.get("name"), [suite.get("name") for suite in root]) == ("simulated: rchctl Demo", ["x"])
    assert root.find("testsuite/properties/property[@name='rch.step']") is not None


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><testsuites><testsuite name="&a;"/></testsuites>',
        "<testsuites><testsuite>",
        "<a>" * 100,
    ],
)
def test_a_hostile_junit_is_left_out_with_its_reason(daemon: FakeDaemon, tmp_path: Path, text: str) -> None:
    folder = a_run(daemon, tmp_path)
    next(folder.path.rglob("junit.xml")).write_text(text)
    data, (note,) = merged_junit(daemon.runs[RUN_ID])
    assert "junit.xml: " in note
    assert [suite.get("name") for suite in ET.fromstring(data)] == ["session"]  # noqa: S314


def test_a_file_that_cannot_be_written_does_not_change_the_verdict(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path
) -> None:
    a_run(daemon, tmp_path, state="SUCCEEDED", code=0)
    process = cli.start("wait", "latest", "--junit", "/proc/out.xml")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "rchctl: warning: --junit /proc/out.xml: " in err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["verify", "--format", "xml"], "it is one of github, errorfmt"),
        (["verify", "--format", "github", "--json"], "type it without --json"),
        (["verify", "--junit", "x.xml", "--detach"], "--detach does not stay"),
        (["wait", "latest", "--junit", "none/x.xml"], "is no place for a file"),
        (["rerun", "latest", "--junit", "."], "is no place for a file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_run_is_made(
    cli: Cli, daemon: FakeDaemon, argv: list[str], said: str
) -> None:
    done = cli(*argv)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert daemon.calls == []
