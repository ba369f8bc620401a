"""`--no-daemon`: a daemon for one call, with state, socket and lock of its own (docs/decisions/0002).

Its folder lies below the state folder, beside a lock that this process holds. The daemon is our child and
reads our end of a pipe: it ends when this process does, whichever way. What a killed call left behind is
removed by the next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rch.contract.errors import Failure, Kind
from rch.files.durable import remove_tree
from rch.files.locks import FileLock, is_free
from rch.files.paths import HostPaths, check_socket_path, host_paths
from rchctl import autostart
from rchctl.client import Client
from rchctl.context import Context

if TYPE_CHECKING:
    import subprocess

# It cancels what runs, sees it to its end and hangs up on its workers.
END_SECONDS = 50.0
SWEEP_SECONDS = 20.0
_FOLDER = "private"
_LOCK = ".lock"


class PrivateContext(Context):
    """The call, with the daemon that is its own."""

    private = True

    def __init__(self, outer: Context, env: Mapping[str, str], process: subprocess.Popen[bytes]) -> None:
        super().__init__(outer.verb, outer.args, outer.console, env)
        self._process = process

    @cached_property
    def paths(self) -> HostPaths:
        """The usual places, but for state and socket."""
        return host_paths(self.env)

    def connect(self, within: float | None = None, *, start: bool = True) -> Client:
        """As `Context.connect`; a daemon that is gone is not started again, whatever `start` says."""
        del start
        if (code := self._process.poll()) is not None:
            raise Failure(
                Kind.DAEMON,
                f"the daemon of this call ended with {code}; so did its run",
                subkind="PRIVATE_ENDED",
                hint=f"rchctl {self.verb} --no-daemon",
            )
        seconds = autostart.START_SECONDS if within is None else min(within, autostart.START_SECONDS)
        return autostart.connect(self.paths, self.env, self.console, may_start=False, within=seconds)


@contextmanager
def own_daemon(context: Context) -> Iterator[PrivateContext]:
    """A daemon that answers until the block is left; `Failure` DAEMON says why there is none."""
    import subprocess

    base = context.paths.state_dir / _FOLDER
    try:
        _sweep(base, context.env)
        lock = _place(base)
    except OSError as error:
        raise Failure(
            Kind.DAEMON,
            f"no daemon can be started: {error.filename or base}: {error.strerror or error}",
            subkind="STATE",
            hint="set RCH_HOME to a folder that can be written",
        ) from error
    folder = _folder_of(lock.path)
    env = _env_of(folder, context.env)
    paths = host_paths(env)
    reads, writes = os.pipe()
    try:
        try:
            process = autostart.spawn(paths, env, "--private", stdin=reads)
        finally:
            os.close(reads)
        try:
            deadline = time.monotonic() + autostart.START_SECONDS
            autostart.until_it_listens(process, paths, 0, deadline).close()
            yield PrivateContext(context, env, process)
        finally:
            os.close(writes)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        _remove(lock)


def _place(base: Path) -> FileLock:
    """The lock of a fresh folder, taken before the folder is there."""
    while True:
        lock = FileLock(base / f"{os.urandom(4).hex()}{_LOCK}", "rchctl --no-daemon")
        if not lock.try_acquire():
            continue
        try:
            for each in _folders(lock.path):
                each.mkdir(0o700)
        except FileExistsError:
            lock.release()
            continue
        return lock


def _folder_of(lock: Path) -> Path:
    return lock.with_name(lock.name.removesuffix(_LOCK))


def _folders(lock: Path) -> list[Path]:
    """The folder, and that of the socket where it is another."""
    folder = _folder_of(lock)
    return list(dict.fromkeys((folder, _socket_of(folder).parent)))


def _socket_of(folder: Path) -> Path:
    """In the folder; where that is too deep for the platform, in a short one of the same name."""
    path = folder / "s"
    try:
        check_socket_path(path.with_name("s.lock.new"))
    except Failure:
        return Path(f"/tmp/rch-{os.getuid()}-{folder.name}/s")  # noqa: S108  (made by us alone, 0700)
    return path


def _env_of(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    return {**env, "RCH_STATE_DIR": str(folder), "RCH_SOCKET": str(_socket_of(folder))}


def _sweep(base: Path, env: Mapping[str, str]) -> None:
    """Remove the folders of calls that were killed; whose daemon still lives has its time."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in {path.name.removesuffix(_LOCK) for path in base.iterdir()}:
        lock = FileLock(base / f"{name}{_LOCK}", "rchctl clears")
        if is_free(_folder_of(lock.path) / "rchd.lock") and lock.try_acquire():
            _end(_folder_of(lock.path), env)
            _remove(lock)


def _end(folder: Path, env: Mapping[str, str]) -> None:
    """Have what a killed daemon left at its worker cancelled, and the worker's slot given back."""
    import subprocess

    if not (folder / "rchd.db").exists():
        return
    own = _env_of(folder, env)
    process = autostart.spawn(host_paths(own), own, "--private")  # without input it ends at once
    try:
        process.wait(SWEEP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remove(lock: FileLock) -> None:
    """The folder, then its lock."""
    with suppress(OSError):
        for each in _folders(lock.path):
            if each.is_dir() and each.stat().st_uid == os.getuid():
                remove_tree(each)
        lock.path.unlink(missing_ok=True)
    lock.release()
