"""A stream as it will be shown, beside what of it will not be: colours and signs without room (section 11).

A secret may be cut in two by a colour, and is whole again for who reads the text. So it is looked for in
what is shown; what is not shown goes past that, and stands afterwards where it stood. What stood in
the midst of a secret goes with it. Pieces make no difference to the whole. Pure.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from typing import NamedTuple, Protocol

_PLAIN = re.compile(rb"[\t\n\r -~]*\Z")
_MOST_ASIDE = 1 << 16  # bytes that wait for what is held back; more is dropped, and nobody sees less


class Aside(NamedTuple):
    """Bytes that are not shown, and before which byte of the shown stream they stand."""

    at: int
    data: bytes


class Piece(NamedTuple):
    """What a stage passes on: bytes of its stream from `at` on, or (`put`) bytes in the place of such."""

    at: int
    data: bytes
    put: bool = False


class Stage(Protocol):
    """Looks at a stream and takes something out."""

    def pieces(self, data: bytes, *, last: bool = False) -> list[Piece]:
        """What may be passed on now, in order; all that is left with `last`."""


class Sieve:
    """Parts what is shown from what is not. Bytes that are no UTF-8 are shown."""

    def __init__(self) -> None:
        self._held = b""
        self._at = 0

    def feed(self, data: bytes, *, last: bool = False) -> tuple[bytes, list[Aside]]:
        """What is shown of it and was not told yet; what begins a sequence waits for its end."""
        data, self._held = self._held + data, b""
        if _PLAIN.match(data):
            self._at += len(data)
            return data, []
        # Its tables are compiled where there is need: most processes see plain text alone.
        from rch.contract.odd_text import UNFINISHED, UNSHOWN

        text, self._held = _decoded(data, last=last)
        if not last and (cut := UNFINISHED.search(text)):
            self._held = _bytes(text[cut.start() :]) + self._held
            text = text[: cut.start()]
        shown, aside, done = list[bytes](), list[Aside](), 0
        for found in UNSHOWN.finditer(text):
            if found.start() > done:
                shown.append(_bytes(text[done : found.start()]))
                self._at += len(shown[-1])
            aside.append(Aside(self._at, _bytes(found.group())))
            done = found.end()
        shown.append(_bytes(text[done:]))
        self._at += len(shown[-1])
        return b"".join(shown), aside


class Past:
    """Takes what is not shown past a stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._aside: deque[Aside] = deque()
        self._waiting = 0  # bytes in it
        self._fed = self._upto = 0  # bytes of the stage's stream: given to it; kept or put, up to here
        self._out = 0

    def feed(self, data: bytes, aside: list[Aside], *, last: bool = False) -> tuple[bytes, list[Aside]]:
        """What the stage passes on, and what stands between it, by places in that."""
        self._fed += len(data)
        for each in aside:
            if self._waiting + len(each.data) <= _MOST_ASIDE:
                self._aside.append(each)
                self._waiting += len(each.data)
        out, told = list[bytes](), list[Aside]()
        for piece in self._stage.pieces(data, last=last):
            self._pass(piece.at, piece.at, told)
            if not piece.put:
                self._pass(piece.at, piece.at + len(piece.data) - 1, told)
                self._upto = piece.at + len(piece.data)
            else:
                self._upto = piece.at
            out.append(piece.data)
            self._out += len(piece.data)
        if last:
            self._pass(self._fed, self._fed, told)
        return b"".join(out), told

    def _pass(self, begin: int, end: int, told: list[Aside]) -> None:
        """Let go what stands up to `end`: before `begin` at the end of what was passed on before."""
        while self._aside and self._aside[0].at <= end:
            at, data = self._aside.popleft()
            self._waiting -= len(data)
            if at >= begin or at <= self._upto:
                told.append(Aside(self._out + max(0, at - begin), data))


def woven(shown: bytes, aside: list[Aside], at: int) -> bytes:
    """Both again as one; `at` is the place of the first byte of `shown`."""
    if not aside:
        return shown
    parts, done = list[bytes](), 0
    for each in aside:
        parts += [shown[done : each.at - at], each.data]
        done = each.at - at
    return b"".join([*parts, shown[done:]])


def shown_of(data: bytes) -> bytes:
    """What is shown of bytes that are whole."""
    return Sieve().feed(data, last=True)[0]


def _decoded(data: bytes, *, last: bool) -> tuple[str, bytes]:
    """As text, and the beginning of a character that has not come as a whole."""
    text, used = codecs.utf_8_decode(data, "surrogateescape", last)
    return text, data[used:]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
