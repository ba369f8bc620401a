"""A command's standard error: read as it comes, so that it blocks nobody; its end alone is kept."""

from __future__ import annotations

import os
from typing import IO

_PIECE = 64 << 10
_MOST_PIECES = 16
_KEPT_BYTES = 2000


class LastWords:
    """The end of what comes from a pipe. Nothing waits here: `drain` takes what is there."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._kept = b""
        self.ended = False
        os.set_blocking(pipe.fileno(), False)

    def fileno(self) -> int:
        """For `select`."""
        return self._pipe.fileno()

    def drain(self) -> None:
        """Read what is there, a bounded amount at once, and keep its end."""
        for _ in range(_MOST_PIECES):
            if self.ended:
                return
            try:
                data = os.read(self.fileno(), _PIECE)
            except BlockingIOError:
                return
            self.ended = not data
            self._kept = (self._kept + data)[-_KEPT_BYTES:]

    def text(self) -> str:
        """The end of what came, without white space around it."""
        return self._kept.decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Take what is left, and close the pipe."""
        self.drain()
        self.ended = True
        self._pipe.close()
