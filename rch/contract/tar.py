"""canonical_tar@1: header bytes, order, writing (spec section 5; docs/canonical-tar.md).

The same members give the same bytes on every machine, so that the digest of the bytes names
a source. Artifact sets are written in the same form and may hold folders as well.
Reading is in `tar_reader`, the rules for names in `tar_names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from rch.contract.tar_names import Names, TarError, safe_path, shown

__all__ = [
    "END",
    "MAX_UNPACKED_BYTES",
    "Member",
    "TarError",
    "member_header",
    "member_length",
    "padding",
    "safe_path",
    "write_tar",
]

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_UNPACKED_BYTES = 64 << 30
"""Of a source: a worker takes no more, and a host bundles no more."""
NAME_FIELD = 100
PAX_NAME = b"@pax"
BIG = 8 << 30  # a size that eleven octal digits do not hold

MemberKind = Literal["file", "symlink", "directory"]

_MODES = {"file": b"0000644", "symlink": b"0000777", "directory": b"0000755"}
_EXECUTABLE = b"0000755"
_TYPEFLAGS = {"file": b"0", "symlink": b"2", "directory": b"5"}
_IDS = b"0000000\x000000000\x00"
_MTIME = b"00000000000\x00"
_USTAR = b"ustar\x0000"
_DEVICES = _IDS
_IDS_BEFORE_SIZE = b"\x00" + _IDS
_MTIME_BEFORE_SUM = b"\x00" + _MTIME
_NO_LINK = bytes(NAME_FIELD)
_REST = _USTAR + bytes(64) + _DEVICES + bytes(167)
_BLANK_SUM = sum(b" " * 8)
_FIXED_SUM = sum(_IDS) + sum(_MTIME) + sum(_USTAR) + sum(_DEVICES) + _BLANK_SUM


_PLAIN_KINDS: dict[bytes, tuple[MemberKind, bool]] = {
    b"00006440": ("file", False),
    b"00007550": ("file", True),
    b"00007772": ("symlink", False),
    b"00007555": ("directory", False),
}
"""Mode and typeflag of a header to its kind, and whether it may be executed."""
_IDS_AT, _SIZE_AT, _REST_AT = 107, 124, 257


class Member(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry: `size` in bytes (0 unless a file), `executable` of files, `target` of links.

    A folder's path has no trailing slash, here and in the header.
    """

    path: str
    kind: MemberKind = "file"
    size: int = 0
    executable: bool = False
    target: str | None = None


def member_header(member: Member) -> bytes:
    """The header block, after the PAX entry where a field does not fit: its name is not checked."""
    name, link = member.path.encode(), (member.target or "").encode()
    if (member.kind == "symlink") != bool(link) or (member.kind != "file" and member.size):
        raise TarError(f"{shown(member.path)} has a target or a size that its kind does not have")
    records = b""
    if len(link) > NAME_FIELD or not link.isascii():
        records += _record(b"linkpath", link)
    if len(name) > NAME_FIELD or not name.isascii():
        records += _record(b"path", name)
    if member.size >= BIG:
        records += _record(b"size", b"%d" % member.size)
    mode = _EXECUTABLE if member.executable else _MODES[member.kind]
    size = member.size if member.size < BIG else 0
    header = _block(name[:NAME_FIELD], mode, size, _TYPEFLAGS[member.kind], link[:NAME_FIELD])
    if not records:
        return header
    pax = _block(PAX_NAME, _MODES["file"], len(records), b"x", b"")
    return pax + records + padding(len(records)) + header


def plain_member(block: bytes) -> Member | None:
    """The member whose whole header is `block`, to the byte; None for what needs a closer look.

    As `member_header` on the way back, for the many that need no PAX entry. Its name is not checked.
    """
    if block[_REST_AT:] != _REST or block[_IDS_AT:_SIZE_AT] != _IDS_BEFORE_SIZE:
        return None
    kind = _PLAIN_KINDS.get(block[100:107] + block[156:157])
    name, digits, link = block[:NAME_FIELD].rstrip(b"\x00"), block[124:135], block[157:257].rstrip(b"\x00")
    if kind is None or not name.isascii() or not digits.isdigit() or (kind[0] == "symlink") != bool(link):
        return None
    try:
        size = int(digits, 8)
    except ValueError:
        return None
    if (size and kind[0] != "file") or not link.isascii():
        return None
    if _block(name, block[100:107], size, block[156:157], link) != block:
        return None
    return Member(
        path=name.decode(), kind=kind[0], size=size, executable=kind[1], target=link.decode() or None
    )


def padding(size: int) -> bytes:
    """The zeros after `size` bytes of content, up to the block's end."""
    return bytes(-size % BLOCK)


def member_length(member: Member) -> int:
    """All bytes of a member in the tar: headers, content, padding."""
    plain = member.kind == "file" and member.size < BIG and member.path.isascii()
    header = BLOCK if plain and len(member.path) <= NAME_FIELD else len(member_header(member))
    return header + member.size + -member.size % BLOCK


def write_tar(members: Iterable[tuple[Member, Iterable[bytes]]], *, canonical: bool) -> Iterator[bytes]:
    """The tar's bytes in pieces, from members and the pieces of their content.

    `canonical` asks for a source: rising order, no folders. `TarError` for an unfit name, a name
    that comes twice, wrong order, or content that is not as long as its member says.
    """
    names = Names()
    last = ""
    for member, chunks in members:
        take_name(names, member)
        if canonical:
            require_canonical_place(member, last)
            last = member.path
        yield member_header(member)
        left = member.size
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
        if left:
            raise TarError(f"{shown(member.path)} does not hold the {member.size} bytes it announced")
        yield padding(member.size)
    names.check_links()
    yield END


def take_name(names: Names, member: Member) -> None:
    """Take the member's name into the set; `TarError` if it is unfit or taken."""
    safe_path(member.path)
    if member.kind == "directory":
        names.add_folder(member.path)
    elif member.kind == "symlink":
        names.add_link(member.path, member.target or "")
    else:
        names.add(member.path)


def require_canonical_place(member: Member, last: str) -> None:
    """`TarError` unless `member` may follow the name `last` in a source tar."""
    if member.kind == "directory":
        raise TarError(f"{shown(member.path)} is a folder entry, which a source does not have")
    # UTF-8 keeps the order of code points, so strings compare as their bytes do.
    if member.path <= last:
        raise TarError(f"{shown(member.path)} comes after {shown(last)}, against the order of bytes")


def _record(key: bytes, value: bytes) -> bytes:
    """One PAX record: its decimal length counts itself."""
    body = b" %b=%b\n" % (key, value)
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d%b" % (length, body)


def _block(name: bytes, mode: bytes, size: int, typeflag: bytes, link: bytes) -> bytes:
    digits = b"%011o" % size
    total = _FIXED_SUM + sum(b"".join((name, mode, digits, typeflag, link)))
    return b"".join(
        (
            name.ljust(NAME_FIELD, b"\x00"),
            mode,
            _IDS_BEFORE_SIZE,
            digits,
            _MTIME_BEFORE_SUM,
            b"%06o\x00 " % total,
            typeflag,
            link.ljust(NAME_FIELD, b"\x00") if link else _NO_LINK,
            _REST,
        )
    )
