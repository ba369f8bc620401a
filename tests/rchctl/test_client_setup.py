"""`rchctl workers setup|upgrade`: what is asked of the daemon, and when nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import FakeDaemon

from rch.contract.errors import Failure, Kind

PIN = "SHA256:" + "A" * 43
OWN = "SHA256:" + "ab" * 32
PUBLIC = "ssh-ed25519 AAAAC3Nz"
FACTS = {
    "home": "/h",
    "system": "Linux",
    "release": "Debian 12",
    "machine": "x86_64",
    "hostname": "mini",
    "pythons": [{"path": "/usr/bin/python3", "version": [3, 11, 2], "venv": True}],
    "disk_free_bytes": 1 << 40,
    "base": "/h/agent",
    "key": "absent",
    "installed": [],
    "current": None,
    "line": None,
    "python": "/usr/bin/python3",
    "build": "0.1.0-abc",
}
DONE = {
    "build": "0.1.0-abc",
    "version": "0.1.0",
    "made": True,
    "authorized": True,
    "own": OWN,
    "probe_ms": 3,
}
LINE = f'restrict,command="/h/agent/current/bin/rch-worker xcode rpc" {PUBLIC}'
SETUP = ["workers", "setup", "mini", "--host", "mini.local", "--fingerprint", PIN]


@pytest.fixture
def inventory(cli: Cli, daemon: FakeDaemon) -> Path:
    """Where it will be; the daemon answers each step well."""
    scan = {"where": "mini.local:22", "keys": [{"type": "ssh-ed25519", "fingerprint": PIN}]}
    daemon.on("workers.scan", scan)
    daemon.on("workers.look", FACTS)
    daemon.on("workers.install", DONE)
    daemon.on("workers.keys", {"keys": [{"line": PUBLIC}]})
    tried(daemon, opens=False)
    return cli.home / "config" / "workers.toml"


def tried(daemon: FakeDaemon, *, opens: bool) -> None:
    attempt = {"what": "shell", "open": opens, "said": ""}
    daemon.on("workers.examine", {"workers": [{"name": "mini", "attempts": [attempt]}]})


def entry(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_plan_makes_no_key_and_writes_nothing(cli: Cli, daemon: FakeDaemon, inventory: Path) -> None:
    done = cli(*SETUP, "--login-key", "mine", "--python", "/opt/python3")
    assert done.returncode == 0, done.stderr
    assert "todo     install rch-worker 0.1.0-abc below /h/agent" in done.stdout
    assert "--apply does it" in done.stderr
    assert not (cli.home / ".ssh").exists()
    assert not inventory.exists()
    asked = daemon.wait_for("workers.look")
    assert asked["python"] == "/opt/python3"
    assert asked["login"] == {
        "name": "mini",
        "host": "mini.local",
        "known_host_fingerprint": PIN,
        "ssh_key_path": str(cli.home / "mine"),
    }


def test_the_login_and_the_worker_have_keys_of_their_own(
    cli: Cli, daemon: FakeDaemon, inventory: Path
) -> None:
    done = cli(*SETUP, "--login-key", "mine", "--home", "/fast/my rch", "--from", "192.0.2.7", "--apply")
    assert done.returncode == 0, done.stderr
    asked = daemon.wait_for("workers.install")
    assert asked["login"]["ssh_key_path"] == str(cli.home / "mine")
    assert asked["probe"]["ssh_key_path"] == str(cli.home / ".ssh" / "rch_mini")
    assert asked["home"] == "/fast/my rch"
    assert asked["line"].startswith(
        "restrict,command=\"env RCH_WORKER_HOME='/fast/my rch' /h/agent/current/bin/rch-worker xcode rpc\","
        'from="192.0.2.7" ssh-ed25519 '
    )
    text = inventory.read_text()
    assert f'attestation_pubkey_fingerprint = "{OWN}"' in text
    assert f'known_host_fingerprint = "{PIN}"' in text
    assert "mine" not in text


def test_a_home_that_is_in_force_stays(cli: Cli, daemon: FakeDaemon, inventory: Path) -> None:
    line = f'restrict,command="env RCH_WORKER_HOME=/v/rch /old/rch-worker xcode rpc" {PUBLIC}'
    daemon.on("workers.look", {**FACTS, "key": "ours", "line": line})
    assert cli(*SETUP, "--apply").returncode == 0
    asked = daemon.wait_for("workers.install")
    assert asked["home"] == "/v/rch"
    assert 'command="env RCH_WORKER_HOME=/v/rch /h/agent/current/' in asked["line"]
    assert inventory.exists()


def test_a_key_that_opens_more_is_written_into_no_inventory(
    cli: Cli, daemon: FakeDaemon, inventory: Path
) -> None:
    tried(daemon, opens=True)
    done = cli(*SETUP, "--apply", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["subkind"]) == (20, "SETUP")
    assert "opens more than rch-worker: shell" in error["message"]
    assert not inventory.exists()


def test_a_worker_of_the_inventory_is_set_up_by_its_entry(
    cli: Cli, daemon: FakeDaemon, inventory: Path
) -> None:
    text = f'[[worker]]\nname = "mini"\nhost = "10.0.0.9"\nport = 2222\nknown_host_fingerprint = "{PIN}"\n'
    entry(inventory, text)
    assert cli("workers", "setup", "mini", "--apply").returncode == 0
    login: dict[str, Any] = daemon.wait_for("workers.install")["login"]
    assert login == {"name": "mini", "host": "10.0.0.9", "port": 2222, "known_host_fingerprint": PIN}
    assert inventory.read_text() == text
    assert cli("workers", "setup", "other", "--apply").returncode == 2


def test_a_login_that_is_not_let_in_says_whose_it_has_to_be(
    cli: Cli, daemon: FakeDaemon, inventory: Path
) -> None:
    daemon.on("workers.look", Failure(Kind.SSH, "refused every key", subkind="AUTH"))
    done = cli(*SETUP)
    assert done.returncode == 20
    assert "--login-key FILE" in done.stderr
    assert not inventory.exists()


def test_each_worker_that_is_reached_over_ssh_is_upgraded_though_one_fails(
    cli: Cli, daemon: FakeDaemon, inventory: Path
) -> None:
    hosts = "".join(f'[[worker]]\nname = "{name}"\nhost = "{name}"\n' for name in ("a", "b"))
    entry(inventory, f'{hosts}[[worker]]\nname = "here"\ntransport = "local"\n')
    daemon.on("workers.look", {**FACTS, "key": "ours", "line": LINE})
    broken = Failure(Kind.SSH, "worker a: venv: no space", subkind="SETUP")

    def install(params: dict[str, Any], *_more: Any) -> dict[str, Any]:
        if params["login"]["name"] == "a":
            raise broken
        return {**DONE, "before": "0.0.9-old", "used": ["0.0.8-older"]}

    daemon.on("workers.install", install)
    done = cli("workers", "upgrade")
    assert done.returncode == 20
    assert "worker a: venv: no space" in done.stderr
    assert done.stdout.startswith(
        "ready: b runs rch-worker 0.1.0-abc, before 0.0.9-old; 0.0.8-older is kept"
    )
    told = json.loads(cli("workers", "upgrade", "--json").stdout)["data"]["workers"]
    assert [(each["name"], "error" in each) for each in told] == [("a", True), ("b", False)]
    daemon.on("workers.look", {**FACTS, "key": "foreign", "line": PUBLIC})
    assert "hint: rchctl workers setup b --apply" in cli("workers", "upgrade", "b").stderr
    assert "is on this machine" in cli("workers", "upgrade", "here").stderr
    assert cli("workers", "upgrade", "nobody").returncode == 2
