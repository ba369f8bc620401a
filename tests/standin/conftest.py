from __future__ import annotations

from pathlib import Path

import pytest
from support.standin import Machine, a_machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return a_machine(tmp_path)
