"""Sets that were sealed once for all tests here, and the host that asked for the right one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sealed import Host, a_job, capabilities
from support.tampering import Rooms, sealed_rooms


@pytest.fixture(name="rooms", scope="session")
def fixture_rooms(tmp_path_factory: pytest.TempPathFactory) -> Rooms:
    """Nobody changes them."""
    return sealed_rooms(tmp_path_factory.mktemp("sealed"))


@pytest.fixture(name="host")
def fixture_host(tmp_path: Path) -> Host:
    """What selected a worker with a key, and asked it for the job."""
    return Host(tmp_path, a_job(), told=capabilities())
