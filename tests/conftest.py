"""Puts the tests' shared helpers on the path, and lets no process outlive the tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from support import emitted

emitted.tap()
_ELSEWHERE: Counter[str] = Counter()
"""What the workers of pytest-xdist looked at."""

# The machine is shared: how long an example takes says nothing of what is tried. What fails is printed
# so that it can be drawn again. Where `CI` is set, Hypothesis draws the same each time by its own profile.
settings.register_profile("suite", deadline=None, print_blob=True)
settings.load_profile("suite")

PATIENCE_SECONDS = 30.0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Some tests emit what is wrong on purpose."""
    emitted.begin(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """A test fails when what was emitted meanwhile is not as docs/schemas says."""
    yield
    told = emitted.complaints(item)
    if told:
        pytest.fail(f"emitted against docs/schemas:\n{told}", pytrace=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells what it looked at."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["emitted"] = dict(emitted.LEDGER.counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of them is at its end."""
    _ELSEWHERE.update(getattr(node, "workeroutput", {}).get("emitted", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much was held against docs/schemas."""
    counts = emitted.LEDGER.counts + _ELSEWHERE
    of = ", ".join(
        f"{sum(number for path, number in counts.items() if path.startswith(family))} {family}"
        for family in ("rch-xcode", "worker-rpc", "local-api")
    )
    terminalreporter.write_line(f"held against docs/schemas: {of}; {len(counts)} schemas")


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The last test fails if a process lives on, whoever started it, and names it and its test's folder.

    Ours are known by the folder of this session in their environment or their command line.
    """
    folder = os.fsencode(tmp_path_factory.getbasetemp())
    before = frozenset(_processes_of(folder))  # who started us may name it, too
    yield
    told = emitted.complaints_of_shared_folders()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := _processes_of(folder, before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, "processes outlived their tests:\n" + "\n".join(left.values())
    assert not told, f"emitted against docs/schemas:\n{told}"


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
