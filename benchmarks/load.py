"""What the daemon costs under load: `start`, `watchers` and `idle` (README.md here).

Each figure is the median of several rounds; rounds with and without the load take turns, so that a
machine which is busy with other things is busy with both. Ratios are what to look at.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rig import Client, Machine, fill_queue, greeted, machine
from table import percentile

TIMED = Path(__file__).with_name("timed_daemon.py")
MEGA = 1e6
PAUSE_SECONDS = 0.2  # between two submits: what is measured is the way, not the jam
CALL_PAUSE_SECONDS = 0.04  # so that a round lasts beyond the deadline of a half message
DROPS_A_SECOND = 50
Table = dict[str, float]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


# --- a long queue -------------------------------------------------------------------------


async def one_start(made: Machine, order: list[str]) -> Table:
    """Kill, start, and look: the first answer, the whole queue, the quiet after it."""
    made.kill()
    began = made.start()
    async with greeted(made) as client:
        await client.call("daemon.health")
        answered, processor = time.monotonic() - began, made.processor
        listed = await newest(client, 1000)
        all_there = time.monotonic() - began
        health = await client.call("daemon.health")
        if health["runs_queued"] != len(order) or listed != sorted(order, reverse=True)[:1000]:
            raise RuntimeError("runs were lost, or their order")
        waits = [await timed(client, "daemon.health") for _ in range(100)]
        return {
            "health answers, s": answered,
            "health answers, s of processor": processor,
            "queue is listed, s": all_there,
            "health while it looks over the files, p99 ms": percentile(waits, 0.99) * 1000,
            "memory, MB": made.rss / MEGA,
            "most memory, MB": made.peak / MEGA,
        }


async def newest(client: Client, limit: int) -> list[str]:
    """The ids of the newest runs, message by message."""
    found: list[str] = []
    more = True
    while more and len(found) < limit:
        before = {"before": found[-1]} if found else {}
        listed = await client.call("runs.list", {"limit": limit - len(found), **before})
        found += [run["run_id"] for run in listed["runs"]]
        more = bool(listed.get("more"))
    return found


async def timed(client: Client, method: str, params: dict[str, Any] | None = None) -> float:
    """Seconds that a call takes."""
    began = time.monotonic()
    await client.call(method, params)
    return time.monotonic() - began


def start(runs: int, rounds: int) -> Table:
    """Starts of a daemon with few and with many queued runs, in turns."""
    with machine() as few, machine() as many:
        orders = [(few, fill_queue(few, 10)), (many, fill_queue(many, runs))]
        found: dict[int, list[Table]] = {0: [], 1: []}
        for _ in range(rounds):
            for index, (made, order) in enumerate(orders):
                found[index].append(asyncio.run(one_start(made, order)))
                made.kill()
    small, large = middle(found[0]), middle(found[1])
    table = {f"10 runs: {name}": value for name, value in small.items()}
    table |= {f"{runs} runs: {name}": value for name, value in large.items()}
    table["processor per run, µs"] = (
        (large["health answers, s of processor"] - small["health answers, s of processor"]) / runs * 1e6
    )
    table["memory per run, kB"] = (large["memory, MB"] - small["memory, MB"]) / runs * 1e3
    return table


def middle(tables: list[Table]) -> Table:
    """The median of each figure."""
    return {name: statistics.median(table[name] for table in tables) for name in tables[0]}


# --- watching clients ---------------------------------------------------------------------


async def one_crowd(made: Machine, out: Path, watchers: int, submits: int) -> Table:
    """Submit while `watchers` clients watch all runs, and as many as a quarter of them read nothing."""
    async with AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(greeted(made)) for _ in range(watchers)]
        for client in crowd:
            await client.call("runs.watch", {"run": "all"})
        for client in crowd[: len(crowd) // 4]:
            client.stop_reading()
        one = await stack.enter_async_context(greeted(made))
        delays_of(made, out)
        used, before = made.processor, made.rss
        waits = []
        for _ in range(submits):
            waits.append(await timed(one, "runs.submit", {"start": str(made.project)}))
            await asyncio.sleep(PAUSE_SECONDS)
        while (await one.call("daemon.health"))["activity"] != "idle":  # noqa: ASYNC110  (nothing tells of it)
            await asyncio.sleep(0.02)
        delays = delays_of(made, out)
        return {
            "submit, p50 ms": percentile(waits, 0.5) * 1000,
            "submit, p99 ms": percentile(waits, 0.99) * 1000,
            "dispatch, p50 ms": percentile(delays, 0.5) * 1000,
            "dispatch, p99 ms": percentile(delays, 0.99) * 1000,
            "processor per run, ms": (made.processor - used) / submits * 1000,
            "memory that came, MB": max(0.0, made.rss - before) / MEGA,
            "most memory, MB": made.peak / MEGA,
        }


def delays_of(made: Machine, out: Path) -> list[float]:
    """The dispatch delays since the last call."""
    out.unlink(missing_ok=True)
    assert made.daemon is not None  # noqa: S101  (a rig's own misuse)
    made.daemon.send_signal(signal.SIGUSR1)
    while not out.exists():
        time.sleep(0.005)
    delays: list[float] = json.loads(out.read_text())
    return delays


def watchers(count: int, submits: int, rounds: int) -> Table:
    """With nobody and with a crowd, in turns."""
    with machine() as made:
        out = made.root / "delays.json"
        made.start(str(TIMED), str(out), "20")
        found: dict[int, list[Table]] = {0: [], count: []}
        asyncio.run(one_crowd(made, out, 0, 5))
        for _ in range(rounds):
            for many, tables in found.items():
                tables.append(asyncio.run(one_crowd(made, out, many, submits)))
    return against(middle(found[0]), middle(found[count]), "nobody watches", f"{count} watch")


def against(quiet: Table, loaded: Table, first: str, second: str) -> Table:
    """Both, and their ratios."""
    table: Table = {}
    for name, value in quiet.items():
        table |= {f"{first}: {name}": value, f"{second}: {name}": loaded[name]}
        if value > 0 and "memory that came" not in name:
            words = name.replace(",", "").removesuffix(" ms").removesuffix(" MB")
            table[f"ratio: {words}"] = loaded[name] / value
    return table


# --- connections that want nothing, or everything slowly ----------------------------------


async def opened(made: Machine) -> Connection:
    """A connection that has said nothing yet."""
    return await asyncio.open_unix_connection(made.paths.socket)


async def drip(made: Machine, count: int, ready: asyncio.Event) -> None:
    """`count` connections, each with a byte of a message a second; who is closed comes again."""
    drops = [await opened(made) for _ in range(count)]
    ready.set()
    at = 0
    try:
        while True:
            for _ in range(max(1, count // DROPS_A_SECOND)):
                reader, writer = drops[at]
                if reader.at_eof() or writer.is_closing():
                    writer.close()
                    drops[at] = _, writer = await opened(made)
                writer.write(b"{")
                at = (at + 1) % count
            await asyncio.sleep(1 / DROPS_A_SECOND)
    finally:
        for _, writer in drops:
            writer.close()


async def one_idle(made: Machine, idle: int, slow: int, calls: int) -> Table:
    """A good client's calls while `idle` others say nothing, and `slow` others a byte a second."""
    async with AsyncExitStack() as stack:
        for _ in range(idle):
            await stack.enter_async_context(greeted(made))
        ready, dripping = asyncio.Event(), None
        if slow:
            dripping = asyncio.create_task(drip(made, slow, ready))
            await ready.wait()
        client = await stack.enter_async_context(greeted(made))
        used = made.processor
        waits = []
        for _ in range(calls):
            waits.append(await timed(client, "daemon.health"))
            await asyncio.sleep(CALL_PAUSE_SECONDS)
        used = made.processor - used
        if dripping is not None:
            if dripping.done():
                dripping.result()
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
    return {
        "call, p50 ms": percentile(waits, 0.5) * 1000,
        "call, p99 ms": percentile(waits, 0.99) * 1000,
        "processor per call, ms": used / calls * 1000,
    }


def idle(idlers: int, slow: int, calls: int, rounds: int) -> Table:
    """With nobody and with a crowd of idle and of slow connections, in turns."""
    with machine() as made:
        made.start()
        crowds = [(0, 0), (idlers, slow)]
        found: list[list[Table]] = [[], []]
        for _ in range(rounds):
            for (quiet, dripping), tables in zip(crowds, found, strict=True):
                tables.append(asyncio.run(one_idle(made, quiet, dripping, calls)))
    return against(middle(found[0]), middle(found[1]), "alone", f"{idlers} idle, {slow} slow")
