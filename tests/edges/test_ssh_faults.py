"""What a line can do that an honest sshd never does, by an SSH server in this process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import asyncssh
import pytest
from support import fake_worker
from support.fault_proxy import HalfOpen, fault_proxy

from rch.contract.errors import Failure
from rch.contract.worker_rpc import JobRequest
from rchd.edges import ssh_options
from rchd.edges.channels import LineCut
from rchd.edges.ssh_transport import SshTarget, SshTransport
from rchd.edges.worker_client import Deadlines, WorkerClient

STATUS = JobRequest(job_id="job-00000001")
Process = asyncssh.SSHServerProcess[bytes]


class OpenDoor(asyncssh.SSHServer):
    """Lets everyone in."""

    def begin_auth(self, username: str) -> bool:
        del username
        return False


@asynccontextmanager
async def server(serve: Callable[[Process], object]) -> AsyncIterator[SshTarget]:
    """An SSH server of this process that starts `serve` for each session."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[key],
        server_factory=OpenDoor,
        process_factory=serve,
        encoding=None,
    )
    pin = key.get_fingerprint()
    try:
        yield SshTarget(
            name="mini",
            host="127.0.0.1",
            port=acceptor.get_port(),
            user="tester",
            fingerprint=pin,
            config=(),
        )
    finally:
        acceptor.close()
        await acceptor.wait_closed()


async def honest(process: Process) -> None:
    """Serve the session by the scripted worker, without a process."""
    answers = io.BytesIO()
    worker = fake_worker.FakeWorker(io.BytesIO(), answers, "honest", [])
    with contextlib.suppress(OSError):  # the client may leave at any time
        async for line in process.stdin:
            worker.answer(json.loads(line))
            process.stdout.write(answers.getvalue())
            answers.seek(0)
            answers.truncate()
        process.exit(0)


async def refused(call: Awaitable[object]) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


async def test_the_whole_protocol_runs_over_this_server_too() -> None:
    async with server(honest) as target:
        client = WorkerClient("mini", SshTransport(target))
        assert (await client.status(STATUS)).seq == 2
        await client.close()


@pytest.mark.fault("S7")
async def test_a_line_that_died_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ssh_options.KEEPALIVE_SECONDS, ssh_options.KEEPALIVE_MISSES) == (15, 3)
    monkeypatch.setitem(ssh_options.SHARED, "keepalive_interval", 0.1)
    async with server(honest) as target, fault_proxy(target.port or 0) as line:
        transport = SshTransport(replace(target, port=line.port))
        channel = await transport.open()
        line.set(HalfOpen())
        with anyio.fail_after(40), pytest.raises(LineCut):
            await channel.receive()
        assert transport._links[0].lost
        await transport.close()


@pytest.mark.fault("S7")
@pytest.mark.parametrize(
    ("written", "interval", "misses"),
    [
        ("", 15, 2),
        ("ServerAliveInterval 5\n ServerAliveCountMax 2", 5, 1),
        ("ServerAliveInterval 1\n ServerAliveCountMax 1", 1, 1),
        ("ServerAliveInterval 300", 15, 2),
        ("ServerAliveInterval 0", 15, 2),
    ],
)
async def test_the_ssh_config_may_find_a_dead_line_sooner_and_never_later(
    tmp_path: Path, written: str, interval: int, misses: int
) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host *\n {written}\n")
    async with server(honest) as target:
        transport = SshTransport(replace(target, config=(config,)))
        await transport.open()
        raw = transport._links[0].connection.raw
        # The library gives up at the first of its counts beyond this one.
        assert (raw._keepalive_interval, raw._keepalive_count_max) == (interval, misses)
        await transport.close()


async def test_a_session_that_is_never_opened_ends_at_the_deadline_with_its_connection() -> None:
    asked = anyio.Event()

    class Stalling(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            del username
            return False

        async def session_requested(self) -> bool:
            asked.set()
            await anyio.sleep_forever()
            return False

    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], server_factory=Stalling)
    transport = SshTransport(
        SshTarget(
            name="mini",
            host="127.0.0.1",
            port=acceptor.get_port(),
            user="tester",
            fingerprint=key.get_fingerprint(),
            config=(),
        )
    )
    client = WorkerClient("mini", transport, deadlines=Deadlines(connect=1))
    failure = await refused(client.probe())
    assert failure.label == "SSH / UNREACHABLE"
    assert asked.is_set()
    assert transport._links == []
    await client.close()
    acceptor.close()


@pytest.mark.parametrize(("name", "number"), [("TERM", 15), ("KILL", 9), ("UNHEARD-OF", 9)])
async def test_the_signal_that_ended_the_command_is_known(name: str, number: int) -> None:
    async with server(lambda process: process.exit_with_signal(name)) as target:
        transport = SshTransport(target)
        channel = await transport.open()
        assert await channel.receive() == b""
        assert await channel.exit_status() == -number
        await transport.close()


async def test_a_server_that_hangs_up_at_once_is_unreachable() -> None:
    hung_up = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = hung_up.sockets[0].getsockname()[1]
    failure = await refused(
        SshTransport(SshTarget(name="mini", host="127.0.0.1", port=port, config=())).open()
    )
    assert failure.label == "SSH / UNREACHABLE"
    assert f"127.0.0.1:{port}" in failure.message
    hung_up.close()
