"""Real recorded outputs, read from where they lie beside the project; a test skips without them."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "fixtures"


def recording(name: str) -> str:
    """The text of one recording."""
    file = FOLDER / name
    if not file.is_file():
        pytest.skip(f"the recording {name} is not beside the project")
    return file.read_text()
