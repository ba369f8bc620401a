"""Whatever of a worker is killed in the middle of a job: the run's end, and that nothing is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Lab, lab, run_files
from support.until import until
from support.worker_deaths import (
    WAITS,
    Attendance,
    check_at_rest,
    die_at,
    kill,
    kill_supervisor,
    lives,
    programs,
    summary_of,
)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def submitted(user: Lab, build: Attendance) -> str:
    """A run whose build writes down who is alive."""
    run_id: str = user.json("submit", cwd=user.project(build=build.body))["data"]["run_id"]
    return run_id


@pytest.mark.spec("9")
@pytest.mark.fault("W2")
def test_a_tool_that_is_killed_fails_the_run_and_leaves_nothing_running(user: Lab) -> None:
    left = user.root / "left"
    build = Attendance(user, f'setsid sleep 60 & echo $! > "{left}"; wait')
    run_id = submitted(user, build)
    tool = build.wait_for(1)
    until(lambda: left.exists() and left.read_text() != "")
    kill(tool)
    assert user.rchctl("wait", run_id).returncode == 50
    told = summary_of(user, run_id)
    assert (told["status"], told["failure_kind"], told["backend_term_signal"]) == ("failed", "SWIFTPM", 9)
    assert "ended by signal 9" in json.dumps(told["verdict"])
    build.check(executions=1)
    assert not lives(int(left.read_text()))
    check_at_rest(user)


@pytest.mark.spec("3.3")
@pytest.mark.fault("W1")
def test_a_job_whose_supervisor_is_killed_runs_once_more_to_the_same_end(user: Lab) -> None:
    build = Attendance(user, WAITS)
    run_id = submitted(user, build)
    build.wait_for(1)
    kill_supervisor(user)
    build.wait_for(2)
    build.open()
    assert user.rchctl("wait", run_id).returncode == 0
    told = summary_of(user, run_id)
    assert (told["status"], told["attempts"]) == ("success", 2)
    assert "execution 1 was lost" in json.dumps(told["verdict"])
    build.check(executions=2)
    run = user.json("status", run_id)["data"]
    files = run_files(Path(run["run_dir"]))
    assert (run["state"], run["seq"]) == ("SUCCEEDED", 3)
    assert files["build/build_log"].read_text() == "up\nended\n"
    assert json.loads(files["build/job_state"].read_text())["seq"] == 3
    check_at_rest(user)


@pytest.mark.spec("3.3")
@pytest.mark.fault("W1")
@pytest.mark.fault("W11")
def test_a_job_that_loses_its_supervisor_twice_is_lost_for_good_and_says_how(user: Lab) -> None:
    build = Attendance(user)
    run_id = submitted(user, build)
    for number in (1, 2):
        build.wait_for(number)
        kill_supervisor(user)
    assert user.rchctl("wait", run_id).returncode == 40
    told = summary_of(user, run_id)
    assert (told["failure_kind"], told["failure_subkind"]) == ("EXECUTOR", "WORKER_LOST")
    assert (told["exit_code"], told["attempts"]) == (40, 2)
    facts = [each["fact"] for each in told["verdict"]["evidence"]]
    lost = [fact[:20] for fact in facts if "was lost" in fact]
    assert lost == ["execution 1 was lost", "execution 2 was lost"]
    run = user.json("status", run_id)["data"]
    assert (run["state"], run["failure_subkind"], run["exit_code"]) == ("FAILED", "WORKER_LOST", 40)
    files = run_files(Path(run["run_dir"]))
    assert files["build/build_log"].read_text() == "up\n"  # of the last execution
    build.check(executions=2)
    check_at_rest(user)


RENAMES = 19
"""What a supervisor renames in its life: attempt and state, the set, index, table and state."""


@pytest.mark.spec("3.3")
@pytest.mark.fault("W1")
@pytest.mark.parametrize(
    ("rename", "deaths"),
    [
        (1, 1),  # before it owns to anything: the submit is not answered yet
        *(
            pytest.param(rename, deaths, marks=pytest.mark.faults_long)
            for rename in range(1, RENAMES + 1)
            for deaths in (1, 2)
            if (rename, deaths) != (1, 1)
        ),
    ],
)
def test_a_supervisor_may_die_before_any_durable_step_of_a_run(user: Lab, rename: int, deaths: int) -> None:
    die_at(user, rename, deaths)
    build = Attendance(user, "echo ended")
    run_id = submitted(user, build)
    code = user.rchctl("wait", run_id).returncode
    names = (user.root / "renames").read_text().split()
    if rename == RENAMES:  # else the walk ends before a supervisor's life does
        assert names[rename - 1] == "state.json"
    died = len((user.root / "died").read_text().split())
    told = summary_of(user, run_id)
    sealed = names[rename - 1] in {"table.json", "state.json"} and rename > 2
    if deaths == 1 or sealed or rename == 1:
        assert (code, told["status"]) == (0, "success")
        # One that dies before its execution is counted has not begun.
        assert told["attempts"] == (1 if sealed or rename == 1 else 2)
    else:
        assert (code, told["failure_subkind"], told["attempts"]) == (40, "WORKER_LOST", 2)
    assert died >= deaths
    executions = len(build.executions())
    assert executions <= 2
    build.check(executions)
    check_at_rest(user)


@pytest.mark.faults_long
@pytest.mark.spec("3.3")
def test_the_workers_end_of_a_line_may_be_killed_in_the_middle_of_any_request(user: Lab) -> None:
    """Over pipes: the one that holds the tail, and every other one, again and again."""
    build = Attendance(user, WAITS)
    run_id = submitted(user, build)
    build.wait_for(1)
    for _ in range(2):
        kill(*programs(user, "rpc"))
    build.open()
    assert user.rchctl("wait", run_id).returncode == 0
    assert summary_of(user, run_id)["attempts"] == 1
    build.check(executions=1)
    check_at_rest(user)
