"""The client with a home of its own, and a daemon for it to talk to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Cli
from support.fake_daemon import FakeDaemon


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    """A client in this process leaves its signal handlers behind."""
    before = [(each, signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM)]
    yield
    for each, handler in before:
        signal.signal(each, handler)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def daemon(cli: Cli) -> Iterator[FakeDaemon]:
    with FakeDaemon(cli.socket) as fake:
        yield fake
