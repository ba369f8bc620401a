"""Runs one phase of a job in a group of its own, and is certain of the group's end (section 11).

The tool's output comes through one pipe and is handed on as it comes. A phase is over when its
direct child has ended and the pipe is closed; a grandchild that keeps the pipe open is given a
moment and then ended with the whole group.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from worker_agent.model import EndedByUs, Phase, PhaseExit
from worker_agent.processes import Group, members, send, send_group

_PIECE = 64 << 10
_LOOK_SECONDS = 0.02
_LINGER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Rules:
    """How a phase is watched and ended.

    `look` says why the job is to end, if it is; it is asked every few milliseconds. `idle` is
    the longest silence and `grace` the time from INT to TERM and from TERM to KILL, in seconds.
    """

    look: Callable[[], EndedByUs | None]
    idle: float
    grace: float


class PhaseRunner:
    """One phase from its start to its end."""

    def __init__(
        self, phase: Phase, env: Mapping[str, str], rules: Rules, output: Callable[[bytes], None]
    ) -> None:
        self.ended: EndedByUs | None = None
        self._phase = phase
        self._env = {**env, **dict(phase.env)}
        self._rules = rules
        self._output = output
        self._began = time.monotonic()
        self._heard = self._began

    def run(self, record: Callable[[], None], recorded: Callable[[], Group | None]) -> PhaseExit:
        """Run it. The child calls `record` once it leads its group, before the tool begins.

        Whatever is raised meanwhile, the direct child has ended on return; `recorded` gives what
        the child wrote, to end the rest by.
        """
        reading, writing = os.pipe()
        try:
            child = self._start(writing, record)
        except (OSError, subprocess.SubprocessError) as error:
            os.close(reading)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return self._exit(None, f"{os.path.basename(self._phase.argv[0])}: {reason}")  # noqa: PTH119  (a word)
        finally:
            os.close(writing)
        try:
            self._follow(child, reading, recorded())
        finally:
            if child.poll() is None:
                send_group(child.pid, signal.SIGKILL)
                child.wait()
            os.close(reading)
        return self._exit(child.returncode, None)

    def _start(self, writing: int, record: Callable[[], None]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._phase.argv,
            cwd=self._phase.cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
            # A group that is not on record must not begin to work. This process has one thread.
            preexec_fn=record,  # noqa: PLW1509
        )

    def _follow(self, child: subprocess.Popen[bytes], reading: int, group: Group | None) -> None:
        os.set_blocking(reading, False)
        poller = select.poll()
        poller.register(reading, select.POLLIN)
        ladder = _Ladder(child, group, self._rules.grace)
        open_, ended_at = True, 0.0
        while True:
            if not open_:
                _wait(child, _LOOK_SECONDS)
            elif poller.poll(_LOOK_SECONDS * 1000):
                open_ = self._read(reading)
            now = time.monotonic()
            if child.poll() is not None:
                ended_at = ended_at or now
                if not open_ or now - ended_at > self._linger():
                    return
            self._look(now)
            if self.ended is not None:
                ladder.climb(now)

    def _linger(self) -> float:
        """How long a pipe may stay open after its direct child; one that is being ended has its graces."""
        return _LINGER_SECONDS + (2 * self._rules.grace if self.ended else 0)

    def _read(self, reading: int) -> bool:
        """Hand on what is there; False at the end."""
        try:
            data = os.read(reading, _PIECE)
        except BlockingIOError:
            return True
        if data:
            self._heard = time.monotonic()
            self._output(data)
        return bool(data)

    def _look(self, now: float) -> None:
        if self.ended is None:
            self.ended = self._rules.look()
        if self.ended is None and now - self._heard > self._rules.idle:
            self.ended = EndedByUs("TIMEOUT_IDLE")

    def _exit(self, code: int | None, start_error: str | None) -> PhaseExit:
        return PhaseExit(
            name=self._phase.name,
            exit_code=code if code is not None and code >= 0 else None,
            term_signal=-code if code is not None and code < 0 else None,
            duration_ms=int((time.monotonic() - self._began) * 1000),
            start_error=start_error,
        )


class _Ladder:
    """INT, then TERM, then KILL to the whole group, `grace` seconds apart."""

    def __init__(self, child: subprocess.Popen[bytes], group: Group | None, grace: float) -> None:
        self._child = child
        self._group = group
        self._grace = grace
        self._steps = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
        self._next = 0.0

    def climb(self, now: float) -> None:
        if not self._steps or now < self._next:
            return
        step = self._steps.pop(0)
        self._next = now + self._grace
        if self._child.returncode is None:
            send_group(self._child.pid, step)
        elif self._group is not None:  # the number of an ended leader may be somebody else's by now
            for pid in members(self._group):
                send(pid, step)


def _wait(child: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return
