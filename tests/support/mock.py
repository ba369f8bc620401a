"""A channel to a mock worker as a process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import zstandard
from support.worker_pipe import Pipe

COMMAND = (sys.executable, "-m", "rch_conformance.mock")


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
