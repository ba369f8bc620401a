"""Another version of the daemon takes over in the middle of a run; versions that differ are told."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import sshd
from support.lab import REPO, TIMEOUT, Lab, lab, run_files
from support.until import until, waiting_project

import rch

pytestmark = [pytest.mark.spec("4"), pytest.mark.spec("12")]

PACKAGES = ("rch", "rchd", "rchctl", "worker_agent")
WORKER = (sys.executable, "-m", "worker_agent", "xcode", "rpc")
OTHER = "99.1.0"
NEXT_SCHEMA = {
    "rchd/edges/store_schema.py": (
        ("SCHEMA_VERSION = 1\n", "SCHEMA_VERSION = 2\n"),
        ("tuple[str, ...]] = {}", 'tuple[str, ...]] = {1: ("ALTER TABLE runs ADD COLUMN note TEXT",)}'),
    )
}
NEXT_PROTOCOL = {
    "rch/contract/local_api.py": (("PROTOCOL = (1, 1)", "PROTOCOL = (2, 2)"),),
    "rchctl/client.py": (("PROTOCOL = (1, 1)", "PROTOCOL = (2, 2)"),),
}
BEFORE_DRAIN_EXIT = {"rch/contract/local_api.py": ((', "drain_exit")', ")"),)}

Changes = Mapping[str, tuple[tuple[str, str], ...]]


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def installation(root: Path, changes: Changes | None = None) -> Path:
    """Another version, in a folder of its own, that differs by `changes`."""
    for name in PACKAGES:
        shutil.copytree(REPO / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    init = root / "rch" / "__init__.py"
    init.write_text(init.read_text().replace(rch.__version__, OTHER))
    for path, words in (changes or {}).items():
        text = (root / path).read_text()
        for old, new in words:
            assert old in text, (path, old)
            text = text.replace(old, new)
        (root / path).write_text(text)
    return root


def upgrade(user: Lab, changes: Changes | None = None) -> None:
    """The next daemon that is started is of the other version."""
    root = installation(user.root / "other", changes)
    script = f'PYTHONPATH={shlex.quote(str(root))} exec {shlex.quote(sys.executable)} -P -m rchd "$@"'
    user.env["RCH_RCHD"] = shlex.join(["sh", "-c", script, "sh"])


def other_client(user: Lab, changes: Changes, *args: str) -> subprocess.CompletedProcess[str]:
    """`rchctl` of another version, at the daemon that runs."""
    root = installation(user.root / "client", changes)
    return subprocess.run(
        [sys.executable, "-P", "-m", "rchctl", *args],
        env={**user.env, "PYTHONPATH": str(root)},
        cwd=user.root,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def counted(user: Lab) -> tuple[Path, Path, Path, Path]:
    """A project that waits for a gate and notes each execution."""
    project, marker, gate = waiting_project(user)
    count = user.root / "executions"
    (project / "build.sh").write_text(f'echo x >> "{count}"\n' + (project / "build.sh").read_text())
    return project, marker, gate, count


def assert_went_on(run: Mapping[str, Any], count: Path) -> None:
    """One execution, one line of seq, and on record that it was taken up again."""
    assert (run["state"], run["seq"], count.read_text()) == ("SUCCEEDED", 3, "x\n")
    files = run_files(Path(run["run_dir"]))
    assert json.loads(files["run_state"].read_text())["resumed_at"]
    assert json.loads(files["build/summary"].read_text())["attempts"] == 1
    assert files["build/build_log"].read_text() == files["build/live_log_path"].read_text()
    job = json.loads(files["build/job_state"].read_text())
    assert [step["seq"] for step in run["steps"] if step["action"] == "build"] == [job["seq"]]


@contextmanager
def remote(root: Path) -> Iterator[Lab]:
    """A user whose worker is behind sshd, and is not upgraded with the daemon."""
    with lab(root) as user:
        kept = ("PATH", "HOME", "LANG", "RCH_WORKER_HOME", "RCH_WORKER_KILL_GRACE")
        env = {name: user.env[name] for name in kept}
        with sshd.SshdServer(root / "sshd", command=WORKER, env=env) as server:
            user.workers(
                f'[[worker]]\nname = "mini"\nhost = "{server.host}"\nport = {server.port}\n'
                f'user = "{server.user}"\nssh_key_path = "{server.client_key}"\n'
                f'known_host_fingerprint = "{server.fingerprints["ed25519"]}"\n'
            )
            yield user


@pytest.mark.sshd
@pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")
def test_a_run_goes_on_under_a_newer_daemon_with_a_newer_schema(tmp_path: Path) -> None:
    with remote(tmp_path) as user:
        project, marker, gate, count = counted(user)
        client = user.start("verify", "--json", cwd=project)
        until(marker.exists)
        upgrade(user, NEXT_SCHEMA)
        restarted = user.rchctl("daemon", "restart")
        assert (restarted.returncode, f"rchd {OTHER}" in restarted.stdout) == (0, True), restarted.stderr
        assert f"note: rchd {OTHER} is running, this is {rch.__version__}" in restarted.stderr
        gate.touch()
        out, err = client.communicate(timeout=TIMEOUT)
        assert client.returncode == 0, (out, err)
        assert_went_on(json.loads(out)["data"], count)
        assert (user.home / "state" / "rchd.db.v1.bak").exists()
        del user.env["RCH_RCHD"]
        back = user.rchctl("daemon", "restart")
        assert (back.returncode, "newer" in back.stderr) == (4, True), back.stderr


@pytest.mark.faults_long
def test_the_worker_beside_the_daemon_is_upgraded_under_its_running_job(user: Lab) -> None:
    project, marker, gate, count = counted(user)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    upgrade(user)
    assert user.rchctl("daemon", "restart").returncode == 0
    gate.touch()
    assert user.rchctl("wait", run_id).returncode == 0
    assert_went_on(user.json("status", run_id)["data"], count)


def test_a_client_that_is_older_says_both_versions_and_may_still_look_and_stop(user: Lab) -> None:
    upgrade(user, NEXT_PROTOCOL)
    refused = user.rchctl("list")
    assert refused.returncode == 4
    assert (
        f"rchctl {rch.__version__} speaks protocol 1 and does not understand rchd {OTHER}" in refused.stderr
    )
    assert "hint: rchctl daemon stop && rchctl daemon start" in refused.stderr
    assert f"rchd {OTHER}: ok" in user.rchctl("daemon", "status").stdout
    assert user.rchctl("daemon", "stop", "--drain").stdout == "rchd stopped\n"


def test_a_client_that_is_newer_says_both_versions_and_may_restart_the_daemon(user: Lab) -> None:
    user.rchctl("daemon", "start")
    refused = other_client(user, NEXT_PROTOCOL, "list")
    assert refused.returncode == 4
    assert (
        f"rchctl {OTHER} speaks protocol 2 and does not understand rchd {rch.__version__}" in refused.stderr
    )
    assert "hint: rchctl daemon stop && rchctl daemon start" in refused.stderr
    shutil.rmtree(user.root / "client")
    restarted = other_client(user, NEXT_PROTOCOL, "daemon", "restart")
    assert (restarted.returncode, f"rchd {OTHER}: ok" in restarted.stdout) == (0, True), restarted.stderr


@pytest.mark.faults_long
def test_an_older_daemon_that_cannot_end_by_itself_is_drained_by_the_client(user: Lab) -> None:
    upgrade(user, BEFORE_DRAIN_EXIT)
    project, marker, gate = waiting_project(user)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    stop = user.start("daemon", "stop", "--drain")
    until(lambda: user.json("daemon", "status")["data"]["status"] == "draining")
    assert user.json("daemon", "status")["data"]["exits"] is False
    resumed = user.rchctl("daemon", "resume")
    assert (resumed.returncode, "cannot be told to drain no more" in resumed.stderr) == (4, True)
    gate.touch()
    out, err = stop.communicate(timeout=TIMEOUT)
    assert (stop.returncode, out) == (0, "rchd stopped\n"), err
    assert user.json("status", run_id)["data"]["state"] == "SUCCEEDED"
