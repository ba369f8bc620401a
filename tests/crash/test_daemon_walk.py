"""The daemon is killed at each of its durable steps: the run ends as if nothing had been."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from crash.daemon_life import walk

# Evenly over the whole life of a run: start, snapshot, acceptance, both steps, and the end.
SAMPLE = (60, 120, 220)
PARTS = 16
# How far from one run to the next the number of steps may differ: a log comes in more or fewer pieces.
SPREAD = 40
NEVER = 10**9

pytestmark = [
    pytest.mark.spec("4"),
    pytest.mark.fault("H1"),
    pytest.mark.fault("H3"),
    pytest.mark.fault("H4"),
]


@pytest.mark.parametrize("step", SAMPLE)
def test_a_daemon_that_dies_at_a_durable_step_loses_nothing(tmp_path: Path, step: int) -> None:
    assert len(walk(tmp_path / "user", step)) == step


def test_a_daemon_that_dies_again_while_it_recovers_loses_nothing(tmp_path: Path) -> None:
    assert len(walk(tmp_path / "user", 160, 9, 40)) == 160


@pytest.mark.faults_long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_daemon_may_die_at_any_durable_step(tmp_path: Path, part: int) -> None:
    for step in count(part + 1, PARTS):
        done = walk(tmp_path / str(step), step)
        if len(done) < step:  # it came to its end before
            assert step > len(walk(tmp_path / "undisturbed", NEVER)) - SPREAD
            return


@pytest.mark.faults_long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_daemon_may_die_at_any_step_of_its_recovery(tmp_path: Path, part: int) -> None:
    for step in range(part + 1, 80, PARTS):
        walk(tmp_path / str(step), 160, step)
