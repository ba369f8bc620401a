"""The result cache as a user meets it: a second verify is answered at once, and equal ones run once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from e2e.test_signed import fingerprint, pin
from support.lab import Lab, lab, run_files
from support.until import until

pytestmark = [pytest.mark.spec("11")]

ONE = ("run", "--action", "build")


def executions(user: Lab) -> int:
    marks = user.root / "marks"
    return len(marks.read_text().split()) if marks.exists() else 0


@pytest.mark.spec("10")
def test_a_second_verify_is_served_with_a_set_that_verifies(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        pin(user, fingerprint(user))
        project = user.project(build=f"echo x >>{user.root}/marks; echo building")
        first = user.json("verify", cwd=project)["data"]
        done = user.rchctl("verify", cwd=project)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("served from the cache of job ") >= 2  # one a step
        assert "building" in done.stdout
        assert executions(user) == 1
        second = user.json("status", "latest")["data"]
        origins = [step["job_id"] for step in first["steps"]]
        assert [step["cached_from_job_id"] for step in second["steps"]] == origins
        assert [step["cached_from_job_id"] for step in first["steps"]] == [None, None]
        assert ", executed " in user.rchctl("status", "latest").stdout
        files = run_files(Path(second["run_dir"]))
        told = json.loads(files["run_summary"].read_bytes())
        assert [step["cached_from_job_id"] for step in told["steps"]] == origins
        for action in ("build", "test"):
            trust = json.loads(files[f"{action}/attestation_verification_path"].read_bytes())
            assert trust["result"] == "verified"
        assert user.rchctl("check", "--read-data").returncode == 0
        third = user.json("verify", "--no-cache", cwd=project)["data"]
        assert executions(user) == 2
        assert [step["cached_from_job_id"] for step in third["steps"]] == [None, None]


def test_a_user_may_switch_it_off_for_a_project(tmp_path: Path) -> None:
    toml = 'backend = "swiftpm"\n[cache]\nresults = false\n'
    with lab(tmp_path) as user:
        project = user.project(build=f"echo x >>{user.root}/marks")
        (project / ".rch").mkdir()
        (project / ".rch" / "xcode.toml").write_text(toml)
        for _ in range(2):
            assert user.json(*ONE, cwd=project)["exit_code"] == 0
        assert executions(user) == 2


def submitted(user: Lab, project: Path, *flags: str) -> str:
    return str(user.json("submit", "--action", "build", *flags, cwd=project)["data"]["run_id"])


def status(user: Lab, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = user.json("status", run_id)["data"]
    return found


@pytest.mark.parametrize(("code", "runs"), [(0, 1), (1, 2)], ids=["succeeds", "fails"])
def test_of_two_at_once_one_is_executed_unless_it_fails(tmp_path: Path, code: int, runs: int) -> None:
    with lab(tmp_path) as user:
        user.configure_worker(f'swift = "{user.root}/toolchain"\nmax_concurrent_jobs = 3\n')
        gate = user.root / "gate"
        script = (
            f"echo x >>{user.root}/marks; [ $(wc -l <{user.root}/marks) -gt 1 ] && exit 0\n"
            f"while [ ! -e {gate} ]; do sleep 0.05; done; exit {code}\n"
        )
        project = user.project(build=script)
        first = submitted(user, project)
        until(lambda: executions(user) == 1)
        second = submitted(user, project)
        until(lambda: status(user, second)["phase"] == "coalescing")
        assert f"the same job runs in run {first}" in user.rchctl("list").stdout
        other = submitted(user, user.project("other"))
        assert user.json("wait", other)["exit_code"] == 0  # nobody is held up by it
        gate.touch()
        assert user.json("wait", first)["exit_code"] == (50 if code else 0)
        assert user.json("wait", second)["exit_code"] == 0
        assert executions(user) == runs
        (step,) = status(user, second)["steps"]
        (origin,) = status(user, first)["steps"]
        assert step["cached_from_job_id"] == (None if code else origin["job_id"])


@pytest.mark.fault("H2")
def test_a_daemon_that_is_killed_decides_anew(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        user.configure_worker(f'swift = "{user.root}/toolchain"\nmax_concurrent_jobs = 2\n')
        gate = user.root / "gate"
        script = f"echo x >>{user.root}/marks; while [ ! -e {gate} ]; do sleep 0.05; done\n"
        project = user.project(build=script)
        first = submitted(user, project)
        until(lambda: executions(user) == 1)
        second = submitted(user, project)
        until(lambda: status(user, second)["phase"] == "coalescing")
        user.kill_daemon()
        until(lambda: status(user, second)["phase"] == "coalescing")
        gate.touch()
        assert user.json("wait", second)["exit_code"] == 0
        assert user.json("wait", first)["exit_code"] == 0
        assert executions(user) == 1
