"""Workers that leave features out, above all leases: real programs, from submit to verified artifacts."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ends import assert_cancelled, files_of, is_gone, pids
from support.lab import FAILING_TEST, Lab, lab, run_files
from support.plain_worker import OPTIONAL, Plain
from support.until import until, waiting_project

from rch.contract.worker_rpc import Feature
from rch_conformance.host.seen import Asked, transcript

LEASES = (Feature.LEASE, Feature.LEASE_RENEW)
NOTHING = (*OPTIONAL, Feature.LEASE, Feature.GC, Feature.RESULT_CACHE)
OF_LEASES = {"reserve", "release"}


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def two_runs(user: Lab, project: Path) -> list[dict[str, Any]]:
    """A run, and one of the changed project."""
    runs = [user.json("verify", cwd=project)]
    (project / "more.txt").write_text("changed\n")
    return [*runs, user.json("verify", cwd=project)]


# --- the real worker, with less of it -------------------------------------------------


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    "without",
    [
        pytest.param(NOTHING, id="all-but-upload"),
        pytest.param(LEASES, id="lease", marks=pytest.mark.faults_long),
        *(pytest.param((each,), id=str(each), marks=pytest.mark.faults_long) for each in OPTIONAL),
    ],
)
def test_a_worker_that_leaves_features_out_serves(user: Lab, without: tuple[Feature, ...]) -> None:
    plain = Plain(user, without)
    project = user.project(big=("x" * 997 + "\n") * 2000)
    for done in two_runs(user, project):
        assert done["exit_code"] == 0, done
        assert done["data"]["warnings"] == []
        files = run_files(Path(done["data"]["run_dir"]))
        assert files["test/junit"].exists()
    asked = set(plain.asked())
    if Feature.LEASE in without:
        assert not asked & OF_LEASES
    else:
        assert asked >= OF_LEASES
    assert ("tail" in asked) == (Feature.TAIL not in without)
    assert (plain.most_of_a_channel() == 1) == (Feature.SESSION in without)


@pytest.mark.spec("3.4")
@pytest.mark.faults_long
def test_a_failed_step_of_a_run_without_a_lease_ends_it(user: Lab) -> None:
    plain = Plain(user, LEASES)
    done = user.json("verify", cwd=user.project(test=FAILING_TEST))
    assert done["exit_code"] == 50
    assert not set(plain.asked()) & OF_LEASES


@pytest.mark.spec("3.4", "4")
@pytest.mark.fault("H1")
def test_a_killed_daemon_goes_on_with_a_job_that_has_no_lease(user: Lab) -> None:
    plain = Plain(user, NOTHING)
    project, marker, gate = waiting_project(user)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    user.kill_daemon()
    assert user.rchctl("daemon", "start").returncode == 0
    gate.touch()
    done = user.json("wait", run_id)
    assert done["exit_code"] == 0
    files = files_of(done["data"])
    assert json.loads(files["run_state"].read_text())["resumed_at"]
    assert json.loads(files["build/summary"].read_text())["attempts"] == 1
    assert plain.asked().count("submit") == 2, "one a step"
    assert not set(plain.asked()) & OF_LEASES


@pytest.mark.spec("3.4", "4")
def test_a_cancel_ends_a_job_that_has_no_lease_and_all_its_processes(user: Lab) -> None:
    Plain(user, LEASES)
    log = user.root / "pids"
    project = user.project(build=f"sleep 300 & echo $$ $! > {log}; wait")
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    running = pids(log, 2)
    assert user.rchctl("cancel", run_id).returncode == 0
    run = assert_cancelled(user, run_id)
    assert [step["state"] for step in run["steps"]] == ["CANCELLED", "SKIPPED"]
    until(lambda: all(map(is_gone, running)))


@pytest.mark.spec("3.4")
def test_a_run_of_the_same_host_waits_in_the_queue_for_the_slot_that_nobody_leases(user: Lab) -> None:
    plain = Plain(user, LEASES)
    project, marker, gate = waiting_project(user)
    first = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    second = user.json("submit", cwd=user.project("other"))["data"]["run_id"]
    waiting = "plain is busy: a run of this host is there"
    until(lambda: user.json("status", second)["data"]["waiting"] == waiting)
    assert user.json("status", second)["data"]["state"] == "QUEUED"
    assert user.json("verify", "--no-queue", cwd=user.project("third"))["exit_code"] == 90
    gate.touch()
    assert [user.json("wait", each)["exit_code"] for each in (first, second)] == [0, 0]
    assert plain.asked().count("submit") == 4, "none was turned away"


# --- another host at the same worker --------------------------------------------------


@pytest.fixture
def taken(user: Lab) -> Iterator[tuple[Lab, Path, Path]]:
    """A worker without leases, whose one slot another host has until the file is there; and that file."""
    Plain(user, LEASES)
    project, marker, gate = waiting_project(user)
    other = Lab.__new__(Lab)
    other.__dict__.update(vars(user))
    other.home, other.socket = user.root / "home-2", user.socket.with_name("s2")
    other.env = {**user.env, "RCH_HOME": str(other.home), "RCH_SOCKET": str(other.socket)}
    other.workers((user.home / "config" / "workers.toml").read_text())
    assert other.rchctl("submit", cwd=project).returncode == 0
    until(marker.exists)
    try:
        yield user, user.project("own"), gate
    finally:
        gate.touch()
        other.stop()


def waits(user: Lab, run_id: str) -> bool:
    told = user.json("status", run_id)["data"]
    return str(told["waiting"]).startswith("the worker is busy: ")


@pytest.mark.spec("3.4")
def test_while_another_host_has_the_slot_a_run_waits_with_a_reason_and_is_served_then(
    taken: tuple[Lab, Path, Path],
) -> None:
    user, project, gate = taken
    assert user.json("verify", "--no-queue", cwd=project)["exit_code"] == 90
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(lambda: waits(user, run_id))
    user.kill_daemon()
    assert user.rchctl("daemon", "start").returncode == 0
    until(lambda: waits(user, run_id))
    gate.touch()
    assert user.json("wait", run_id)["exit_code"] == 0


@pytest.mark.spec("3.4", "4")
@pytest.mark.faults_long
def test_a_run_that_waits_for_another_hosts_slot_can_be_cancelled_and_gives_up(
    taken: tuple[Lab, Path, Path],
) -> None:
    user, project, _ = taken
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(lambda: waits(user, run_id))
    assert user.rchctl("cancel", run_id).returncode == 0
    assert_cancelled(user, run_id)
    done = user.json("verify", "--set", "queue.max_wait_seconds=2", cwd=project)
    assert (done["exit_code"], done["data"]["failure_kind"]) == (90, "WORKER_BUSY")
    assert "for 2 s (queue.max_wait_seconds)" in done["data"]["human_summary"]


# --- the mock worker ------------------------------------------------------------------


def mocked(user: Lab, scenario: str) -> Path:
    """The user's one worker is a mock; its state."""
    state = user.root / "mock"
    words = [sys.executable, "-m", "rch_conformance.mock", "--scenario", scenario, "--state", str(state)]
    user.workers(f'[[worker]]\nname = "mock"\ntransport = "local"\ncommand = {words}\n')
    return state


