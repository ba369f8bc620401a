"""Reading a tar that a peer sent, sans-IO and strictly (spec section 5; faults T1-T3).

Bytes go in through `feed`, members and pieces of their content come out. Nothing is believed:
names, order, sums, limits and padding are checked before a member is handed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import msgspec

from rch.contract.tar import (
    BIG,
    BLOCK,
    NAME_FIELD,
    Member,
    MemberKind,
    member_header,
    plain_member,
    require_canonical_place,
    take_name,
)
from rch.contract.tar_names import Names, TarError, shown

MAX_PAX = 16 << 10
MAX_TAIL = 64 << 10  # zeros that a foreign writer may append to fill its record

_KINDS = {b"0": "file", b"\x00": "file", b"2": "symlink", b"5": "directory"}
_REFUSED = {
    b"1": "a hard link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"g": "a global header",
    b"L": "a GNU long name",
    b"K": "a GNU long link",
}
_IGNORED_RECORDS = frozenset({"mtime", "atime", "ctime", "uid", "gid", "uname", "gname"})
# Whether it is used or not, it has to be a number or blank: other readers stop at anything else.
_NUMBERS = {
    "mode": (100, 108),
    "uid": (108, 116),
    "gid": (116, 124),
    "mtime": (136, 148),
    "devmajor": (329, 337),
    "devminor": (337, 345),
}
_ZEROS = bytes(BLOCK)
_PADDINGS = tuple(map(bytes, range(BLOCK)))
_PAX_FLAG = ord("x")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_OCTAL = frozenset(b"01234567")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a set may hold: entries of any kind, and bytes of all files together.

    Folders that only stand in names are no entries; there may be as many of them besides. `most_of` is
    how many bytes the file of a name may have.
    """

    max_entries: int
    max_bytes: int
    most_of: Callable[[str], int] | None = None


class _Pax(msgspec.Struct, frozen=True, kw_only=True):
    raw: bytes
    path: str | None = None
    linkpath: str | None = None
    size: int | None = None


Event = Member | memoryview


