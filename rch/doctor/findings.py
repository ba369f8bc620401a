"""One line of `rchctl doctor`, and what all of them together mean for a script."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from rch.contract.errors import Kind, lookup


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Fix(NamedTuple):
    """What `--fix` may do: `mode` sets `path` to `mode`, `unlink` removes a dead socket, `restart` asks."""

    what: str
    path: str = ""
    mode: int = 0


class Finding(NamedTuple):
    """What was looked at and how it is. `subject` is a worker, or nothing for this machine.

    `remedy` is a command or one line; `exit_code` is that of a `fail`.
    """

    check: str
    level: Level
    message: str
    remedy: str | None = None
    exit_code: int = 0
    subject: str = ""
    fix: Fix | None = None


DAEMON = lookup(Kind.DAEMON).exit_code
CONFIG = lookup(Kind.CONFIG).exit_code
SSH = lookup(Kind.SSH).exit_code
ATTESTATION = lookup(Kind.ATTESTATION).exit_code
INCOMPATIBLE = lookup(Kind.WORKER_INCOMPATIBLE).exit_code

# Without a daemon nothing goes, with a wrong config nothing as it should, and so on.
_WORST_FIRST = (DAEMON, CONFIG, SSH, ATTESTATION, INCOMPATIBLE)


def exit_code_of(findings: Iterable[Finding]) -> int:
    """0 where nothing failed, else the code of the worst."""
    codes = {each.exit_code or 1 for each in findings if each.level is Level.FAIL}
    known = [code for code in _WORST_FIRST if code in codes]
    return known[0] if known else min(codes, default=0)


def good(check: str, message: str, *, subject: str = "") -> Finding:
    """Nothing to do."""
    return Finding(check, Level.OK, message, subject=subject)


def warning(
    check: str, message: str, remedy: str | None, *, subject: str = "", fix: Fix | None = None
) -> Finding:
    """It works, and might not."""
    return Finding(check, Level.WARN, message, remedy, subject=subject, fix=fix)


def failed(
    check: str, message: str, remedy: str | None, code: int, *, subject: str = "", fix: Fix | None = None
) -> Finding:
    """It does not work, or must not be left so."""
    return Finding(check, Level.FAIL, message, remedy, code, subject, fix)
