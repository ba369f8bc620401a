"""`ssh` and `status`: the line itself, and a question on a standing channel, against OpenSSH's client."""

from __future__ import annotations

import os
from pathlib import Path

from ours import Ours, now, ours
from table import MILLI, Figure, Found, clocked, in_turns, percentile
from theirs import Loopback, loopback, run

from rch.contract.worker_rpc import JobRequest
from rchd.edges.ssh_transport import SshTarget, SshTransport
from rchd.edges.transfers import Patience, Piece, send_piece
from rchd.edges.wire import MAX_ANSWER, Wire

MEGA = 1_000_000
BULK_GOAL, STATUS_GOAL_MS = 0.75, 0.2
SINK = "cat > /dev/null; echo {}"
_PATIENCE = Patience(call=60, stall=60, digest=600)


def ssh(rounds: int, *, quick: bool) -> list[Found]:
    """Incompressible bytes to a sink: the loop of our uploads against `ssh host 'cat > /dev/null'`."""
    size = (4 if quick else 256) << 20
    with (
        loopback() as around,
        ours(around) as we,
        around.master() as master,
        around.master("default", None) as default,
    ):
        body = around.root / "bytes"
        _fill(body, size)
        transport = _to_sink(around)
        try:
            taken = in_turns(
                rounds,
                {
                    "ours": lambda _: we_pour(we, transport, body, size),
                    "same": lambda _: they_pour(around, master, body),
                    "default": lambda _: they_pour(around, default, body),
                },
            )
        finally:
            we.run(transport.close())
    rates = {name: [size / MEGA / (ms / MILLI) for ms in values] for name, values in taken.items()}
    return [
        Figure(
            name=f"ssh, {size >> 20} MiB; theirs {name}",
            unit="MB/s",
            ours=rates["ours"],
            theirs=rates[side],
            goal=BULK_GOAL if side == "same" and not quick else None,
            higher=True,
        )
        for side, name in (("same", "aes128-gcm too"), ("default", "with its default cipher"))
    ]


def _fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))


def _to_sink(around: Loopback) -> SshTransport:
    """A transport like a worker's, with a key whose command is the sink."""
    server = around.server
    return SshTransport(
        SshTarget(
            name="sink",
            host=server.host,
            port=server.port,
            user=server.user,
            key_path=around.authorize("sink", SINK),
            fingerprint=server.fingerprints["ed25519"],
        )
    )


def we_pour(we: Ours, transport: SshTransport, body: Path, size: int) -> float:
    """Milliseconds from the opening of a channel to the sink's answer."""

    async def pour() -> None:
        wire = Wire(await transport.open(), "sink", max_line=MAX_ANSWER)
        try:
            await send_piece(wire, b"\n", Piece(body, 0, size, size), _PATIENCE)
        finally:
            await wire.close()

    return clocked(lambda: we.run(pour()))


def they_pour(around: Loopback, master: str, body: Path) -> float:
    """The same over a ControlMaster."""
    with body.open("rb") as file:
        return clocked(
            lambda: run([*around.ssh(master=master), around.host, "cat > /dev/null"], stdin=file)
        )


def status(rounds: int, *, quick: bool) -> list[Found]:
    """`status` of a job that is over, on the standing channel, against `ssh host true`."""
    calls = 20 if quick else 200
    with loopback() as around, ours(around) as we, around.master() as master:
        job_id = a_job(around)
        ask = [*around.ssh(master=master), around.host, "true"]
        taken = in_turns(
            rounds,
            {
                "ours": lambda _: we.run(_asked(we, job_id, calls)),
                "theirs": lambda _: percentile(
                    [clocked(lambda: run(ask)) for _ in range(calls // 10)], 0.5
                ),
            },
        )
    return [
        Figure(
            name="status, p50 of a call; theirs an exec of `true`",
            ours=taken["ours"],
            theirs=taken["theirs"],
            goal=None if quick else STATUS_GOAL_MS,
            absolute=True,
        )
    ]


async def _asked(we: Ours, job_id: str, calls: int) -> float:
    request, waits = JobRequest(job_id=job_id), []
    for _ in range(calls):
        began = now()
        await we.client.status(request)
        waits.append(now() - began)
    return percentile(waits, 0.5)


def a_job(around: Loopback) -> str:
    """The id of a job that is over at the worker."""
    done = around.user.json("run", "--action", "build", cwd=around.user.project())
    return str(done["data"]["steps"][0]["job_id"])
