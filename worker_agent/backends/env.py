"""The environment that a build tool sees: a short list, all else dropped (spec section 11)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from rch.contract.denied import WORKER_OWNED_ENVIRONMENT

ALLOWED = ("HOME", "PATH", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "USER", "LOGNAME", "TERM")
"""What is passed from the worker's own environment, where it is set."""

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def job_env(
    base: Mapping[str, str],
    *,
    tmp: Path,
    toolchain_dir: str | None = None,
    developer_dir: str | None = None,
    programs: Path | None = None,
    pass_env: Iterable[str] = (),
) -> dict[str, str]:
    """The environment of a job's processes.

    `toolchain_dir` is the folder that holds a Swift toolchain's `bin`, which comes first on PATH;
    `developer_dir` chooses an Xcode; `programs` are the stand-ins of a simulated worker, which come
    before all else; `tmp` is the job's own TMPDIR; `pass_env` what the worker's config adds. What the
    worker owns (`DEVELOPER_DIR`, `NSUnbufferedIO`, `TMPDIR`) is never passed on.
    """
    names = {*ALLOWED, *pass_env} - WORKER_OWNED_ENVIRONMENT
    env = {name: base[name] for name in sorted(names) if name in base}
    first = [str(programs)] if programs else []
    first += [str(Path(toolchain_dir) / "bin")] if toolchain_dir else []
    env["PATH"] = os.pathsep.join([*first, base.get("PATH") or _PATH])
    env["TMPDIR"] = str(tmp)
    developer_dir = developer_dir or developer_dir_of(toolchain_dir or "")
    if developer_dir is not None:
        env["DEVELOPER_DIR"] = developer_dir
    return env


def developer_dir_of(toolchain_dir: str) -> str | None:
    """Xcode's developer folder (or the command line tools') that a toolchain lies in."""
    for folder in Path(toolchain_dir).parents:
        if folder.name == "CommandLineTools" or (
            folder.name == "Developer" and folder.parent.name == "Contents"
        ):
            return str(folder)
    return None
