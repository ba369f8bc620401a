"""Jobs whose time is over: ended by the worker, by the host, or by the worker alone (spec section 4)."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import support.hasty_daemon
from support.ends import assert_slot_is_free, files_of, is_gone, leases, pids
from support.lab import Lab, lab
from support.until import until

_UP = "echo $$ >> {0}/pids; echo $PPID >> {0}/supervisors; echo started"
NOISY = f"{_UP}; while :; do echo x; sleep 0.1; done"
SILENT = f"{_UP}; exec sleep 300"


class Case(NamedTuple):
    """A build and the time that it does not keep."""

    subkind: str
    build: str
    bound: str


OVERALL = Case("TIMEOUT_OVERALL", NOISY, "timeouts.overall_seconds=1")
IDLE = Case("TIMEOUT_IDLE", SILENT, "timeouts.idle_log_seconds=1")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


class Overdue(NamedTuple):
    """A run whose job will not end in time; its folder is where the job writes down who it is."""

    case: Case
    run_id: str
    folder: Path

    @property
    def job(self) -> int:
        """The tool's pid."""
        return pids(self.folder / "pids", 1)[0]

    @property
    def supervisor(self) -> int:
        """The pid of whoever watches over it at the worker."""
        return pids(self.folder / "supervisors", 1)[0]


def overdue(user: Lab, *cases: Case) -> list[Overdue]:
    """Runs of these cases, all at the same time."""
    config = user.worker_home / "config" / "worker.toml"
    config.write_text(f"{config.read_text()}max_concurrent_jobs = {len(cases)}\n")
    found = []
    for case in cases:
        folder = user.root / case.subkind
        project = user.project(
            case.subkind, build=case.build.format(folder), test=f"touch {user.root}/tested"
        )
        run = user.json("submit", "--set", case.bound, cwd=project)["data"]
        found.append(Overdue(case, run["run_id"], folder))
    return found


def hasten(user: Lab, grace: float) -> None:
    """Let the host be on time, before the daemon is started."""
    user.env["RCH_RCHD"] = shlex.join([sys.executable, str(support.hasty_daemon.__file__)])
    user.env["RCH_TEST_GRACE"] = str(grace)


def assert_timed_out(user: Lab, run: Overdue) -> tuple[dict[str, Any], dict[str, Path]]:
    """A failure of the executor that says which time was over; gives the view and the run's files."""
    answer, subkind = user.json("wait", run.run_id), run.case.subkind
    view = answer["data"]
    assert answer["exit_code"] == 40
    assert (view["state"], view["failure_kind"], view["failure_subkind"]) == ("FAILED", "EXECUTOR", subkind)
    assert (answer["error"]["subkind"], answer["error"]["exit_code"]) == (subkind, 40)
    assert [step["state"] for step in view["steps"]] == ["FAILED", "SKIPPED"]
    files = files_of(view)
    (summary,) = {"build/summary", "build/host_summary_path"} & files.keys()
    told = json.loads(files[summary].read_text())
    assert (told["status"], told["failure_kind"], told["failure_subkind"]) == (
        "failed",
        "EXECUTOR",
        subkind,
    )
    assert not (user.root / "tested").exists()
    return view, files


@pytest.mark.spec("4")
def test_a_job_whose_time_is_over_is_ended_and_says_so(user: Lab) -> None:
    for run in overdue(user, OVERALL, IDLE):
        view, files = assert_timed_out(user, run)
        log = files["build/build_log"].read_text()
        assert log.startswith("started\n")
        assert f"ended: {run.case.subkind}" in log
        assert "time" in view["human_summary"]
        assert is_gone(run.job)
    assert leases(user) == []


@pytest.mark.spec("4")
def test_a_job_that_goes_on_talking_is_not_idle(user: Lab) -> None:
    project = user.project(build="for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.3; done")
    answer = user.json("run", "--action", "build", "--set", "timeouts.idle_log_seconds=2", cwd=project)
    assert answer["exit_code"] == 0


@pytest.mark.spec("4")
def test_the_worker_keeps_the_time_while_the_daemon_is_dead(user: Lab) -> None:
    runs = overdue(user, OVERALL, IDLE)
    started = [pid for run in runs for pid in (run.job, run.supervisor)]
    user.kill_daemon()
    until(lambda: all(is_gone(pid) for pid in started))
    assert user.rchctl("list", "--no-autostart").returncode == 4  # nobody but the worker was there
    for run in runs:
        _, files = assert_timed_out(user, run)
        assert files["build/build_log"].read_text().startswith("started\n")
    assert_slot_is_free(user)


@pytest.mark.spec("4")
@pytest.mark.faults_long
def test_the_host_keeps_the_time_of_a_worker_that_does_not(user: Lab) -> None:
    hasten(user, 1)
    runs = overdue(user, OVERALL, IDLE)
    supervisors = [run.supervisor for run in runs]
    for supervisor in supervisors:
        os.kill(supervisor, signal.SIGSTOP)
    try:
        until(lambda: len(list(user.worker_home.rglob("cancels/*"))) == len(runs))
    finally:
        for supervisor in supervisors:
            os.kill(supervisor, signal.SIGCONT)
    for run in runs:
        _, files = assert_timed_out(user, run)
        # Queued, running, asked to end, failed: it was the host's word that ended it.
        assert json.loads(files["build/job_state"].read_text())["seq"] == 4
    assert leases(user) == []


@pytest.mark.spec("4")
@pytest.mark.faults_long
def test_a_worker_that_never_ends_its_job_is_given_up(user: Lab) -> None:
    hasten(user, 0.2)
    (run,) = overdue(user, IDLE)
    supervisor = run.supervisor
    os.kill(supervisor, signal.SIGSTOP)
    try:
        view, _ = assert_timed_out(user, run)
        assert "did not end the job" in view["human_summary"]
    finally:
        os.kill(supervisor, signal.SIGCONT)
    until(lambda: is_gone(supervisor))
    assert leases(user) == []


@pytest.mark.spec("4")
def test_a_time_out_of_bounds_is_refused_before_anything_runs(user: Lab) -> None:
    project = user.project()
    cases = [
        ("overall_seconds", "0", "1 to 86400"),
        ("overall_seconds", "86401", "1 to 86400"),
        ("idle_log_seconds", "0", "1 to 86400"),
        ("idle_log_seconds", "1801", "timeouts.overall_seconds = 1800"),
        ("connect_timeout_seconds", "0", "1 to 300"),
        ("connect_timeout_seconds", "301", "1 to 300"),
        ("connect_timeout_seconds", "soon", "soon"),
    ]
    for key, value, bounds in cases:
        answer = user.json("submit", "--set", f"timeouts.{key}={value}", cwd=project)
        assert (answer["exit_code"], answer["error"]["kind"]) == (3, "CONFIG"), answer
        said = answer["error"]["message"]
        assert f"timeouts.{key}" in said, said
        assert value in said, said
        assert bounds in said, said
    (project / ".rch").mkdir()
    (project / ".rch" / "xcode.toml").write_text(
        'schema_version = 1\nbackend = "swiftpm"\n[timeouts]\noverall_seconds = 90000\n'
    )
    done = user.rchctl("verify", cwd=project)
    assert done.returncode == 3
    assert ".rch/xcode.toml" in done.stderr
    assert "timeouts.overall_seconds = 90000 is not a whole number from 1 to 86400" in done.stderr
    assert user.json("list")["data"]["runs"] == []
    assert leases(user) == []
