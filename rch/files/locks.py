"""Locks between processes: `flock` on a descriptor that is kept open (spec sections 3.3, 12).

The kernel frees a lock when the last descriptor of it closes, so it outlives its taker in
a child that was handed the descriptor and never outlives both. What a lock file says about
its holder is for messages; nothing is ever decided by a pid. A lock file is not deleted:
its inode is the lock.

Holders lock exclusively. Who only asks whether a lock is free locks shared for an instant;
a taker that meets just askers tries again, so asking never makes a taker fail.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

DEFAULT_WAIT_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.05
_ASKER_TRIES = 200
_TEXT_LIMIT = 200


_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


class NoLocks(OSError):  # noqa: N818  (it says what is so)
    """The file system has no locks. `filename` is the lock's path where it is known."""


def _locked(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            why = f"its file system has no locks ({error.strerror})"
            raise NoLocks(error.errno, why) from error
        raise
    return True


def _take(fd: int) -> bool:
    """Lock exclusively unless a holder has it; askers are waited for."""
    for _ in range(_ASKER_TRIES):
        if _locked(fd, fcntl.LOCK_EX):
            return True
        if not _locked(fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(_FIRST_PAUSE_SECONDS * (0.5 + os.urandom(1)[0] / 255))
    return False


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def is_free(path: Path | str) -> bool:
    """Whether nobody holds the lock at `path`; a missing file is free."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return True
    try:
        return _locked(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


class FileLock:
    """One exclusive lock at `path`; `what` tells others who has it.

    Use from one thread. `with FileLock(path):` waits `DEFAULT_WAIT_SECONDS`.
    """

    def __init__(self, path: Path, what: str = "") -> None:
        self.path = path
        self._what = what
        self._fd: int | None = None

    @classmethod
    def adopt(cls, fd: int, path: Path) -> Self:
        """The lock that a parent handed over as `fd` (`pass_fds`); `ValueError` if it is none.

        `fd` belongs to the result and is not passed on to further children.
        """
        if not _same_file(fd, path):
            raise ValueError(f"descriptor {fd} is not the lock file {path}")
        if not _take(fd):
            raise ValueError(f"descriptor {fd} does not hold the lock {path}")
        os.set_inheritable(fd, False)
        lock = cls(path)
        lock._fd = fd
        return lock

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._fd is not None

    @property
    def fd(self) -> int:
        """The held descriptor, to hand to a child; `ValueError` if not held."""
        if self._fd is None:
            raise ValueError(f"the lock {self.path} is not held")
        return self._fd

    def try_acquire(self) -> bool:
        """Take the lock if it is free; True also if this object has it already.

        Makes the file and its folder if need be. `NoLocks` where the file system has none.
        """
        if self._fd is not None:
            return True
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                taken = _take(fd)
                current = taken and _same_file(fd, self.path)
            except NoLocks as error:
                os.close(fd)
                raise NoLocks(error.errno, error.strerror, str(self.path)) from error
            except BaseException:
                os.close(fd)
                raise
            if current:
                self._fd = fd
                self.describe(self._what)
                return True
            os.close(fd)
            if not taken:
                return False
            # The file was replaced between open and lock: the name's new inode is the lock now.

    def acquire(self, timeout: float) -> None:
        """Take the lock within `timeout` seconds; `TimeoutError` names the holder."""
        deadline = time.monotonic() + timeout
        pause = _FIRST_PAUSE_SECONDS
        while not self.try_acquire():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self.path} is held by {self.holder() or 'another process'}")
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def release(self) -> None:
        """Let go. A child that was handed the descriptor keeps the lock alive."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)  # never LOCK_UN: it would unlock the child's copy too

    def describe(self, what: str) -> None:
        """Write who holds the lock, for messages. A full disk does not matter here."""
        text = " ".join(f"pid {os.getpid()} {what}".split())[:_TEXT_LIMIT] + "\n"
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, text.encode("utf-8", "replace"), 0)

    def holder(self) -> str | None:
        """What the holder wrote about itself; None if the lock is free or it wrote nothing."""
        if is_free(self.path):
            return None
        try:
            with self.path.open("rb") as file:
                text = file.read(4 * _TEXT_LIMIT).decode("utf-8", "replace")
        except OSError:
            return None
        line = "".join(char for char in text.partition("\n")[0] if char.isprintable())
        return line[:_TEXT_LIMIT] or None

    def __enter__(self) -> Self:
        self.acquire(DEFAULT_WAIT_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