class TarReader:
    """Takes a tar in pieces; gives each `Member`, then its content as memoryviews, in order.

    `canonical` asks for a source: exactly the bytes that our own writer would make. Otherwise
    plain ustar with PAX names, sizes and times passes too, folders are allowed, links and control
    characters in names are not: an artifact set. Every refusal is a `TarError`; after one the reader is
    of no further use.
    """

    def __init__(self, *, limits: Limits, canonical: bool) -> None:
        self.entries = 0
        self.bytes = 0
        self.names = Names()
        self._limits = limits
        self._canonical = canonical
        self._rest = b""
        self._step: Callable[[bytes, memoryview, int, list[Event]], int] = self._at_header
        self._pax: _Pax | None = None
        self._pax_block = b""
        self._left = 0
        self._pad = 0
        self._last = ""
        self._tail = 0

    def feed(self, data: bytes) -> list[Event]:
        """What `data` completes; the memoryviews hold `data` alive, use them before the next call."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        events: list[Event] = []
        at, end = 0, len(data)
        while at < end:
            after = self._step(data, view, at, events)
            if after == at:
                break
            at = after
        self._rest = data[at:]
        return events

    def close(self) -> None:
        """The stream is at its end: `TarError` unless the tar is whole and its links stay inside."""
        self.require_end()
        self.names.check_links()

    def require_end(self) -> None:
        """As `close`, for a tar that is a part of a set: where its links lead, the whole set tells."""
        if self._rest or self._step != self._after_end:
            raise TarError("the tar is cut short")

    # Each step begins at `at` and gives where the next one begins; the same place for "more bytes first".

    def _at_header(self, data: bytes, view: memoryview, at: int, events: list[Event]) -> int:
        after = at + BLOCK
        if len(data) < after:
            return at
        block = data[at:after]
        if block == _ZEROS:
            if self._pax is not None:
                raise TarError("a PAX entry stands before the end")
            self._step = self._at_second_zeros
            return after
        if block[156] == _PAX_FLAG:
            self._begin_pax(block)
            return after
        events.append(self._begin_member(block))
        # Most members stand in one piece of data: what follows the header is taken in the same step.
        if self._left and len(data) > after:
            after = self._in_content(data, view, after, events)
        if self._step == self._in_padding:
            after = self._in_padding(data, view, after, events)
        return after

    def _begin_pax(self, block: bytes) -> None:
        if self._pax is not None:
            raise TarError("two PAX entries stand before one member")
        size = _octal(block[124:136], "size", "@pax")
        _check_block(block, "@pax")
        if not 0 < size <= MAX_PAX:
            raise TarError(f"a PAX entry of {size} bytes is not between 1 and {MAX_PAX}")
        self._pax_block = block
        self._left = size
        self._step = self._in_pax

    def _in_pax(self, data: bytes, view: memoryview, at: int, events: list[Event]) -> int:
        del view, events
        end = at + self._left
        after = end + -self._left % BLOCK
        if len(data) < after:
            return at
        if data[end:after].strip(b"\x00"):
            raise TarError("the padding of a PAX entry is not zero")
        self._pax = _parse_pax(data[at:end], self._pax_block + data[at:after])
        self._step = self._at_header
        return after

    def _begin_member(self, block: bytes) -> Member:
        pax, self._pax = self._pax, None
        if self._canonical:
            member = self._canonical_member(block, pax)
        else:
            member = _parse_member(block, pax, canonical=False)
            if member.kind == "symlink":
                raise TarError(f"{shown(member.path)} is a link, which this set may not hold")
        take_name(self.names, member)
        if not self._canonical and _CONTROL.search(member.path):
            raise TarError(f"the name {shown(member.path)} holds a control character")
        self.entries += 1
        self.bytes += member.size
        if self.entries > self._limits.max_entries:
            raise TarError(f"more than {self._limits.max_entries} entries")
        if self.names.folder_count > self._limits.max_entries:
            raise TarError(f"more than {self._limits.max_entries} folders")
        if self.bytes > self._limits.max_bytes:
            raise TarError(f"more than {self._limits.max_bytes} bytes of content")
        if self._limits.most_of is not None and member.size > (most := self._limits.most_of(member.path)):
            raise TarError(
                f"{shown(member.path)} has {member.size} bytes, over the {most} that it may have"
            )
        self._left, self._pad = member.size, -member.size % BLOCK
        self._step = self._in_content if member.size else self._at_header
        return member

    def _canonical_member(self, block: bytes, pax: _Pax | None) -> Member:
        """The member, if its header is the one that our writer makes and its place is right."""
        member = plain_member(block) if pax is None else None
        if member is None:
            member = _parse_member(block, pax, canonical=True)
            require_canonical_place(member, self._last)
            if member_header(member) != (pax.raw if pax else b"") + block:
                raise TarError(f"the header of {shown(member.path)} is not in canonical form")
        else:
            require_canonical_place(member, self._last)
        self._last = member.path
        return member

    def _in_content(self, data: bytes, view: memoryview, at: int, events: list[Event]) -> int:
        after = min(len(data), at + self._left)
        self._left -= after - at
        events.append(view[at:after])
        if not self._left:
            self._step = self._in_padding if self._pad else self._at_header
        return after

    def _in_padding(self, data: bytes, view: memoryview, at: int, events: list[Event]) -> int:
        del view, events
        after = at + self._pad
        if len(data) < after:
            return at
        if not data.startswith(_PADDINGS[self._pad], at):
            raise TarError("the padding after a file is not zero")
        self._step = self._at_header
        return after

    def _at_second_zeros(self, data: bytes, view: memoryview, at: int, events: list[Event]) -> int:
        del view, events
        after = at + BLOCK
        if len(data) < after:
            return at
        if data[at:after] != _ZEROS:
            raise TarError("a single zero block stands in the tar")
        self._step = self._after_end
        return after

    def _after_end(self, data: bytes, view: memoryview, at: int, events: list[Event]) -> int:
        del events
        self._tail += len(data) - at
        if self._canonical or self._tail > MAX_TAIL or any(view[at:]):
            raise TarError("bytes stand after the end of the tar")
        return len(data)


def _parse_member(block: bytes, pax: _Pax | None, *, canonical: bool) -> Member:
    typeflag = block[156:157]
    kind = _KINDS.get(typeflag)
    path = pax.path if pax and pax.path is not None else _text(block[:NAME_FIELD])
    if kind is None:
        what = _REFUSED.get(typeflag, f"of the unknown type {typeflag.decode('latin-1')!r}")
        raise TarError(f"{shown(path)} is {what}")
    target = None
    if kind == "symlink":
        target = pax.linkpath if pax and pax.linkpath is not None else _text(block[157:257])
    size = _octal(block[124:136], "size", path)
    if pax and pax.size is not None:
        size = pax.size
    if kind != "file" and size:
        raise TarError(f"{shown(path)} is no file and announces content")
    mode = _octal(block[100:108], "mode", path)
    if not canonical:
        _check_block(block, path)
        path = _foreign_path(block, path, pax, kind)
        if mode > 0o777:
            raise TarError(f"{shown(path)} has the mode {mode:o}, beyond 777")
    return Member(
        path=path,
        kind=cast("MemberKind", kind),
        size=size,
        executable=kind == "file" and bool(mode & 0o111),
        target=target,
    )


def _foreign_path(block: bytes, path: str, pax: _Pax | None, kind: str) -> str:
    """The name as writers other than ours put it: with ustar's prefix, a folder with its slash."""
    if (pax is None or pax.path is None) and (prefix := _text(block[345:500])):
        path = f"{prefix}/{path}"
    return path.removesuffix("/") if kind == "directory" else path


