"""A daemon for one client alone (`rchctl verify --no-daemon`), beside the usual one.

It has a state folder and a socket of its own, and ends when its standard input does, which its client
holds: however that ends, its runs are cancelled and the daemon leaves. Its runs lie among those of the
usual daemon, each with a mark, by which that one knows that they are none of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import anyio
import msgspec
import structlog

from rch.contract.decoding import decode_json
from rch.contract.ids import is_id
from rch.contract.states import is_terminal
from rch.files.durable import make_dirs, sync_dir, temp_name, write_atomic
from rch.files.locks import is_free
from rch.files.paths import NO_DAEMON_MARK
from rchd.core import events as ev
from rchd.core import model as m

log = structlog.get_logger("rchd")

_TRIES = 100
_LOOK_SECONDS = 0.05
# How long cancelled jobs may take to their end; then the worker is left to end them.
LONGEST_END_SECONDS = 30.0


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Whose run it is: the lock of the private daemon, held as long as that lives."""

    lock: str


def make_marked(folder: Path, lock: Path) -> None:
    """Make a run's folder with its mark in it, in one step for whoever looks; `OSError` as it comes.

    The usual daemon clears at its start what it takes for the leavings of its own intake, an empty folder
    too: then another one is made.
    """
    make_dirs(folder.parent)
    for left in reversed(range(_TRIES)):
        draft = temp_name(folder)
        try:
            draft.mkdir(0o755)
            write_atomic(draft / NO_DAEMON_MARK, msgspec.json.encode(Mark(lock=str(lock))) + b"\n")
            draft.rename(folder)
        except FileNotFoundError:
            if not left:
                raise
        else:
            sync_dir(folder.parent)
            return


def is_marked(folder: Path | str) -> bool:
    """Whether the run of this folder is a private daemon's."""
    return Path(folder, NO_DAEMON_MARK).exists()


def marked_run(artifacts: Path, beginning: str) -> str | None:
    """The newest run of a private daemon whose id begins so; None also where the folder cannot be read."""
    try:
        names = sorted((each.name for each in artifacts.iterdir()), reverse=True)
    except OSError:
        return None
    found = (each for each in names if each.startswith(beginning) and is_id(each))
    return next((each for each in found if is_marked(artifacts / each)), None)


def is_served(folder: Path | str) -> bool:
    """Whether the private daemon of a marked folder lives."""
    try:
        mark = decode_json(Path(folder, NO_DAEMON_MARK).read_bytes(), Mark)
        return not is_free(mark.lock)
    except (OSError, ValueError):
        return False


class HasRuns(Protocol):
    """The core, as far as it matters here."""

    runs: dict[str, m.Run]


class HasIntakes(Protocol):
    """Who counts the submits under way."""

    intakes: int


async def until_left(
    fd: int,
    core: HasRuns,
    daemon: HasIntakes,
    post: Callable[[ev.Event], None],
    stop: Callable[[], None],
) -> None:
    """Wait for the end of file on `fd`; then cancel what is not over, see it out, and `stop`."""
    await _end_of(fd)
    log.info("private.left", runs=len(core.runs))
    with anyio.move_on_after(LONGEST_END_SECONDS):
        # A run that has ended is among them until that is durable.
        while (left := list(core.runs.values())) or daemon.intakes:
            for run in left:
                if run.cancel is None and not is_terminal(run.state):
                    post(ev.CancelAsked(at=time.time(), run_id=run.run_id, reason="SIGNAL"))
            await anyio.sleep(_LOOK_SECONDS)
    stop()


async def _end_of(fd: int) -> None:
    """Until nobody can write to `fd` any more; what is no pipe, like the null device, is at its end."""
    os.set_blocking(fd, False)
    while True:
        try:
            await anyio.wait_readable(fd)
            if not os.read(fd, 4096):
                return
        except BlockingIOError:
            continue
        except OSError:
            return
