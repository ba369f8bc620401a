"""Lines and framed bodies, sans-IO (spec section 3.2). Standard library alone.

A peer's bytes go into `feed`; whole lines and body bytes come out of `line` and `body`.
Nothing is kept beyond the limit that the reader was made with.
"""

from __future__ import annotations

import json
import math

MAX_LINE = 1 << 20
MAX_FETCH_HEADER = 64 << 20
MAX_DEPTH = 64


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


def _finite(digits: str) -> float:
    """The number; one that is beyond every float would come out as infinity, which is no JSON."""
    number = float(digits)
    if math.isinf(number):
        raise FrameError(f"the number {digits[:40]} is beyond 2^53, and every other")
    return number


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        below = [each.values() if isinstance(each, dict) else each for each in level if each]
        level = [item for items in below for item in items if isinstance(item, dict | list)]  # type: ignore[attr-defined]
        if not level:
            return False
    return True


def decode_object(line: bytes) -> dict[str, object]:
    """The JSON object on one line.

    `FrameError` for anything else: not UTF-8, a BOM, duplicate members, NaN, infinity, lone
    surrogates, nesting deeper than `MAX_DEPTH`, or a value that is no object.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrameError("the line is not UTF-8") from error
    try:
        value = json.loads(
            text, object_pairs_hook=_unique_members, parse_constant=_refuse_constant, parse_float=_finite
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise FrameError("a string holds a lone surrogate") from error
    except FrameError:
        raise
    except RecursionError as error:
        raise FrameError(f"nested deeper than {MAX_DEPTH}") from error
    except ValueError as error:
        raise FrameError(f"the line is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise FrameError("the line is no JSON object")
    # Counting brackets is a cheap upper bound: only what could be too deep is walked.
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(value):
        raise FrameError(f"nested deeper than {MAX_DEPTH}")
    return value


def count_values(data: bytes, most: int) -> int:
    """No fewer than the values of the JSON in `data`, without reading it; counting ends beyond `most`."""
    found = 0
    for mark in (b"[", b"{", b","):
        if found <= most:
            found += data.count(mark)
    return found


def encode_line(value: object) -> bytes:
    """Compact JSON of `value` and a newline."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8") + b"\n"
