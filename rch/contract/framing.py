"""Lines and framed bodies, sans-IO (spec section 3.2). Standard library alone.

A peer's bytes go into `feed`; whole lines and body bytes come out of `line` and `body`.
Nothing is kept beyond the limit that the reader was made with.
"""

from __future__ import annotations

import json
import re

MAX_LINE = 1 << 20
MAX_FETCH_HEADER = 64 << 20
MAX_DEPTH = 64
# One that is not closed ends with the text: else each quote in it would be read to the end again.
_STRINGS = re.compile(r'"(?:[^"\\]+|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


class FrameError(ValueError):
    """The peer's bytes break the framing; the channel is of no further use."""


class LineReader:
    """Splits a byte stream into lines of at most `max_line` bytes, and bodies between them."""

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self.max_line = max_line

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self._buffer += data

    def line(self) -> bytes | None:
        """The next line without its newline, or None; `FrameError` when it is too long."""
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            if len(self._buffer) > self.max_line:
                raise FrameError(f"a line is over {self.max_line} bytes")
            return None
        if end > self.max_line:
            raise FrameError(f"a line is over {self.max_line} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        return line

    def body(self, wanted: int) -> bytes:
        """Up to `wanted` buffered bytes of a body."""
        chunk = bytes(self._buffer[:wanted])
        del self._buffer[:wanted]
        self._scanned = 0
        return chunk

    def first(self) -> int | None:
        """The first byte that is buffered."""
        return self._buffer[0] if self._buffer else None

    @property
    def pending(self) -> int:
        """Bytes that are buffered and not yet taken."""
        return len(self._buffer)


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise FrameError("an object names a member twice")
    return members


def _refuse_constant(name: str) -> object:
    raise FrameError(f"{name} is no JSON")


def _is_too_deep(text: str) -> bool:
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def decode_object(line: bytes) -> dict[str, object]:
    """The JSON object on one line.

    `FrameError` for anything else: not UTF-8, a BOM, duplicate members, NaN, lone
    surrogates, nesting deeper than `MAX_DEPTH`, or a value that is no object.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrameError("the line is not UTF-8") from error
    # Counting brackets is a cheap upper bound: only a line that could be too deep is walked.
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(text):
        raise FrameError(f"nested deeper than {MAX_DEPTH}")
    try:
        value = json.loads(text, object_pairs_hook=_unique_members, parse_constant=_refuse_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise FrameError("a string holds a lone surrogate") from error
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the line is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise FrameError("the line is no JSON object")
    return value


def encode_line(value: object) -> bytes:
    """Compact JSON of `value` and a newline."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8") + b"\n"
