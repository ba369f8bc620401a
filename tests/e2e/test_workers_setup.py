"""From a machine that has only SSH to a worker: real sshd, real daemon, real venv, no network."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import sshd
from support.lab import Lab, lab

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


@pytest.mark.spec("3.1")
def test_a_machine_with_ssh_and_python_alone_becomes_a_worker(tmp_path: Path) -> None:
    with machine(tmp_path) as (user, _server, there, words):
        keys = there / ".ssh" / "authorized_keys"
        keys.write_text("# mine\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA someone")
        plan = user.json(*words)
        assert plan["exit_code"] == 0, plan
        print(user.rchctl(*words).stdout)
        assert {each["state"] for each in plan["data"]["plan"]} == {"todo"}
        assert list(there.iterdir()) == [there / ".ssh"]
        assert not entries(user)
        done = user.json(*words, "--apply")
        assert done["exit_code"] == 0, done
        print(done)
