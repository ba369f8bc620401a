"""A channel to a mock worker as a process, and the one job that its tests are about."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import msgspec
import zstandard
from support.worker_pipe import Pipe

from rch.contract.records import Job
from rch.contract.tar import Member
from rch.contract.tar_reader import Limits, TarReader
from rch.contract.worker_rpc import SubmitRequest
from rch.files.unzstd import bounded_reader
from rch_conformance.fixtures import golden

COMMAND = (sys.executable, "-m", "rch_conformance.mock")
TAR = golden.source_of(golden.PROJECTS["package"])
SUBMIT = golden.submit_of("package", "test")
JOB = SUBMIT.job.job_id


class MockPipe(Pipe):
    """One channel; `words` are the program's, after its state's place."""

    def __init__(self, state: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--state", str(state), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        super().__init__(self.process.stdin, self.process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.process.wait(30)

    def upload(self, tar: bytes, **members: Any) -> dict[str, Any]:
        """Send a source as it should be, but for `members`."""
        body = zstandard.ZstdCompressor().compress(tar)
        stream = {
            "content_length": len(body),
            "content_sha256": hashlib.sha256(body).hexdigest(),
            "compression": "zstd",
            "format": "tar",
        }
        payload = {"source_sha256": hashlib.sha256(tar).hexdigest(), "stream": stream, **members}
        return self.ask("upload_source", body, **payload)


def submitted(worker: MockPipe, submit: SubmitRequest = SUBMIT, **members: Any) -> dict[str, Any]:
    """Upload and submit."""
    worker.upload(TAR)
    return worker.ask("submit", **{**msgspec.to_builtins(submit), **members})


def submit_with(job: Job) -> dict[str, Any]:
    """The payload of a submit of that job."""
    invocation = msgspec.structs.replace(SUBMIT.invocation, job_key=job.job_key)
    made = msgspec.structs.replace(SUBMIT, job=job, invocation=invocation)
    return dict(msgspec.to_builtins(made))


def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The program from beginning to end."""
    return subprocess.run([*COMMAND, *words], input=stdin, capture_output=True, check=False, timeout=60)


def unpacked(body: bytes) -> dict[str, bytes]:
    """The files of a fetched set."""
    tar = bounded_reader(io.BytesIO(body), max_output=1 << 24).read()
    reader = TarReader(limits=Limits(max_entries=99, max_bytes=1 << 24), canonical=False)
    files: dict[str, bytes] = {}
    name = ""
    for event in reader.feed(tar):
        if isinstance(event, Member):
            name = event.path
            if event.kind == "file":
                files[name] = b""
        else:
            files[name] += bytes(event)
    return files
