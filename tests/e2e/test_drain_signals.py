"""The daemon under signals: told to end, told twice, and stopped for longer than its lease lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.lab import PASSING_TEST, TIMEOUT, Lab, lab, run_files
from support.until import until, waiting_project

from worker_agent.clock import boot_seconds

pytestmark = [
    pytest.mark.spec("4"),
    pytest.mark.fault("H5"),
    pytest.mark.skipif(sys.platform != "linux", reason="asks /proc"),
]

_SHORT_LEASES = """
from worker_agent import leases
from worker_agent.__main__ import main
leases.DEFAULT_TTL_SECONDS = 1
raise SystemExit(main(["xcode", "rpc"]))
"""
_TEST = """
touch "{testing}"
while [ ! -e "{gate}" ]; do sleep 0.02; done
"""


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@contextmanager
def daemon(user: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """`rchd run`, started by us so that its exit code is ours to see."""
    log = user.home / "state" / "rchd.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "rchd", "run"], env=user.env, stdout=file, stderr=file, cwd="/"
        )
    try:
        until(lambda: user.rchctl("daemon", "status").returncode == 0)
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT)


def logged(user: Lab, event: str) -> list[dict[str, Any]]:
    """What the daemon logged of `event`."""
    lines = (user.home / "state" / "rchd.log").read_text().splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in found if line.get("event") == event]


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def hung_worker(pid: int) -> Iterator[None]:
    """The worker's answers do not come: all channels of the daemon hang, its job does not."""
    with ExitStack() as awake:
        for child in children(pid):
            os.kill(child, signal.SIGSTOP)
            awake.callback(_wake, child)
        yield


def _wake(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def attempts(user: Lab, run_id: str) -> int:
    files = run_files(Path(user.json("status", run_id)["data"]["run_dir"]))
    return int(json.loads(files["build/summary"].read_text())["attempts"])


def test_one_sigterm_ends_it_in_order_with_0(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    with daemon(user) as process:
        run_id = user.json("submit", cwd=project)["data"]["run_id"]
        until(marker.exists)
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    assert [line["at_once"] for line in logged(user, "daemon.signal")] == [False]
    assert logged(user, "daemon.stopped")
    assert not user.socket.exists()
    gate.touch()
    assert user.rchctl("wait", run_id).returncode == 0
    assert attempts(user, run_id) == 1


@pytest.mark.parametrize(
    "second", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.faults_long)]
)
def test_a_second_signal_ends_it_at_once_and_nothing_is_lost(user: Lab, second: int) -> None:
    project, marker, gate = waiting_project(user)
    with daemon(user) as process:
        run_id = user.json("submit", cwd=project)["data"]["run_id"]
        queued = user.json("submit", cwd=project)["data"]["run_id"]
        until(marker.exists)
        with hung_worker(process.pid):
            process.terminate()
            until(lambda: len(logged(user, "daemon.signal")) == 1)
            process.send_signal(second)
            assert process.wait(TIMEOUT) == 0
    assert [line["at_once"] for line in logged(user, "daemon.signal")] == [False, True]
    assert not logged(user, "daemon.stopped")
    assert not user.socket.exists()
    gate.touch()
    for each in (run_id, queued):
        assert user.rchctl("wait", each).returncode == 0
        assert attempts(user, each) == 1


@pytest.mark.faults_long
def test_one_sigterm_ends_it_within_its_grace_where_the_worker_hangs(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    with daemon(user) as process:
        run_id = user.json("submit", cwd=project)["data"]["run_id"]
        until(marker.exists)
        with hung_worker(process.pid):
            process.terminate()
            process.wait(TIMEOUT)
    gate.touch()
    assert user.rchctl("wait", run_id).returncode == 0
    assert attempts(user, run_id) == 1


# --- stopped for longer than a lease lives ------------------------------------------------


def short_leases(user: Lab, grace: int) -> None:
    """A worker whose leases live for a second, and jobs `grace` seconds longer."""
    script = user.root / "worker.py"
    script.write_text(_SHORT_LEASES)
    command = json.dumps([sys.executable, str(script)])
    user.workers(f'[[worker]]\nname = "short"\ntransport = "local"\ncommand = {command}\n')
    config = user.worker_home / "config" / "worker.toml"
    config.write_text(config.read_text() + f"orphan_grace_seconds = {grace}\n")


def lease(user: Lab) -> dict[str, Any]:
    """The one lease of the worker's table."""
    table = json.loads((user.worker_home / "state" / "leases" / "table.json").read_text())
    found: dict[str, Any] = table["leases"][-1]
    return found


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.spec("3.4")
def test_a_lease_lost_while_the_daemon_was_stopped_is_revived_and_the_run_goes_on(user: Lab) -> None:
    short_leases(user, 600)
    project, marker, gate = waiting_project(user)
    testing, count = user.root / "testing", user.root / "executions"
    (project / "build.sh").write_text(f'echo x >> "{count}"\n' + (project / "build.sh").read_text())
    test = _TEST.format(testing=testing, gate=user.root / "gate2") + PASSING_TEST
    (project / "test.sh").write_text(test)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    pid, before = user.daemon_pid, lease(user)
    with stopped(pid):
        until(lambda: lease(user)["deadline"] < boot_seconds())
        # What it last read of the job is old news when it wakes, and so is its lease.
        gate.touch()
        count.read_text()
    until(testing.exists)
    now = lease(user)
    assert now["run_id"] == before["run_id"]
    assert now["fence"] > before["fence"]
    (user.root / "gate2").touch()
    assert user.rchctl("wait", run_id).returncode == 0
    assert (user.daemon_pid, count.read_text()) == (pid, "x\n")
    assert attempts(user, run_id) == 1
    run = user.json("status", run_id)["data"]
    assert (run["state"], run["seq"]) == ("SUCCEEDED", 3)


@pytest.mark.spec("3.4")
def test_a_job_whose_grace_ended_while_the_daemon_was_stopped_ends_cancelled(user: Lab) -> None:
    short_leases(user, 1)
    project, marker, _ = waiting_project(user)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    with stopped(user.daemon_pid):
        jobs = user.worker_home / "data" / "jobs"
        until(lambda: any(jobs.glob("*/job_index.json")) or any(jobs.rglob("attestation.json")))
    ended = user.rchctl("wait", run_id, "--json")
    run = json.loads(ended.stdout)["data"]
    assert (run["exit_code"], run["failure_kind"], run["failure_subkind"]) == (
        80,
        "CANCELLED",
        "LEASE_EXPIRED",
    )
