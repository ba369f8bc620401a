"""`client`: what a call of `rchctl`, a request and a follower cost, beside the least there could be."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from rig import Machine, machine
from table import MILLI, Figure, Found, in_turns, percentile

RATIO_GOAL, TRIP_GOAL, CROWD_GOAL, RATE_GOAL, LOG_GOAL = 2.0, 0.2, 1.0, 60_000.0, 3.0
CLIENTS, AT_ONCE, PAUSE_SECONDS = 50, 32, 0.02
FOLLOWERS, LOG_BYTES = 10, 100 << 20
_ROUNDS_EACH = 3  # a start is short: so many more rounds than asked for
_CAT, _WC = (shutil.which(name) or name for name in ("cat", "wc"))
_HEALTH = b'{"jsonrpc":"2.0","id":1,"method":"daemon.health","params":{}}\n'
_FOLLOW = textwrap.dedent("""
    import os, sys
    from rchctl.console import Console
    from rchctl.logs import Logs
    step = {"job_id": "job-00000001", "action": "build", "log_path": sys.argv[1]}
    Logs(Console(os.environ)).finish({"steps": [step]})
""")


def client(rounds: int, *, quick: bool) -> list[Found]:
    """Starts, requests, and a log."""
    many = 1 if quick else rounds * _ROUNDS_EACH
    with machine() as made:
        made.start()
        asyncio.run(_there(made))
        found: list[Found] = [_started(made, many, "status", quick=quick)]
        found += _requests(made, rounds, quick=quick)
        found += [_log(made, rounds, quick=quick), _started(made, many, "submit", quick=quick)]
        return found


async def _there(made: Machine) -> None:
    (await made.client()).close()


def _started(made: Machine, rounds: int, verb: str, *, quick: bool) -> Figure:
    """A whole process, from its start to its end."""
    program = str(Path(sys.executable).with_name("rchctl"))
    taken = in_turns(
        rounds,
        {
            "ours": lambda _: _timed(made, [program, verb]),
            "theirs": lambda _: _timed(made, [sys.executable, "-c", "pass"]),
        },
    )
    goal = None if quick else RATIO_GOAL
    return Figure(name=f"client, rchctl {verb}; theirs python -c pass", goal=goal, **taken)


def _timed(made: Machine, argv: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(argv, env=made.env, cwd=made.project, capture_output=True, check=True)
    return (time.monotonic() - began) * MILLI


def _requests(made: Machine, rounds: int, *, quick: bool) -> list[Found]:
    number = 200 if quick else 5000
    trips = [percentile(_trips(made, number), 0.5) for _ in range(rounds)]
    paced, rates = [], []
    for _ in range(rounds):
        paced.append(percentile(asyncio.run(_crowd(made, 10 if quick else 100)), 0.99))
        rates.append(asyncio.run(_flood(made, number)))
    return [
        Figure(
            name="client, p50 of a request",
            ours=trips,
            goal=None if quick else TRIP_GOAL,
            absolute=True,
        ),
        Figure(
            name=f"client, p99 of {CLIENTS} clients",
            ours=paced,
            goal=None if quick else CROWD_GOAL,
            absolute=True,
            note=f"each asks every {PAUSE_SECONDS * MILLI:.0f} ms; the clients are one Python process",
        ),
        Figure(
            name=f"client, requests of {CLIENTS} clients",
            unit="1/s",
            ours=rates,
            goal=None if quick else RATE_GOAL,
            absolute=True,
            higher=True,
            note=f"{AT_ONCE} under way each; a half of the machine goes to the clients",
        ),
    ]


def _trips(made: Machine, number: int) -> list[float]:
    """Milliseconds of one request after another, on one connection."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(made.paths.socket))
        taken = []
        for _ in range(number):
            began = time.perf_counter()
            sock.sendall(_HEALTH)
            while not sock.recv(1 << 16).endswith(b"\n"):
                pass
            taken.append((time.perf_counter() - began) * MILLI)
    return taken


async def _crowd(made: Machine, number: int) -> list[float]:
    """Milliseconds of the requests of many clients that take their time."""
    taken: list[float] = []

    async def one(at: int) -> None:
        reader, writer = await asyncio.open_unix_connection(made.paths.socket)
        await asyncio.sleep(PAUSE_SECONDS * at / CLIENTS)
        for _ in range(number):
            began = time.perf_counter()
            writer.write(_HEALTH)
            await reader.readline()
            taken.append((time.perf_counter() - began) * MILLI)
            await asyncio.sleep(PAUSE_SECONDS)
        writer.close()

    await asyncio.gather(*(one(at) for at in range(CLIENTS)))
    return taken


class _Asker(asyncio.Protocol):
    """Keeps so many requests under way until it has its answers."""

    def __init__(self, number: int, done: asyncio.Event) -> None:
        self._left, self._asked, self._done = number, 0, done
        self._number = number

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (a socket's)
        self._transport = transport
        self._ask(min(AT_ONCE, self._number))

    def _ask(self, count: int) -> None:
        self._asked += count
        if count:
            self._transport.write(_HEALTH * count)

    def data_received(self, data: bytes) -> None:
        answered = data.count(b"\n")
        self._left -= answered
        self._ask(min(answered, self._number - self._asked))
        if self._left <= 0:
            self._done.set()
            self._transport.close()


async def _flood(made: Machine, number: int) -> float:
    """Requests a second."""
    each = max(number * 10 // CLIENTS, AT_ONCE)
    events = [asyncio.Event() for _ in range(CLIENTS)]
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    for event in events:
        await loop.create_unix_connection(lambda event=event: _Asker(each, event), str(made.paths.socket))
    for event in events:
        await event.wait()
    return each * CLIENTS / (time.monotonic() - began)


def _log(made: Machine, rounds: int, *, quick: bool) -> Figure:
    """A long log to ten readers, each by a pipe of its own: the socket has no part in it."""
    path = made.root / "live.log"
    line = json.dumps({"text": "[12/345] Compiling App Main.swift" * 3}).encode() + b"\n"
    path.write_bytes(line * ((LOG_BYTES // 20 if quick else LOG_BYTES) // len(line)))
    ours = [sys.executable, "-c", _FOLLOW, str(path)]
    taken = in_turns(
        rounds,
        {
            "ours": lambda _: _followed(made, ours),
            "theirs": lambda _: _followed(made, [_CAT, str(path)]),
        },
    )
    return Figure(
        name=f"client, a log to {FOLLOWERS} readers; theirs cat",
        goal=None if quick else LOG_GOAL,
        note="the reading of a follower alone: what the socket tells of growth is in `tail`",
        **taken,
    )


def _followed(made: Machine, argv: list[str]) -> float:
    began = time.monotonic()
    pairs = []
    for _ in range(FOLLOWERS):
        writer = subprocess.Popen(argv, env=made.env, stdout=subprocess.PIPE)
        reader = subprocess.Popen([_WC, "-c"], stdin=writer.stdout, stdout=subprocess.DEVNULL)
        assert writer.stdout is not None  # noqa: S101  (it was asked for)
        writer.stdout.close()
        pairs += [writer, reader]
    codes = [process.wait() for process in pairs]
    if any(codes):
        raise RuntimeError(f"{argv[0]} failed")
    return (time.monotonic() - began) * MILLI
