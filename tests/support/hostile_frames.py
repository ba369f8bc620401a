"""zstd frames that no end may take, by name, and bombs. Made by hand where a packer would not."""

from __future__ import annotations

from collections.abc import Callable

import zstandard

MAGIC = b"\x28\xb5\x2f\xfd"
RAW, RLE, COMPRESSED = 0, 1, 2
MOST = 128 << 10
TEXT = b"".join(b"line %d of a source\n" % n for n in range(2000))


def block(kind: int, size: int, content: bytes, *, last: bool = False) -> bytes:
    """One block; `size` is what its head says."""
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content


def header(*, window_log: int = 20, declared: int | None = None, dictionary: int | None = None) -> bytes:
    """A frame header with a window, and perhaps eight bytes of content size and a dictionary's id."""
    descriptor = (0 if declared is None else 0b11 << 6) | (0 if dictionary is None else 0b11)
    sized = b"" if declared is None else declared.to_bytes(8, "little")
    named = b"" if dictionary is None else dictionary.to_bytes(4, "little")
    return MAGIC + bytes([descriptor, (window_log - 10) << 3]) + named + sized


def packed(data: bytes = TEXT, *, checksum: bool = False, size: bool = True) -> bytes:
    """What a packer makes of `data`."""
    return zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=size).compress(data)


def bomb(total: int, *, declared: bool) -> bytes:
    """A frame of four bytes for each 128 KiB, as dense as zstd can be."""
    head = header(declared=total if declared else None)
    return head + block(RLE, MOST, b"\0") * (total // MOST - 1) + block(RLE, MOST, b"\0", last=True)


SKIPPABLE = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
ONE = block(RLE, 1000, b"x", last=True)
WRONG_SUM = packed(checksum=True)[:-4] + bytes(4)

FORMS: dict[str, bytes] = {
    "window log 31": header(window_log=31) + ONE,
    "window log 28": header(window_log=28) + ONE,
    "window log 41": header(window_log=41) + ONE,
    "one segment of 4 GiB": MAGIC + bytes([0b10 << 6 | 1 << 5]) + b"\xff" * 4 + ONE,
    "a skippable frame first": SKIPPABLE + packed(),
    "skippable frames for ever": SKIPPABLE * 5000,
    "a skippable frame of 4 GiB": b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + bytes(100),
    "a skippable frame behind": packed(size=True) + SKIPPABLE,
    "many tiny frames": packed(b"x") * 5000,
    "many empty frames": packed(b"") * 5000,
    "empty blocks for ever": header() + block(RAW, 0, b"") * 5000,
    "empty repeats for ever": header() + block(RLE, 0, b"x") * 5000,
    "an unknown dictionary": header(dictionary=77) + ONE,
    "a dictionary's own bytes": b"\x37\xa4\x30\xec" + bytes(100),
    "a byte behind": packed(size=True) + b"\0",
    "garbage behind": packed(checksum=True) + b"garbage",
    "a last block that is cut": header() + block(RAW, 100, bytes(60), last=True),
    "no last block": header() + block(RAW, 100, bytes(100)),
    "a checksum that is cut": packed(checksum=True)[:-1],
    "a checksum that is wrong": WRONG_SUM,
    "a size that says too little": header(declared=999) + ONE,
    "a size that says too much": header(declared=1001) + ONE,
    "a size of nothing": header(declared=0) + ONE,
    "a reserved block": header() + block(3, 0, b"", last=True),
    "a block over 128 KiB": header() + block(RAW, MOST + 1, bytes(MOST + 1), last=True),
    "a compressed block of noise": header() + block(COMPRESSED, 64, bytes(range(64)), last=True),
    "a compressed block of nothing": header() + block(COMPRESSED, 0, b"", last=True),
    "a reserved bit": MAGIC + b"\x08\x50" + ONE,
    "an older zstd": b"\x27" + packed()[1:],
    "gzip": b"\x1f\x8b\x08\x00" + bytes(20),
    "nothing at all": b"",
    "a magic alone": MAGIC,
}

BOMBS: dict[str, Callable[[], bytes]] = {
    "10 GiB undeclared": lambda: bomb(10 << 30, declared=False),
    "10 GiB declared": lambda: bomb(10 << 30, declared=True),
    "2^63 declared": lambda: header(declared=1 << 63) + ONE,
}