def of(state: Path, *ops: str) -> list[Asked]:
    return [each for each in transcript(state) if each.op in ops]


@pytest.mark.spec("3.4")
@pytest.mark.faults_long
def test_a_busy_slot_of_a_mock_worker_is_asked_for_at_the_pace_that_it_wishes(user: Lab) -> None:
    state = mocked(user, "no-lease-busy")
    done = user.json("verify", "--simulate", "--action", "build", cwd=user.project())
    assert done["exit_code"] == 0
    submits = of(state, "submit")
    assert [each.refused for each in submits] == ["BUSY", "BUSY", None]
    assert all(after.at_ms - before.at_ms >= 950 for before, after in itertools.pairwise(submits))
    assert not of(state, "reserve", "renew", "release")


@pytest.mark.spec("3.4")
def test_a_lease_that_is_not_renewed_is_asked_for_as_long_as_the_run_may_take(user: Lab) -> None:
    state = mocked(user, "no-renewals")
    words = ("--set", "timeouts.overall_seconds=600", "--set", "timeouts.connect_timeout_seconds=20")
    done = user.json("verify", "--simulate", *words, cwd=user.project())
    assert done["exit_code"] == 0
    (reserve,) = of(state, "reserve", "renew")
    assert reserve.payload["ttl_seconds"] == 20 + 2 * 600
    assert len(of(state, "release")) == 1
