"""What every stand-in program knows when it starts."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker_agent.standin.facts import RELEASES, Release
from worker_agent.standin.output import Output


@dataclass(frozen=True, slots=True)
class Context:
    """`root` is the folder that `install` made, `cwd` where the program was started."""

    root: Path
    release: Release
    env: Mapping[str, str]
    cwd: Path
    output: Output

    @property
    def developer_dir(self) -> Path:
        """`Contents/Developer` of the Xcode that the program belongs to."""
        return self.root / self.release.app / "Contents" / "Developer"

    def place(self, path: str) -> Path:
        """A path of the command line, absolute."""
        return Path(os.path.normpath(self.cwd / path))


def release_at(root: Path, developer_dir: str) -> Release | None:
    """The stand-in Xcode that a developer folder, or its bundle, belongs to."""
    named = Path(os.path.realpath(developer_dir))
    home = Path(os.path.realpath(root))
    for release in RELEASES:
        app = home / release.app
        if named in {app, app / "Contents" / "Developer"}:
            return release
    return None


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock beside a state file; waits for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with (file.parent / f"{file.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_json(file: Path, otherwise: Any) -> Any:
    """A state file's tree; what is not there or was cut counts as `otherwise`."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return otherwise


def write_json(file: Path, tree: Any) -> None:
    """Replace a state file in one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temp = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temp.write_text(json.dumps(tree, indent=1, sort_keys=True))
    temp.replace(file)
