"""The daemon's log: its form, its level, and how its file is kept from growing for ever.

Lines go to stderr; whoever starts the daemon says where that goes. Where it is the daemon's own file
(`HostPaths.log`), that is turned: the full file is renamed and descriptors 1 and 2 are put on a new one.
Who still holds the old file, such as a worker that was started before, goes on writing to that.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import structlog

from rch.config.daemon_config import Log
from rch.files.durable import make_dirs
from rchd.edges.logclean import without_secrets

log = structlog.get_logger("rchd")

LEVEL_VARIABLE, FORMAT_VARIABLE = "RCH_LOG", "RCH_LOG_FORMAT"
LOOK_SECONDS = 5.0
_LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("json", "text")
_STREAMS = (1, 2)


def configure_log(env: Mapping[str, str] | None = None, settings: Log | None = None) -> None:
    """Structured lines on stderr; `RCH_LOG` and `RCH_LOG_FORMAT` outrank `settings`.

    A word there that is none is said once and does not keep the daemon from starting.
    """
    env, settings = env or {}, settings or Log()
    level, bad_level = _chosen(env, LEVEL_VARIABLE, _LEVELS, settings.level)
    form, bad_form = _chosen(env, FORMAT_VARIABLE, _FORMATS, settings.format)
    render: Any = structlog.processors.JSONRenderer()
    if form == "text":
        render = structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event"))
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            without_secrets,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    for message in filter(None, (bad_level, bad_form)):
        log.warning("log.setting", message=message)


def _chosen(
    env: Mapping[str, str], name: str, known: tuple[str, ...], default: str
) -> tuple[str, str | None]:
    word = env.get(name, "").strip().lower()
    if not word or word in known:
        return word or default, None
    return default, f"{name}={word[:40]!r} is none of {', '.join(known)}: {default} is in force"


def go_to_file(path: Path) -> None:
    """Put stdout and stderr on the log at `path`: launchd gives a daemon none."""
    make_dirs(path.parent)
    _put_streams_on(path)


def _put_streams_on(path: Path, instead_of: os.stat_result | None = None) -> None:
    fresh = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for stream in _STREAMS:
            if instead_of is None or os.path.samestat(os.fstat(stream), instead_of):
                os.dup2(fresh, stream)
    finally:
        os.close(fresh)


async def keep_small(path: Path, settings: Log) -> None:
    """Turn the log at `path` whenever it is full, as long as stderr goes there."""
    while True:
        await anyio.sleep(LOOK_SECONDS)
        with suppress(OSError):  # it is looked at again
            turn(path, settings)


def turn(path: Path, settings: Log) -> bool:
    """Begin a new file if stderr is the one at `path` and that is full; whether that was so."""
    try:
        written, named = os.fstat(_STREAMS[-1]), path.lstat()
    except OSError:
        return False
    if not os.path.samestat(written, named) or written.st_size < settings.max_bytes:
        return False
    for number in range(settings.keep, 0, -1):
        older = path if number == 1 else _numbered(path, number - 1)
        with suppress(FileNotFoundError):
            older.replace(_numbered(path, number))
    if settings.keep == 0:
        path.unlink()
    _put_streams_on(path, written)
    log.info("log.turned", bytes=written.st_size)
    return True


def _numbered(path: Path, number: int) -> Path:
    """`rchd.log.1` is the newest of the older ones."""
    return path.with_name(f"{path.name}.{number}")
