"""A recording that has failed is no secret: the daemon's own words tell of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lab import lab

pytestmark = pytest.mark.spec("13")


def test_a_recording_that_failed_is_told_by_health_and_by_who_asks_for_a_transcript(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        place = user.home / "state" / "transcripts"
        place.parent.mkdir(parents=True, mode=0o700)
        place.touch()
        assert user.rchctl("daemon", "start").returncode == 0
        told = f"no transcripts are recorded in {place}: File exists"
        assert user.json("daemon", "status")["data"]["activity"] == f"idle; {told}"
        done = user.rchctl("debug", "transcript", "latest")
        assert done.returncode == 2
        assert f"was not recorded: {told}" in done.stderr
