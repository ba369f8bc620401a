"""One channel to a worker: a command's standard input and output, as an SSH forced command has them.

Every read and write has a deadline, whatever the other side does, and nothing is kept beyond a bound.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from rch_conformance.checks import Broken
from rch_conformance.worker.stderr import LastWords

MOST_LINE_BYTES = 64 << 20
"""The longest answer, a `fetch` header (section 3.2)."""
_PIECE = 256 << 10
END_PATIENCE_SECONDS = 5.0
"""How long a command may go on after the end of its input, before it is killed."""
_KILLED_SECONDS = 5.0
_LAST_WORDS_SECONDS = 0.5
_LOOK_SECONDS = 0.05


class HasFileno(Protocol):
    """What `select` takes."""

    def fileno(self) -> int:
        """Its descriptor."""


class Silence(Broken):
    """The worker neither answers nor ends its channel, and the time is up."""


class Channel:
    """A running command. `timeout` is how long one read may wait, in seconds.

    When it is closed, a command that does not end by itself within `patience` seconds is killed, and
    `on_stubborn` called. `on_send` is called with each piece before it is written.
    """

    def __init__(
        self,
        command: Sequence[str],
        timeout: float,
        *,
        patience: float = END_PATIENCE_SECONDS,
        on_stubborn: Callable[[], None] = lambda: None,
        on_send: Callable[[bytes], None] = lambda _data: None,
    ) -> None:
        self.timeout = timeout
        self._on_send = on_send
        self.patience = patience
        self._on_stubborn = on_stubborn
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise Broken(f"{command[0]} does not start: {error.strerror}") from error
        if not (self._process.stdin and self._process.stdout and self._process.stderr):
            raise AssertionError("pipes were asked for")
        self._in, self._out = self._process.stdin, self._process.stdout
        self._err = LastWords(self._process.stderr)
        os.set_blocking(self._in.fileno(), False)
        os.set_blocking(self._out.fileno(), False)
        self._buffer = bytearray()
        self._ended = self._killed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Silence) or (error is not None and not isinstance(error, Exception)):
            self.kill()  # who did not answer in time is not given more, nor is there time at an interrupt
        self.close()

    # --- writing --------------------------------------------------------------------------

    def send(self, data: bytes) -> bool:
        """Write all of it. False where the worker closed its end or answered before it took all."""
        self._on_send(data)
        rest, deadline = memoryview(data), time.monotonic() + self.timeout
        while rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silence(f"the worker takes no bytes for {self.timeout:g} s{self.said()}")
            readable, writable = self._wait(left, to_write=True)
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
        seconds = self.timeout if timeout is None else timeout
        deadline, scanned = time.monotonic() + seconds, 0
        while (at := self._buffer.find(b"\n", scanned)) < 0:
            if len(self._buffer) > MOST_LINE_BYTES:
                raise Broken(f"the worker sent over {MOST_LINE_BYTES} bytes without a newline")
            scanned = len(self._buffer)
            if not self._more(deadline, seconds):
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
            if not self._more(deadline, self.timeout):
                break
            if len(self._buffer) > before:  # as long as it goes on, it may take its time
                deadline = time.monotonic() + self.timeout
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def rest(self) -> bytes:
        """Everything up to the end of the channel."""
        deadline = time.monotonic() + self.timeout
        while self._more(deadline, self.timeout):
            if len(self._buffer) > MOST_LINE_BYTES:
                raise Broken("the worker does not stop sending")
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long, the end neither."""
        return not self._buffer and not self._wait(seconds)[0]

    def _more(self, deadline: float, seconds: float) -> bool:
        """Read what is there; False at the end of the channel. `seconds` are what the deadline allowed."""
        if self._ended:
            return False
        left = deadline - time.monotonic()
        if left <= 0 or not self._wait(left)[0]:
            raise Silence(f"nothing came from the worker within {seconds:g} s{self.said()}")
        try:
            data = os.read(self._out.fileno(), _PIECE)
        except BlockingIOError:
            return True
        self._ended = not data
        self._buffer += data
        return bool(data)

    def _wait(self, seconds: float, *, to_write: bool = False) -> tuple[bool, bool]:
        """Whether there is something to read, and room to write; its standard error is read meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            heard: list[HasFileno] = [self._out] if self._err.ended else [self._out, self._err]
            left = max(0.0, deadline - time.monotonic())
            readable, writable, _ = select.select(heard, [self._in] if to_write else [], [], left)
            if self._err in readable:
                self._err.drain()
            if self._out in readable or writable or not left:
                return self._out in readable, bool(writable)

    # --- ending ---------------------------------------------------------------------------

    def said(self) -> str:
        """What stands at the end of its standard error, for a message; empty where nothing does."""
        self._err.drain()
        text = self._err.text()
        return f"; its standard error ends: {text}" if text else ""

    def ending(self) -> str:
        """How the command ended and what it said last, for a message about a channel that is over."""
        if self._killed or not self.ends_within(_LAST_WORDS_SECONDS):
            return f"; its command did not end by itself{self.said()}"
        code = self._process.wait()
        how = f"exits with {code}" if code >= 0 else f"is ended by signal {-code}"
        return f"; its command {how}{self.said()}"

    def exit_code(self) -> int:
        """The code with which the command ends by itself; `Silence` where it does not."""
        if not self.ends_within(self.timeout):
            raise Silence(f"the command does not end within {self.timeout:g} s")
        return self._process.wait()

    def ends_within(self, seconds: float) -> bool:
        """Whether the command ends by itself in this time."""
        deadline, pause = time.monotonic() + seconds, 0.001
        while self._process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            pause = min(2 * pause, _LOOK_SECONDS)
            if not self._err.ended and select.select([self._err], [], [], min(pause, left))[0]:
                self._err.drain()
            elif self._err.ended:
                time.sleep(min(pause, left))
        return True

    def kill(self) -> None:
        """End the command at once, as a lost connection would."""
        self._killed = self._process.poll() is None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_KILLED_SECONDS)

    def close(self) -> None:
        """End it in an orderly way, or else at once. What it started in sessions of their own lives on."""
        self.end_input()
        with contextlib.suppress(OSError):
            self._out.close()
        try:
            if not self.ends_within(self.patience):
                self._on_stubborn()
                self.kill()
        finally:
            self._err.close()
