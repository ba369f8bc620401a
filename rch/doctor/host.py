"""This machine: places, daemon, config and tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rch.doctor.findings import CONFIG, DAEMON, Finding, Fix, failed, good, warning

FEW_BYTES, VERY_FEW_BYTES = 5 << 30, 256 << 20
_PRIVATE, _OTHERS_WRITE, _OTHERS = 0o700, 0o022, 0o077


class Place(NamedTuple):
    """A folder or file of ours. `mode` is None where it is not there; `shared` names a network file system.

    `private`: others have no business in it. `code` is that of a failure.
    """

    name: str
    path: str
    mode: int | None
    own: bool = True
    writable: bool = True
    private: bool = False
    shared: str | None = None
    free_bytes: int | None = None
    code: int = DAEMON


class Daemon(NamedTuple):
    """The daemon, as it was found. `refusal` is why it cannot be spoken with, and what mends that.

    `began`: this call has started it. `status` and `version` are its own words.
    """

    listens: bool
    socket: str
    log: str
    socket_left: bool = False
    lock_held: bool = False
    holder: str | None = None
    began: bool = False
    version: str | None = None
    ours: str = ""
    status: str | None = None
    activity: str = ""
    refusal: tuple[str, str | None, int] | None = None


class Config(NamedTuple):
    """The files that are good, and what is wrong in others: message, remedy, exit code."""

    good: tuple[str, ...] = ()
    wrong: tuple[tuple[str, str | None, int], ...] = ()
    project: str | None = None
    why_no_project: str = ""


class Tool(NamedTuple):
    """A program that is called; `why` says what for."""

    name: str
    path: str | None
    why: str


class Host(NamedTuple):
    """All that is looked at here. `socket_refusal`: the socket's path cannot be used."""

    places: tuple[Place, ...]
    daemon: Daemon
    config: Config
    tools: tuple[Tool, ...]
    socket_refusal: str | None = None


def host_findings(host: Host) -> list[Finding]:
    """In the order in which things are needed."""
    found = [each for place in host.places for each in _place(place)]
    if host.socket_refusal is not None:
        found.append(
            failed("socket", host.socket_refusal, "set RCH_SOCKET or RCH_HOME to a shorter path", DAEMON)
        )
    found += _daemon(host.daemon)
    found += _config(host.config)
    found += [_tool(tool) for tool in host.tools]
    return found


def _place(place: Place) -> Iterator[Finding]:
    if place.mode is None:
        yield good(place.name, f"{place.path} is not there yet")
        return
    spelled = f"{place.path} ({place.mode:04o})"
    mode = _PRIVATE if place.private else place.mode & ~_OTHERS_WRITE
    mend, fix = f"chmod {mode:o} {place.path}", Fix("mode", place.path, mode)
    if not place.own:
        yield failed(
            place.name, f"{spelled} belongs to another user", f"sudo chown $USER {place.path}", place.code
        )
    elif not place.writable:
        yield failed(place.name, f"{spelled} cannot be written", f"chmod u+rwx {place.path}", place.code)
    elif place.mode & _OTHERS_WRITE:
        yield failed(place.name, f"{spelled} can be written by others", mend, place.code, fix=fix)
    elif place.private and place.mode & _OTHERS:
        yield warning(place.name, f"{spelled} can be read by others", mend, fix=fix)
    else:
        yield good(place.name, spelled)
    if place.shared is not None:
        yield failed(
            place.name,
            f"{place.path} is on a network file system ({place.shared}), where locks cannot be trusted",
            "set RCH_HOME to a folder on a disk of this machine",
            place.code,
        )
    if place.free_bytes is not None:
        yield _free(place.name, place.path, place.free_bytes)


def _free(name: str, path: str, free: int) -> Finding:
    said = f"{free / (1 << 30):.1f} GiB are free at {path}"
    check = f"{name}: free disk"
    if free < VERY_FEW_BYTES:
        return failed(check, said, f"free space at {path}", DAEMON)
    if free < FEW_BYTES:
        return warning(check, said, f"free space at {path}")
    return good(check, said)


def _daemon(daemon: Daemon) -> Iterator[Finding]:
    if daemon.socket_left:
        yield warning(
            "socket",
            f"{daemon.socket} is left of a daemon that is gone",
            "rchctl doctor --fix",
            fix=Fix("unlink", daemon.socket),
        )
    if daemon.refusal is not None:
        message, remedy, code = daemon.refusal
        yield failed("daemon", message, remedy, code)
        return
    if not daemon.listens and daemon.lock_held:
        yield failed(
            "daemon",
            f"a daemon ({daemon.holder or 'pid unknown'}) runs and does not listen at {daemon.socket}",
            f"see RCH_SOCKET, and {daemon.log}",
            DAEMON,
        )
        return
    if not daemon.listens:
        yield warning("daemon", f"none runs at {daemon.socket}", "rchctl daemon start")
        return
    if daemon.version != daemon.ours:
        yield warning(
            "daemon",
            f"rchd {daemon.version} runs, and {daemon.ours} is installed",
            "rchctl daemon restart",
            fix=Fix("restart"),
        )
    elif daemon.status == "draining":
        yield warning("daemon", "it drains and takes no runs", "rchctl daemon resume")
    else:
        began = ", started for this" if daemon.began else ""
        yield good("daemon", f"rchd {daemon.version} at {daemon.socket}{began}: {daemon.activity}")


def _config(config: Config) -> Iterator[Finding]:
    for message, remedy, code in config.wrong:
        yield failed("config", message, remedy, code or CONFIG)
    if config.good:
        yield good("config", ", ".join(config.good))
    elif not config.wrong:
        yield good("config", "no file: the built-in values are in force")
    if config.project is None and not config.wrong:
        yield good("project", config.why_no_project or "none here")


def _tool(tool: Tool) -> Finding:
    if tool.path is None:
        return warning(tool.name, f"not found on PATH: {tool.why}", f"install {tool.name}")
    return good(tool.name, tool.path)
