"""Workers as child processes on pipes (transport `local`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, cast

import anyio
import structlog

from rch.contract.errors import Failure, Kind
from rchd.edges.channels import LineCut, PacedChannel
from rchd.edges.exhaustion import is_exhausted

log = structlog.get_logger("rchd.worker")

_STDIN, _STDOUT, _STDERR = 0, 1, 2
# At its stdin's end a worker ends by itself, unless it holds a tail; it keeps nothing in memory.
_EOF_GRACE, _SIGNAL_GRACE = 0.5, 2.0
# Shorter than a channel's own deadline, so that the reason is told and not the silence.
PATIENCE_SECONDS = 10.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0
EXHAUSTED_HINT = "this machine is short of processes or file descriptors: see ulimit -u and ulimit -n"


class LocalTransport:
    """Starts `command` once per channel; `env` None passes this process's own environment on.

    Each child has a session of its own, so that a terminal's Ctrl-C reaches the daemon alone.
    """

    def __init__(
        self, command: tuple[str, ...], env: Mapping[str, str] | None = None, *, host: str = "localhost"
    ) -> None:
        self._command = command
        self._env = None if env is None else dict(env)
        self._host = host
        self._open: set[LocalChannel] = set()

    @property
    def host(self) -> str:
        """See `Transport`."""
        return self._host

    async def open(self) -> LocalChannel:
        """Start a child; `Failure` SSH / UNREACHABLE when it cannot be started.

        Where this machine has no process or descriptor left, that is waited for (fault H13).
        """
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + PATIENCE_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._start()
            except (OSError, RuntimeError) as error:
                if not is_exhausted(error):
                    raise self._not_started(error) from error
                log.warning("worker.not_started", error=str(error), command=self._command[0])
                if loop.time() + pause > until:
                    raise self._not_started(error, hint=EXHAUSTED_HINT) from error
            await anyio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _start(self) -> LocalChannel:
        _, channel = await asyncio.get_running_loop().subprocess_exec(
            lambda: LocalChannel(self._open), *self._command, env=self._env, start_new_session=True
        )
        return channel

    def _not_started(self, error: OSError | RuntimeError, hint: str | None = None) -> Failure:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        return Failure(
            Kind.SSH,
            f"cannot start the worker command {self._command[0]!r}: {why}",
            subkind="UNREACHABLE",
            hint=hint,
        )

    async def close(self) -> None:
        """End every child and wait for each."""
        while self._open:
            await next(iter(self._open)).close()


class LocalChannel(PacedChannel, asyncio.SubprocessProtocol):
    """The pipes of one child process."""

    def __init__(self, registry: set[LocalChannel]) -> None:
        super().__init__()
        self._registry = registry
        self._process: asyncio.SubprocessTransport | None = None

    # --- asyncio's callbacks --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The child runs."""
        self._process = cast("asyncio.SubprocessTransport", transport)
        self._registry.add(self)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Bytes of stdout or stderr."""
        if fd == _STDERR:
            self._stderr.feed(data)
        else:
            self._arrived(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A pipe is at its end."""
        del exc
        if fd == _STDOUT:
            self._ended()
        elif fd == _STDIN:
            self._may_write.set()

    def process_exited(self) -> None:
        """The child is reaped."""
        self._finished(None if self._process is None else self._process.get_returncode())
        self._may_write.set()

    # --- Channel --------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The child's process id."""
        return -1 if self._process is None else self._process.get_pid()

    async def send(self, data: bytes) -> None:
        """See `Channel`."""
        stdin = self._pipe(_STDIN)
        if stdin is None or stdin.is_closing() or self._exited.is_set():
            raise LineCut("the worker process reads no more")
        stdin.write(data)
        await self._may_write.wait()
        if stdin.is_closing():
            raise LineCut("the worker process reads no more")

    async def send_eof(self) -> None:
        """See `Channel`."""
        stdin = self._pipe(_STDIN)
        if stdin is not None and not stdin.is_closing():
            stdin.close()

    async def close(self) -> None:
        """Close the pipes, give the child a moment to end by itself, then end it and reap it."""
        process = self._process
        if process is None:
            return
        with anyio.CancelScope(shield=True):
            await self.send_eof()
            await self.exit_status(_EOF_GRACE)
            for end in (process.terminate, process.kill):
                if not self._exited.is_set():
                    with contextlib.suppress(ProcessLookupError):
                        end()
                    await self.exit_status(_SIGNAL_GRACE)
            process.close()
            self._ended()
            self._registry.discard(self)

    def _pause_source(self) -> None:
        stdout = self._pipe(_STDOUT)
        if stdout is not None and not stdout.is_closing():
            stdout.pause_reading()

    def _resume_source(self) -> None:
        stdout = self._pipe(_STDOUT)
        if stdout is not None and not stdout.is_closing():
            stdout.resume_reading()

    def _pipe(self, fd: int) -> Any:
        return None if self._process is None else self._process.get_pipe_transport(fd)
