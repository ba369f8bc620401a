"""The worker restarts in the middle of a job: what ran is gone at once, and its boot is another one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.lab import Lab, lab, run_files
from support.worker_deaths import (
    WAITS,
    Attendance,
    check_at_rest,
    hook,
    kill_supervisor,
    lives,
    programs,
    summary_of,
    table,
    tools,
)

# A worker's boot is what a file says: its id, and when it began.
_BOOT = """
import os, sys
if "worker_agent" in " ".join(getattr(sys, "orig_argv", ())):
    from pathlib import Path
    import worker_agent.clock as clock
    _file = Path(os.environ["RCH_TEST_BOOT"])
    _id, _began = _file.read_text().split()
    _real = clock.boot_seconds
    clock._LINUX_BOOT_ID = _file.with_name(_id)
    clock.boot_seconds = lambda: _real() - float(_began)
"""

pytestmark = [pytest.mark.fault("W3"), pytest.mark.spec("3.3")]


class Machine:
    """The worker's machine."""

    def __init__(self, user: Lab) -> None:
        self._user = user
        self._file = user.root / "boot"
        self._boots = 0
        self._begin(0.0)
        hook(user, _BOOT)
        user.env["RCH_TEST_BOOT"] = str(self._file)

    def _begin(self, at: float) -> None:
        self._boots += 1
        name = f"boot-{self._boots}"
        self._file.with_name(name).write_text(f"{name}\n")
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{name} {at}")
        fresh.replace(self._file)

    def restart(self) -> None:
        """All that runs ends at the same moment, without a word."""
        ended = [pid for name in ("rpc", "supervise") for pid in programs(self._user, name)]
        ended += tools(self._user)
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        self._begin(uptime)
        for pid in ended:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any job."""
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as process:
        yield process
        process.kill()


def reuse_numbers(user: Lab, pid: int) -> None:
    """The new boot gives the number of the job's group to somebody else."""
    (path,) = (user.worker_home / "data" / "jobs").glob("*/group.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "pgid": pid}))


def test_a_job_is_run_once_more_after_a_reboot_and_no_stranger_is_touched(
    user: Lab, stranger: subprocess.Popen[bytes]
) -> None:
    machine = Machine(user)
    build = Attendance(user, WAITS)
    run_id = user.json("submit", cwd=user.project(build=build.body))["data"]["run_id"]
    build.wait_for(1)
    former = table(user)["leases"][0]
    reuse_numbers(user, stranger.pid)
    machine.restart()
    build.wait_for(2)
    (held,) = table(user)["leases"]  # none of the former boot
    assert (held["boot"], held["fence"]) == ("boot-2", former["fence"] + 1)
    build.open()
    assert user.rchctl("wait", run_id).returncode == 0
    told = summary_of(user, run_id)
    assert told["attempts"] == 2
    assert "execution 1 was lost (the worker restarted)" in json.dumps(told["verdict"])
    run_dir = Path(user.json("status", run_id)["data"]["run_dir"])
    state = json.loads(run_files(run_dir)["run_state"].read_text())
    assert (state["state"], state["lease_renewed"]) == ("SUCCEEDED", True)
    build.check(executions=2)
    assert lives(stranger.pid)
    check_at_rest(user)


@pytest.mark.fault("W11")
def test_a_job_that_two_reboots_end_is_lost_for_good_and_not_busy(user: Lab) -> None:
    machine = Machine(user)
    build = Attendance(user)
    run_id = user.json("submit", cwd=user.project(build=build.body))["data"]["run_id"]
    for number in (1, 2):
        build.wait_for(number)
        machine.restart()
    assert user.rchctl("wait", run_id).returncode == 40
    told = summary_of(user, run_id)
    assert (told["failure_subkind"], told["attempts"]) == ("WORKER_LOST", 2)
    build.check(executions=2)
    check_at_rest(user)


@pytest.mark.faults_long
@pytest.mark.fault("W11")
def test_a_job_that_is_lost_again_after_a_reboot_is_lost_for_good_and_says_how(user: Lab) -> None:
    machine = Machine(user)
    build = Attendance(user)
    run_id = user.json("submit", cwd=user.project(build=build.body))["data"]["run_id"]
    build.wait_for(1)
    machine.restart()
    build.wait_for(2)
    kill_supervisor(user)
    assert user.rchctl("wait", run_id).returncode == 40
    told = summary_of(user, run_id)
    assert (told["failure_subkind"], told["attempts"]) == ("WORKER_LOST", 2)
    lost = [each["fact"] for each in told["verdict"]["evidence"] if "was lost" in each["fact"]]
    assert [fact.partition(",")[0] for fact in lost] == [
        "execution 1 was lost (the worker restarted)",
        "execution 2 was lost (its supervisor ended)",
    ]
    build.check(executions=2)
    check_at_rest(user)
