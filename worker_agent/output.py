"""The way of a phase's bytes: secrets out, into the log, read for what they say (spec section 11)."""

from __future__ import annotations

from collections.abc import Mapping

from worker_agent.buildfiles import BuildLog, EventFile
from worker_agent.masking import StreamMask
from worker_agent.model import EndedByUs
from worker_agent.results.buildlog import LogReader
from worker_agent.results.logfacts import Happening

_LAST_BYTES = 2000


class JobOutput:
    """What one process of a job prints; `env` is what it was started with."""

    def __init__(self, log: BuildLog, events: EventFile, reader: LogReader, env: Mapping[str, str]) -> None:
        self._log = log
        self._events = events
        self._reader = reader
        self._last = b""
        self._mask = StreamMask(env)

    @property
    def last_line(self) -> str:
        """The last line that says something."""
        lines = [line.strip() for line in self._last.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def take(self, data: bytes) -> None:
        """Bytes as they come from the pipe; they are in the log on return."""
        self._write(self._mask.feed(data))

    def close(self, ended: EndedByUs | None) -> None:
        """The end of the phase; the log of a job that we ended says so itself."""
        self._write(self._mask.flush(), final=True)
        self._happened(self._reader.end())
        if ended is not None:
            self._log.write(f"\n[rch-worker: the job was ended: {ended.reason}]\n".encode(), final=True)

    def _write(self, data: bytes, *, final: bool = False) -> None:
        text = self._log.write(data, final=final)
        self._last = (self._last + text)[-_LAST_BYTES:]
        self._happened(self._reader.feed(text))

    def _happened(self, found: list[Happening]) -> None:
        for happening in found:
            self._events.write(happening.type, happening.data)
