"""A client of a scripted worker, and what became of the worker's processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support import fake_worker

from rch.contract.errors import Failure
from rch.contract.worker_rpc import (
    Stream,
    UploadRequest,
)
from rchd.edges.local import LocalTransport
from rchd.edges.worker_client import Deadlines, WorkerClient

QUICK = Deadlines(connect=60, probe=60, call=60, stall=60, digest=60, tail_grace=60)


class Fake:
    """A client of a scripted worker, and what became of the worker's processes."""

    def __init__(self, log: Path, scenario: str, *arguments: str, deadlines: Deadlines = QUICK) -> None:
        self.log = log
        env = {**os.environ, "FAKE_WORKER_LOG": str(log)}
        self.transport = LocalTransport(fake_worker.command(scenario, *arguments), env)
        self.client = WorkerClient("mini", self.transport, deadlines=deadlines)

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []

    @property
    def living(self) -> list[int]:
        return [pid for pid in self.pids if Path(f"/proc/{pid}").exists()]


@asynccontextmanager
async def fake(
    tmp_path: Path, scenario: str = "honest", *arguments: str, deadlines: Deadlines = QUICK
) -> AsyncIterator[Fake]:
    it = Fake(tmp_path / "started", scenario, *arguments, deadlines=deadlines)
    try:
        yield it
    finally:
        await it.client.close()
    assert it.living == []


async def refused(call: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


def upload_of(path: Path, size: int = 1 << 20) -> UploadRequest:
    body = os.urandom(size)
    path.write_bytes(body)
    digest = hashlib.sha256(body).hexdigest()
    return UploadRequest(source_sha256=digest, stream=Stream(content_length=size, content_sha256=digest))
