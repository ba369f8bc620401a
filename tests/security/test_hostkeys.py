from __future__ import annotations

import base64
import os
import re
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import fake_worker, sshd

from rch.contract.errors import Failure
from rchd.edges import ssh_options
from rchd.edges.hostkeys import SIGNATURES, HostKey, HostKeyCheck
from rchd.edges.ssh_transport import SshTarget, SshTransport

REPO = Path(__file__).parents[2]
TYPES = ("rsa", "ecdsa", "ed25519")
WRONG = "SHA256:" + "A" * 43
OPENSSH_NAME = {"rsa": "ssh-rsa", "ecdsa": "ecdsa-sha2-nistp256", "ed25519": "ssh-ed25519"}

needs_sshd = pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")


class Server(sshd.SshdServer):
    """A server that leaves a trace when its forced command runs."""

    def __init__(self, directory: Path, host_keys: tuple[str, ...]) -> None:
        self.trace = directory / "trace"
        env = {"FAKE_WORKER_LOG": str(self.trace)}
        super().__init__(directory, command=fake_worker.command(), env=env, host_keys=host_keys)

    def untouched(self) -> bool:
        """Whether nobody has got further than the handshake."""
        return not self.trace.exists() and not any(
            word in self.log for word in ("Accepted", "userauth", "Failed", "session")
        )


