"""The name that the daemon listens at: whose it is, and that it stays there (faults H6, H7)."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.files.locks import FileLock, NoLocks
from rch.files.paths import check_socket_path

BACKLOG = 512


@contextmanager
def listening(path: Path, given: socket.socket | None = None) -> Iterator[Listener]:
    """A listener at `path`, 0600 from its first instant, gone at the end if still ours.

    `given` listens there already: its name is the service manager's, and stays.
    `Failure` DAEMON where the path is too long, its folder is not ours alone, or another
    daemon holds it, or something that is no socket lies there.
    """
    listener = Listener(path, given)
    try:
        listener.open()
        yield listener
    finally:
        listener.close()


class Listener:
    """A listening socket and the lock beside its name; `sock` is the one that listens now."""

    def __init__(self, path: Path, given: socket.socket | None = None) -> None:
        check_socket_path(path)
        self.path = path
        # Bound under this name first: a client never meets a socket that does not listen yet.
        self._temp = path.with_name(f".{os.getpid():x}")
        check_socket_path(self._temp)
        self._lock: FileLock | None = None
        self._inode = -1
        self._is_given = given is not None
        self.sock = given or socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def open(self) -> None:
        """Take the lock and the name."""
        _own_folder(self.path.parent)
        if not self._has_lock():
            self._take_lock()
        if self._is_given:
            self._inode = self.path.lstat().st_ino
        else:
            self._inode = _bind(self.sock, self._temp, self.path)

    def _has_lock(self) -> bool:
        """Whether the lock that we hold is still the one beside the name."""
        if self._lock is None:
            return False
        try:
            return self._lock.path.stat().st_ino == os.fstat(self._lock.fd).st_ino
        except OSError:
            return False

    def _take_lock(self) -> None:
        lock = FileLock(self.path.with_name(self.path.name + ".lock"), "rchd")
        try:
            taken = lock.try_acquire()
        except NoLocks as error:
            message = f"the socket's lock {lock.path} cannot be taken: {error.strerror}"
            hint = "set RCH_SOCKET to a path on a disk of this machine"
            raise Failure(Kind.DAEMON, message, subkind="SOCKET_PATH", hint=hint) from error
        if not taken:
            raise Failure(
                Kind.DAEMON,
                f"another daemon listens at {self.path} ({lock.holder() or 'holder unknown'})",
                subkind="ALREADY_RUNNING",
            )
        if self._lock is not None:
            self._lock.release()
        self._lock = lock

    def is_lost(self) -> bool:
        """Whether the name leads elsewhere or nowhere: a logout or a cleaner may have removed it."""
        try:
            return self.path.lstat().st_ino != self._inode
        except OSError:
            return True

    def renew(self) -> socket.socket:
        """Listen at the name again, with a new socket; `Failure` or `OSError` if it cannot be had."""
        before, self.sock = self.sock, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A name that was the service manager's is gone for it too: from now on it is ours.
        was_given, self._is_given = self._is_given, False
        try:
            self.open()
        except BaseException:
            self.sock.close()
            self.sock, self._is_given = before, was_given
            raise
        return self.sock

    def close(self) -> None:
        """Leave; the name goes only if it is still ours."""
        with contextlib.suppress(OSError):
            if not self._is_given and self._inode >= 0 and self.path.lstat().st_ino == self._inode:
                self.path.unlink()
        self.sock.close()
        with contextlib.suppress(OSError):
            self._temp.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release()


def _bind(sock: socket.socket, temp: Path, path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Failure(
                Kind.DAEMON,
                f"{path} is there and is no socket",
                subkind="SOCKET_PATH",
                hint="move it away, or set RCH_SOCKET to another path",
            )
    temp.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        sock.bind(str(temp))
    finally:
        os.umask(mask)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    inode = temp.stat().st_ino
    temp.rename(path)
    return inode


def _own_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise _bad_folder(folder, f"belongs to uid {found.st_uid}, not to {os.geteuid()}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise _bad_folder(folder, f"has mode {stat.S_IMODE(found.st_mode):04o}, 0700 is needed")


def _bad_folder(folder: Path, what: str) -> Failure:
    message = f"the socket's folder {folder} {what}"
    return Failure(
        Kind.DAEMON, message, subkind="SOCKET_PATH", hint=f"chmod 700 {folder}, or set RCH_SOCKET"
    )
