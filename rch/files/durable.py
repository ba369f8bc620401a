"""Writes that survive a crash (spec section 4).

Bytes into a temporary file of the same directory, fsync, rename, fsync of the directory.
At every moment the name holds the old content or the new, whole. A failed fsync raises
and is never tried again: after one, the kernel may have dropped the pages and would
report success for bytes that are gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import threading

T = TypeVar("T")

_TEMP = re.compile(r"\.rch-[0-9a-f]{16}\.tmp")
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
# What a file system without F_FULLFSYNC answers; the flush was not tried, so fsync is no retry.
_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL})
# Deeper folders are moved up before they are emptied: one descriptor and one frame a level.
_MAX_DEPTH = 64
_SYNCS_AT_ONCE = 8
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class System:
    """The calls that a fault may hit. Tests put a failing one in the place of `_sys`."""

    def create(self, path: Path) -> int:
        """A new file, 0600, open for writing; never one that exists, never through a link."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)

    def write(self, fd: int, data: memoryview) -> int:
        """As `os.write`: may write less than asked."""
        return os.write(fd, data)

    def chmod(self, fd: int, mode: int) -> None:
        """As `os.fchmod`."""
        os.fchmod(fd, mode)

    def sync(self, fd: int) -> None:
        """Down to the medium: `F_FULLFSYNC` where there is one, else fsync."""
        full = getattr(fcntl, "F_FULLFSYNC", None)
        if full is not None:
            try:
                fcntl.fcntl(fd, full)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
            else:
                return
        os.fsync(fd)

    def rename(self, src: Path, dst: Path) -> None:
        """As `os.rename`."""
        os.rename(src, dst)  # noqa: PTH104  (one seam, one style)

    def mkdir(self, path: Path, mode: int) -> None:
        """As `os.mkdir`."""
        os.mkdir(path, mode)  # noqa: PTH102  (as above)


_sys = System()


def is_no_space(error: OSError) -> bool:
    """Whether `error` says that the disk or the quota is full."""
    return error.errno in _NO_SPACE


def temp_name(path: Path) -> Path:
    """A fresh name beside `path`, for bytes that are not yet what `path` promises."""
    return path.with_name(f".rch-{os.urandom(8).hex()}.tmp")


def is_temp_name(name: str) -> bool:
    """Whether `temp_name` made `name`: what a sweep at start may remove."""
    return _TEMP.fullmatch(name) is not None


def sync_file(fd: int) -> None:
    """Make the bytes of an open file durable; raises once, for good."""
    _sys.sync(fd)


def sync_dir(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sys.sync(fd)
    finally:
        os.close(fd)


def _fill(temp: Path, data: bytes, mode: int, *, sync: bool = True) -> None:
    fd = _sys.create(temp)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[_sys.write(fd, rest) :]
        _sys.chmod(fd, mode)
        if sync:
            _sys.sync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path`, whole whenever the process ends, but not yet safe from a power cut.

    For what can be made anew from what is durable already.
    """
    _put(path, data, mode, sync=False)


def sync_path(path: Path) -> None:
    """Make the bytes of a file durable, or the names in a folder; `OSError` if it is gone."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _sys.sync(fd)
    finally:
        os.close(fd)


def sync_all(paths: Iterable[Path]) -> None:
    """`sync_path` for many files and folders, side by side: they share the file system's commits.

    Raises what the first failure was, once none is under way any more.
    """
    _side_by_side(sync_path, paths)


def sync_and_close(fds: Iterable[int]) -> None:
    """`sync_file` for many open files, as `sync_all`; each is closed, also after a failure."""
    unsynced = list(fds)
    try:
        _side_by_side(sync_file, unsynced)
    finally:
        for fd in unsynced:
            os.close(fd)


def _side_by_side(act: Callable[[T], None], things: Iterable[T]) -> None:
    left = deque(things)
    errors: list[BaseException] = []

    def work() -> None:
        while left and not errors:
            try:
                act(left.popleft())
            except IndexError:
                return  # another one took the last
            except BaseException as error:  # noqa: BLE001  (raised by whoever asked)
                errors.append(error)

    helpers = _helpers(work, min(len(left), _SYNCS_AT_ONCE) - 1)
    work()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]


def _helpers(work: Callable[[], None], many: int) -> list[threading.Thread]:
    """Threads that do `work`, as many as the machine has to spare."""
    import threading

    helpers: list[threading.Thread] = []
    for _ in range(many):
        helper = threading.Thread(target=work, name="sync")
        try:
            helper.start()
        except RuntimeError:
            break
        helpers.append(helper)
    return helpers


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path`, whole and durable, with exactly `mode`; `OSError` otherwise.

    After an error of the last step (the directory's fsync) the new content is in place
    but may be lost with the power; after any other the old one stands.
    """
    _put(path, data, mode, sync=True)
    sync_dir(path.parent)


def _put(path: Path, data: bytes, mode: int, *, sync: bool) -> None:
    temp = temp_name(path)
    try:
        _fill(temp, data, mode, sync=sync)
        _sys.rename(temp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise


def replace(src: Path, dst: Path) -> None:
    """Rename `src` to `dst` durably. The bytes of `src` must be durable already."""
    _sys.rename(src, dst)
    sync_dir(dst.parent)
    if src.parent != dst.parent:
        sync_dir(src.parent)


def make_dirs(path: Path, mode: int = 0o700) -> None:
    """Make `path` and its missing parents, each durable; what exists keeps its mode."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            _sys.mkdir(folder, mode)
        except FileExistsError:
            if not folder.is_dir():  # a file, or a link to nowhere: not another maker's folder
                raise
        sync_dir(folder.parent)


def remove_tree(path: Path) -> None:
    """Remove `path` and all below; a link is removed, never followed. Missing is done.

    Folders that forbid it by their mode are opened up first. `OSError` if something stays.
    """
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode):
        path.unlink(missing_ok=True)
        return
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _remove_folder(parent, path.name, None, 0)
    finally:
        os.close(parent)


def _open_folder(parent: int, name: str) -> int:
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    return fd


def _remove_folder(parent: int, name: str, top: int | None, depth: int) -> None:
    """Remove one folder. `top` is the root of the removal, where deep folders are moved to."""
    try:
        fd = _open_folder(parent, name)
    except FileNotFoundError:
        return
    try:
        while _empty(fd, fd if top is None else top, depth) and top is None:
            pass  # folders were moved up from below: they are names of the root now
    finally:
        os.close(fd)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=parent)


def _empty(fd: int, top: int, depth: int) -> bool:
    """Remove what a folder holds; whether something was there."""
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
        elif depth < _MAX_DEPTH:
            _remove_folder(fd, name, top, depth + 1)
        else:
            os.close(_open_folder(fd, name))  # a folder is moved only if it may be written
            os.rename(name, f".rch-{os.urandom(8).hex()}.tmp", src_dir_fd=fd, dst_dir_fd=top)
    return bool(found)
