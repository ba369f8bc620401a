"""A user's machine in a folder: a real `rchd`, a worker whose one slot is taken, a long queue, clients.

What a queue holds is what intake made of a real project; it is written as a daemon writes it, but for
the syncs, which would take minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from rch.contract.local_api import SubmitParams
from rch.files.paths import HostPaths, host_paths
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.edges.core_rows import rows_of
from rchd.edges.intake import Intake
from rchd.edges.store import SqliteStore

ORIGINS = 5
_SWIFT = """#!/bin/sh
echo 'Swift version 6.0.1 (swift-6.0.1-RELEASE)'
"""
_LONG = 6 * 86_400


@dataclass
class Machine:
    """One user, their places, and the daemon that serves them now."""

    root: Path
    env: dict[str, str]
    paths: HostPaths
    project: Path
    daemon: subprocess.Popen[bytes] | None = None

    def start(self, *argv: str) -> float:
        """Start `rchd run`, or another daemon; the moment (monotonic, seconds) before its exec."""
        with (self.root / "rchd.log").open("ab") as log:
            began = time.monotonic()
            self.daemon = subprocess.Popen(
                [sys.executable, *(argv or ("-m", "rchd", "run"))],
                env=self.env,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return began

    def kill(self) -> None:
        """End the daemon as the power does."""
        if self.daemon is not None:
            with suppress(ProcessLookupError):
                self.daemon.send_signal(signal.SIGKILL)
            self.daemon.wait()

    @property
    def processor(self) -> float:
        """The processor's time that the daemon has used, in seconds: the neighbours do not count."""
        assert self.daemon is not None  # noqa: S101  (a rig's own misuse)
        fields = Path(f"/proc/{self.daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss(self) -> int:
        """The daemon's memory now, in bytes."""
        return self._memory("VmRSS")

    @property
    def peak(self) -> int:
        """The most that it ever took, in bytes."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        assert self.daemon is not None  # noqa: S101  (a rig's own misuse)
        for line in Path(f"/proc/{self.daemon.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self.daemon.pid)

    async def client(self, within: float = 60.0) -> Client:
        """A greeted connection, as soon as somebody listens."""
        deadline = time.monotonic() + within
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self.paths.socket, limit=256 << 20)
            except OSError:
                if time.monotonic() > deadline or (self.daemon and self.daemon.poll() is not None):
                    raise
                await asyncio.sleep(0.002)
            else:
                return Client(reader, writer)


@contextmanager
def machine() -> Iterator[Machine]:
    """A machine whose only worker has no slot free: what is accepted stays in the queue."""
    with tempfile.TemporaryDirectory(prefix="rch-") as name:
        root = Path(name)
        env = {
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            "HOME": name,
            "LANG": "C.UTF-8",
            "RCH_HOME": str(root / "home"),
            "RCH_WORKER_HOME": str(root / "worker"),
            "RCH_SOCKET": str(root / "s"),
        }
        made = Machine(root, env, host_paths(env), _project(root / "project"))
        _worker(root / "worker", root / "toolchain", env)
        try:
            yield made
        finally:
            made.kill()


def _project(root: Path) -> Path:
    root.mkdir()
    (root / "Package.swift").write_text("// swift-tools-version: 5.9\n")
    for number in range(20):
        (root / f"File{number}.swift").write_text(f"let number{number} = {number}\n")
    return root


def _worker(home: Path, toolchain: Path, env: dict[str, str]) -> None:
    """Its toolchain, and a lease of somebody else's on its one slot."""
    swift = toolchain / "bin" / "swift"
    swift.parent.mkdir(parents=True)
    swift.write_text(_SWIFT)
    swift.chmod(0o755)
    (home / "config").mkdir(parents=True)
    (home / "config" / "worker.toml").write_text(f'swift = "{toolchain}"\n')
    payload = {"run_id": "somebody-elses", "host_id": "another-host", "ttl_seconds": _LONG}
    request = {"protocol_version": 1, "op": "reserve", "request_id": "benchmark-0001", "payload": payload}
    done = subprocess.run(
        [sys.executable, "-m", "worker_agent", "xcode", "rpc"],
        input=json.dumps(request).encode() + b"\n",
        env=env,
        capture_output=True,
        check=True,
    )
    if not json.loads(done.stdout)["ok"]:
        raise RuntimeError(done.stdout.decode())


def fill_queue(made: Machine, many: int) -> list[str]:
    """Let `many` runs wait, from several origins; their ids in the order of their turns."""
    params = SubmitParams(start=str(made.project))
    first = asyncio.run(Intake(made.paths).take(params))
    manifest = (made.paths.artifacts / first.run_id / "source_manifest.json").read_bytes()
    shutil.rmtree(made.paths.artifacts / first.run_id)
    core, effects = Core(str(made.paths.artifacts)), list[fx.Effect]()
    for number in range(many):
        ids = [f"{number:08d}-{index}-{step.job_id}" for index, step in enumerate(first.steps)]
        accepted = msgspec.structs.replace(
            first,
            run_id=f"{number:08d}-{first.run_id}",
            origin=f"origin-{number % 11 % ORIGINS}",
            steps=tuple(
                msgspec.structs.replace(step, job_id=job_id)
                for step, job_id in zip(first.steps, ids, strict=True)
            ),
        )
        effects += core.handle(ev.RunAccepted(at=time.time(), accepted=accepted))
        folder = made.paths.artifacts / accepted.run_id
        folder.mkdir()
        (folder / "source_manifest.json").write_bytes(manifest)
    store = SqliteStore.open(made.paths.database)
    try:
        store.commit(rows_of(core.take_dirty(), effects))
    finally:
        store.close()
    for effect in effects:
        if isinstance(effect, fx.WriteRecord):
            (made.paths.artifacts / effect.path).write_bytes(effect.data)
    return [run.run_id for run in core._queue.order()]  # noqa: SLF001  (nothing else tells all of it)


class Client:
    """One connection: calls are answered in their order, news are kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.news = 0
        self.bytes = 0
        self.kinds: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def greet(self) -> Self:
        """Say hello, and read from now on."""
        self._task = asyncio.create_task(self._read())
        await self.call("hello", {"client": "benchmark", "version": "1"})
        return self

    async def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request and its result."""
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params or {}}
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._number] = future
        self._writer.write(json.dumps(request).encode() + b"\n")
        answer = await future
        if "result" not in answer:
            raise RuntimeError(answer)
        result: dict[str, Any] = answer["result"]
        return result

    async def _read(self) -> None:
        while line := await self._reader.readline():
            self.bytes += len(line)
            # News are counted, not decoded: two hundred readers share this processor with the daemon.
            if line.startswith(b'{"jsonrpc":"2.0","method"'):
                self.news += 1
                continue
            answer = msgspec.json.decode(line)
            self._answers.pop(answer["id"]).set_result(answer)

    def stop_reading(self) -> None:
        """Read nothing from now on."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        transport = self._writer.transport
        if isinstance(transport, asyncio.ReadTransport):
            transport.pause_reading()

    def close(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
        self._writer.close()


@asynccontextmanager
async def greeted(made: Machine) -> AsyncIterator[Client]:
    """A greeted client, gone at the end."""
    client = await (await made.client()).greet()
    try:
        yield client
    finally:
        client.close()
