r"""Messages of the local socket in both framings, sans-IO (spec section 12). Standard library alone.

A message is one line, or a header block and a body of so many bytes, as JSON-RPC libraries of
editors send it:

    Content-Length: 49\r\n
    \r\n
    {"jsonrpc":"2.0","id":1,"method":"daemon.health"}

Each is told by its first byte: JSON of ours begins with no letter. A peer may mix them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rch.contract.framing import MAX_LINE, FrameError, LineReader

MAX_HEADERS = 8 << 10
_FIELD = re.compile(rb"([A-Za-z-]{1,64}):[ \t]*([\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)[ \t]*\r")
_CHARSET = re.compile(rb"charset[ \t]*=[ \t]*\"?([^\";, \t]*)", re.IGNORECASE)
_DIGITS = re.compile(rb"0|[1-9][0-9]{0,15}")
_UTF8 = frozenset({b"utf-8", b"utf8"})
_LENGTH, _TYPE = b"content-length", b"content-type"


class Message(NamedTuple):
    """The bytes of one JSON value, and whether they came behind a header block."""

    body: bytes
    framed: bool


class MessageReader:
    """Splits a byte stream into messages of at most `max_message` bytes.

    `framed`: the message that came last, or is on its way, has a header block. After a
    `FrameError` the stream is of no further use.
    """

    def __init__(self, max_message: int = MAX_LINE) -> None:
        self._bytes = LineReader(max_message)
        self._max_message = max_message
        self._fields: dict[bytes, bytes] | None = None
        self._header_bytes = 0
        self._wanted: int | None = None
        self.framed = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self._bytes.feed(data)

    @property
    def pending(self) -> int:
        """Bytes of a message that has begun and not ended."""
        begun = self._wanted is not None or self._fields is not None
        return self._bytes.pending + begun

    def message(self) -> Message | None:
        """The next whole message, or None; `FrameError` for what is none."""
        if self._wanted is None and self._fields is None:
            first = self._bytes.first()
            if first is None:
                return None
            self.framed = first in b"Cc"
            if not self.framed:
                line = self._bytes.line()
                return None if line is None else Message(line, framed=False)
            self._fields = {}
        while self._wanted is None:
            if not self._header():
                return None
        if self._bytes.pending < self._wanted:
            return None
        body = self._bytes.body(self._wanted)
        self._wanted = None
        return Message(body, framed=True)

    def _header(self) -> bool:
        """Take one line of a header block, if it is there."""
        self._bytes.max_line = MAX_HEADERS - self._header_bytes
        try:
            line = self._bytes.line()
        except FrameError as error:
            raise FrameError(f"a header block is over {MAX_HEADERS} bytes") from error
        finally:
            self._bytes.max_line = self._max_message
        if line is None:
            return False
        self._header_bytes += len(line) + 1
        if self._header_bytes > MAX_HEADERS:
            raise FrameError(f"a header block is over {MAX_HEADERS} bytes")
        fields = self._fields = self._fields or {}
        if line != b"\r":
            _take(fields, line)
            return True
        self._wanted = self._length(fields)
        self._fields, self._header_bytes = None, 0
        return True

    def _length(self, fields: dict[bytes, bytes]) -> int:
        said = fields.get(_LENGTH)
        if said is None:
            raise FrameError("a header block has no Content-Length")
        if not _DIGITS.fullmatch(said):
            raise FrameError(f"Content-Length {said[:40].decode('ascii')!r} is no length")
        if (length := int(said)) > self._max_message:
            raise FrameError(f"Content-Length {length} is over {self._max_message} bytes")
        return length


def _take(fields: dict[bytes, bytes], line: bytes) -> None:
    """Note one header; `FrameError` for another one than the two, for two of one, and for bad ones."""
    found = _FIELD.fullmatch(line)
    if found is None:
        raise FrameError(f"a header line is not understood: {line[:40]!r}")
    name, value = found[1].lower(), found[2]
    if name not in {_LENGTH, _TYPE}:
        raise FrameError(f"a header {found[1][:40].decode('ascii')!r} is not taken")
    if name in fields:
        raise FrameError(f"a header block names {found[1].decode('ascii')} twice")
    charset = _CHARSET.search(value) if name == _TYPE else None
    if charset is not None and charset[1].lower() not in _UTF8:
        raise FrameError("a message is not in UTF-8")
    fields[name] = value


def in_kind(line: bytes, *, framed: bool) -> bytes:
    """The line of an answer as it goes out: with a header block, or as it is."""
    if not framed:
        return line
    body = line.removesuffix(b"\n")
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
