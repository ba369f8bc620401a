"""The same over OpenSSH's own sshd on loopback, with a forced command and a pinned host key."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import sshd
from support.lab import DEMO, Lab, lab, run_files
from support.until import until, waiting_project

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed"),
]

WORKER = (sys.executable, "-m", "worker_agent", "xcode", "rpc")


@contextmanager
def remote(root: Path, *, stand_in: bool = True) -> Iterator[tuple[Lab, sshd.SshdServer]]:
    """A user whose only worker is behind sshd."""
    with lab(root, stand_in=stand_in) as user:
        kept = ("PATH", "HOME", "LANG", "RCH_WORKER_HOME", "RCH_WORKER_KILL_GRACE")
        env = {name: user.env[name] for name in kept}
        with sshd.SshdServer(root / "sshd", command=WORKER, env=env) as server:
            inventory(user, server, server.fingerprints["ed25519"])
            yield user, server


def inventory(user: Lab, server: sshd.SshdServer, pin: str) -> None:
    user.workers(
        f'[[worker]]\nname = "mini"\nhost = "{server.host}"\nport = {server.port}\n'
        f'user = "{server.user}"\nknown_host_fingerprint = "{pin}"\n'
        f'ssh_key_path = "{server.client_key}"\n'
    )


@pytest.mark.parametrize(
    "stand_in",
    [
        pytest.param(True, id="stand-in"),
        pytest.param(
            False,
            id="swift",
            marks=[
                pytest.mark.swift,
                pytest.mark.faults_long,  # below it builds; without sshd it tests, too
                pytest.mark.skipif(shutil.which("swift") is None, reason="no Swift toolchain on PATH"),
            ],
        ),
    ],
)
def test_verify_over_sshd_builds_and_tests(tmp_path: Path, *, stand_in: bool) -> None:
    with remote(tmp_path, stand_in=stand_in) as (user, server):
        run = user.json("verify", cwd=user.project() if stand_in else user.copy(DEMO))["data"]
        assert (run["state"], run["worker"], run["embedded_worker"]) == ("SUCCEEDED", "mini", False)
        assert [step["status"] for step in run["steps"]] == ["success", "success"]
        files = run_files(Path(run["run_dir"]))
        assert not [name for name, path in files.items() if not path.exists()]
        plan = json.loads(files["run_plan"].read_text())
        assert (plan["selected_worker"], plan["selected_worker_host"]) == ("mini", server.host)


@pytest.mark.swift
@pytest.mark.spec("3.3")
@pytest.mark.skipif(shutil.which("swift") is None, reason="no Swift toolchain on PATH")
@pytest.mark.faults_long
def test_the_swift_on_a_workers_path_is_found_over_sshd_and_builds_the_demo(tmp_path: Path) -> None:
    with remote(tmp_path, stand_in=False) as (user, _):
        run = user.json("run", "--action", "build", cwd=user.copy(DEMO))["data"]
        assert (run["state"], run["worker"], run["exit_code"]) == ("SUCCEEDED", "mini", 0)
        files = run_files(Path(run["run_dir"]))
        assert "Compiling" in files["build/build_log"].read_text()
        events = [json.loads(line) for line in files["build/events"].read_text().splitlines()]
        assert [each["data"]["name"] for each in events if each["type"] == "stage"][-1] == "build"
        probed = user.json("workers", "probe")["data"]["workers"]
        assert [(each["name"], each["status"]) for each in probed] == [("mini", "ok")]
        assert "swift" in json.dumps(probed).lower()


@pytest.mark.spec("10")
@pytest.mark.fault("S8")
def test_a_wrong_host_key_ends_20_and_names_the_key_that_was_seen(tmp_path: Path) -> None:
    with remote(tmp_path) as (user, server):
        inventory(user, server, "SHA256:" + "A" * 43)
        answer = user.json("verify", cwd=user.project())
        assert answer["exit_code"] == 20
        run = answer["data"]
        assert (run["failure_kind"], run["failure_subkind"]) == ("SSH", "HOST_KEY")
        assert server.fingerprints["ed25519"] in run["human_summary"]
        assert "rch-worker" not in server.log


@pytest.mark.spec("4")
@pytest.mark.fault("S5")
def test_a_line_cut_in_the_middle_of_a_job_loses_nothing(tmp_path: Path) -> None:
    with remote(tmp_path) as (user, server):
        project, marker, gate = waiting_project(user)
        client = user.start("verify", "--json", cwd=project)
        until(marker.exists)
        assert server.kill_sessions() > 0
        gate.touch()
        out, err = client.communicate(timeout=90)
        assert client.returncode == 0, (out, err)
        run = json.loads(out)["data"]
        files = run_files(Path(run["run_dir"]))
        assert files["build/build_log"].read_text() == "started\nended\n"
        assert files["build/live_log_path"].read_text() == "started\nended\n"
        summary = json.loads(files["build/summary"].read_text())
        assert summary["attempts"] == 1


@pytest.mark.spec("4")
def test_ctrl_c_ends_the_job_on_the_worker(tmp_path: Path) -> None:
    with remote(tmp_path) as (user, _):
        project, marker, _ = waiting_project(user)
        client = user.start("verify", cwd=project)
        until(marker.exists)
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=60)
        assert client.returncode == 80
        assert user.rchctl("wait", "latest").returncode == 80


def test_terminals_share_one_pooled_connection(tmp_path: Path) -> None:
    with remote(tmp_path) as (user, server):
        project = user.project()
        clients = [user.start("verify", "--json", cwd=project) for _ in range(3)]
        for client in clients:
            out, err = client.communicate(timeout=90)
            assert client.returncode == 0, (out, err)
        assert server.log.count("Accepted publickey") == 1
