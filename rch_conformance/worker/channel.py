"""One channel to a worker: a command's standard input and output, as an SSH forced command has them.

Every read and write has a deadline, whatever the other side does, and nothing is kept beyond a bound.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

from rch_conformance.checks import Broken

MOST_LINE_BYTES = 64 << 20
"""The longest answer, a `fetch` header (section 3.2)."""
_PIECE = 256 << 10
_SHOWN_ERROR_BYTES = 2000
_END_PATIENCE_SECONDS = 5.0


class Silence(Broken):
    """The worker neither answers nor ends its channel, and the time is up."""


class Channel:
    """A running command. `timeout` is how long one read may wait, in seconds."""

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        self.timeout = timeout
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`)
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise Broken(f"{command[0]} does not start: {error.strerror}") from error
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("a pipe was asked for")
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._in.fileno(), False)
        os.set_blocking(self._out.fileno(), False)
        self._buffer = bytearray()
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Silence):
            self.kill()  # who did not answer in time is not given more
        self.close()

    # --- writing --------------------------------------------------------------------------

    def send(self, data: bytes) -> bool:
        """Write all of it. False where the worker closed its end or answered before it took all."""
        rest, deadline = memoryview(data), time.monotonic() + self.timeout
        while rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silence(f"the worker takes no bytes for {self.timeout:g} s{self.said()}")
            readable, writable, _ = select.select([self._out], [self._in], [], left)
            if writable:
                try:
                    rest = rest[os.write(self._in.fileno(), rest[:_PIECE]) :]
                except BlockingIOError:
                    continue
                except OSError:
                    return False
            elif readable:
                return False
        return True

    def end_input(self) -> None:
        """Say that no request follows."""
        with contextlib.suppress(OSError):
            self._in.close()

    # --- reading --------------------------------------------------------------------------

    def line(self, timeout: float | None = None) -> bytes | None:
        """The next line without its newline; None at the end of the channel."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        scanned = 0
        while (at := self._buffer.find(b"\n", scanned)) < 0:
            if len(self._buffer) > MOST_LINE_BYTES:
                raise Broken(f"the worker sent over {MOST_LINE_BYTES} bytes without a newline")
            scanned = len(self._buffer)
            if not self._more(deadline):
                if self._buffer:
                    raise Broken(f"the channel ends within a line: {bytes(self._buffer[:200])!r}")
                return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        return line

    def body(self, size: int) -> bytes:
        """The next `size` bytes; fewer where the channel ends before."""
        deadline = time.monotonic() + self.timeout
        while len(self._buffer) < size:
            before = len(self._buffer)
            if not self._more(deadline):
                break
            if len(self._buffer) > before:  # as long as it goes on, it may take its time
                deadline = time.monotonic() + self.timeout
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def rest(self) -> bytes:
        """Everything up to the end of the channel."""
        deadline = time.monotonic() + self.timeout
        while self._more(deadline):
            if len(self._buffer) > MOST_LINE_BYTES:
                raise Broken("the worker does not stop sending")
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long, the end neither."""
        return not self._buffer and not select.select([self._out], [], [], seconds)[0]

    def _more(self, deadline: float) -> bool:
        """Read what is there; False at the end of the channel."""
        if self._ended:
            return False
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._out], [], [], left)[0]:
            raise Silence(f"nothing came from the worker in time{self.said()}")
        try:
            data = os.read(self._out.fileno(), _PIECE)
        except BlockingIOError:
            return True
        self._ended = not data
        self._buffer += data
        return bool(data)

    # --- ending ---------------------------------------------------------------------------

    def said(self) -> str:
        """What stands at the end of its standard error, for a message; empty where nothing does."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _SHOWN_ERROR_BYTES))
        text = self._stderr.read().decode("utf-8", "replace").strip()
        return f"; its standard error ends: {text}" if text else ""

    def exit_code(self) -> int:
        """The code with which the command ends by itself; `Silence` where it does not."""
        try:
            return self._process.wait(self.timeout)
        except subprocess.TimeoutExpired as error:
            raise Silence(f"the command does not end within {self.timeout:g} s") from error

    def kill(self) -> None:
        """End the command at once, as a lost connection would."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_END_PATIENCE_SECONDS)

    def close(self) -> None:
        """End it in an orderly way, or else at once. What it started in sessions of their own lives on."""
        self.end_input()
        with contextlib.suppress(OSError):
            self._out.close()
        try:
            self._process.wait(_END_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._stderr.close()
