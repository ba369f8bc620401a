from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from support import fake_worker, sshd
from support.agents import ssh_agent

from rch.contract.errors import Failure
from rch.contract.worker_rpc import JobRequest, TailRequest
from rchd.edges.channels import STDERR_KEPT
from rchd.edges.ssh_transport import PLACES, SshTarget, SshTransport
from rchd.edges.wire import EndedEarly
from rchd.edges.worker_client import Deadlines, WorkerClient

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed"),
]

STATUS = JobRequest(job_id="job-00000001")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.SshdServer]:
    with sshd.SshdServer(tmp_path_factory.mktemp("sshd"), command=fake_worker.command()) as it:
        yield it


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


async def test_the_worker_is_probed_and_asked_over_one_connection(server: sshd.SshdServer) -> None:
    client = WorkerClient("mini", SshTransport(target_of(server)))
    assert (await client.probe()).capabilities.hostname == "fake"
    for _ in range(5):
        assert (await client.status(STATUS)).seq == 2
    assert server.sessions() == 1
    await client.close()
    assert server.log


def transport_to(server: sshd.SshdServer) -> SshTransport:
    return SshTransport(target_of(server))


async def refused(transport: SshTransport) -> Failure:
    with pytest.raises(Failure) as caught:
        await transport.open()
    await transport.close()
    return caught.value


async def until_sessions(server: sshd.SshdServer, wanted: int) -> None:
    """Wait for sshd, which reaps its children in its own time."""
    await until(lambda: server.sessions() == wanted)


async def until(told: Callable[[], bool]) -> None:
    """Wait for what another process does and nothing here is told of."""
    with anyio.fail_after(60):
        while not told():  # noqa: ASYNC110  (another process's state)
            await anyio.sleep(0.01)


async def test_loading_the_pool_does_not_load_the_ssh_library() -> None:
    code = "import sys, rchd.edges.pool; print('asyncssh' in sys.modules)"
    shown = await anyio.run_process([sys.executable, "-c", code])
    assert shown.stdout == b"False\n"


@pytest.mark.fault("S11")
@pytest.mark.parametrize("options", [(), ("RekeyLimit 1M",)], ids=["", "with new keys every MiB"])
async def test_bytes_are_carried_whole_in_both_directions(tmp_path: Path, options: tuple[str, ...]) -> None:
    with sshd.SshdServer(tmp_path, command=["cat"], options=options) as server:
        transport = transport_to(server)
        channel = await transport.open()
        block, received = os.urandom(1 << 20), bytearray()

        async def listen() -> None:
            while data := await channel.receive():
                received.extend(data)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            for _ in range(8):
                await channel.send(block)
            await channel.send_eof()
        assert bytes(received) == block * 8
        assert await channel.exit_status() == 0
        await transport.close()


async def test_the_fast_cipher_is_spoken_and_delays_are_off(server: sshd.SshdServer) -> None:
    transport = transport_to(server)
    await transport.open()
    raw = transport._links[0].connection.raw
    assert raw.get_extra_info("send_cipher") == "aes128-gcm@openssh.com"
    assert raw.get_extra_info("recv_cipher") == "aes128-gcm@openssh.com"
    await transport.close()


@pytest.mark.fault("S9")
async def test_a_stderr_flood_over_ssh_is_capped_and_does_not_block(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path, command=fake_worker.command("flood", "32")) as server:
        transport = transport_to(server)
        channel = await transport.open()
        await channel.send(
            b'{"protocol_version":0,"op":"probe","request_id":"request-0001","payload":{}}\n'
        )
        await channel.send_eof()
        assert (await channel.receive()).startswith(b"{")
        while await channel.receive():
            pass
        assert channel.stderr_tail.endswith("the end of the flood\n")
        assert len(channel.stderr_tail) <= STDERR_KEPT
        await transport.close()


@pytest.mark.fault("S9")
async def test_a_shell_that_talks_first_is_shown(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path, command=fake_worker.command("noise")) as server:
        client = WorkerClient("mini", transport_to(server))
        with pytest.raises(Failure, match="Welcome to buildbox!") as caught:
            await client.probe()
        assert "rc files" in caught.value.hint
        await client.close()


