"""File systems without locks that hold: found out by their type, or by the lock's own answer."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest

from rch.files import filesystems
from rch.files.filesystems import mounted_as, shared_kind
from rch.files.locks import FileLock, NoLocks, is_free

pytestmark = [pytest.mark.fault("H6"), pytest.mark.spec("12")]

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 21 0:44 / /home/ann/far\\040away rw,nosuid - fuse.sshfs ann@far: rw,user_id=1000
91 21 0:45 / /home/ann/near rw,nosuid - fuse.bindfs /srv rw
92 91 0:46 / /home/ann/near/nfs rw - nfs4 far:/srv rw,vers=4.2
"""


def answer(magic: int) -> bytes:
    """What statfs(2) of a 64-bit Linux says first."""
    return magic.to_bytes(8, sys.byteorder) + bytes(100)


def open_descriptors() -> int:
    """How many are open, and the one that looks."""
    return len(list(Path("/dev/fd").iterdir()))


def test_the_disk_of_this_machine_is_not_shared(tmp_path: Path) -> None:
    assert shared_kind(tmp_path) is None
    assert shared_kind(tmp_path / "not there") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the numbers are Linux's")
@pytest.mark.parametrize(
    ("magic", "name"),
    [(0x6969, "nfs"), (0xFF534D42, "cifs"), (0xFE534D42, "smb2"), (0x01021997, "9p"), (0xEF53, None)],
)
def test_a_shared_file_system_is_named(
    magic: int, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "_statfs", lambda _folder: answer(magic))
    assert shared_kind(tmp_path) == name


@pytest.mark.skipif(sys.platform != "linux", reason="macOS names it at once")
def test_of_fuse_the_table_of_mounts_tells_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "_statfs", lambda _folder: answer(0x65735546))
    for kind, name in (("fuse.sshfs", "fuse.sshfs"), ("fuse.bindfs", None)):
        text = f"9 1 0:44 / {str(tmp_path).replace(' ', chr(92) + '040')} rw - {kind} x rw\n"
        monkeypatch.setattr(filesystems, "_mounts", lambda text=text: text)
        assert shared_kind(tmp_path) == name


def test_the_mount_of_a_folder_is_the_deepest_above_it() -> None:
    assert mounted_as(Path("/home/ann/far away/state"), MOUNTS) == "fuse.sshfs"
    assert mounted_as(Path("/home/ann/near/x"), MOUNTS) == "fuse.bindfs"
    assert mounted_as(Path("/home/ann/near/nfs/x"), MOUNTS) == "nfs4"
    assert mounted_as(Path("/home/ann/nearby"), MOUNTS) == "ext4"
    assert mounted_as(Path("/x"), "") is None


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_that_refuses_to_lock_is_told_and_nothing_is_held(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = FileLock(tmp_path / "lock")
    before = open_descriptors()
    with pytest.raises(NoLocks) as told:
        lock.try_acquire()
    assert (told.value.filename, lock.held) == (str(tmp_path / "lock"), False)
    assert "its file system has no locks" in str(told.value)
    with pytest.raises(NoLocks):
        is_free(tmp_path / "lock")
    assert open_descriptors() == before
