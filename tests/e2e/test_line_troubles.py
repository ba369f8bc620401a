"""A line that is half dead, slow, refused or noisy, and a server that goes and comes again."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from support.fault_proxy import Delay, HalfOpen, Throttle
from support.lines import WORKER, far_lab
from support.sshd import available

pytestmark = [
    pytest.mark.spec("4"),
    pytest.mark.sshd,
    pytest.mark.skipif(not available, reason="OpenSSH's sshd is not installed"),
]

MBIT_PER_SECOND = 125_000
# Found after two seconds of silence; a test must not wait for the usual 45.
KEEPALIVE = "Host *\n ServerAliveInterval 1\n ServerAliveCountMax 1\n"
LIMIT = 2


@pytest.mark.fault("S7")
def test_a_half_open_line_is_found_by_the_keepalive_and_the_run_goes_on(tmp_path: Path) -> None:
    with far_lab(tmp_path, ssh_config=KEEPALIVE) as far:
        build = far.build("app", gated=True)
        client = far.start(build)
        build.until_half()
        far.line.set(HalfOpen())
        began = time.monotonic()
        far.line.lost()
        far.line.set()
        made = far.line.proxy.made
        far.line.connected(made + 1)
        # Without it the held question alone would end the wait, after 50 s.
        assert time.monotonic() - began < 10 * LIMIT
        build.go_on()
        far.check(build, far.ended(client))


@pytest.mark.fault("S10")
def test_a_server_that_goes_and_comes_in_the_middle_of_a_job_finds_it_again(tmp_path: Path) -> None:
    with far_lab(tmp_path) as far:
        build = far.build("app", gated=True)
        client = far.start(build)
        build.until_half()
        made = far.line.proxy.made
        far.server.stop()
        build.go_on()
        far.line.connected(made + 1)
        far.server.start()
        far.check(build, far.ended(client))


@pytest.mark.faults_long
@pytest.mark.fault("S10")
def test_a_server_that_takes_nobody_for_a_while_is_asked_again(tmp_path: Path) -> None:
    with far_lab(tmp_path, options=("MaxStartups 1",)) as far:
        build = far.build("app")
        with socket.create_connection((far.server.host, far.server.port), 10) as stranger:
            assert stranger.recv(4) == b"SSH-"  # the one place for those who are not known yet
            client = far.start(build)
            far.line.connected(2)
        far.check(build, far.ended(client))
        assert "MaxStartups" in far.server.log


@pytest.mark.faults_long
@pytest.mark.fault("S10")
def test_a_server_with_one_session_a_connection_serves_a_run_from_far_away(tmp_path: Path) -> None:
    with far_lab(tmp_path, max_sessions=1) as far:
        far.line.set(Delay(0.02))
        build = far.build("app")
        far.check(build, far.ended(far.start(build)))
        assert far.line.proxy.made > 1


@pytest.mark.fault("S9")
def test_a_shell_that_talks_before_the_protocol_is_named(tmp_path: Path) -> None:
    noisy = ("sh", "-c", f"echo Welcome to buildbox; exec {' '.join(WORKER)}")
    with far_lab(tmp_path, command=noisy) as far:
        out, _ = far.start(far.build("app")).communicate(timeout=60)
        run = json.loads(out)["data"]
        assert (run["failure_kind"], run["failure_subkind"]) == ("EXECUTOR", "PROTOCOL_ERROR")
        assert "Welcome to buildbox" in run["human_summary"]


@pytest.mark.faults_long
@pytest.mark.fault("S13")
def test_a_slow_line_changes_nothing(tmp_path: Path) -> None:
    with far_lab(tmp_path) as far:
        far.line.set(Throttle(MBIT_PER_SECOND))
        build = far.build("app")
        far.check(build, far.ended(far.start(build)))