def _check_block(block: bytes, name: str) -> None:
    """The sum and the magic; a canonical header needs no such look, for it is compared whole."""
    if block[257:265] != b"ustar\x0000":
        raise TarError(f"the header of {shown(name)} is not in ustar format")
    announced = _octal(block[148:156], "checksum", name)
    for field, (start, end) in _NUMBERS.items():
        if block[start:end].strip(b"\x00 "):
            _octal(block[start:end], field, name)
    if sum(block) - sum(block[148:156]) + 8 * ord(" ") != announced:
        raise TarError(f"the checksum of {shown(name)} is wrong")


def _octal(field: bytes, what: str, name: str) -> int:
    digits = field.rstrip(b"\x00 ")
    if not digits or not _OCTAL.issuperset(digits):
        raise TarError(f"the {what} of {shown(name)} is not an octal number")
    return int(digits, 8)


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise TarError(f"{raw[:NAME_FIELD]!r} is not UTF-8") from None


def _text(field: bytes) -> str:
    return _utf8(field.rstrip(b"\x00"))


def _parse_pax(records: bytes, raw: bytes) -> _Pax:
    found: dict[str, str] = {}
    at = 0
    while at < len(records):
        key, value, at = _parse_record(records, at)
        if key in found:
            raise TarError(f"the PAX record {shown(key)} comes twice")
        if key not in {"path", "linkpath", "size"} and key not in _IGNORED_RECORDS:
            raise TarError(f"the PAX record {shown(key)} is not allowed")
        found[key] = value
    size = found.get("size")
    if size is not None and not (re.fullmatch(r"[1-9][0-9]{9,18}", size) and int(size) >= BIG):
        raise TarError(f"the PAX size {shown(size)} overrides what the header can say itself")
    return _Pax(
        raw=raw, path=found.get("path"), linkpath=found.get("linkpath"), size=int(size) if size else None
    )


def _parse_record(records: bytes, at: int) -> tuple[str, str, int]:
    """Key, value and the next record's place, from one `length key=value` line."""
    space = records.find(b" ", at, at + 6)
    digits = records[at : max(space, at)]
    if not digits.isdigit() or digits.startswith(b"0"):
        raise TarError("a PAX record has no length")
    end = at + int(digits)
    key, equals, value = records[space + 1 : end - 1].partition(b"=")
    if end > len(records) or records[end - 1 : end] != b"\n" or not equals:
        raise TarError("a PAX record does not end where it says")
    return _utf8(key), _utf8(value), end
