"""Whether a project's folder can be looked at at all.

On a mount whose server is gone a look takes for ever, and nothing ends the thread that takes it. So
each folder is looked at once beside everything else, before a snapshot of it has its turn; who is
stuck keeps neither the others nor the end of the daemon waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import anyio

from rch.config.root import find_root
from rch.contract.errors import Failure, Kind

ROOT_SECONDS = 10.0
MAX_STUCK = 8
"""Looks that may be stuck at a time: each is a thread."""


class Reach:
    """Looks at folders; `look` is what is done with each."""

    def __init__(self, look: Callable[[Path], object] = find_root) -> None:
        self._look = look
        self._threads = 0

    async def look_at(self, start: str) -> object:
        """What the look at the folder `start` gives; None where it fails, which its turn will tell.

        `Failure` CONFIG where it takes longer than `ROOT_SECONDS`, or too many looks do already.
        """
        if self._threads >= MAX_STUCK:
            raise _stuck(start, f"{MAX_STUCK} folders before it do not answer")
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        threading.Thread(target=self._run, args=(Path(start), done), daemon=True, name="look").start()
        self._threads += 1
        done.add_done_callback(self._left)
        with anyio.move_on_after(ROOT_SECONDS):
            return await asyncio.shield(done)
        raise _stuck(start, f"it did not answer within {ROOT_SECONDS:g} s")

    def _left(self, _done: asyncio.Future[object]) -> None:
        self._threads -= 1

    def _run(self, start: Path, done: asyncio.Future[object]) -> None:
        found = None
        # What is wrong with the folder is told by whoever needs it.
        with contextlib.suppress(Exception):
            found = self._look(start)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            done.get_loop().call_soon_threadsafe(done.set_result, found)


def _stuck(start: str, why: str) -> Failure:
    message = f"{start[:200]}: cannot be looked at: {why}"
    return Failure(Kind.CONFIG, message, subkind="NO_PROJECT", hint="see that the folder can be listed")
