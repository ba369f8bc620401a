"""What `rchctl doctor` looks at on this machine; nothing is changed, a daemon is started at most."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import rch
from rch.contract.errors import Failure
from rch.doctor.findings import CONFIG, DAEMON
from rch.doctor.host import Config, Daemon, Host, Place, Tool
from rch.files.filesystems import shared_kind
from rch.files.locks import FileLock, NoLocks, is_free
from rch.files.paths import HostPaths, check_socket_path
from rchctl.client import Client
from rchctl.context import Context

_TOOLS = (
    ("git", "sources are told from what git ignores by it"),
    ("ssh-keygen", "rchctl workers key makes and reads keys by it"),
    ("ssh-add", "keys with a passphrase are given to an agent by it"),
)


def host_facts(context: Context) -> tuple[Host, Client | None]:
    """The facts, and a greeted connection where there is one, which the caller closes."""
    paths = context.paths
    refusal = None
    try:
        check_socket_path(paths.socket)
    except Failure as failure:
        refusal = failure.message
    daemon, client = Daemon(listens=False, socket=str(paths.socket), log=str(paths.log)), None
    if refusal is None:
        daemon, client = _daemon(context)
    host = Host(
        places=_places(paths),  # after the daemon, which makes what is missing
        daemon=daemon,
        config=_config(paths),
        tools=tuple(Tool(name, shutil.which(name), why) for name, why in _TOOLS),
        socket_refusal=refusal,
    )
    return host, client


# --- places -----------------------------------------------------------------------------


def _places(paths: HostPaths) -> tuple[Place, ...]:
    return (
        _place("config folder", paths.config_dir, code=CONFIG),
        _place("config file", paths.config_toml, code=CONFIG),
        _place("inventory", paths.workers_toml, code=CONFIG),
        _place("state folder", paths.state_dir, private=True, disk=True),
        _place("artifacts", paths.artifacts, disk=True),
        _place("socket's folder", paths.run_dir, private=True),
    )


def _place(
    name: str, path: Path, *, private: bool = False, disk: bool = False, code: int = DAEMON
) -> Place:
    try:
        found = path.stat()
    except OSError:
        return Place(name, str(path), None, private=private, code=code)
    shared = bool(found.st_mode & stat.S_ISVTX)  # as /tmp, where RCH_SOCKET may point
    folder = stat.S_ISDIR(found.st_mode)
    return Place(
        name,
        str(path),
        mode=_rights(found.st_mode),
        own=shared or found.st_uid == os.geteuid(),
        writable=os.access(path, os.R_OK | (os.W_OK | os.X_OK if folder else 0)),
        private=private and not shared,
        shared=shared_kind(path) if disk else None,
        free_bytes=shutil.disk_usage(path).free if disk else None,
        code=code,
    )


def _rights(mode: int) -> int:
    """The rights that matter: in a folder with the sticky bit nobody removes what is another's."""
    bits = stat.S_IMODE(mode)
    return bits & 0o755 if bits & stat.S_ISVTX else bits & 0o777


# --- the daemon -------------------------------------------------------------------------


def _daemon(context: Context) -> tuple[Daemon, Client | None]:
    """Look before a daemon is started, then let it be started as any verb would."""
    paths = context.paths
    listens = _listens(paths)
    held, holder = _lock(paths)
    daemon = Daemon(
        listens=listens,
        socket=str(paths.socket),
        log=str(paths.log),
        socket_left=not listens and not held and _is_socket(paths.socket),
        lock_held=held,
        holder=holder,
        ours=rch.__version__,
    )
    if not listens and (held or not context.may_start):
        return daemon, None
    client = None
    try:
        client = context.connect()
        health = client.call("daemon.health", {})
    except Failure as failure:
        if client is not None:
            client.close()
        return daemon._replace(refusal=(failure.message, failure.hint, failure.exit_code)), None
    return daemon._replace(
        listens=True,
        began=not listens,
        socket_left=False,
        version=str(health.get("version")),
        status=str(health.get("status")),
        activity=str(health.get("activity")),
    ), client


def _listens(paths: HostPaths) -> bool:
    try:
        Client.open(paths).close()
    except Failure:
        return False
    return True


def _lock(paths: HostPaths) -> tuple[bool, str | None]:
    try:
        held = not is_free(paths.lock)
    except (NoLocks, OSError):
        return False, None
    return held, FileLock(paths.lock, "").holder() if held else None


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


# --- config -----------------------------------------------------------------------------


def _config(paths: HostPaths) -> Config:
    """Every file is read, so that one mistake does not hide another's file."""
    from rch.config.inventory import load_inventory
    from rch.config.layers import load_config
    from rch.config.root import find_root
    from rch.config.sources import Origin, file_layer, is_there

    found, wrong, project, why = [], [], None, ""
    try:
        root = find_root(Path.cwd())
        resolved = load_config(root, host_config=paths.config_toml, overrides={})
        project = str(root.path)
        found += [str(each.path) for each in resolved.sources if each.path]
    except Failure as failure:
        if failure.subkind == "NO_PROJECT":
            why = "none in this folder"
        else:
            wrong.append((failure.message, failure.hint, failure.exit_code))
    try:
        if why and is_there(paths.config_toml):
            found.append(str(file_layer(paths.config_toml, Origin.HOST).path))
    except Failure as failure:
        wrong.append((failure.message, failure.hint, failure.exit_code))
    try:
        if not load_inventory(paths.workers_toml).implied_local:
            found.append(str(paths.workers_toml))
    except Failure as failure:
        wrong.append((failure.message, failure.hint, failure.exit_code))
    return Config(good=tuple(found), wrong=tuple(wrong), project=project, why_no_project=why)
