"""What a line can do that an honest sshd never does, by an SSH server in this process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Self

import anyio
import asyncssh
import pytest
from support import fake_worker

from rch.contract.errors import Failure
from rch.contract.worker_rpc import JobRequest
from rchd.edges import ssh
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


class Proxy:
    """Passes bytes between a client and `port`, until it is frozen."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._flow = asyncio.Event()
        self._flow.set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._flow.set()
        if self._server is not None:
            self._server.close()

    def freeze(self) -> None:
        """Nothing passes from now on, and nobody is told."""
        self._flow.clear()

    async def _serve(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far, far_out = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pass(near, far_out), self._pass(far, near_out))

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                await self._flow.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


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
    assert (ssh.KEEPALIVE_SECONDS, ssh.KEEPALIVE_MISSES) == (15, 3)
    monkeypatch.setitem(ssh._SHARED, "keepalive_interval", 0.1)
    async with server(honest) as target, Proxy(target.port or 0) as proxy:
        transport = SshTransport(replace(target, port=proxy.port))
        channel = await transport.open()
        proxy.freeze()
        with anyio.fail_after(10), pytest.raises(LineCut):
            await channel.receive()
        assert transport._links[0].lost
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
