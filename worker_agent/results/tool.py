"""Runs a tool that only reads, such as `xcresulttool`, with a deadline and a bound on its output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAX_OUTPUT = 256 << 20
MAX_SAID = 4096
SECONDS = 120.0
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What the tool wrote to stdout; `problem` tells why that is not whole (None if it is)."""

    data: bytes
    problem: str | None = None


def run_tool(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    seconds: float = SECONDS,
    max_bytes: int = MAX_OUTPUT,
    cwd: Path | None = None,
) -> ToolOutput:
    """Run to the end, to the deadline or to the bound; its whole process group is ended after that."""
    try:
        child = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return ToolOutput(b"", f"could not start: {getattr(error, 'strerror', None) or error}")
    with child:
        try:
            data, said, problem = _follow(child, time.monotonic() + seconds, max_bytes, seconds)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
    if problem is None and child.returncode != 0:
        words = said.decode(errors="replace").strip().splitlines() or [""]
        problem = f"ended with {child.returncode}: {words[-1][:300]}"
    return ToolOutput(data, problem)


def _follow(
    child: subprocess.Popen[bytes], deadline: float, max_bytes: int, seconds: float
) -> tuple[bytes, bytes, str | None]:
    """Read both outputs until they end; stdout, the last of stderr, and what cut it short."""
    out, err = child.stdout, child.stderr
    if out is None or err is None:
        return b"", b"", "has no output"
    data, said = bytearray(), bytearray()
    with selectors.DefaultSelector() as waiting:
        waiting.register(out, selectors.EVENT_READ)
        waiting.register(err, selectors.EVENT_READ)
        while waiting.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return bytes(data), bytes(said), f"took longer than {seconds:g} s"
            for key, _ in waiting.select(left):
                block = os.read(key.fd, _BLOCK)
                if not block:
                    waiting.unregister(key.fileobj)
                elif key.fileobj is out:
                    data += block
                else:
                    said = (said + block)[-MAX_SAID:]
            if len(data) > max_bytes:
                return bytes(data[:max_bytes]), bytes(said), f"wrote more than {max_bytes} bytes"
    try:
        child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return bytes(data), bytes(said), f"took longer than {seconds:g} s"
    return bytes(data), bytes(said), None
