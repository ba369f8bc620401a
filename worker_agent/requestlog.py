"""The worker's own log: one JSON line a request, never on the standard output (spec section 3.1)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from rch.contract.redact import scrub
from worker_agent.clock import now

_MOST_BYTES = 16 << 20
_MOST_COMMAND = 400


class RequestLog:
    """Appends to the log; a log that cannot be written stops nothing.

    The command that an SSH client asked for stands in the first line of its channel: it is
    noted and otherwise ignored.
    """

    def __init__(self, path: Path, env: Mapping[str, str]) -> None:
        self._path = path
        self._fd: int | None = None
        self._command = env.get("SSH_ORIGINAL_COMMAND")

    def write(self, op: str, request_id: str | None, outcome: str, began: float) -> None:
        """Note one request; `began` is in seconds of `time.monotonic`."""
        line = {
            "at": now(),
            "pid": os.getpid(),
            "op": op,
            "request_id": request_id,
            "outcome": outcome,
            "ms": round((time.monotonic() - began) * 1000, 2),
        }
        if self._command is not None:
            line["ssh_original_command"], self._command = scrub(self._command)[:_MOST_COMMAND], None
        self._append(msgspec.json.encode(line) + b"\n")

    def trace(self, error: Exception) -> None:
        """Note what a defect left behind; the caller is told none of it."""
        import traceback

        text = scrub("".join(traceback.format_exception(error)))
        self._append(msgspec.json.encode({"at": now(), "pid": os.getpid(), "trace": text}) + b"\n")

    def _append(self, data: bytes) -> None:
        with suppress(OSError):
            if self._fd is None:
                self._fd = self._open()
            os.write(self._fd, data)

    def _open(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if self._path.stat().st_size > _MOST_BYTES:
                self._path.replace(self._path.with_suffix(".log.1"))
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
