"""`workers.toml` and `worker.toml` (spec section 6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from rch.config.inventory import WorkerEntry, load_inventory
from rch.config.worker_config import WorkerConfig, load_worker_config
from rch.contract.errors import Failure

HOST_PIN = "SHA256:" + "Ab+/" * 10 + "xyz"
KEY_PIN = "SHA256:" + "0a" * 32

FULL = f"""
[[worker]]
name = "studio"
host = "studio.local"
user = "ci"
port = 2222
tags = ["ios", "fast"]
known_host_fingerprint = "{HOST_PIN}"
attestation_pubkey_fingerprint = "{KEY_PIN}"
ssh_key_path = "~/.ssh/rch"
priority = 10

[[worker]]
name = "here"
transport = "local"
command = ["rch-worker", "xcode", "rpc"]

[[worker]]
name = "alias"
host = "mini"
known_hosts = "/etc/ssh/known_hosts"
attestation_pubkey_fingerprint = ["{KEY_PIN}", "SHA256:{"ff" * 32}"]
"""


def _refusal(path: Path, text: str) -> Failure:
    path.write_text(text)
    with pytest.raises(Failure) as caught:
        load_inventory(path)
    assert caught.value.exit_code == 3
    return caught.value


@pytest.mark.spec("6")
def test_inventory_is_read_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "workers.toml"
    path.write_text(FULL)
    inventory = load_inventory(path)
    studio, here, alias = inventory.workers
    assert not inventory.implied_local
    assert (studio.name, studio.transport, studio.port, studio.priority) == ("studio", "ssh", 2222, 10)
    assert studio.attestation_pubkey_fingerprint == (KEY_PIN,)
    assert (here.transport, here.command, here.host) == ("local", ("rch-worker", "xcode", "rpc"), None)
    assert (alias.port, alias.priority, alias.known_host_fingerprint) == (None, 100, None)
    assert len(alias.attestation_pubkey_fingerprint) == 2


@pytest.mark.spec("6")
def test_only_without_a_file_this_machine_serves(tmp_path: Path) -> None:
    inventory = load_inventory(tmp_path / "workers.toml")
    assert inventory.implied_local
    assert inventory.workers == (WorkerEntry(name="local", transport="local"),)
    (tmp_path / "workers.toml").write_text("")
    empty = load_inventory(tmp_path / "workers.toml")
    assert (empty.workers, empty.implied_local) == ((), False)


@pytest.mark.spec("6")
def test_dangling_inventory_is_an_error_and_no_local_worker(tmp_path: Path) -> None:
    (tmp_path / "workers.toml").symlink_to("gone")
    with pytest.raises(Failure, match="cannot be read"):
        load_inventory(tmp_path / "workers.toml")


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('known_host_fingerprint = "SHA256:short"', "known_host_fingerprint"),
        (f'known_host_fingerprint = "MD5:{"a" * 43}"', "known_host_fingerprint"),
        (f'known_host_fingerprint = "{HOST_PIN}="', "known_host_fingerprint"),
        (f'known_host_fingerprint = "{HOST_PIN}\\n"', "known_host_fingerprint"),
        (f'attestation_pubkey_fingerprint = "SHA256:{"0A" * 32}"', "attestation_pubkey_fingerprint"),
        ('attestation_pubkey_fingerprint = ["x"]', "attestation_pubkey_fingerprint"),
        ("port = 0", "port"),
        ("port = 65536", "port"),
        ("priority = -1", "priority"),
        ('transport = "telnet"', "transport"),
        ('user = "-oProxyCommand=x"', "user"),
        ('command = ["x"]', "command"),
        ('ssh_key_path = "relative"', "ssh_key_path"),
        ("tags = 'ios'", "tags"),
    ],
)
def test_bad_value_names_worker_and_key(tmp_path: Path, line: str, key: str) -> None:
    failure = _refusal(tmp_path / "workers.toml", f'[[worker]]\nname = "w1"\nhost = "h"\n{line}\n')
    assert failure.label == "CONFIG / BAD_VALUE"
    assert f"worker w1: {key}" in failure.message


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('[[worker]]\nname = "w1"\n', "worker w1: host is missing"),
        ('[[worker]]\nhost = "h"\n', "worker[0]: name is missing"),
        ('[[worker]]\nname = "w1"\nhost = "-oX"\n', "worker w1: host"),
        ('[[worker]]\nname = "../w"\nhost = "h"\n', "name"),
        ('[[worker]]\nname = "w1"\ntransport = "local"\nhost = "h"\n', "worker w1: host"),
        ('[[worker]]\nname = "w1"\nhost = "h"\n' * 2, "worker w1: name is given twice"),
        ('[worker]\nname = "w1"\n', "worker"),
        ("worker = [1]\n", "worker[0]"),
    ],
)
def test_broken_inventory(tmp_path: Path, text: str, part: str) -> None:
    failure = _refusal(tmp_path / "workers.toml", text)
    assert failure.label == "CONFIG / BAD_VALUE"
    assert part in failure.message


@pytest.mark.spec("6")
def test_unknown_inventory_key_names_the_nearest(tmp_path: Path) -> None:
    failure = _refusal(tmp_path / "workers.toml", '[[worker]]\nname = "w1"\nhost = "h"\nprio = 1\n')
    assert failure.label == "CONFIG / UNKNOWN_KEY"
    assert "worker w1: unknown key prio; the nearest known key is priority" in failure.message
    assert _refusal(tmp_path / "workers.toml", "[[workers]]\n").data["nearest"] == "worker"


@pytest.mark.spec("6")
def test_worker_config_has_defaults_without_a_file(tmp_path: Path) -> None:
    config = load_worker_config(tmp_path / "worker.toml")
    assert config == WorkerConfig()
    assert (config.max_concurrent_jobs, config.orphan_grace_seconds, config.simulate) == (1, 600, False)


@pytest.mark.spec("6")
def test_worker_config_is_read(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(
        'name = "mini"\nmax_concurrent_jobs = 2\nmax_upload_bytes = 0\npass_env = ["CI"]\n'
        'allow_flags = ["-skipMacroValidation"]\nswift = "/opt/swift"\nlabels = ["ios"]\n'
    )
    config = load_worker_config(path)
    assert (config.name, config.max_concurrent_jobs, config.max_upload_bytes) == ("mini", 2, 0)
    assert (config.pass_env, config.swift) == (("CI",), "/opt/swift")


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("max_concurrent_jobs = 0", "CONFIG / BAD_VALUE"),
        ("orphan_grace_seconds = -1", "CONFIG / BAD_VALUE"),
        ("max_log_bytes = -1", "CONFIG / BAD_VALUE"),
        ('pass_env = ["A=B"]', "CONFIG / BAD_VALUE"),
        ('pass_env = ["DEVELOPER_DIR"]', "CONFIG / BAD_VALUE"),
        ('allow_flags = ["-xcconfig"]', "CONFIG / BAD_VALUE"),
        ('swift = "bin/swift"', "CONFIG / BAD_VALUE"),
        ("boot_seconds = 0", "CONFIG / BAD_VALUE"),
        ("max_jobs = 2", "CONFIG / UNKNOWN_KEY"),
    ],
)
def test_bad_worker_config(tmp_path: Path, text: str, label: str) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(text + "\n")
    with pytest.raises(Failure) as caught:
        load_worker_config(path)
    assert caught.value.label == label
    assert text.split(" ", maxsplit=1)[0] in caught.value.message
