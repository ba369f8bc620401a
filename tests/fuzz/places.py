"""Where targets write: a folder of this process that goes with it, or the one that a test gives."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

given: Path | None = None


def place(name: str) -> Path:
    """A folder of one target."""
    global given  # noqa: PLW0603  (made once, at the first use)
    if given is None:
        given = Path(tempfile.mkdtemp(prefix="rch-fuzz-"))
        atexit.register(shutil.rmtree, given, ignore_errors=True)
    made = given / name
    made.mkdir(exist_ok=True)
    return made
