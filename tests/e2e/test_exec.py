"""A command line as it stands, and the stand-ins for PATH that hand one over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab import PASSING_TEST, REPO, Lab, lab

SHIMS = REPO / "contrib" / "shims"
BIN = Path(sys.executable).parent


def shim(user: Lab, name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A tool's name, found on PATH as a script would find it."""
    env = {**user.env, "PATH": os.pathsep.join([str(SHIMS), str(BIN), user.env["PATH"]])}
    return subprocess.run(
        [name, *words],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.spec("6", "8")
def test_an_accepted_command_runs_on_a_worker_in_its_canonical_form(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project(build='echo "argv: $0"; echo building', test=PASSING_TEST)
        words = ("swift", "build", "-j", "2", "-c", "debug")
        answer = json.loads(user.rchctl("exec", "--json", "--", *words, cwd=project).stdout)
        run = answer["data"]
        assert (answer["command"], run["exit_code"], run["state"]) == ("exec", 0, "SUCCEEDED")
        assert [step["action"] for step in run["steps"]] == ["build"]
        (invocation,) = Path(run["run_dir"]).glob("steps/build/*/invocation.json")
        told = json.loads(invocation.read_text())
        assert told["original_argv"] == list(words)
        assert told["sanitized_argv"] == ["build", "--configuration", "debug", "--jobs", "2"]


@pytest.mark.spec("6")
def test_a_refused_command_costs_no_daemon_and_exits_10(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project()
        done = user.rchctl("exec", "--", "swift", "run", "tool", cwd=project)
        assert (done.returncode, done.stdout) == (10, "")
        assert "DENIED_ACTION  run" in done.stderr
        assert done.stderr.endswith("rchctl: refused: nothing was run, here or on a worker\n")
        assert not user.socket.exists()
        asked = user.rchctl("exec", "--json", "--", "swift", "clean", cwd=project)
        envelope = json.loads(asked.stdout)
        assert (asked.returncode, envelope["exit_code"], envelope["ok"]) == (10, 10, False)
        assert envelope["data"]["reasons"][0]["code"] == "UNKNOWN_ACTION"


@pytest.mark.spec("6")
def test_the_stand_in_on_path_hands_over_and_exits_as_the_run_does(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project(build="echo made of $(ls); exit 3")
        done = shim(user, "swift", "build", cwd=project)
        assert done.returncode == 50, done.stderr
        assert "made of" in done.stdout
        assert "FAILED" in done.stdout


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("words", "code"), [(["swift", "--version"], 10), (["xcodebuild", "-version"], 10), (["swift"], 10)]
)
def test_the_stand_in_never_falls_back_to_a_tool_of_this_machine(
    tmp_path: Path, words: list[str], code: int
) -> None:
    with lab(tmp_path) as user:
        done = shim(user, *words, cwd=user.project())
        assert (done.returncode, done.stdout) == (code, "")
        assert "nothing was run" in done.stderr
        outside = shim(user, *words, cwd=tmp_path)
        assert (outside.returncode, outside.stdout) == (3, "")
