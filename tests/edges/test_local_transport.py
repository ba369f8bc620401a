from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

import anyio
import pytest
from support import fake_worker

from rch.contract.errors import Failure, Kind
from rchd.edges import local
from rchd.edges.channels import STDERR_KEPT, Channel, LineCut, StderrTail
from rchd.edges.local import LocalTransport

PROBE = b'{"protocol_version":0,"op":"probe","request_id":"request-0001","payload":{}}\n'


@pytest.fixture(autouse=True)
def short_graces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_EOF_GRACE", 0.1)
    monkeypatch.setattr(local, "_SIGNAL_GRACE", 0.2)


def python(code: str) -> LocalTransport:
    return LocalTransport((sys.executable, "-S", "-c", code))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def read_all(channel: Channel) -> bytes:
    parts = []
    while data := await channel.receive():
        parts.append(data)
    return b"".join(parts)


async def test_bytes_go_there_and_back_until_the_end() -> None:
    transport = python("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])")
    channel = await transport.open()
    await channel.send(b"abc")
    await channel.send_eof()
    assert await read_all(channel) == b"cba"
    assert await channel.exit_status() == 0
    await transport.close()
    assert not alive(channel.pid)


async def test_a_reader_that_rests_stops_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys\nfor n in range(64): sys.stdout.buffer.write(b'x' * (1 << 20))"
    transport = python(code)
    channel = await transport.open()
    first = await channel.receive(1)
    paused, pause = anyio.Event(), channel._pause_source

    def note_the_pause() -> None:
        pause()
        paused.set()

    monkeypatch.setattr(channel, "_pause_source", note_the_pause)
    if not channel._source_paused:
        await paused.wait()
    held = len(channel._inbox)
    with anyio.move_on_after(0.2):
        await channel._exited.wait()
    assert not channel._exited.is_set()
    assert len(channel._inbox) == held
    assert len(first + await read_all(channel)) == 64 << 20
    await transport.close()


async def test_a_peer_that_does_not_read_stops_the_sender() -> None:
    transport = LocalTransport(fake_worker.command("deaf"))
    channel = await transport.open()
    with anyio.move_on_after(0.3) as scope:
        for _ in range(64):
            await channel.send(b"x" * (1 << 20))
    assert scope.cancelled_caught
    await transport.close()
    assert not alive(channel.pid)


async def test_sending_to_a_process_that_is_gone_is_a_cut_line() -> None:
    transport = python("pass")
    channel = await transport.open()
    assert await channel.exit_status(5) == 0
    with pytest.raises(LineCut):
        await channel.send(b"hello")
    await transport.close()


@pytest.mark.fault("S9")
async def test_a_stderr_flood_is_capped_and_does_not_block() -> None:
    transport = LocalTransport(fake_worker.command("flood", "256"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    channel = await transport.open()
    await channel.send(PROBE)
    assert (await channel.receive()).startswith(b'{"protocol_version": 0')
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 64 << 10
    await channel.send_eof()
    assert await read_all(channel) == b""
    assert channel.stderr_tail.endswith("the end of the flood\n")
    assert len(channel.stderr_tail) <= STDERR_KEPT
    await transport.close()


def test_the_tail_of_stderr_keeps_the_end_in_any_portions() -> None:
    tail = StderrTail(4)
    for portion in (b"ab", b"", b"cde", b"f", b"0123456789"):
        tail.feed(portion)
    assert tail.text == "6789"
    tail.feed(b"\xff")
    assert tail.text == "789�"


async def test_closing_ends_a_process_that_ignores_every_request() -> None:
    transport = LocalTransport(fake_worker.command("deaf"))
    channel = await transport.open()
    await channel.receive()
    await channel.close()
    assert await channel.exit_status() == -signal.SIGKILL
    assert not alive(channel.pid)
    await channel.close()


async def test_closing_under_cancellation_still_reaps_the_process() -> None:
    transport = LocalTransport(fake_worker.command())
    channel = await transport.open()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await channel.close()
    assert not alive(channel.pid)


async def test_a_grandchild_that_keeps_the_pipes_does_not_hold_the_close(tmp_path: Path) -> None:
    note = tmp_path / "child"
    transport = LocalTransport(fake_worker.command("leaves_child", str(note)))
    channel = await transport.open()
    await channel.send(PROBE)
    await channel.receive()
    started = time.monotonic()
    await transport.close()
    assert time.monotonic() - started < 15
    assert not alive(channel.pid)
    os.kill(int(note.read_text()), signal.SIGKILL)


async def test_a_command_that_is_not_there_is_an_unreachable_worker() -> None:
    with pytest.raises(Failure) as caught:
        await LocalTransport(("/nowhere/rch-worker",)).open()
    assert (caught.value.kind, caught.value.subkind) == (Kind.SSH, "UNREACHABLE")
    assert "/nowhere/rch-worker" in caught.value.message


async def test_the_child_is_out_of_reach_of_the_terminals_interrupt() -> None:
    transport = LocalTransport(fake_worker.command())
    channel = await transport.open()
    assert os.getsid(channel.pid) == channel.pid != os.getsid(0)
    await transport.close()


async def test_only_the_given_environment_is_passed() -> None:
    code = "import os; print(os.environ.get('SEEN'), os.environ.get('HOME'))"
    transport = LocalTransport((sys.executable, "-S", "-c", code), {"SEEN": "yes"})
    assert await read_all(await transport.open()) == b"yes None\n"
    await transport.close()
