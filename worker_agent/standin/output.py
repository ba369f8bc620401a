"""What a stand-in prints, with the buffering of the real tools.

`xcodebuild` writes its standard output in blocks when that is no terminal, unless the
environment says `NSUnbufferedIO=YES`; standard error is never held back.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any, Protocol

BLOCK = 4096
"""Bytes that are held back at most."""


class Stream(Protocol):
    """The part of a binary stream that is used."""

    def write(self, data: bytes, /) -> int:
        """Write all of it."""

    def flush(self) -> None:
        """Hand over what is held."""


class Output:
    """Both streams of one program."""

    def __init__(self, out: Stream, err: Stream, *, unbuffered: bool = False) -> None:
        self._out = out
        self._err = err
        self._held = bytearray()
        self._unbuffered = unbuffered

    def say(self, data: str | bytes) -> None:
        """To standard output; text gets no line end of its own."""
        self._held += _bytes(data) if isinstance(data, str) else data
        if self._unbuffered or len(self._held) >= BLOCK:
            self.flush()

    def complain(self, data: str) -> None:
        """To standard error, at once."""
        self._err.write(_bytes(data))
        self._err.flush()

    def document(self, tree: Any, *, compact: bool = False) -> None:
        """JSON in the form of Apple's encoder: sorted keys, a space on both sides of the colon."""
        if compact:
            text = json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        else:
            text = json.dumps(tree, ensure_ascii=False, sort_keys=True, indent=2, separators=(",", " : "))
        self.say(text + "\n")

    def flush(self) -> None:
        """Hand over what is held back."""
        held, self._held = bytes(self._held), bytearray()
        if held:
            self._out.write(held)
            self._out.flush()


def _bytes(text: str) -> bytes:
    """What was no UTF-8 on the command line goes out as it came in."""
    return text.encode(errors="surrogateescape")


def of_process(env: Mapping[str, str]) -> Output:
    """The streams of this process."""
    out, err = os.fdopen(1, "wb", 0, closefd=False), os.fdopen(2, "wb", 0, closefd=False)
    wanted = env.get("NSUnbufferedIO", "").upper() == "YES"
    with contextlib.suppress(OSError):
        wanted = wanted or os.isatty(1)
    return Output(_Whole(out), _Whole(err), unbuffered=wanted)


class _Whole:
    """A raw stream whose `write` writes all of it."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def write(self, data: bytes, /) -> int:
        """As of a buffered stream."""
        view = memoryview(data)
        while view:
            view = view[self._raw.write(view) or 0 :]
        return len(data)

    def flush(self) -> None:
        """Nothing is held."""
