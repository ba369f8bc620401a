"""Old algorithms are refused by name, and a server gets nothing but the worker's command asked of it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from support import fake_worker, sshd
from support.agents import ssh_agent

from rch.contract.errors import Failure
from rchd.edges import ssh
from rchd.edges.ssh_options import SHARED
from rchd.edges.ssh_transport import SshTarget, SshTransport, no_agent

needs_sshd = pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")
OLD = re.compile(rb"sha1|md5|cbc|3des|arcfour|dss|gss|group1-|group-exchange|^ssh-rsa$|ssh-rsa-")


def target_of(server: sshd.SshdServer, kind: str = "ed25519", **more: Any) -> SshTarget:
    return SshTarget(
        name="mini",
        host=server.host,
        port=server.port,
        user=server.user,
        fingerprint=server.fingerprints[kind],
        key_path=server.client_key,
        **{"config": (), **more},
    )


async def refused(target: SshTarget) -> Failure:
    with pytest.raises(Failure) as caught:
        await ssh.dial(target, no_agent, None)
    assert caught.value.exit_code == 20
    return caught.value


@needs_sshd
@pytest.mark.spec("10")
@pytest.mark.parametrize(
    ("option", "what", "offered"),
    [
        ("KexAlgorithms diffie-hellman-group14-sha1", "key exchange", "diffie-hellman-group14-sha1"),
        ("KexAlgorithms diffie-hellman-group-exchange-sha256", "key exchange", "group-exchange-sha256"),
        ("Ciphers aes128-cbc,3des-cbc", "encryption", "aes128-cbc,3des-cbc"),
        ("MACs hmac-sha1\nCiphers aes256-ctr", "MAC", "hmac-sha1"),
    ],
)
async def test_a_server_that_speaks_only_what_is_old_is_refused_by_name(
    tmp_path: Path, option: str, what: str, offered: str
) -> None:
    with sshd.SshdServer(tmp_path, options=[option]) as server:
        failure = await refused(target_of(server))
        assert failure.label == "SSH / ALGORITHMS"
        assert f"127.0.0.1:{server.port} offers as {what}" in failure.message
        assert offered in failure.message
        assert "sshd_config" in failure.hint
        assert not failure.retryable
        server.stop()
        assert "userauth" not in server.log


@needs_sshd
@pytest.mark.fault("S8")
async def test_a_host_key_that_is_shown_by_sha1_alone_is_refused(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path, host_keys=("rsa",), options=["HostKeyAlgorithms ssh-rsa"]) as server:
        failure = await refused(target_of(server, "rsa"))
        assert failure.label == "SSH / ALGORITHMS", failure.message
        assert "only ssh-rsa" in failure.message


@needs_sshd
@pytest.mark.fault("S8")
async def test_a_host_key_that_is_too_short_is_refused_even_where_it_is_pinned(tmp_path: Path) -> None:
    short = tmp_path / "host_rsa"
    argv = ["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", str(short)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)  # noqa: ASYNC221  (before there is a loop to hold up)
    with sshd.SshdServer(tmp_path, host_keys=("rsa",)) as server:
        failure = await refused(target_of(server, "rsa"))
        assert failure.label == "SSH / HOST_KEY"
        assert "RSA key of 1024 bits is too short" in failure.message
        assert "ed25519" in failure.hint


def test_nothing_old_is_spoken_whatever_the_library_can() -> None:
    options = asyncssh.SSHClientConnectionOptions(host="there", config=None, **SHARED)
    spoken = [
        *options.kex_algs,
        *options.encryption_algs,
        *options.mac_algs,
        *options.signature_algs,
    ]
    assert [each for each in spoken if OLD.search(each)] == []
    assert {b"ssh-ed25519", b"rsa-sha2-512", b"curve25519-sha256"} <= set(spoken)


# --- what is asked of a server, and what it may ask of us --------------------------------


@needs_sshd
@pytest.mark.spec("3.1")
async def test_nothing_but_the_command_is_asked_for_whatever_the_ssh_config_says(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host *\n ForwardAgent yes\n ForwardX11 yes\n RequestTTY force\n SendEnv *\n SetEnv RCH=1\n"
        " RemoteCommand id\n Compression yes\n Ciphers aes128-cbc\n MACs hmac-sha1\n"
        " LocalForward 127.0.0.1:0 127.0.0.1:1\n RemoteForward 0 127.0.0.1:1\n"
    )
    command = fake_worker.command("honest")
    options = ["AcceptEnv *", "X11Forwarding yes"]
    with (
        sshd.SshdServer(tmp_path / "sshd", command=command, options=options, log_level="DEBUG2") as server,
        ssh_agent(tmp_path / "agent", server.client_key) as agent,
    ):
        target = target_of(server, config=(config,))
        transport = SshTransport(replace(target, key_path=None), agent=lambda: agent)
        await (await transport.open()).close()
        raw = transport._links[0].connection.raw
        assert str(raw.get_extra_info("send_cipher")) == "aes128-gcm@openssh.com"
        assert str(raw.get_extra_info("send_compression")) == "none"
        await transport.close()
        server.stop()
        asked = re.findall(r"server_input_channel_req: channel \d+ request (\S+)", server.log)
        assert asked == ["exec"], server.log
        globally = set(re.findall(r"server_input_global_request: rtype (\S+)", server.log))
        assert globally <= {"keepalive@openssh.com", "hostkeys-prove-00@openssh.com"}


class Asker(asyncssh.SSHServer):
    """A server that asks things of its client, as one that was taken over might."""

    connection: asyncssh.SSHServerConnection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        Asker.connection = conn

    def begin_auth(self, username: str) -> bool:
        del username
        return False


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    "kind",
    [
        "forwarded-tcpip",
        "forwarded-streamlocal@openssh.com",
        "x11",
        "auth-agent@openssh.com",
        "direct-tcpip",
        "session",
        "something-new@example.com",
    ],
)
async def test_what_a_server_asks_of_us_is_refused(tmp_path: Path, kind: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    config = tmp_path / "config"
    config.write_text("Host *\n ForwardAgent yes\n ForwardX11 yes\n RemoteForward 0 127.0.0.1:1\n")
    listener = await asyncssh.create_server(Asker, "127.0.0.1", 0, server_host_keys=[key])
    async with listener:
        target = SshTarget(
            name="mini",
            host="127.0.0.1",
            port=listener.get_port(),
            user="somebody",
            fingerprint=key.get_fingerprint(),
            config=(config,),
        )
        with ssh_agent(tmp_path / "agent") as agent:
            connection = await ssh.dial(target, lambda: agent, None)
            with pytest.raises(asyncssh.ChannelOpenError) as caught:
                await opened(Asker.connection, kind)
        assert caught.value.code in {
            asyncssh.constants.OPEN_ADMINISTRATIVELY_PROHIBITED,
            asyncssh.constants.OPEN_CONNECT_FAILED,
            asyncssh.constants.OPEN_UNKNOWN_CHANNEL_TYPE,
        }
        assert not connection.lost
        await connection.close()


async def opened(conn: asyncssh.SSHServerConnection, kind: str) -> None:
    """Open a channel of `kind` to the client, with what belongs to such a one."""
    text, number = asyncssh.packet.String, asyncssh.packet.UInt32
    host_and_port = text("127.0.0.1") + number(22)
    told = {
        "forwarded-tcpip": host_and_port * 2,
        "direct-tcpip": host_and_port * 2,
        "x11": host_and_port,
        "forwarded-streamlocal@openssh.com": text("/run/s") + text(""),
    }
    chan: Any = conn.create_tcp_channel(encoding=None)
    await chan._open(kind.encode(), told.get(kind, b""))
