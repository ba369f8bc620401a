"""Tars put together by hand, field by field, without the code under test."""

from __future__ import annotations

import struct

BLOCK = 512
END = bytes(1024)


def header(
    name: bytes,
    *,
    size: int | bytes = 0,
    typeflag: bytes = b"0",
    mode: bytes = b"0000644\0",
    link: bytes = b"",
    uid: bytes = b"0000000\0",
    mtime: bytes = b"00000000000\0",
    magic: bytes = b"ustar\00000",
    uname: bytes = b"",
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One ustar header; every field may be made wrong."""
    sized = b"%011o\0" % size if isinstance(size, int) else size

    def pack(total: bytes) -> bytes:
        return struct.pack(
            "100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x",
            name,
            mode,
            uid,
            b"0000000\0",
            sized,
            mtime,
            total,
            typeflag,
            link,
            magic,
            uname,
            b"",
            b"0000000\0",
            b"0000000\0",
            prefix,
        )

    return pack(b"%06o\0 " % sum(pack(b" " * 8)) if checksum is None else checksum)


def padded(content: bytes) -> bytes:
    """Content up to the end of its block."""
    return content + bytes(-len(content) % BLOCK)


def file(name: bytes, content: bytes = b"", *, mode: bytes = b"0000644\0") -> bytes:
    """A regular file."""
    return header(name, size=len(content), mode=mode) + padded(content)


def link(name: bytes, target: bytes) -> bytes:
    """A symbolic link."""
    return header(name, typeflag=b"2", mode=b"0000777\0", link=target)


def folder(name: bytes) -> bytes:
    """A folder."""
    return header(name, typeflag=b"5", mode=b"0000755\0")


def record(key: bytes, value: bytes) -> bytes:
    """A PAX record."""
    body = b" " + key + b"=" + value + b"\n"
    length = next(n for n in range(len(body), len(body) + 8) if len(str(n)) + len(body) == n)
    return str(length).encode() + body


def pax(records: bytes, typeflag: bytes = b"x") -> bytes:
    """A PAX entry with records as they are."""
    return header(b"@pax", size=len(records), typeflag=typeflag) + padded(records)
