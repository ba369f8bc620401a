"""The worker's side of a line dies in the middle of a request, or the whole SSH server does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import sshd
from support.lab import Lab, lab
from support.until import until
from support.worker_deaths import WAITS, Attendance, check_at_rest, hook, programs, summary_of
from support.worker_remote import remote_lab

# The first process that comes to that operation dies, before it or when it is done and not yet told.
_DYING = """
import os, signal, sys
if getattr(sys, "orig_argv", ())[-2:] == ["xcode", "rpc"]:
    import worker_agent.ops as ops
    _name, _when = os.environ["RCH_TEST_DIE_IN"].split()
    _served = ops._OPERATIONS[_name]
    def _die():
        try:
            os.close(os.open(os.environ["RCH_TEST_DIED"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
    def _dying(call):
        if _when == "before":
            _die()
        result = _served(call)
        _die()
        return result
    ops._OPERATIONS[_name] = _dying
"""

OPERATIONS = ("reserve", "has_source", "upload_source", "submit", "tail", "fetch", "release")
FIRST = {("submit", "after")}


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest.mark.spec("3.3")
@pytest.mark.parametrize(
    ("name", "when"),
    [
        pytest.param(name, when, marks=() if (name, when) in FIRST else pytest.mark.faults_long)
        for name in OPERATIONS
        for when in ("before", "after")
    ],
)
def test_a_request_that_is_cut_short_is_made_again_and_done_once(user: Lab, name: str, when: str) -> None:
    hook(user, _DYING)
    died = user.root / "died"
    user.env |= {"RCH_TEST_DIE_IN": f"{name} {when}", "RCH_TEST_DIED": str(died)}
    build = Attendance(user, "echo ended")
    run = user.json("verify", cwd=user.project(build=build.body))["data"]
    assert died.exists()
    assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
    assert summary_of(user, run["run_id"])["attempts"] == 1
    build.check(executions=1)
    if name != "release":  # a lease that is not given back ends by itself
        check_at_rest(user)


@pytest.mark.faults_long
@pytest.mark.sshd
@pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")
@pytest.mark.spec("4")
def test_a_server_that_is_away_for_a_while_costs_the_job_nothing(tmp_path: Path) -> None:
    with remote_lab(tmp_path) as (user, server):
        build = Attendance(user, WAITS)
        run_id = user.json("submit", cwd=user.project(build=build.body))["data"]["run_id"]
        build.wait_for(1)
        server.stop()
        until(lambda: programs(user, "rpc") == [])
        until(lambda: user.json("status", run_id)["data"]["waiting"] == "worker_unreachable")
        build.open()
        until(lambda: programs(user, "supervise") == [])
        server.start()
        assert user.rchctl("wait", run_id).returncode == 0
        assert summary_of(user, run_id)["attempts"] == 1
        build.check(executions=1)
        check_at_rest(user)
