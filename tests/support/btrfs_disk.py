"""A file system that can clone: a small btrfs in memory, where the system lets one be mounted."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.small_disk import small_disk

_BYTES = 1 << 30  # a small one is slow; the file is sparse


@contextlib.contextmanager
def btrfs_disk(room: Path) -> Iterator[Path]:
    """Mount it below `room`; skips the test where that is not allowed."""
    at = room / "disk"
    at.mkdir(mode=0o700)
    with small_disk(room / "memory", _BYTES >> 10) as memory:  # so that no sync waits for a disk
        image = memory / "image"
        with image.open("wb") as file:
            file.truncate(_BYTES)
        _run("mkfs.btrfs", "--quiet", str(image))
        _run("mount", "-t", "btrfs", "-o", "loop", str(image), str(at))
        try:
            yield at
        finally:
            subprocess.run(["umount", "--lazy", str(at)], check=True)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"no {command[0]}")
    if done.returncode != 0:
        pytest.skip(f"no btrfs may be mounted here: {command[0]}: {done.stderr.strip()}")
