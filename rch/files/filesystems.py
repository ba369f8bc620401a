"""Which file system a folder lies on, and whether a lock there can be trusted (spec section 12; fault H6).

On a file system that several machines share, `flock` is kept by each machine for itself, or by a
server that forgets it, and SQLite's write-ahead log cannot work at all.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_BUFFER = 4096
# f_type of Linux's statfs(2), from linux/magic.h.
_LINUX = {
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x517B: "smbfs",
    0x01021997: "9p",
    0x5346414F: "afs",
    0x6B414653: "afs",
}
_FUSE = 0x65735546
_BTRFS = 0x9123683E
_DARWIN_NAME_AT, _DARWIN_NAME_BYTES = 72, 16
_SHARED_NAMES = frozenset(
    {
        "nfs",
        "smbfs",
        "afpfs",
        "webdav",
        "ftp",
        "fuse.sshfs",
        "fuse.rclone",
        "fuse.glusterfs",
    }
)
_MOUNTS = Path("/proc/self/mountinfo")
_POINT, _TYPE_AFTER = 4, "-"


def shared_kind(folder: Path) -> str | None:
    """The name of the shared file system that `folder` lies on; None for any other.

    A folder that cannot be asked is none; `folder` exists.
    """
    try:
        raw = _statfs(folder)
    except OSError:
        return None
    if sys.platform == "darwin":
        name = raw[_DARWIN_NAME_AT : _DARWIN_NAME_AT + _DARWIN_NAME_BYTES].partition(b"\0")[0].decode()
        return name if name in _SHARED_NAMES else None
    magic = _magic(raw)
    if magic == _FUSE:
        # All of FUSE has one number; which one it is stands in the table of mounts alone.
        name = mounted_as(folder.resolve(), _mounts())
        return name if name in _SHARED_NAMES else None
    return _LINUX.get(magic)


def is_btrfs(folder: Path) -> bool:
    """Whether `folder` lies on btrfs; one that cannot be asked does not."""
    try:
        return sys.platform == "linux" and _magic(_statfs(folder)) == _BTRFS
    except OSError:
        return False


def _magic(raw: bytes) -> int:
    return int.from_bytes(raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF


def mounted_as(folder: Path, mountinfo: str) -> str | None:
    """The type of the mount that `folder` lies on, from the text of `/proc/self/mountinfo`."""
    found, longest = None, -1
    for line in mountinfo.splitlines():
        words = line.split(" ")
        if _TYPE_AFTER not in words or len(words) <= _POINT:
            continue
        point = Path(words[_POINT].replace("\\040", " ").replace("\\134", "\\"))
        # Of two at one place the later one lies on top.
        if folder.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = words[words.index(_TYPE_AFTER) + 1], len(point.parts)
    return found


def _mounts() -> str:
    try:
        return _MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return ""


def _statfs(folder: Path) -> bytes:
    """The raw answer of statfs(2), whose type Python's own `statvfs` leaves out."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Intel Macs keep an older layout under the plain name.
    function = getattr(libc, "statfs$INODE64", None) or libc.statfs
    buffer = ctypes.create_string_buffer(_BUFFER)
    if function(os.fsencode(folder), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))
    return buffer.raw
