"""What a key may do and which keys are offered, against OpenSSH's own sshd and ssh-agent."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from support import fake_worker, sshd
from support.agents import ssh_agent

from rch.contract.errors import Failure
from rchd.edges import ssh, ssh_look
from rchd.edges.ssh_transport import SshTarget, no_agent

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed"),
]

EVERYTHING = {"exec", "shell", "pty", "sftp", "local-forward", "remote-forward", "agent-forward"}
SFTP = "Subsystem sftp internal-sftp"


def target_of(server: sshd.SshdServer) -> SshTarget:
    return SshTarget(
        name="mini",
        host=server.host,
        port=server.port,
        user=server.user,
        fingerprint=server.fingerprints["ed25519"],
        key_path=server.client_key,
        config=(),
    )


async def tried(server: sshd.SshdServer) -> dict[str, ssh_look.Try]:
    connection = await ssh.dial(target_of(server), no_agent, None)
    try:
        return {each.what: each for each in await ssh_look.tries(connection)}
    finally:
        await connection.close()


@pytest.mark.spec("3.1")
async def test_a_restricted_key_opens_nothing_but_the_workers_command(tmp_path: Path) -> None:
    command = fake_worker.command("honest")
    with sshd.SshdServer(tmp_path, command=command, options=[SFTP]) as server:
        found = await tried(server)
        assert set(found) == EVERYTHING
        assert [each for each in found.values() if each.open] == []


@pytest.mark.spec("3.1")
async def test_a_key_without_restrictions_is_found_to_open_everything(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path, rights="", forwarding=True, options=[SFTP]) as server:
        found = await tried(server)
        assert {each.what for each in found.values() if each.open} == EVERYTHING, found


async def test_a_command_without_restrict_leaves_forwarding_and_terminals_open(tmp_path: Path) -> None:
    words = " ".join(fake_worker.command("honest"))
    with sshd.SshdServer(tmp_path, rights=f'command="{words}"', forwarding=True, options=[SFTP]) as server:
        found = await tried(server)
        open_ones = {each.what for each in found.values() if each.open}
        assert open_ones == {"pty", "local-forward", "remote-forward", "agent-forward"}


def drop_in(user: str) -> list[str]:
    """The lines of docs/hardening.md for sshd, for this user."""
    page = (Path(__file__).parents[2] / "docs" / "hardening.md").read_text()
    block = page.partition("## sshd")[2].split("```")[1]
    assert "Match User ci" in block
    return [line for line in block.replace("Match User ci", f"Match User {user}").splitlines() if line]


async def test_the_documented_settings_of_sshd_close_what_the_keys_line_left_open(tmp_path: Path) -> None:
    words = " ".join(fake_worker.command("honest"))
    options = [SFTP, *drop_in(getpass.getuser())]
    with sshd.SshdServer(tmp_path, rights=f'command="{words}"', forwarding=True, options=options) as server:
        found = await tried(server)
        assert [each for each in found.values() if each.open] == []


async def test_what_a_cut_line_left_open_is_not_called_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sshd.SshdServer(tmp_path, command=fake_worker.command("honest")) as server:
        connection = await ssh.dial(target_of(server), no_agent, None)
        whole = ssh_look._sftp

        async def cut(raw: Any) -> ssh_look.Try:
            server.kill_sessions()
            return await whole(raw)

        monkeypatch.setattr(ssh_look, "_sftp", cut)
        found = {each.what: each.open for each in await ssh_look.tries(connection)}
        unknown = {"sftp", "local-forward", "remote-forward", "agent-forward"}
        assert found == {what: None if what in unknown else False for what in EVERYTHING}
        await connection.close()


async def test_a_forced_command_that_says_nothing_is_not_known_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_look, "TRY_SECONDS", 0.6)
    with sshd.SshdServer(tmp_path, command=["sleep", "5"], options=[SFTP]) as server:
        found = await tried(server)
        silent = {what for what, each in found.items() if each.open is None}
        assert {"exec", "shell", "sftp"} <= silent
        assert not any(each.open for each in found.values())


# --- the keys that a server shows ------------------------------------------------------


@pytest.mark.spec("10")
async def test_every_host_key_is_shown_and_nothing_but_handshakes_is_sent(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path / "sshd", host_keys=("ed25519", "rsa")) as server:
        known = server.known_hosts(tmp_path / "known", "rsa")
        target = replace(target_of(server), fingerprint=None, known_hosts=known)
        where, seen, in_file = await ssh.shown_keys(target, no_agent)
        assert where == f"127.0.0.1:{server.port}"
        assert {key.fingerprint for key in seen} == set(server.fingerprints.values())
        assert {key.fingerprint for key in in_file} == {server.fingerprints["rsa"]}
        server.stop()
        assert not any(word in server.log for word in ("Accepted", "userauth", "session"))


async def test_nobody_there_shows_no_key() -> None:
    target = SshTarget(name="mini", host="127.0.0.1", port=sshd.free_port(), config=())
    with pytest.raises(Failure) as caught:
        await ssh.shown_keys(target, no_agent)
    assert caught.value.label == "SSH / UNREACHABLE"


# --- the keys that are offered ----------------------------------------------------------


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    with ssh_agent(tmp_path / "agent.sock") as path:
        yield path


def key(path: Path, kind: str = "ed25519", *more: str) -> str:
    """Make a key pair; its fingerprint."""
    argv = ["ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-C", "a comment", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return sshd.fingerprint_of(path)


def target_for(**given: object) -> SshTarget:
    return SshTarget(name="mini", host="nowhere.invalid", config=(), **given)  # type: ignore[arg-type]


async def test_the_entrys_own_key_is_offered_alone(tmp_path: Path, agent: str) -> None:
    fingerprint = key(tmp_path / "own")
    (found,) = await ssh_look.offered(target_for(key_path=tmp_path / "own"), lambda: agent)
    assert (found.fingerprint, found.source, found.path) == (fingerprint, "file", str(tmp_path / "own"))
    assert found.line == " ".join((tmp_path / "own.pub").read_text().split()[:2])


async def test_the_ssh_configs_key_is_offered(tmp_path: Path) -> None:
    fingerprint = key(tmp_path / "other")
    config = tmp_path / "config"
    config.write_text(f"Host mini\n IdentityFile {tmp_path / 'other'}\n IdentitiesOnly yes\n")
    target = SshTarget(name="mini", host="mini", config=(config,))
    (found,) = await ssh_look.offered(target, no_agent)
    assert (found.fingerprint, found.source, found.path) == (fingerprint, "file", str(tmp_path / "other"))


async def test_a_key_that_the_agent_alone_has_says_so(tmp_path: Path, agent: str) -> None:
    fingerprint = key(tmp_path / "gone")
    env = {**os.environ, "SSH_AUTH_SOCK": agent}
    await anyio.run_process(["ssh-add", "-q", str(tmp_path / "gone")], env=env)
    (tmp_path / "gone").unlink()
    config = tmp_path / "config"
    config.write_text(f"Host *\n User {getpass.getuser()}\n IdentityFile {tmp_path / 'none'}\n")
    target = SshTarget(name="mini", host="mini", config=())
    found = await ssh_look.offered(target, lambda: agent)
    assert [(each.fingerprint, each.source, each.path, each.comment) for each in found][:1] == [
        (fingerprint, "agent", None, "a comment")
    ]


async def test_an_rsa_key_that_is_too_short_is_not_offered(tmp_path: Path) -> None:
    key(tmp_path / "short", "rsa", "-b", "1024")
    with pytest.raises(Failure, match="RSA key of 1024 bits") as caught:
        await ssh_look.offered(target_for(key_path=tmp_path / "short"), no_agent)
    assert caught.value.label == "SSH / AUTH"
    assert caught.value.hint == "rchctl workers key mini --create"


async def test_a_short_key_of_the_ssh_config_is_left_out_of_a_dial(tmp_path: Path) -> None:
    key(tmp_path / "short", "rsa", "-b", "1024")
    with sshd.SshdServer(tmp_path / "sshd", command=fake_worker.command("honest")) as server:
        config = tmp_path / "config"
        keys = f" IdentityFile {tmp_path / 'short'}\n IdentityFile {server.client_key}\n"
        config.write_text(f"Host *\n{keys} IdentitiesOnly yes\n")
        target = replace(target_of(server), key_path=None, config=(config,))
        await (await ssh.dial(target, no_agent, None)).close()
        server.stop()
        assert "Accepted publickey" in server.log
        assert "RSA" not in server.log


@pytest.mark.parametrize(
    ("named", "asked"), [("none", 0), ("SSH_AUTH_SOCK", 1), ("$OTHER_AGENT", 1), ("{agent}", 1), (None, 1)]
)
async def test_the_ssh_config_says_which_agent_is_asked(
    tmp_path: Path, agent: str, monkeypatch: pytest.MonkeyPatch, named: str | None, asked: int
) -> None:
    key(tmp_path / "own")
    await anyio.run_process(
        ["ssh-add", "-q", str(tmp_path / "own")], env={**os.environ, "SSH_AUTH_SOCK": agent}
    )
    config = tmp_path / "config"
    line = "" if named is None else f" IdentityAgent {named.format(agent=agent)}\n"
    config.write_text(f"Host mini\n{line} IdentityFile {tmp_path / 'own.pub'}\n IdentitiesOnly yes\n")
    monkeypatch.setenv("OTHER_AGENT", agent)
    of_caller = named in {None, "SSH_AUTH_SOCK"}
    target = SshTarget(name="mini", host="mini", config=(config,))
    found = await ssh_look.offered(target, (lambda: agent) if of_caller else no_agent)
    assert len([each for each in found if each.source == "agent"]) == asked
