"""What the daemon's process is given by the system: descriptors, signals, and an end in time."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

import anyio
import structlog

log = structlog.get_logger("rchd")

WANTED_DESCRIPTORS = 8192
# From the first signal on; whatever hangs then is left to the next start, as after a crash.
LONGEST_LEAVE_SECONDS = 15.0
_EXIT_BY_SECOND_SIGNAL = 0


def raise_descriptors() -> int:
    """Raise a small soft limit towards the hard one; how many descriptors there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY:
        return WANTED_DESCRIPTORS
    if soft < wanted:
        with suppress(OSError, ValueError):  # a container may forbid it: less will do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft


async def until_signals(stop: Callable[[], None], leave_nothing: Callable[[], None]) -> None:
    """The first SIGTERM or SIGINT stops in order, the second ends the process at once.

    All that was told to anybody is durable by then, so the second is no worse than a crash;
    `leave_nothing` is done before it.
    """
    stopping = False
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("daemon.signal", signal=signal.Signals(number).name, at_once=stopping)
            if stopping:
                leave_nothing()
                os._exit(_EXIT_BY_SECOND_SIGNAL)
            stopping = True
            stop()


def begin_to_leave() -> None:
    """From here the process ends in time, even where something hangs: then it says where."""
    with suppress(RuntimeError, OSError, ValueError):  # no thread for it, or no stderr
        faulthandler.dump_traceback_later(LONGEST_LEAVE_SECONDS, exit=True, file=sys.stderr)


def has_left() -> None:
    """The end is in order."""
    faulthandler.cancel_dump_traceback_later()
