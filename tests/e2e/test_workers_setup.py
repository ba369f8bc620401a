"""From a machine that has only SSH to a worker: real sshd, real daemon, real venv, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import sshd
from support.lab import REPO, Lab, lab
from support.until import until, waiting_project

from rch import __version__

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed"),
]


@contextmanager
def machine(root: Path) -> Iterator[tuple[Lab, sshd.SshdServer, Path, list[str]]]:
    """A user, a machine with a home and a login, and the words that set it up."""
    there = root / "there"
    (there / ".ssh").mkdir(parents=True)
    with lab(root) as user, sshd.SshdServer(root / "sshd", home=there) as server:
        words = ["workers", "setup", "mini", "--host", server.host, "--port", str(server.port)]
        words += ["--user", server.user, "--fingerprint", server.fingerprints["ed25519"]]
        words += ["--login-key", str(server.client_key), "--python", sys.executable]
        yield user, server, there, words


def entries(user: Lab) -> list[dict[str, Any]]:
    path = user.home / "config" / "workers.toml"
    return list(tomllib.loads(path.read_text())["worker"]) if path.exists() else []


def old_host(root: Path) -> dict[str, str]:
    """The environment of a host whose installation is a version behind."""
    for package in ("rch", "worker_agent"):
        shutil.copytree(
            REPO / package, root / "old" / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (root / "old" / "rch" / "__init__.py").write_text('"""An older one."""\n\n__version__ = "0.0.9"\n')
    return {"PYTHONPATH": str(root / "old")}


@pytest.mark.spec("3.1")
@pytest.mark.spec("6")
def test_a_machine_with_ssh_and_python_alone_becomes_a_worker(tmp_path: Path) -> None:
    with machine(tmp_path) as (user, server, there, words):
        keys, mine = there / ".ssh" / "authorized_keys", "# mine\nssh-ed25519 AAAAC3Nz someone"
        keys.write_text(mine)
        unpinned = [word for word in words if word not in {"--fingerprint", server.fingerprints["ed25519"]}]
        refused = user.json(*unpinned, "--apply")
        assert (refused["exit_code"], refused["error"]["subkind"]) == (20, "HOST_KEY")
        assert refused["error"]["hint"].endswith(f"--fingerprint {server.fingerprints['ed25519']}")
        assert "Accepted" not in server.log
        plan = user.json(*words)
        assert plan["exit_code"] == 0, plan
        assert {each["state"] for each in plan["data"]["plan"]} == {"todo"}
        assert (list(there.iterdir()), keys.read_text()) == ([there / ".ssh"], mine)
        assert not (tmp_path / ".ssh").exists()
        assert not entries(user)
        (there / ".profile").write_text("echo a greeting\n")
        # What a set-up that was cut may have left.
        base = Path(plan["data"]["found"]["base"])
        for name in (".incoming", plan["data"]["found"]["build"]):
            (base / name / "bin").mkdir(parents=True)
            (base / name / "bin" / "rch-worker").write_text("half a")
        done = user.json(*words, "--apply", "--tag", "ios")
        assert done["exit_code"] == 0, done
        (entry,) = entries(user)
        own = entry.pop("attestation_pubkey_fingerprint")
        assert own == done["data"]["done"]["own"]
        assert entry == {
            "name": "mini",
            "host": server.host,
            "user": server.user,
            "port": server.port,
            "known_host_fingerprint": server.fingerprints["ed25519"],
            "ssh_key_path": str(tmp_path / ".ssh" / "rch_mini"),
            "tags": ["ios"],
        }
        assert keys.read_text() == f"{mine}\n{done['data']['line']}\n"
        assert keys.stat().st_mode & 0o777 == 0o600
        assert {each["what"]: each["open"] for each in done["data"]["tried"]}["shell"] is False
        # What it was made for.
        (there / ".config" / "rch").mkdir(parents=True)
        swift = (user.worker_home / "config" / "worker.toml").read_text()
        (there / ".config" / "rch" / "worker.toml").write_text(swift)
        ran = user.json("run", "--action", "build", cwd=user.project(build="echo built"))
        assert (ran["exit_code"], ran["data"]["worker"]) == (0, "mini"), ran
        # Once more: nothing is left to do, and nothing is done.
        before = (user.home / "config" / "workers.toml").read_bytes(), keys.read_bytes()
        again = user.json(*words, "--apply")
        assert again["exit_code"] == 0, again
        assert {each["step"] for each in again["data"]["plan"] if each["state"] == "todo"} == {"try"}
        told = again["data"]["done"]
        assert (told["made"], told["authorized"], told["before"]) == (False, False, None)
        assert ((user.home / "config" / "workers.toml").read_bytes(), keys.read_bytes()) == before
        # The worker's own key opens no shell to upgrade it with.
        with_its_own = ["workers", "upgrade", "mini", "--login-key", entry["ssh_key_path"]]
        refused = user.json(*with_its_own)
        assert (refused["exit_code"], refused["error"]["subkind"]) == (20, "SETUP")
        assert "opens no shell" in refused["error"]["message"]
        assert "--login-key" in refused["error"]["hint"]


@pytest.mark.faults_long
@pytest.mark.spec("3.1")
def test_a_new_version_comes_beside_the_old_one_whose_job_runs_on(tmp_path: Path) -> None:
    with machine(tmp_path) as (user, server, there, words):
        older = old_host(tmp_path)
        user.env |= older
        done = user.json(*words, "--apply")
        assert done["exit_code"] == 0, done
        (there / ".config" / "rch").mkdir(parents=True)
        swift = (user.worker_home / "config" / "worker.toml").read_text()
        (there / ".config" / "rch" / "worker.toml").write_text(swift)
        project, marker, gate = waiting_project(user)
        run = user.json("submit", "--action", "build", cwd=project)["data"]["run_id"]
        until(marker.exists)
        del user.env["PYTHONPATH"]
        assert user.rchctl("daemon", "restart").returncode == 0
        (probed,) = user.json("workers", "probe")["data"]["workers"]
        assert (probed["agent"], probed["lags"]) == ("0.0.9", True)
        assert "rchctl workers upgrade mini" in probed["detail"]
        (lags,) = [each for each in user.json("doctor")["data"]["findings"] if each["check"] == "version"]
        assert lags["remedy"] == "rchctl workers upgrade mini"
        login = ["--login-key", str(server.client_key), "--python", sys.executable]
        upgraded = user.json("workers", "upgrade", "mini", *login)
        assert upgraded["exit_code"] == 0, upgraded
        (told,) = upgraded["data"]["workers"]
        assert told["done"]["before"].startswith("0.0.9-")
        (listed,) = user.json("workers", "list")["data"]["workers"]
        assert (listed["agent"], listed["lags"]) == (__version__, False)
        gate.touch()
        assert user.rchctl("wait", run).returncode == 0
        # A version that answers no probe is taken back.
        base = there / ".local/share/rch-worker/agent"
        assert (base / "current").readlink().name == told["done"]["build"]
        shutil.copytree(REPO / "rch", tmp_path / "bad" / "rch")
        shutil.copytree(REPO / "worker_agent", tmp_path / "bad" / "worker_agent")
        (tmp_path / "bad" / "rch" / "__init__.py").write_text('"""."""\n\n__version__ = "9.9.9"\n')
        (tmp_path / "bad" / "worker_agent" / "rpc.py").write_text("raise SystemExit(3)\n")
        user.env |= {"PYTHONPATH": str(tmp_path / "bad")}
        assert user.rchctl("daemon", "restart").returncode == 0
        refused = user.json("workers", "upgrade", "mini", *login)
        assert (refused["exit_code"], refused["error"]["subkind"]) == (20, "SETUP"), refused
        assert "check: rch-worker ended with 3" in refused["error"]["message"]
        assert (base / "current").readlink().name == told["done"]["build"]


@pytest.mark.faults_long
@pytest.mark.skipif(os.geteuid() != 0, reason="an account of its own can be made by root alone")
@pytest.mark.skipif(shutil.which("useradd") is None, reason="there is no useradd")
def test_an_account_of_its_own_with_the_system_s_python(tmp_path: Path) -> None:
    name = f"rch{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="rch-home-") as folder:
        # The account has to get there, and the test's own folder is root's.
        outer, there = Path(folder), Path(folder) / "home"
        outer.chmod(0o755)
        there.mkdir()
        made = ["useradd", "-M", "-N", "-d", str(there), "-s", "/bin/sh", "-p", "*", name]
        subprocess.run(made, check=True)
        try:
            shutil.chown(there, name)
            (there / ".profile").write_text("echo a greeting\n")
            with (
                lab(tmp_path) as user,
                sshd.SshdServer(outer / "sshd", account=name, home=there) as server,
            ):
                words = ["workers", "setup", "mini", "--host", server.host, "--port", str(server.port)]
                words += ["--user", name, "--fingerprint", server.fingerprints["ed25519"]]
                done = user.json(*words, "--login-key", str(server.client_key), "--apply")
                assert done["exit_code"] == 0, done
                assert (there / ".ssh" / "authorized_keys").owner() == name
                (view,) = user.json("workers", "probe", "mini")["data"]["workers"]
                assert view["agent"] == __version__
        finally:
            subprocess.run(["userdel", name], check=True)


@pytest.mark.faults_long
@pytest.mark.spec("3.1")
@pytest.mark.parametrize("cut_at", [".incoming", "*/pyvenv.cfg", "*/bin/rch-worker"])
def test_a_set_up_that_is_cut_goes_on_when_it_is_run_again(tmp_path: Path, cut_at: str) -> None:
    with machine(tmp_path) as (user, server, there, words):
        base = there / ".local/share/rch-worker/agent"
        user.json("daemon", "start")
        first = user.start(*words, "--apply", "--json")
        until(lambda: bool(list(base.glob(cut_at))))
        assert server.kill_sessions()
        out, _ = first.communicate(timeout=100)
        answer = json.loads(out)
        assert (answer["exit_code"], answer["error"]["kind"]) == (20, "SSH"), answer
        assert not entries(user)
        again = user.json(*words, "--apply")
        assert again["exit_code"] == 0, again
        assert (base / "current").readlink().name == again["data"]["done"]["build"]
        assert [each["name"] for each in entries(user)] == ["mini"]
        assert len((there / ".ssh" / "authorized_keys").read_text().splitlines()) == 1
