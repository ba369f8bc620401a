"""The digests' forms, made anew from the contract's words: canonical tar, RFC 8785, DSSE's PAE.

Nothing here is shared with the programs that are checked: who shares a fault with them finds none.
docs/canonical-tar.md and docs/job-key.md have the forms and their vectors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

BLOCK = 512
TAR_END = bytes(2 * BLOCK)
FILE, LINK, HARD_LINK, DEVICE, FIFO, FOLDER = "0", "2", "1", "3", "6", "5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One member of a tar. From `mode` on all is as the form wants it unless a check wants otherwise.

    `pax` writes a record of the name that is short enough to need none.
    """

    path: str
    data: bytes = b""
    target: str = ""
    executable: bool = False
    mode: str | None = None
    uid: int = 0
    mtime: int = 0
    kind: str | None = None
    sum_off_by: int = 0
    magic: bytes = b"ustar\x0000"
    owner: bytes = b""
    padding: bytes = b"\0"
    pax: bool = False

    @property
    def typeflag(self) -> str:
        """The kind that is written."""
        return self.kind if self.kind is not None else LINK if self.target else FILE


def canonical_tar(items: Iterable[Item]) -> bytes:
    """The tar of these members in the order of the bytes of their names."""
    return plain_tar(sorted(items, key=lambda item: item.path.encode()))


def plain_tar(items: Iterable[Item]) -> bytes:
    """The tar of these members in their own order."""
    return b"".join(map(_member, items)) + TAR_END


def _member(item: Item) -> bytes:
    name, target = item.path.encode(), item.target.encode()
    records = b""
    if len(target) > 100 or not target.isascii():
        records += _record(b"linkpath", target)
    if len(name) > 100 or not name.isascii() or item.pax:
        records += _record(b"path", name)
    header = _header(item, name[:100], target[:100])
    if records:
        pax = Item(path="@pax", data=records, kind="x")
        header = _header(pax, b"@pax", b"") + records + bytes(-len(records) % BLOCK) + header
    return header + item.data + item.padding * (-len(item.data) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def _header(item: Item, name: bytes, target: bytes) -> bytes:
    kind = item.typeflag
    usual = "0000777" if kind == LINK else "0000755" if item.executable or kind == FOLDER else "0000644"
    before = (
        name.ljust(100, b"\0")
        + (item.mode or usual).encode()
        + b"\0"
        + b"%07o\0" % item.uid
        + b"0000000\0"
        + b"%011o\0" % len(item.data)
        + b"%011o\0" % item.mtime
    )
    after = (
        kind.encode()
        + target.ljust(100, b"\0")
        + item.magic
        + item.owner.ljust(64, b"\0")
        + b"0000000\0" * 2
        + bytes(167)
    )
    total = sum(before) + 8 * ord(" ") + sum(after) + item.sum_off_by
    return before + b"%06o\0 " % total + after


def sha256(data: bytes) -> str:
    """Hex."""
    return hashlib.sha256(data).hexdigest()


def jcs(value: Any) -> bytes:
    """RFC 8785 of what has no floats. `ValueError` for one."""
    if _has_float(value):
        raise ValueError("a float has no place in a canonical form here")
    # Members are sorted by UTF-16 units, which for names beyond U+FFFF is not the order of code points.
    text = json.dumps(_sorted(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _sorted(value[key]) for key in sorted(value, key=lambda name: name.encode("utf-16-be"))
        }
    return [_sorted(each) for each in value] if isinstance(value, list | tuple) else value


def _has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_float, value))
    return isinstance(value, float)


def jcs_sha256(value: Any) -> str:
    """Hex SHA-256 of the canonical form."""
    return sha256(jcs(value))


def pae(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature is over."""
    kind = payload_type.encode()
    return b" ".join((b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload))
