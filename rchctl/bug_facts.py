"""The facts of a bug report: versions, config, places, the database in numbers, the daemon's own word."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sqlite3
import stat
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import rch
from rch.contract.errors import Failure
from rch.contract.extras import DISTRIBUTION
from rch.files.locks import FileLock, is_free
from rch.files.paths import HostPaths
from rchctl.client import Client

_TOOLS = ("git", "ssh", "swift", "xcodebuild", "systemctl", "launchctl")
_ENV = ("RCH_", "XDG_")
_ENV_ALSO = ("PATH", "LANG", "LC_ALL", "TERM", "SHELL", "SSH_AUTH_SOCK", "TMPDIR")


def versions() -> dict[str, Any]:
    """Ours, Python's, the system's, and those of what we depend on."""
    names = [
        word.split(">")[0].split("=")[0].strip()
        for word in metadata.requires(DISTRIBUTION) or ()
        if ";" not in word
    ]
    found = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return {
        "rch": rch.__version__,
        "python": sys.version,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "sqlite": sqlite3.sqlite_version,
        "dependencies": found,
        "tools": {name: shutil.which(name) for name in _TOOLS},
    }


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that have a say, and no others."""
    return {
        name: value for name, value in sorted(env.items()) if name.startswith(_ENV) or name in _ENV_ALSO
    }


def tables(path: Path) -> Any:
    """What a config file holds, without its comments; why, where that cannot be told."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return {"unreadable": f"{type(error).__name__}: {error}"[:300]}


def places(paths: HostPaths) -> dict[str, Any]:
    """Each place with owner, mode and size, the room on its disk, and who holds the locks."""
    named: dict[str, Path] = {
        "config": paths.config_dir,
        "data": paths.data_dir,
        "state": paths.state_dir,
        "artifacts": paths.artifacts,
        "spool": paths.spool,
        "socket": paths.socket,
        "database": paths.database,
        "wal": paths.database.with_name(paths.database.name + "-wal"),
        "log": paths.log,
    }
    found: dict[str, Any] = {name: _place(path) for name, path in named.items()}
    found["locks"] = {
        lock.name: "free" if is_free(lock) else FileLock(lock).holder() or "held"
        for lock in (paths.lock, paths.socket_lock, paths.start_lock)
    }
    with suppress(OSError):
        found["runs_on_disk"] = sum(1 for _ in paths.artifacts.iterdir())
    return found


def _place(path: Path) -> dict[str, Any]:
    try:
        info = path.lstat()
    except OSError as error:
        return {"path": str(path), "error": error.strerror}
    told: dict[str, Any] = {
        "path": str(path),
        "mode": stat.filemode(info.st_mode),
        "mine": info.st_uid == os.geteuid(),
        "bytes": info.st_size,
    }
    if stat.S_ISDIR(info.st_mode):
        usage = os.statvfs(path)
        told["disk_free"] = usage.f_bavail * usage.f_frsize
        told["inodes_free"] = usage.f_favail
    return told


def database(path: Path) -> dict[str, Any]:
    """Counts and pages; nothing of any row."""
    if not path.exists():
        return {"there": False}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as con:
            return {
                "there": True,
                "schema_version": _one(con, "PRAGMA user_version"),
                "pages": _one(con, "PRAGMA page_count"),
                "free_pages": _one(con, "PRAGMA freelist_count"),
                "page_bytes": _one(con, "PRAGMA page_size"),
                "journal": _one(con, "PRAGMA journal_mode"),
                "runs": dict(con.execute("SELECT state, count(*) FROM runs GROUP BY state")),
                "jobs": dict(con.execute("SELECT state, count(*) FROM jobs GROUP BY state")),
                "events": _one(con, "SELECT count(*) FROM events"),
                "longest_run_bytes": _one(con, "SELECT max(length(doc)) FROM runs"),
            }
    except sqlite3.Error as error:
        return {"there": True, "error": str(error)}


def _one(con: sqlite3.Connection, query: str) -> Any:
    return con.execute(query).fetchone()[0]


def daemon(paths: HostPaths) -> dict[str, Any]:
    """What a daemon that runs says of itself; none is started."""
    told: dict[str, Any] = {}
    try:
        client = Client.open(paths)
    except Failure as failure:
        return {"error": failure.message}
    try:
        for name, ask in _questions(client):
            try:
                told[name] = ask()
            except Failure as failure:
                told[name] = {"error": failure.message}
    finally:
        client.close()
    return told


def _questions(client: Client) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "hello", lambda: client.hello(any_version=True)
    yield "health", lambda: client.call("daemon.health", {})
    yield "workers", lambda: client.call("workers.list", {})
    yield "metrics", lambda: client.call("daemon.metrics", {})


def own_names() -> list[tuple[str, str]]:
    """What this machine and its user are called."""
    import pwd

    names = [("host", socket.gethostname())]
    with suppress(KeyError):
        names.append(("user", pwd.getpwuid(os.geteuid()).pw_name))
    return names
