"""A cancel in each phase of a run, and after it a daemon that is killed (spec section 4)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ends import assert_cancelled, assert_slot_is_free, leases
from support.holding_worker import Hold
from support.lab import Lab, lab
from support.until import until, waiting_project

KILLED = pytest.mark.parametrize(
    "killed",
    [False, pytest.param(True, marks=pytest.mark.faults_long)],
    ids=["", "and-the-daemon-is-killed"],
)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def counting_project(user: Lab) -> tuple[Path, Path]:
    """A project whose steps write down that they ran, and where they do."""
    ran = user.root / "ran"
    return user.project("counting", build=f"echo build >> {ran}", test=f"echo test >> {ran}"), ran


def steps_that_ran(ran: Path) -> list[str]:
    return ran.read_text().split() if ran.exists() else []


@pytest.mark.spec("4")
def test_a_run_that_has_not_been_handed_over_ends_while_its_worker_is_silent(user: Lab) -> None:
    hold = Hold(user)
    project, ran = counting_project(user)
    for op in ("probe", "has_source", "upload_source"):
        hold.hold(op)
        (project / "file").write_text(op)  # another source, so that it is uploaded
        run_id = user.json("submit", "--no-queue", cwd=project)["data"]["run_id"]
        hold.wait()
        assert user.rchctl("cancel", run_id).returncode == 0
        run = assert_cancelled(user, run_id)
        assert [step["state"] for step in run["steps"]] == ["SKIPPED", "SKIPPED"]
        hold.let_go()
    assert_slot_is_free(user)
    assert steps_that_ran(ran) == []


def cancel_while_held(user: Lab, hold: Hold, op: str, project: Path, *, killed: bool) -> None:
    """Cancel a run whose worker has just been asked `op`, and let the worker answer after that."""
    hold.hold(op)
    run_id = user.json("submit", "--no-queue", cwd=project)["data"]["run_id"]
    hold.wait()
    assert user.json("cancel", run_id)["data"]["cancel_requested"] is True
    if killed:
        user.kill_daemon()
    hold.let_go()
    assert_cancelled(user, run_id)
    assert leases(user) == []


@pytest.mark.spec("4")
@KILLED
def test_what_was_on_its_way_when_the_cancel_came_is_undone(user: Lab, *, killed: bool) -> None:
    hold = Hold(user)
    project, ran = counting_project(user)
    for op in ("submit", "fetch"):
        ran.unlink(missing_ok=True)
        cancel_while_held(user, hold, op, project, killed=killed)
        assert steps_that_ran(ran) in ([], ["build"])
    assert_slot_is_free(user)


@pytest.mark.spec("4")
@pytest.mark.parametrize("killed", [False, True], ids=["", "and-the-daemon-is-killed"])
def test_a_lease_that_is_granted_after_the_cancel_is_given_back(user: Lab, *, killed: bool) -> None:
    hold = Hold(user)
    project, ran = counting_project(user)
    cancel_while_held(user, hold, "reserve", project, killed=killed)
    assert_slot_is_free(user)
    assert steps_that_ran(ran) == []


@pytest.mark.spec("4")
def test_a_cancel_outlives_the_daemon_that_acknowledged_it(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    (project / "test.sh").write_text(f"touch {user.root}/tested")
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    assert user.rchctl("cancel", run_id).returncode == 0
    user.kill_daemon()
    run = assert_cancelled(user, run_id)
    assert [step["state"] for step in run["steps"]] == ["CANCELLED", "SKIPPED"]
    assert_slot_is_free(user)
    assert not gate.exists()
    assert not (user.root / "tested").exists()


@pytest.mark.spec("4")
@KILLED
def test_queued_and_busy_runs_are_cancelled_where_they_wait(user: Lab, *, killed: bool) -> None:
    project, marker, gate = waiting_project(user)
    first = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    waiting, ran = counting_project(user)
    busy = user.json("submit", cwd=waiting)["data"]["run_id"]
    until(lambda: "busy" in (user.json("status", busy)["data"]["waiting"] or ""))
    queued = user.json("submit", cwd=waiting)["data"]["run_id"]
    for run_id in (queued, busy):
        assert user.json("cancel", run_id)["data"]["state"] == "CANCELLED"
    if killed:
        user.kill_daemon()
    for run_id in (queued, busy):
        assert_cancelled(user, run_id)
    assert len(leases(user)) == 1
    gate.touch()
    assert user.rchctl("wait", first).returncode == 0
    assert leases(user) == []
    assert steps_that_ran(ran) == []