@pytest.fixture
def fresh(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(tmp_path / "server", getattr(request, "param", ("ed25519",))) as it:
        yield it


every_kind_of_server = pytest.mark.parametrize(
    "fresh", [("ed25519",), ("rsa",), TYPES], indirect=True, ids=["ed25519", "rsa", "all three"]
)


def target_of(server: Server, pin: str | None, known_hosts: Path | None = None) -> SshTarget:
    return SshTarget(
        name="mini",
        host=server.host,
        port=server.port,
        user=server.user,
        fingerprint=pin,
        known_hosts=known_hosts,
        key_path=server.client_key,
        config=(),
    )


async def connects(target: SshTarget) -> HostKey:
    transport = SshTransport(target)
    channel = await transport.open()
    await channel.send(b'{"protocol_version":0,"op":"probe","request_id":"request-0001","payload":{}}\n')
    assert (await channel.receive()).startswith(b"{")
    key = transport._links[0].connection.host_key
    await transport.close()
    return key


async def refuses(target: SshTarget) -> Failure:
    transport = SshTransport(target)
    with pytest.raises(Failure) as caught:
        await transport.open()
    await transport.close()
    assert caught.value.label == "SSH / HOST_KEY"
    assert caught.value.exit_code == 20
    assert not caught.value.retryable
    return caught.value


def absent(tmp_path: Path) -> Path:
    empty = tmp_path / "empty"
    empty.touch()
    return empty


# --- pins ---------------------------------------------------------------------------------


@needs_sshd
@pytest.mark.spec("10")
@pytest.mark.fault("S8")
@every_kind_of_server
async def test_each_of_a_servers_keys_may_be_pinned(fresh: Server) -> None:
    for kind, pin in fresh.fingerprints.items():
        assert await connects(target_of(fresh, pin)) == HostKey(OPENSSH_NAME[kind], pin)


@needs_sshd
@pytest.mark.spec("10")
@pytest.mark.fault("S8")
@every_kind_of_server
async def test_a_wrong_pin_gets_nowhere_and_names_every_key_that_was_seen(fresh: Server) -> None:
    failure = await refuses(target_of(fresh, WRONG))
    for kind, fingerprint in fresh.fingerprints.items():
        assert f"{OPENSSH_NAME[kind]} {fingerprint}" in failure.message
    assert f"pinned is {WRONG}" in failure.message
    assert f"127.0.0.1:{fresh.port}" in failure.message
    assert failure.data["expected"] == [WRONG]
    fresh.stop()
    assert fresh.untouched(), fresh.log


@needs_sshd
@pytest.mark.fault("S8")
async def test_known_hosts_does_not_mend_a_wrong_pin(fresh: Server, tmp_path: Path) -> None:
    known = fresh.known_hosts(tmp_path / "known")
    await refuses(target_of(fresh, WRONG, known))
    fresh.stop()
    assert fresh.untouched(), fresh.log


@needs_sshd
@pytest.mark.fault("S8")
async def test_a_key_that_changed_is_refused_by_the_same_transport(fresh: Server) -> None:
    transport = SshTransport(target_of(fresh, fresh.fingerprints["ed25519"]))
    await (await transport.open()).close()
    fresh.stop()
    for path in (fresh.client_key.parent / "host_ed25519", fresh.client_key.parent / "host_ed25519.pub"):
        path.unlink()
    sshd.make_key(fresh.client_key.parent / "host_ed25519", "ed25519")
    fresh.start()
    with pytest.raises(Failure, match="pinned is") as caught:
        await transport.open()
    assert caught.value.label == "SSH / HOST_KEY"
    await transport.close()


@needs_sshd
async def test_the_type_that_served_is_asked_for_first_the_next_time(tmp_path: Path) -> None:
    with Server(tmp_path, TYPES) as server:
        transport = SshTransport(target_of(server, server.fingerprints["rsa"]))
        await transport.open()
        dials = server.log.count("Connection from")
        assert dials == 3
        transport._links[0].places = 1
        await transport.open()
        assert server.log.count("Connection from") == dials + 1
        await transport.close()


# --- known_hosts --------------------------------------------------------------------------


@needs_sshd
@pytest.mark.spec("10")
@every_kind_of_server
async def test_a_key_that_known_hosts_names_is_trusted(fresh: Server, tmp_path: Path) -> None:
    for kind in fresh.fingerprints:
        known = fresh.known_hosts(tmp_path / f"known_{kind}", kind)
        assert (await connects(target_of(fresh, None, known))).type == OPENSSH_NAME[kind]


@needs_sshd
async def test_a_hashed_name_is_found(fresh: Server, tmp_path: Path) -> None:
    known = fresh.known_hosts(tmp_path / "known")
    await anyio.run_process(["ssh-keygen", "-q", "-H", "-f", str(known)])
    assert "127.0.0.1" not in known.read_text()
    await connects(target_of(fresh, None, known))


@needs_sshd
@pytest.mark.fault("S8")
async def test_another_key_than_the_known_one_is_refused(fresh: Server, tmp_path: Path) -> None:
    sshd.make_key(tmp_path / "other", "ed25519")
    line = (tmp_path / "other.pub").read_text()
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{fresh.port} {line}")
    failure = await refuses(target_of(fresh, None, known))
    assert f"known is ssh-ed25519 {sshd.fingerprint_of(tmp_path / 'other')}" in failure.message
    assert fresh.fingerprints["ed25519"] in failure.message
    fresh.stop()
    assert fresh.untouched(), fresh.log


@needs_sshd
@pytest.mark.fault("S8")
async def test_a_known_type_that_is_not_shown_is_no_licence_for_another(tmp_path: Path) -> None:
    with Server(tmp_path / "server", ("ed25519",)) as server:
        sshd.make_key(tmp_path / "other", "rsa")
        known = tmp_path / "known"
        known.write_text(f"[127.0.0.1]:{server.port} {(tmp_path / 'other.pub').read_text()}")
        failure = await refuses(target_of(server, None, known))
        assert "known is ssh-rsa" in failure.message
        assert f"ssh-ed25519 {server.fingerprints['ed25519']}" in failure.message


@needs_sshd
@pytest.mark.fault("S8")
async def test_without_a_pin_nothing_is_trusted_and_the_remedy_is_told(
    fresh: Server, tmp_path: Path
) -> None:
    failure = await refuses(target_of(fresh, None, absent(tmp_path)))
    assert "there is no pin" in failure.message
    assert f"ssh-ed25519 {fresh.fingerprints['ed25519']}" in failure.message
    assert "known_host_fingerprint" in failure.hint
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in failure.hint
    fresh.stop()
    assert fresh.untouched(), fresh.log


@needs_sshd
@pytest.mark.fault("S8")
async def test_an_ssh_config_cannot_switch_the_check_off(fresh: Server, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n UserKnownHostsFile none\n StrictHostKeyChecking no\n")
    for pin in (WRONG, None):
        await refuses(replace(target_of(fresh, pin), config=(config,)))
    fresh.stop()
    assert fresh.untouched(), fresh.log


@needs_sshd
@pytest.mark.fault("S8")
async def test_a_revoked_key_is_refused(fresh: Server, tmp_path: Path) -> None:
    known = fresh.known_hosts(tmp_path / "known")
    known.write_text(known.read_text() + f"@revoked * {fresh.host_key_lines['ed25519']}\n")
    assert "revoked" in (await refuses(target_of(fresh, None, known))).message


@needs_sshd
async def test_a_named_known_hosts_file_that_is_missing_is_told(fresh: Server, tmp_path: Path) -> None:
    failure = await refuses(target_of(fresh, None, tmp_path / "nowhere"))
    assert "nowhere" in failure.message


@needs_sshd
async def test_a_connection_whose_key_was_never_asked_about_is_ended(
    fresh: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a later version of the library stopped asking."""

    def trust_all(self: asyncssh.SSHClientConnection, key_data: bytes) -> asyncssh.SSHKey:
        self._server_host_key = asyncssh.public_key.decode_ssh_public_key(key_data)
        return self._server_host_key

    monkeypatch.setattr(asyncssh.SSHClientConnection, "validate_server_host_key", trust_all)
    assert "was not checked" in (await refuses(target_of(fresh, WRONG))).message
    assert not fresh.trace.exists()


# --- the rule itself ----------------------------------------------------------------------

KEY = HostKey("ssh-ed25519", "SHA256:" + base64.b64encode(os.urandom(32)).decode().rstrip("="))


@given(
    st.integers(0, len(KEY.fingerprint) - 1), st.sampled_from(string.ascii_letters + string.digits + "+/")
)
def test_a_pin_that_differs_in_one_character_is_another_pin(place: int, char: str) -> None:
    pin = KEY.fingerprint[:place] + char + KEY.fingerprint[place + 1 :]
    assert HostKeyCheck("there", pin).trusts(KEY) is (pin == KEY.fingerprint)


def test_all_types_are_asked_for_in_turn_and_the_one_that_served_first() -> None:
    check = HostKeyCheck("there", WRONG, first="ssh-rsa")
    assert check.signatures()[:2] == ["rsa-sha2-512", "rsa-sha2-256"]
    for kind in SIGNATURES:
        check.trusts(HostKey(kind, KEY.fingerprint))
    assert check.signatures() == []
    assert check.accepted is None


def test_only_the_types_that_are_known_are_asked_for() -> None:
    check = HostKeyCheck("there")
    assert len(check.signatures()) == sum(map(len, SIGNATURES.values()))
    check.know([HostKey("ssh-rsa", KEY.fingerprint)])
    assert check.signatures() == ["rsa-sha2-512", "rsa-sha2-256"]


def test_no_old_algorithm_is_asked_for() -> None:
    assert not {"ssh-rsa", "ssh-dss"} & set(HostKeyCheck("there", WRONG).signatures())
    options = asyncssh.SSHClientConnectionOptions(host="there", config=None, **ssh_options.SHARED)
    algorithms = [*options.kex_algs, *options.encryption_algs, *options.mac_algs]
    assert not [a for a in algorithms if any(old in a for old in (b"sha1", b"cbc", b"3des", b"gss"))]
    assert options.encryption_algs[0] == b"aes128-gcm@openssh.com"
    assert options.agent_forward_path is None


# --- the source ---------------------------------------------------------------------------


TRUST_SWITCHED_OFF = re.compile(r"""\bknown_hosts\s*=\s*None|["']known_hosts["']\s*\]?\s*[:=]\s*None""")
LOADS_SSH = re.compile(r"^(import|from) asyncssh\b", re.MULTILINE)


def sources() -> Iterator[tuple[Path, str]]:
    for package in ("rch", "rchd", "rchctl", "worker_agent"):
        for path in (REPO / package).rglob("*.py"):
            yield path, path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "source", ["connect(known_hosts=None)", "{'known_hosts': None}", 'given["known_hosts"] = None']
)
def test_the_search_finds_a_check_that_is_switched_off(source: str) -> None:
    assert TRUST_SWITCHED_OFF.search(source)


def test_the_source_never_switches_the_host_key_check_off() -> None:
    assert [str(path) for path, source in sources() if TRUST_SWITCHED_OFF.search(source)] == []


def test_few_modules_speak_ssh() -> None:
    assert {path.name for path, source in sources() if LOADS_SSH.search(source)} == {
        "ssh.py",
        "ssh_options.py",
        "ssh_look.py",
    }
