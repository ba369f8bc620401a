"""A zstd frame whose blocks are stored: the same bytes on every machine, whatever its library does.

RFC 8878, section 3.1.1: one segment, a content size of four bytes, raw blocks of 128 KiB at most.
"""

from __future__ import annotations

_MAGIC = b"\x28\xb5\x2f\xfd"
_DESCRIPTOR = b"\xa0"  # a single segment, whose size stands in four bytes
_BLOCK = 128 << 10


def stored_frame(data: bytes) -> bytes:
    """`data`, which is not empty and below 128 MiB, as one frame."""
    parts = [_MAGIC, _DESCRIPTOR, len(data).to_bytes(4, "little")]
    for at in range(0, len(data), _BLOCK):
        block = data[at : at + _BLOCK]
        last = at + _BLOCK >= len(data)
        parts += [(len(block) << 3 | last).to_bytes(3, "little"), block]
    return b"".join(parts)
