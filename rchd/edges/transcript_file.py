"""A transcript of whoever: opened and read line by line within bounds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_LINE = 64 * 1024 * 1024
"""Of a line, in bytes. A batch of a daemon has the records of the runs that changed in it."""
MAX_FILE = 1024 * 1024 * 1024


def opened(path: Path) -> BinaryIO:
    """The file, if it is one, and not too large; `ValueError` says why not. Nothing else is waited for."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb")
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise ValueError("it is no regular file")
    if found.st_size > MAX_FILE:
        file.close()
        raise ValueError(f"it has {found.st_size} bytes, over {MAX_FILE}")
    return file


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Its lines; `ValueError` at one that is too long, and where it grows beyond the bound."""
    total = 0
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        total += len(line)
        if len(line) > MAX_LINE:
            raise ValueError(f"line {number} is over {MAX_LINE} bytes")
        if total > MAX_FILE:
            raise ValueError(f"it has over {MAX_FILE} bytes")
        yield line
