"""Both framings of the local socket, byte by byte (spec section 12, fault C3)."""

from __future__ import annotations

import pytest

from rch.contract.framing import FrameError
from rch.contract.messages import MAX_HEADERS, Message, MessageReader, in_kind

LIMIT = 200
BODY = b'{"jsonrpc":"2.0",\n "id":1, "method":"x\xc3\xa9"}'


def framed(body: bytes, *fields: bytes) -> bytes:
    """A message behind a header block; `fields` come before its length."""
    head = b"".join(field + b"\r\n" for field in fields)
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def read(*parts: bytes, limit: int = LIMIT) -> list[Message]:
    """What comes out where `parts` go in one by one."""
    reader = MessageReader(limit)
    found = []
    for part in parts:
        reader.feed(part)
        while (message := reader.message()) is not None:
            found.append(message)
    return found


STREAM = framed(BODY) + b"{}\n" + framed(b"{}", b"Content-Type: x/y; charset=utf-8") + framed(b"") + b"[]\n"
MESSAGES = [
    Message(BODY, framed=True),
    Message(b"{}", framed=False),
    Message(b"{}", framed=True),
    Message(b"", framed=True),
    Message(b"[]", framed=False),
]


@pytest.mark.spec("12")
def test_both_kinds_are_told_apart_and_may_be_mixed() -> None:
    assert read(STREAM) == MESSAGES


@pytest.mark.spec("12")
@pytest.mark.fault("C3")
def test_a_stream_that_is_split_at_any_byte_gives_the_same_messages() -> None:
    assert read(*(bytes([byte]) for byte in STREAM)) == MESSAGES
    for at in range(len(STREAM)):
        assert read(STREAM[:at], STREAM[at:]) == MESSAGES


@pytest.mark.spec("12")
def test_what_has_begun_is_pending_until_it_has_ended() -> None:
    reader = MessageReader(LIMIT)
    message = framed(b"{}")
    for byte in message[:-1]:
        reader.feed(bytes([byte]))
        assert reader.message() is None
        assert reader.pending
        assert reader.framed
    reader.feed(message[-1:])
    assert reader.message() == Message(b"{}", framed=True)
    assert not reader.pending


GOOD = {
    "usual": b"Content-Length: 2\r\n\r\n{}",
    "small letters": b"content-length: 2\r\n\r\n{}",
    "no space": b"Content-Length:2\r\n\r\n{}",
    "much space": b"Content-Length: \t 2 \t\r\n\r\n{}",
    "type first": b'Content-Type: application/json; charset="utf8"\r\nContent-Length: 2\r\n\r\n{}',
    "type last": b"Content-Length: 2\r\nContent-Type: application/json\r\n\r\n{}",
}


@pytest.mark.spec("12")
@pytest.mark.parametrize("name", GOOD)
def test_a_header_block_as_libraries_write_it_is_taken(name: str) -> None:
    assert read(GOOD[name]) == [Message(b"{}", framed=True)]


BAD = {
    "negative": (b"Content-Length: -2\r\n\r\n{}", "is no length"),
    "signed": (b"Content-Length: +2\r\n\r\n{}", "is no length"),
    "fraction": (b"Content-Length: 2.0\r\n\r\n{}", "is no length"),
    "hexadecimal": (b"Content-Length: 0x2\r\n\r\n{}", "is no length"),
    "leading nought": (b"Content-Length: 02\r\n\r\n{}", "is no length"),
    "two lengths in one": (b"Content-Length: 2, 2\r\n\r\n{}", "is no length"),
    "underscore": (b"Content-Length: 1_0\r\n\r\n{}", "is no length"),
    "other digits": ("Content-Length: ٢\r\n\r\n{}".encode(), "not understood"),
    "overflow": (b"Content-Length: %d\r\n\r\n{}" % (1 << 63), "is no length"),
    "a thousand digits": (b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n{}", "is no length"),
    "gigabyte": (b"Content-Length: 1073741824\r\n\r\n{}", f"is over {LIMIT} bytes"),
    "twice": (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "twice"),
    "twice in other letters": (b"Content-Length: 2\r\ncontent-LENGTH: 3\r\n\r\n{}", "twice"),
    "no length": (b"Content-Type: application/json\r\n\r\n{}", "no Content-Length"),
    "no value": (b"Content-Length:\r\n\r\n{}", "not understood"),
    "no colon": (b"Content-Length 2\r\n\r\n{}", "not understood"),
    "space before the colon": (b"Content-Length : 2\r\n\r\n{}", "not understood"),
    "folded": (b"Content-Length: 2\r\n 3\r\n\r\n{}", "not understood"),
    "newline alone": (b"Content-Length: 2\n\n{}", "not understood"),
    "return within": (b"Content-Length: 2\rX: y\r\n\r\n{}", "not understood"),
    "NUL": (b"Content-Length: 2\x00\r\n\r\n{}", "not understood"),
    "chunks": (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", "not taken"),
    "another header": (b"Cookie: x\r\n\r\n{}", "not taken"),
    "another charset": (b"Content-Type: x; charset=utf-16\r\nContent-Length: 2\r\n\r\n{}", "UTF-8"),
    "a request line": (b"CONNECT localhost:1 HTTP/1.1\r\n\r\n", "not understood"),
}


@pytest.mark.spec("12")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("name", BAD)
def test_a_hostile_header_block_is_refused_wherever_it_is_split(name: str) -> None:
    said, why = BAD[name]
    for parts in ([said], [bytes([byte]) for byte in said]):
        with pytest.raises(FrameError, match=why):
            read(*parts)


@pytest.mark.spec("12")
def test_a_header_line_is_refused_before_the_block_has_ended() -> None:
    with pytest.raises(FrameError, match="not understood"):
        read(b'Content-Length: 100\r\n{"jsonrpc":"2.0"}\n')


@pytest.mark.spec("12")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_message_is_as_long_as_the_limit_and_no_longer(beyond: int) -> None:
    for said in (framed(b"x" * (LIMIT + beyond)), b"x" * (LIMIT + beyond) + b"\n"):
        if beyond:
            with pytest.raises(FrameError, match=f"over {LIMIT} bytes"):
                read(said)
        else:
            assert [len(message.body) for message in read(said)] == [LIMIT]


@pytest.mark.spec("12")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize("piece", [1 << 20, 1000])
def test_a_header_block_is_as_long_as_the_limit_and_no_longer(beyond: int, piece: int) -> None:
    bare = b"Content-Type: \r\nContent-Length: 2\r\n\r\n"
    said = bare.replace(b": \r", b": " + b"y" * (MAX_HEADERS - len(bare) + beyond) + b"\r") + b"{}"
    parts = [said[at : at + piece] for at in range(0, len(said), piece)]
    if beyond:
        with pytest.raises(FrameError, match=f"a header block is over {MAX_HEADERS} bytes"):
            read(*parts)
    else:
        assert read(*parts) == [Message(b"{}", framed=True)]


@pytest.mark.spec("12")
@pytest.mark.fault("C3")
def test_a_header_block_without_an_end_is_refused_at_the_limit() -> None:
    assert read(*[b"C"] * MAX_HEADERS) == []
    with pytest.raises(FrameError, match=f"a header block is over {MAX_HEADERS} bytes"):
        read(*[b"C"] * (MAX_HEADERS + 1))


@pytest.mark.spec("12")
def test_an_answer_in_kind_is_read_back() -> None:
    line = '{"a":"é"}\n'.encode()
    assert in_kind(line, framed=False) == line
    assert read(in_kind(line, framed=True)) == [Message(line[:-1], framed=True)]
