"""A host that goes away in the middle of a job: back in time, too late, or only for the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lab import Lab, lab, run_files
from support.until import until
from support.worker_deaths import WAITS, Attendance, check_at_rest, hook, kill, summary_of, table

from worker_agent.clock import boot_seconds

_SHORT = """
import sys
if "worker_agent" in " ".join(getattr(sys, "orig_argv", ())):
    import worker_agent.leases
    worker_agent.leases.DEFAULT_TTL_SECONDS = 2
"""

pytestmark = [pytest.mark.spec("3.4"), pytest.mark.fault("W4")]


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        hook(made, _SHORT)
        yield made


def grace(user: Lab, seconds: int) -> None:
    config = user.worker_home / "config" / "worker.toml"
    config.write_text(f"orphan_grace_seconds = {seconds}\n{config.read_text()}")


def begun(user: Lab, build: Attendance) -> str:
    """A run whose build is under way."""
    run_id: str = user.json("submit", cwd=user.project(build=build.body))["data"]["run_id"]
    build.wait_for(1)
    return run_id


def leave(user: Lab) -> None:
    """The host is gone, without a word."""
    kill(user.daemon_pid)


def lease(user: Lab) -> dict[str, Any]:
    """The one lease that is not released."""
    (found,) = [each for each in table(user)["leases"] if not each["released"]]
    return dict(found)


def worker_state(user: Lab) -> dict[str, Any]:
    """Where the worker's one job stands, by its own disk."""
    (path,) = (user.worker_home / "data" / "jobs").glob("*/state.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_job_whose_host_stays_away_is_cancelled_by_its_worker_alone(user: Lab) -> None:
    grace(user, 1)
    build = Attendance(user)
    run_id = begun(user, build)
    leave(user)
    until(lambda: worker_state(user)["state"] == "CANCELLED", 60)
    assert worker_state(user)["seq"] == 4
    until(lambda: table(user)["uses"] == [])
    build.check(executions=1)
    # The host comes back, and tells what has become of it.
    assert user.rchctl("wait", run_id).returncode == 80
    told = summary_of(user, run_id)
    assert (told["status"], told["failure_kind"], told["failure_subkind"]) == (
        "cancelled",
        "CANCELLED",
        "LEASE_EXPIRED",
    )
    run = user.json("status", run_id)["data"]
    assert (run["state"], run["exit_code"]) == ("CANCELLED", 80)
    files = run_files(Path(run["run_dir"]))
    assert files["build/build_log"].read_text().startswith("up\n")
    build.check(executions=1)


def test_a_host_that_is_back_within_the_grace_revives_its_lease_and_goes_on(user: Lab) -> None:
    build = Attendance(user, WAITS)
    run_id = begun(user, build)
    held = lease(user)
    leave(user)
    until(lambda: boot_seconds() > lease(user)["deadline"])
    assert user.rchctl("daemon", "start").returncode == 0
    until(lambda: lease(user)["fence"] > held["fence"])
    assert lease(user)["lease_id"] == held["lease_id"]
    build.open()
    assert user.rchctl("wait", run_id).returncode == 0
    assert summary_of(user, run_id)["attempts"] == 1
    build.check(executions=1)
    check_at_rest(user)


@pytest.mark.faults_long
def test_a_host_that_is_back_when_all_is_over_fetches_it_and_takes_a_new_lease(user: Lab) -> None:
    build = Attendance(user, WAITS)
    run_id = begun(user, build)
    held = lease(user)
    leave(user)
    grace(user, 0)
    build.open()
    until(lambda: worker_state(user)["state"] == "SUCCEEDED", 60)
    until(lambda: boot_seconds() > lease(user)["deadline"])
    assert user.rchctl("wait", run_id).returncode == 0
    build.check(executions=1)
    assert table(user)["fence"] > held["fence"]
    run = user.json("status", run_id)["data"]
    assert [step["status"] for step in run["steps"]] == ["success", "success"]
    state = json.loads(run_files(Path(run["run_dir"]))["run_state"].read_text())
    assert state["resumed_at"]
    check_at_rest(user)
