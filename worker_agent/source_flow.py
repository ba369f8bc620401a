"""Several things done to the same bytes at once: a digest, a look at what they say, a file (section 5).

Digests, writes and the kernel's flush work without the interpreter, so each in a thread of its own
takes as long as the slowest of them, not as all together.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from rch.files.durable import sync_file

Work = Callable[[bytes], object]

_AHEAD = 8
"""How many pieces a thread may be behind."""
FLUSH_BYTES = 32 << 20
"""So much is written before it is flushed beside the rest of the work."""


class _Lane:
    """Does one thing to each piece, in order, in a thread of its own; after an error it only takes them."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, piece: bytes | None) -> None:
        self._pieces.put(piece)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            try:
                if self.error is None:
                    self._work(piece)
            except BaseException as error:  # noqa: BLE001  (it is raised where the pieces come from)
                self.error = error


@contextmanager
def lanes(*works: Work) -> Iterator[Callable[[bytes], None]]:
    """Takes pieces and hands each to every one of `works`; all have ended when it is left.

    What one of them raises is raised with the next piece, or on leaving.
    """
    running = [_Lane(work) for work in works]

    def put(piece: bytes) -> None:
        for lane in running:
            if lane.error is not None:
                raise lane.error
            lane.put(piece)

    try:
        yield put
    finally:
        for lane in running:
            lane.put(None)
        for lane in running:
            lane.join()
    for lane in running:
        if lane.error is not None:
            raise lane.error


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """`work` in a thread while the body runs; what it raises is raised on leaving, if the body did not."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (raised below)
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failed:
        raise failed[0]


def written(file: BinaryIO) -> Work:
    """Writes pieces down and has them flushed early: the last flush then finds little to do."""
    waiting = 0

    def write(piece: bytes) -> None:
        nonlocal waiting
        file.write(piece)
        waiting += len(piece)
        if waiting >= FLUSH_BYTES:
            file.flush()
            sync_file(file.fileno())
            waiting = 0

    return write
