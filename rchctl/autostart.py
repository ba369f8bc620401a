"""A daemon that answers, started if need be (spec section 12).

Several terminals may call at once: one of them starts the daemon, under the start lock, and
the others find it. Readiness is an answer on the socket, nothing else.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import rch
from rch.contract.errors import Failure, Kind
from rch.files.paths import HostPaths
from rchctl.client import RESTART, Client, NoDaemon
from rchctl.console import Console
from rchctl.signals import window
from rchctl.terminal import neutral

if TYPE_CHECKING:
    import subprocess

START_SECONDS = 10.0
_PAUSE = 0.02
_LOG_LINES = 12
# How `rchd` says that it cannot run: two lines, the last that it writes.
_REFUSAL, _HINT = "rchd: ", "  hint: "
PLACES = frozenset(
    {
        "RCH_HOME",
        "RCH_SOCKET",
        "RCH_STATE_DIR",
        "RCH_WORKER_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_RUNTIME_DIR",
    }
)
"""The variables that say where things lie."""

_MANAGERS = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "XPC_SERVICE_NAME",
    }
)


def connect(
    paths: HostPaths,
    env: Mapping[str, str],
    console: Console,
    *,
    may_start: bool = True,
    within: float = START_SECONDS,
) -> Client:
    """A greeted connection. `Failure` DAEMON says why there is none, and what to do.

    `within` bounds, in seconds, the start of a daemon and its greeting, each.
    """
    try:
        client = Client.open(paths)
    except NoDaemon:
        if not may_start:
            raise
        client = _start(paths, env, within)
    try:
        server = client.hello(silence=within)
    except BaseException:
        client.close()
        raise
    if (version := server.get("version")) != rch.__version__:
        console.note(f"note: rchd {version} is running, this is {rch.__version__}: {RESTART}")
    return client


def _start(paths: HostPaths, env: Mapping[str, str], within: float) -> Client:
    """Start the daemon unless another client does, and wait until it listens."""
    from rch.files.locks import FileLock

    deadline = time.monotonic() + within
    lock = FileLock(paths.start_lock, "rchctl starts the daemon")
    try:
        while not lock.try_acquire():
            if (client := _listening(paths)) is not None:
                return client
            _pause(deadline, paths, "another rchctl has been starting the daemon")
        return _start_locked(paths, env, deadline)
    except OSError as error:
        raise Failure(
            Kind.DAEMON,
            f"the daemon cannot be started: {error.filename or paths.state_dir}: {error.strerror or error}",
            subkind="STATE",
            hint=_mend(error, daemon_command(env)[0]),
        ) from error
    finally:
        lock.release()


def _mend(error: OSError, program: str) -> str:
    from rch.files.locks import NoLocks

    if error.filename == program:
        return "see that RCH_RCHD names a program"
    if isinstance(error, NoLocks):
        return "set RCH_HOME to a folder on a disk of this machine"
    return "set RCH_HOME to a folder that can be written"


def _start_locked(paths: HostPaths, env: Mapping[str, str], deadline: float) -> Client:
    from rch.files.locks import FileLock, is_free

    while True:
        if (client := _listening(paths)) is not None:
            return client
        if is_free(paths.lock):
            break
        _pause(
            deadline,
            paths,
            f"a daemon ({FileLock(paths.lock, '').holder() or 'pid unknown'}) runs on {paths.state_dir}"
            f" and does not listen at {paths.socket}; was it started with another RCH_SOCKET?",
        )
    begin = paths.log.stat().st_size if paths.log.exists() else 0
    process = spawn(paths, env)
    client = until_it_listens(process, paths, begin, deadline)
    # It is meant to outlive this process: nobody waits for it here.
    process.returncode = process.returncode or 0
    return client


def until_it_listens(
    process: subprocess.Popen[bytes], paths: HostPaths, begin: int, deadline: float
) -> Client:
    """A connection to the daemon that was started; `Failure` DAEMON says why there is none.

    `begin` is where its log began, `deadline` is on the monotonic clock.
    """
    while True:
        ended = process.poll()
        if (client := _listening(paths)) is not None:
            return client
        if ended is not None:
            raise _ended_at_once(ended, paths, begin)
        _pause(deadline, paths, "the daemon was started and does not listen")


def _ended_at_once(code: int, paths: HostPaths, begin: int) -> Failure:
    """Why the daemon did not start: in its own words where it refused to, else what it wrote last."""
    words = _last_words(paths, begin)
    if len(words) > 1 and words[-2].startswith(_REFUSAL) and words[-1].startswith(_HINT):
        why, hint = words[-2].removeprefix(_REFUSAL), words[-1].removeprefix(_HINT)
        return Failure(Kind.DAEMON, f"the daemon did not start: {why}", hint=hint, data={"log": words[:-2]})
    return Failure(
        Kind.DAEMON,
        f"the daemon ended at once with exit code {code}",
        hint=f"read {paths.log}",
        data={"log": words},
    )


def _listening(paths: HostPaths) -> Client | None:
    with suppress(NoDaemon):
        return Client.open(paths)
    return None


def _pause(deadline: float, paths: HostPaths, what: str) -> None:
    if time.monotonic() > deadline:
        raise Failure(Kind.DAEMON, f"{what}: no answer in time", hint=f"read {paths.log}")
    with window():
        time.sleep(_PAUSE)


def daemon_command(env: Mapping[str, str]) -> list[str]:
    """How the daemon is started: `RCH_RCHD`, or `rchd` of this very installation."""
    if other := env.get("RCH_RCHD"):
        import shlex

        return [*shlex.split(other), "run"]
    return [sys.executable, "-P", "-m", "rchd", "run"]


def spawn(
    paths: HostPaths, env: Mapping[str, str], *flags: str, stdin: int | None = None
) -> subprocess.Popen[bytes]:
    """The daemon in a session of its own, its output in its log, none of our descriptors but `stdin`."""
    import subprocess

    paths.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = os.open(paths.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        return subprocess.Popen(
            [*daemon_command(env), *flags],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_of_the_daemon(env),
            start_new_session=True,
        )
    finally:
        os.close(log)


def _of_the_daemon(env: Mapping[str, str]) -> dict[str, str]:
    """The daemon's environment: what a service manager says to us is not said to it."""
    return {name: value for name, value in absolute(env).items() if name not in _MANAGERS}


def absolute(env: Mapping[str, str]) -> dict[str, str]:
    """`env` for a process that stands elsewhere: the places of this one, spelled out."""
    return {
        name: str(Path(value).absolute()) if name in PLACES and value and value[0] != "~" else value
        for name, value in env.items()
    }


def _last_words(paths: HostPaths, begin: int) -> list[str]:
    """What the daemon wrote last before it ended."""
    try:
        with paths.log.open("rb") as file:
            file.seek(begin)
            text = file.read(1 << 16).decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in neutral(text).split("\n") if line.strip()][-_LOG_LINES:]
