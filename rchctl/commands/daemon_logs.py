"""`rchctl daemon logs`: what the daemon says of itself, from its file or from systemd's journal."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rchctl.client import Client
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError
from rchctl.signals import window
from rchctl.terminal import neutral

_LINES = 50
_MOST_LINES = 100_000
_PIECE = 1 << 16
_MOST_BYTES = 64 << 20
_LOOK_SECONDS = 0.2


def show(context: Context) -> Outcome:
    """The last lines; with `-f` whatever comes after them, until Ctrl-C."""
    args = context.args
    lines = _LINES if args.lines is None else args.lines
    if not 0 <= lines <= _MOST_LINES:
        raise UsageError(f"daemon logs: -n {lines} is not 0 to {_MOST_LINES}")
    if args.follow and context.json:
        raise UsageError("daemon logs: -f has no end, and --json tells one: leave one of them out")
    if (unit := _journal(context)) is not None:
        return _from_journal(context, unit, lines)
    path = context.paths.log
    try:
        text, end = last_lines(path, lines)
    except FileNotFoundError:
        text, end = "", (0, 0)
        if not args.follow:
            raise Failure(
                Kind.DAEMON, f"there is no log at {path}", hint="rchctl daemon start writes one"
            ) from None
    except OSError as error:
        raise Failure(Kind.DAEMON, f"{path}: {error.strerror or error}", hint="see who owns it") from error
    context.say(neutral(text))
    if args.follow:
        _follow(context, path, end)
    return Outcome({"path": str(path), "lines": text.splitlines()})


def last_lines(path: Path, count: int) -> tuple[str, tuple[int, int]]:
    """The last `count` whole lines of a file, and its inode and where they end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        begin, found = end, b""
        while begin > 0 and found.count(b"\n") <= count and len(found) < _MOST_BYTES:
            size = min(_PIECE, begin)
            begin -= size
            file.seek(begin)
            found = file.read(size) + found
        lines = found.splitlines(keepends=True)
        kept = b"".join(lines[len(lines) - count :]) if count else b""
        return kept.decode("utf-8", "replace"), (os.fstat(file.fileno()).st_ino, end)


def _follow(context: Context, path: Path, at: tuple[int, int]) -> None:
    """Show what comes; when the file is turned, first the rest of the old one, then the new one."""
    inode, offset = at
    older = path.with_name(f"{path.name}.1")
    while True:
        with suppress(FileNotFoundError):
            now = path.stat()
            if now.st_ino != inode or now.st_size < offset:
                with suppress(FileNotFoundError):
                    if older.stat().st_ino == inode:
                        _show_from(context, older, offset)
                inode, offset = now.st_ino, 0
            offset = _show_from(context, path, offset)
        if context.console.broken:
            return
        with window():
            time.sleep(_LOOK_SECONDS)


def _show_from(context: Context, path: Path, offset: int) -> int:
    """Show the whole lines after `offset`; where they end."""
    with path.open("rb") as file:
        file.seek(offset)
        found = file.read(_MOST_BYTES)
    whole = found[: found.rfind(b"\n") + 1]
    if whole:
        context.say(neutral(whole.decode("utf-8", "replace")))
    return offset + len(whole)


def _journal(context: Context) -> str | None:
    """The unit whose journal has the log, where systemd keeps the daemon."""
    with suppress(Failure):
        client = Client.open(context.paths)
        try:
            client.hello(any_version=True)
            health = client.call("daemon.health", {})
        finally:
            client.close()
        if health.get("supervisor") == "systemd" and shutil.which("journalctl") is not None:
            return str(health.get("unit") or "rchd.service")
    return None


def _from_journal(context: Context, unit: str, lines: int) -> Outcome:
    if not context.args.follow:
        text = journal_lines(unit, lines)
        context.say(neutral(text))
        return Outcome({"unit": unit, "lines": text.splitlines()})
    try:
        done = subprocess.run(
            [*_journalctl(unit, lines), "--follow"], stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise _no_journal(str(error.strerror or error)) from error
    return Outcome({}, done.returncode)


def _journalctl(unit: str, lines: int) -> list[str]:
    return ["journalctl", "--user", f"--unit={unit}", f"--lines={lines}", "--output=cat", "--no-pager"]


def journal_lines(unit: str, lines: int) -> str:
    """The last lines of a unit of this user; `Failure` where the journal cannot be read."""
    command = _journalctl(unit, lines)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise _no_journal(str(error.strerror or error)) from error
    if done.returncode:
        raise _no_journal(done.stderr.strip()[:300])
    return done.stdout


def _no_journal(why: str) -> Failure:
    return Failure(Kind.DAEMON, f"the journal cannot be read: {why}", hint="journalctl --user")
