"""A short pass of every fuzz target: each seed, and some changes of them, other ones each time."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import places
from fuzz.mutation import mutants
from fuzz.targets import TARGETS, seeds
from hypothesis import HealthCheck, given, settings

EXAMPLES = 60


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "given", tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_what_holds_for_any_bytes_holds_for_every_seed(name: str) -> None:
    for data in seeds(name).values():
        TARGETS[name](data)
    TARGETS[name](b"")


@pytest.mark.parametrize("name", TARGETS)
def test_what_holds_for_any_bytes_holds_for_changed_seeds(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=mutants(seeds(name).values()))
    def run(data: bytes) -> None:
        target(data)

    run()