async def test_a_worker_command_that_is_missing_there_is_told_in_its_shells_words(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path, command=["rch-worker-is-not-here"]) as server:
        client = WorkerClient("mini", transport_to(server))
        with pytest.raises(Failure, match=r"exit 127.*not found") as caught:
            await client.probe()
        assert caught.value.label == "EXECUTOR / PROTOCOL_ERROR"
        await client.close()


# --- places -------------------------------------------------------------------------------


async def test_a_full_connection_leads_to_a_second_one_that_ends_when_idle(server: sshd.SshdServer) -> None:
    transport = transport_to(server)
    channels = [await transport.open() for _ in range(PLACES + 1)]
    await until_sessions(server, 2)
    await channels[-1].close()
    await until_sessions(server, 1)
    for channel in channels:
        await channel.close()
    assert server.sessions() == 1
    await transport.close()
    await until_sessions(server, 0)


async def test_many_at_once_dial_no_oftener_than_needed(server: sshd.SshdServer) -> None:
    transport = transport_to(server)
    async with anyio.create_task_group() as tasks:
        for _ in range(PLACES):
            tasks.start_soon(transport.open)
    assert server.sessions() == 1
    await transport.close()


@pytest.mark.fault("S10")
async def test_a_server_with_fewer_sessions_is_dialled_again(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path, command=fake_worker.command(), max_sessions=2) as server:
        transport = transport_to(server)
        for _ in range(5):
            await transport.open()
        assert server.sessions() == 3
        await transport.close()


@pytest.mark.fault("S10")
async def test_a_server_that_opens_no_session_is_told(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path, command=fake_worker.command(), max_sessions=0) as server:
        failure = await refused(transport_to(server))
        assert failure.label == "SSH / UNREACHABLE"
        assert "opens no session" in failure.message


async def test_a_cancelled_opening_leaves_nothing_behind(server: sshd.SshdServer) -> None:
    transport = transport_to(server)
    kept = await transport.open()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await transport.open()
    assert scope.cancelled_caught
    assert [link.used for link in transport._links] == [1]
    await (await transport.open()).close()
    await kept.close()
    await transport.close()
    await until_sessions(server, 0)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.06, 0.1, 0.15])
async def test_a_cancelled_dial_leaves_nothing_behind(server: sshd.SshdServer, seconds: float) -> None:
    transport = transport_to(server)
    with anyio.move_on_after(seconds):
        await transport.open()
        await anyio.sleep_forever()
    await transport.close()
    await until_sessions(server, 0)


# --- lines that are cut -------------------------------------------------------------------


