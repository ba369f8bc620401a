"""The bad line that other tests rely on does what it says."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from support.fault_proxy import (
    DOWN,
    UP,
    CutAfter,
    Delay,
    Ending,
    FaultProxy,
    FlipBit,
    HalfOpen,
    Refuse,
    Throttle,
    fault_proxy,
    line_to,
)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """Says everything back; `ends` has how each connection ended for it."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            self.ends.append("fin")
        except ConnectionResetError:
            self.ends.append("rst")
        finally:
            writer.close()


@asynccontextmanager
async def echoed(window: int | None = None) -> AsyncIterator[tuple[FaultProxy, Echo]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server, fault_proxy(server.sockets[0].getsockname()[1], window=window) as proxy:
        yield proxy, echo
        proxy.cut()
        await proxy.idle()


@asynccontextmanager
async def dialled(proxy: FaultProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_without_a_fault_all_bytes_pass_both_ways() -> None:
    async with echoed() as (proxy, echo), dialled(proxy) as (reader, writer):
        data = os.urandom(3 << 20)
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        assert (proxy.handed_on, proxy.swallowed) == ({UP: 3 << 20, DOWN: 3 << 20}, {UP: 0, DOWN: 0})
        assert (proxy.made, proxy.strikes) == (1, 0)
        await proxy.idle()
        assert echo.ends == ["fin"]


@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_a_cut_comes_after_just_so_many_bytes_and_once(how: Ending) -> None:
    async with echoed() as (proxy, echo):
        proxy.set(CutAfter(1000, DOWN, how))
        async with dialled(proxy) as (reader, writer):
            writer.write(bytes(5000))
            assert await reader.readexactly(1000) == bytes(1000)
            if how == "fin":
                assert await reader.read() == b""
            else:
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            await proxy.struck()
        async with dialled(proxy) as (reader, writer):
            writer.write(bytes(5000))
            await reader.readexactly(5000)
        assert (proxy.strikes, proxy.handed_on[DOWN], len(echo.ends)) == (1, 6000, len(echo.ends))


async def test_a_cut_counts_over_connections_and_may_come_again() -> None:
    async with echoed() as (proxy, _):
        proxy.set(CutAfter(100, UP, "fin", again=True))
        async with dialled(proxy) as (reader, writer):
            writer.write(bytes(60))
            await reader.readexactly(60)
        for times in (1, 2):
            async with dialled(proxy) as (reader, writer):
                writer.write(bytes(500))
                await reader.read()
            assert (proxy.strikes, proxy.handed_on[UP]) == (times, times * 100)
        assert proxy.made == 3


async def test_a_cut_before_the_next_byte_lets_none_pass() -> None:
    async with echoed() as (proxy, _), dialled(proxy) as (reader, writer):
        writer.write(b"before")
        await reader.readexactly(6)
        proxy.set(CutAfter(0, UP, "fin"))
        writer.write(b"after")
        assert await reader.read() == b""
        assert proxy.handed_on[UP] == 6


async def test_one_bit_is_flipped_and_no_other() -> None:
    async with echoed() as (proxy, _), dialled(proxy) as (reader, writer):
        proxy.set(FlipBit(7, UP, bit=3))
        writer.write(bytes(20))
        assert await reader.readexactly(20) == bytes(7) + b"\x08" + bytes(12)
        await proxy.struck()
        writer.write(bytes(20))
        assert await reader.readexactly(20) == bytes(20)


async def test_a_half_open_line_swallows_and_stays_dead_while_the_next_is_good() -> None:
    async with echoed() as (proxy, echo), dialled(proxy) as (reader, writer):
        writer.write(b"heard")
        await reader.readexactly(5)
        proxy.set(HalfOpen())
        writer.write(b"lost")
        await proxy.lost()
        proxy.set()
        writer.write(b"lost too")
        writer.write_eof()
        async with dialled(proxy) as (other, other_out):
            other_out.write(b"good")
            assert await other.readexactly(4) == b"good"
            await _swallowed(proxy, len(b"lostlost too"))
            assert proxy.handed_on[UP] == len(b"heardgood")
            assert echo.ends == []


async def _swallowed(proxy: FaultProxy, count: int) -> None:
    await proxy._until(lambda: proxy.swallowed[UP] >= count)


async def test_refused_connections_are_reset() -> None:
    async with echoed() as (proxy, _):
        proxy.set(Refuse())
        with pytest.raises(ConnectionResetError):
            await _there_and_back(proxy, 1)
        proxy.set()
        await _there_and_back(proxy, 1)


async def test_a_delay_delays() -> None:
    async with echoed() as (proxy, _), dialled(proxy) as (reader, writer):
        proxy.set(Delay(0.1))
        began = time.monotonic()
        writer.write(b"x")
        await reader.readexactly(1)
        assert time.monotonic() - began >= 0.2


async def test_a_throttled_line_carries_no_more_than_it_says_whoever_sends() -> None:
    async with echoed() as (proxy, _):
        proxy.set(Throttle(100_000, UP))
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(_there_and_back, proxy, 20_000)
        assert time.monotonic() - began >= 0.4


async def _there_and_back(proxy: FaultProxy, size: int) -> None:
    async with dialled(proxy) as (reader, writer):
        writer.write(bytes(size))
        await reader.readexactly(size)


async def test_a_server_that_is_gone_is_told_to_the_client() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with fault_proxy(nobody.getsockname()[1]) as proxy, dialled(proxy) as (reader, _):
            assert await reader.read() == b""


def test_a_thread_serves_tests_that_are_no_coroutines() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, line_to(server.getsockname()[1]) as line:
        with socket.create_connection(("127.0.0.1", line.port), 10) as near:
            far, _ = server.accept()
            near.sendall(b"hello")
            assert far.recv(5) == b"hello"
            line.passed(5, UP)
            assert line.cut("fin") == 1
            assert far.recv(1) == b""
            far.close()
        line.idle()
        line.connected()
