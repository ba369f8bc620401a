"""A plan of what to print and when, and the player that carries it out.

Planning decides and touches nothing; playing prints, waits, writes, and decides nothing.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from worker_agent.standin.output import Output

_FILLER = b"note: " + b"wick " * 18 + b"\n"


@dataclass(frozen=True, slots=True)
class Say:
    """A line of standard output; bytes are printed as they are. `always` speaks under `-quiet` too."""

    text: str | bytes = ""
    always: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Silence."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Flood:
    """So many bytes of lines that say nothing."""

    size: int


@dataclass(frozen=True, slots=True)
class Orphan:
    """A process of the same group that ignores INT and TERM and holds the output open."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Do:
    """A change on disk."""

    act: Callable[[], None]


Step: TypeAlias = Say | Wait | Flood | Orphan | Do


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and the exit code."""

    steps: tuple[Step, ...]
    exit_code: int
    ignore_interrupt: bool = False


def says(lines: Iterable[str], *, always: bool = False) -> list[Step]:
    """A step a line."""
    return [Say(line, always) for line in lines]


def play(plan: Plan, output: Output, *, quiet: bool = False) -> int:
    """Carry a plan out; its exit code."""
    if plan.ignore_interrupt and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    for step in plan.steps:
        _step(step, output, quiet=quiet)
    return plan.exit_code


def _step(step: Step, output: Output, *, quiet: bool) -> None:
    match step:
        case Say(text, always):
            if always or not quiet:
                raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
                output.say(raw + b"\n")
        case Wait(seconds):
            time.sleep(seconds)
        case Flood(size):
            _flood(size, output)
        case Orphan(seconds):
            program = f"trap '' INT TERM; exec sleep {max(1, int(seconds))}"
            subprocess.Popen(["/bin/sh", "-c", program], stdin=subprocess.DEVNULL)
        case Do(act):
            act()


def _flood(size: int, output: Output) -> None:
    block = _FILLER * (1 + (1 << 20) // len(_FILLER))
    left = size
    while left > 0:
        piece = block if left >= len(block) else block[: max(1, left - 1)] + b"\n"
        output.say(piece)
        left -= len(piece)
