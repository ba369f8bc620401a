"""Opens a file or folder with the desktop's own program, or says where it lies."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rchctl.context import Context

VARIABLE = "RCH_OPENER"


def opener(env: Mapping[str, str]) -> list[str] | None:
    """The command that opens things: `RCH_OPENER`, else the desktop's; None where there is none."""
    if chosen := env.get(VARIABLE):
        try:
            return shlex.split(chosen) or None
        except ValueError as error:
            raise Failure(
                Kind.USAGE, f"{VARIABLE}={chosen!r}: {error}", hint=f"set {VARIABLE} to a command"
            ) from error
    if sys.platform == "darwin":
        return ["open"]
    has_desktop = bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))
    return ["xdg-open"] if has_desktop and shutil.which("xdg-open", path=env.get("PATH")) else None


def show(path: Path, context: Context) -> bool:
    """Open `path`; False, and its place on stdout, where nothing can. `Failure` when the opener fails."""
    command = opener(context.env)
    if command is None:
        context.console.note(f"no desktop to open it with: set {VARIABLE} to a command that shows files")
        context.say_value(str(path))
        return False
    try:
        done = subprocess.run(
            [*command, os.fspath(path)],
            env=dict(context.env),
            # What it prints is none of the envelope's.
            stdout=2 if context.json else None,
            check=False,
        )
    except OSError as error:
        raise _failed(command, path, error.strerror or str(error)) from error
    if done.returncode:
        raise _failed(command, path, f"ended with {done.returncode}")
    return True


def _failed(command: list[str], path: Path, why: str) -> Failure:
    return Failure(
        Kind.INTERNAL,
        f"{command[0]}: {why}: {path} was not opened",
        hint=f"set {VARIABLE} to a command that shows files",
    )
