"""Puts the tests' shared helpers on the path, and lets no process outlive the tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# The machine is shared: how long an example takes says nothing of what is tried.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The last test fails if a process lives on, whoever started it, and names it and its test's folder.

    Ours are known by the folder of this session in their environment or their command line.
    """
    folder = os.fsencode(tmp_path_factory.getbasetemp())
    before = frozenset(_processes_of(folder))  # who started us may name it, too
    yield
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := _processes_of(folder, before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, "processes outlived their tests:\n" + "\n".join(left.values())


def _processes_of(folder: bytes, before: frozenset[int] = frozenset()) -> dict[int, str]:
    """Those that live now and did not `before`, and what each one is."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            about = [
                word for word in (*words, *(entry / "environ").read_bytes().split(b"\0")) if folder in word
            ]
            if about and int(entry.name) not in {os.getpid(), *before}:
                command = b" ".join(words).decode(errors="replace")[:200]
                found[int(entry.name)] = f"{entry.name}: {command} ({about[0].decode(errors='replace')})"
    return found