@pytest.mark.fault("S5")
async def test_a_cut_connection_fails_what_waits_and_the_next_call_dials_again(tmp_path: Path) -> None:
    mark = tmp_path / "held"
    with sshd.SshdServer(tmp_path, command=fake_worker.command("held", str(mark))) as server:
        client = WorkerClient("mini", transport_to(server))
        failures: list[Failure] = []

        async def hold() -> None:
            with pytest.raises(Failure) as caught:
                await client.tail(TailRequest(job_id="job-00000001", wait_seconds=60))
            failures.append(caught.value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await until(mark.exists)
            assert server.kill_sessions() == 1
        assert failures[0].label == "SSH / UNREACHABLE"
        assert "the line to mini was cut" in failures[0].message
        assert (await client.status(STATUS)).seq == 2
        await client.close()


@pytest.mark.fault("S10")
async def test_a_server_that_was_restarted_is_dialled_again(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path, command=fake_worker.command()) as server:
        client = WorkerClient("mini", transport_to(server))
        await client.status(STATUS)
        server.stop()
        with pytest.raises(Failure) as caught:
            await client.status(STATUS)
        assert caught.value.label == "SSH / UNREACHABLE"
        assert f"127.0.0.1:{server.port}" in caught.value.message
        server.start()
        assert (await client.status(STATUS)).seq == 2
        await client.close()


async def test_a_command_that_is_killed_there_is_a_cut_line(tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path, command=fake_worker.command("killed")) as server:
        client = WorkerClient("mini", transport_to(server))
        with pytest.raises(EndedEarly):
            await client.probe()
        await client.close()


# --- ways that lead nowhere ---------------------------------------------------------------


async def test_nobody_listens(server: sshd.SshdServer) -> None:
    port = sshd.free_port()
    failure = await refused(SshTransport(replace(target_of(server), port=port)))
    assert failure.label == "SSH / UNREACHABLE"
    assert f"127.0.0.1:{port}" in failure.message


async def test_a_name_that_does_not_resolve(server: sshd.SshdServer) -> None:
    failure = await refused(SshTransport(replace(target_of(server), host="no-such-host.invalid")))
    assert failure.label == "SSH / UNREACHABLE"
    assert "no-such-host.invalid" in failure.message


async def test_a_listener_that_says_nothing_is_given_up(server: sshd.SshdServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        target = replace(target_of(server), port=port, connect_timeout=0.3)
        failure = await refused(SshTransport(target))
    assert failure.label == "SSH / UNREACHABLE"
    assert f"127.0.0.1:{port} did not answer within 0.3 s" in failure.message


@pytest.mark.fault("S10")
async def test_a_key_that_is_not_authorised(server: sshd.SshdServer, tmp_path: Path) -> None:
    sshd.make_key(tmp_path / "stranger", "ed25519")
    failure = await refused(SshTransport(replace(target_of(server), key_path=tmp_path / "stranger")))
    assert failure.label == "SSH / AUTH"
    assert f"127.0.0.1:{server.port} refused every key" in failure.message
    assert not failure.retryable


@pytest.mark.parametrize("content", [None, "this is no key"])
async def test_a_key_file_that_cannot_be_used(
    server: sshd.SshdServer, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    failure = await refused(SshTransport(replace(target_of(server), key_path=path)))
    assert failure.label == "SSH / AUTH"
    assert "mini" in failure.message


@pytest.mark.spec("3.1")
async def test_a_key_that_others_can_read_is_not_offered(server: sshd.SshdServer, tmp_path: Path) -> None:
    path = tmp_path / "open"
    path.write_bytes(server.client_key.read_bytes())
    path.chmod(0o644)
    failure = await refused(SshTransport(replace(target_of(server), key_path=path)))
    assert (failure.label, failure.hint) == ("SSH / AUTH", f"chmod 600 {path}")


# --- the agent, the config, jump hosts ----------------------------------------------------


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    with ssh_agent(tmp_path / "agent.sock") as path:
        yield path


def locked_key(server: sshd.SshdServer, agent: str | None, directory: Path) -> Path:
    """A copy of the server's client key behind a passphrase, added to the agent beforehand."""
    path = directory / "locked"
    path.write_bytes(server.client_key.read_bytes())
    path.chmod(0o600)
    path.with_suffix(".pub").write_bytes(server.client_key.with_suffix(".pub").read_bytes())
    if agent is not None:
        env = {**os.environ, "SSH_AUTH_SOCK": agent}
        subprocess.run(["ssh-add", "-q", str(path)], check=True, env=env, stdin=subprocess.DEVNULL)
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "a passphrase", "-f", str(path)]
    subprocess.run(change, check=True, stdout=subprocess.DEVNULL)
    return path


async def test_a_key_with_a_passphrase_is_left_to_the_agent(
    server: sshd.SshdServer, agent: str, tmp_path: Path
) -> None:
    key = locked_key(server, agent, tmp_path)
    transport = SshTransport(replace(target_of(server), key_path=key), agent=lambda: agent)
    await transport.open()
    await transport.close()


async def test_an_agent_may_be_named_by_the_config(
    server: sshd.SshdServer, agent: str, tmp_path: Path
) -> None:
    key = locked_key(server, agent, tmp_path)
    config = tmp_path / "config"
    config.write_text(f"Host *\n IdentityAgent {agent}\n")
    for key_path in (key, None):
        transport = SshTransport(replace(target_of(server), key_path=key_path, config=(config,)))
        await transport.open()
        await transport.close()


async def test_a_key_with_a_passphrase_and_no_agent_names_the_command(
    server: sshd.SshdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = locked_key(server, None, tmp_path)
    failure = await refused(SshTransport(replace(target_of(server), key_path=key)))
    assert failure.label == "SSH / AUTH"
    assert failure.hint == f"ssh-add {key}"


async def test_an_alias_of_the_ssh_config_is_honoured(server: sshd.SshdServer, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host mini\n HostName {server.host}\n Port {server.port}\n User {server.user}\n"
        f" IdentityFile {server.client_key}\n IdentitiesOnly yes\n"
    )
    pin = server.fingerprints["ed25519"]
    transport = SshTransport(SshTarget(name="mini", host="mini", fingerprint=pin, config=(config,)))
    await transport.open()
    assert transport.host == "mini"
    await transport.close()


async def test_a_config_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host mini\n Port many\n")
    failure = await refused(SshTransport(SshTarget(name="mini", host="mini", config=(config,))))
    assert failure.label == "SSH / UNREACHABLE"
    assert str(config) in failure.message


def jump_config(path: Path, server: sshd.SshdServer, jump: sshd.SshdServer, known: Path) -> Path:
    path.write_text(
        f"Host door\n HostName {jump.host}\n Port {jump.port}\n User {jump.user}\n"
        f" IdentityFile {jump.client_key}\n IdentitiesOnly yes\n UserKnownHostsFile {known}\n"
        f"Host mini\n HostName {server.host}\n Port {server.port}\n User {server.user}\n"
        f" IdentityFile {server.client_key}\n IdentitiesOnly yes\n ProxyJump door\n"
    )
    return path


async def test_a_jump_host_leads_to_the_worker(server: sshd.SshdServer, tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path / "door", forwarding=True) as jump:
        known = jump.known_hosts(tmp_path / "known")
        config = jump_config(tmp_path / "config", server, jump, known)
        pin = server.fingerprints["ed25519"]
        client = WorkerClient(
            "mini", SshTransport(SshTarget(name="mini", host="mini", fingerprint=pin, config=(config,)))
        )
        assert (await client.status(STATUS)).seq == 2
        assert jump.sessions() == 1
        await client.close()
        await until_sessions(jump, 0)


@pytest.mark.parametrize(
    ("line", "said"), [("Host *\n ProxyJump door\n", None), ("Host door\n ProxyJump mini\n", "more than 8")]
)
async def test_a_jump_host_that_leads_back_ends(
    server: sshd.SshdServer, tmp_path: Path, line: str, said: str | None
) -> None:
    with sshd.SshdServer(tmp_path / "door", forwarding=True) as jump:
        config = jump_config(tmp_path / "config", server, jump, jump.known_hosts(tmp_path / "known"))
        config.write_text(config.read_text() + line)
        pin = server.fingerprints["ed25519"]
        transport = SshTransport(SshTarget(name="mini", host="mini", fingerprint=pin, config=(config,)))
        if said is None:
            await transport.open()
            await transport.close()
        else:
            assert said in (await refused(transport)).message


@pytest.mark.fault("S8")
async def test_a_jump_host_must_be_known_as_well(server: sshd.SshdServer, tmp_path: Path) -> None:
    with sshd.SshdServer(tmp_path / "door", forwarding=True) as jump:
        for known in ("/dev/null", "none"):
            config = jump_config(tmp_path / "config", server, jump, Path(known))
            pin = server.fingerprints["ed25519"]
            target = SshTarget(name="mini", host="mini", fingerprint=pin, config=(config,))
            failure = await refused(SshTransport(target))
            assert failure.label == "SSH / HOST_KEY"
            assert f"127.0.0.1:{jump.port}" in failure.message
            await until_sessions(jump, 0)


async def test_a_stalled_channel_opening_ends_at_the_deadline(server: sshd.SshdServer) -> None:
    client = WorkerClient("mini", transport_to(server), deadlines=Deadlines(connect=0.001))
    with pytest.raises(Failure, match=r"no channel within 0.001 s"):
        await client.probe()
    await client.close()
    await until_sessions(server, 0)
