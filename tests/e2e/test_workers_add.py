"""From an unknown machine to an entry of the inventory: real sshd, real daemon, real terminals."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import sshd
from support.lab import Lab, lab

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed"),
]

WORKER = (sys.executable, "-m", "worker_agent", "xcode", "rpc")
OLD = '# mine\n[[worker]] # the first\nname = "here"\ntransport="local"\n\n\n# the end, without a newline'


@contextmanager
def machine(root: Path) -> Iterator[tuple[Lab, sshd.SshdServer, list[str]]]:
    """A user, a machine that is in no inventory, and the words that add it."""
    with (
        lab(root) as user,
        sshd.SshdServer(
            root / "sshd", command=WORKER, env=user.env, host_keys=("ed25519", "rsa")
        ) as server,
    ):
        words = ["workers", "add", "mini", "--host", server.host, "--port", str(server.port)]
        yield user, server, [*words, "--user", server.user, "--ssh-key", str(server.client_key)]


def entries(user: Lab) -> list[dict[str, object]]:
    read = tomllib.loads((user.home / "config" / "workers.toml").read_text())
    return list(read["worker"])


def typed(user: Lab, words: list[str], *answers: str) -> tuple[int, str]:
    """The exit code and the screen of `rchctl` at a terminal, where `answers` are typed one by one."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "rchctl", *words],
        env={**user.env, "COLUMNS": "400"},
        cwd=user.root,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen, left, asked, deadline = "", list(answers), 0, time.monotonic() + 100
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        screen += part.decode()
        if left and screen.count("[yes/no]") > asked:
            asked += 1
            word = left.pop(0)
            if word == "^C":
                process.send_signal(2)
            else:
                os.write(ours, f"{word}\n".encode())
    os.close(ours)
    return process.wait(20), screen


@pytest.mark.spec("10")
@pytest.mark.fault("S8")
def test_a_host_key_that_nobody_compared_is_never_taken(tmp_path: Path) -> None:
    with machine(tmp_path) as (user, server, words):
        user.workers(OLD)
        pin = server.fingerprints["ed25519"]
        for more in ([], ["--yes"]):
            refused = user.json(*words, *more)
            assert (refused["exit_code"], refused["error"]["subkind"]) == (20, "HOST_KEY")
            assert f"ssh-ed25519 {pin}" in refused["error"]["message"]
            assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in refused["error"]["hint"]
            assert refused["error"]["hint"].endswith(f"--fingerprint {pin}")
        wrong = user.json(*words, "--fingerprint", "SHA256:" + "A" * 43, "--yes")
        assert (wrong["exit_code"], wrong["error"]["subkind"]) == (20, "HOST_KEY")
        (tmp_path / ".ssh").mkdir()
        known = tmp_path / ".ssh" / "known_hosts"
        known.write_text(
            f"[{server.host}]:{server.port} {server.client_key.with_suffix('.pub').read_text()}"
        )
        code, screen = typed(user, words)
        assert (code, "known_hosts has another key for it" in screen) == (20, True), screen
        known.unlink()
        assert "Accepted" not in server.log
        for answers in (["no"], ["^C"]):
            code, screen = typed(user, words, *answers)
            assert (code, pin in screen) == (20 if answers == ["no"] else 130, True), screen
        assert (user.home / "config" / "workers.toml").read_text() == OLD
        assert [each.name for each in (user.home / "config").iterdir()] == ["workers.toml"]


@pytest.mark.spec("6")
def test_a_person_compares_the_key_and_the_entry_is_written_beside_what_was_there(tmp_path: Path) -> None:
    with machine(tmp_path) as (user, server, words):
        user.workers(OLD)
        pin = server.fingerprints["ed25519"]
        code, screen = typed(user, [*words, "--tag", "ios", "--priority", "7"], pin, "yes")
        assert code == 0, screen
        assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in screen
        assert (user.home / "config" / "workers.toml").read_text().startswith(OLD + "\n\n[[worker]]\n")
        added = entries(user)[1]
        own = added.pop("attestation_pubkey_fingerprint")
        assert re.fullmatch(r"SHA256:[0-9a-f]{64}", str(own))
        assert str(own) in screen
        assert added == {
            "name": "mini",
            "host": server.host,
            "user": server.user,
            "port": server.port,
            "ssh_key_path": str(server.client_key),
            "known_host_fingerprint": pin,
            "priority": 7,
            "tags": ["ios"],
        }
        assert user.json("workers", "probe", "mini")["data"]["workers"][0]["status"] == "ok"
        again = user.json(*words, "--fingerprint", pin)
        assert again["exit_code"] == 3
        assert "has a worker 'mini' already" in again["error"]["message"]


@pytest.mark.spec("6")
def test_a_script_that_knows_the_fingerprint_needs_nobody(tmp_path: Path) -> None:
    with machine(tmp_path) as (user, server, words):
        (tmp_path / ".ssh").mkdir()
        server.known_hosts(tmp_path / ".ssh" / "known_hosts", "ed25519")
        of_ssh = [*words[:2], "known", *words[3:]]
        assert user.json(*of_ssh)["error"]["subkind"] == "HOST_KEY"
        assert user.json(*of_ssh, "--yes")["exit_code"] == 0
        assert entries(user)[0]["known_host_fingerprint"] == server.fingerprints["ed25519"]
        (user.home / "config" / "workers.toml").unlink()
        added = user.json(*words, "--fingerprint", server.fingerprints["rsa"], "--yes")
        assert added["exit_code"] == 0
        (entry,) = entries(user)
        assert entry == added["data"]["worker"]
        assert entry["known_host_fingerprint"] == server.fingerprints["rsa"]
        assert "attestation_pubkey_fingerprint" in entry
        assert (user.home / "config" / "workers.toml").stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_not_let_in_gets_the_line_that_lets_it_in(tmp_path: Path) -> None:
    with machine(tmp_path) as (user, server, words):
        made = user.json("workers", "key", "mini", "--create", "--from", "127.0.0.0/8")
        key = Path(made["data"]["key"]["path"])
        assert (made["data"]["created"], key, key.stat().st_mode & 0o777) == (
            True,
            tmp_path / ".ssh" / "rch_mini",
            0o600,
        )
        named = words.index("--ssh-key")
        unkeyed = [*words[:named], "--fingerprint", server.fingerprints["ed25519"], "--yes"]
        refused = user.rchctl(*unkeyed)
        assert refused.returncode == 20
        line = refused.stdout.strip()
        assert line.startswith('restrict,command="$HOME/rch/.venv/bin/rch-worker xcode rpc" ssh-ed25519 ')
        assert "authorized_keys" in refused.stderr
        assert not (user.home / "config" / "workers.toml").exists()
        # What `key` prints with the right path is all that it takes.
        told = " ".join(["env", *(f"{name}={value}" for name, value in user.env.items()), *WORKER])
        let = user.rchctl("workers", "key", "mini", "--create", "--from", "127.0.0.0/8", "--command", told)
        assert ',from="127.0.0.0/8" ssh-ed25519 ' in let.stdout
        (tmp_path / "sshd" / "authorized_keys").write_text(let.stdout)
        added = user.rchctl(*unkeyed)
        assert added.returncode == 0, added.stderr
        assert entries(user)[0]["ssh_key_path"] == str(key)
        shown = user.rchctl("workers", "key", "mini", "--from", "127.0.0.0/8", "--command", told)
        assert shown.stdout == let.stdout
