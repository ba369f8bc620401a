"""Lines that are slow, full, or renew their keys: what is small goes on beside what is large."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from statistics import quantiles

import anyio
import pytest
from asyncssh.connection import SSHConnection
from support import fake_worker
from support.fault_proxy import Throttle, fault_proxy
from support.sshd import SshdServer, available

from rch.contract.worker_rpc import JobRequest, Stream, TailRequest, UploadRequest
from rchd.edges.ssh_channel import FIRST_PART, FIRST_WINDOW
from rchd.edges.ssh_transport import SshTarget, SshTransport
from rchd.edges.worker_client import WorkerClient

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(not available, reason="OpenSSH's sshd is not installed"),
]

MBIT_PER_SECOND = 125_000
STATUS = JobRequest(job_id="job-00000001")


def target_of(server: SshdServer, port: int) -> SshTarget:
    return SshTarget(
        name="mini",
        host=server.host,
        port=port,
        user=server.user,
        fingerprint=server.fingerprints["ed25519"],
        key_path=server.client_key,
        config=(),
    )


def a_source(path: Path, size: int) -> UploadRequest:
    data = os.urandom(size)
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    stream = Stream(content_length=size, content_sha256=digest)
    return UploadRequest(source_sha256="0" * 64, stream=stream)


ROUNDS = 3
"""A machine that is busy elsewhere spoils a round; what makes answers wait spoils all of them."""


@pytest.mark.fault("S13")
async def test_a_status_is_answered_while_a_slow_line_is_full_both_ways(tmp_path: Path) -> None:
    found = []
    for number in range(ROUNDS):
        filled, seconds = await a_round(tmp_path, number)
        found.append((filled, quantiles(seconds, n=20, method="inclusive")[-1]))
        # The line was full all the time, and yet no answer had to wait for what filled it.
        if filled > 1 and found[-1][1] < 1:
            return
    pytest.fail(f"of the line used, and p95 of a status in seconds: {found}")


async def a_round(folder: Path, number: int) -> tuple[float, list[float]]:
    """How full the line was, of 1 for one way, and how long each answer took meanwhile."""
    body = folder / f"body-{number}"
    upload = a_source(body, 4 << 20)
    seconds: list[float] = []
    with SshdServer(folder / f"sshd-{number}", command=fake_worker.command("talks")) as server:
        async with fault_proxy(server.port, window=4 << 10) as line:
            client = WorkerClient("mini", SshTransport(target_of(server, line.port)))
            await client.status(STATUS)
            line.set(Throttle(MBIT_PER_SECOND))
            before = dict(line.handed_on)

            async def tail() -> None:
                while True:
                    await client.tail(TailRequest(job_id="job-00000001", cursor="1"))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.upload, upload, body)
                tasks.start_soon(tail)
                began = time.monotonic()
                for _ in range(12):
                    asked = time.monotonic()
                    await client.status(STATUS)
                    seconds.append(time.monotonic() - asked)
                lasted = time.monotonic() - began
                tasks.cancel_scope.cancel()
            carried = sum(line.handed_on[way] - before[way] for way in before)
            await client.close()
    return carried / (MBIT_PER_SECOND * lasted), seconds


async def test_a_quick_line_is_given_more_at_a_time_and_a_slow_one_is_not(tmp_path: Path) -> None:
    with SshdServer(tmp_path, command=["cat"]) as server:
        async with fault_proxy(server.port, window=4 << 10) as slow:
            slow.set(Throttle(MBIT_PER_SECOND))
            window, part = await widest(server, slow.port, 128 << 10)
        assert window <= 4 * FIRST_WINDOW
        assert part == FIRST_PART
        window, part = await widest(server, server.port, 16 << 20)
        assert window > 4 * FIRST_WINDOW
        assert part > FIRST_PART


async def widest(server: SshdServer, port: int, size: int) -> tuple[int, int]:
    """What a channel had on its way at the end, in and out, after `size` bytes each way."""
    transport = SshTransport(target_of(server, port))
    channel = await transport.open()
    await channel.send(b"?")
    seen, parts = len(await channel.receive()), {0}

    async def talk() -> None:
        for _ in range(size // len(block)):
            await channel.send(block)
            parts.add(channel._part)

    block = bytes(64 << 10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk)
        while seen <= size:
            seen += len(await channel.receive())
    await transport.close()
    return channel._window, max(parts)


GIBIBYTE = 1 << 30


@pytest.mark.faults_long
@pytest.mark.timeout(1800)
@pytest.mark.fault("S11")
async def test_more_than_a_gibibyte_passes_while_the_keys_are_new_every_mebibyte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewals = 0
    send_newkeys = SSHConnection.send_newkeys

    def counted(connection: SSHConnection, k: bytes, h: bytes) -> None:
        nonlocal renewals
        renewals += 1
        send_newkeys(connection, k, h)

    monkeypatch.setattr(SSHConnection, "send_newkeys", counted)
    block = os.urandom(1 << 20)
    wanted, seen = hashlib.sha256(), hashlib.sha256()
    with SshdServer(tmp_path, command=["cat"], options=("RekeyLimit 1M",)) as server:
        transport = SshTransport(target_of(server, server.port))
        channel = await transport.open()

        async def talk() -> None:
            for number in range(GIBIBYTE // len(block) + 8):
                part = number.to_bytes(8, "big") + block
                wanted.update(part)
                await channel.send(part)
            await channel.send_eof()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk)
            while True:
                with anyio.fail_after(60):  # of silence
                    data = await channel.receive()
                if not data:
                    break
                seen.update(data)
        await transport.close()
    assert seen.digest() == wanted.digest()
    assert renewals > 1000
