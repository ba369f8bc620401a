"""Progress where lines stay: a line at the start of a stage, and one at the end of a long one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rch.contract.states import NOBODY_ASKED
from rchctl import progress as shown
from rchctl.console import Console
from rchctl.progress import Progress, position

UPLOAD = {"stage": "upload", "total": 45_000_000, "unit": "bytes"}


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(shown, "time", made)
    return made


def said(path: Path, clock: Clock, *steps: tuple[float, int]) -> list[str]:
    """The lines on stderr after steps of so many seconds up to so many bytes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        progress = Progress(Console({}, out=fd, err=fd))
        for seconds, done in steps:
            clock.now += seconds
            progress.stage({**UPLOAD, "done": done, "rate": 5, "left_seconds": 3})
    finally:
        os.close(fd)
    return path.read_text().splitlines()


def test_a_long_stage_has_two_lines(tmp_path: Path, clock: Clock) -> None:
    steps = (0, 0), (1.0, 9_000_000), (2.5, 30_000_000), (1.5, 45_000_000)
    assert said(tmp_path / "err", clock, *steps) == [
        "rchctl: upload 45.0 MB",
        "rchctl: upload done: 45.0 MB in 5.0 s",
    ]


def test_a_short_stage_has_one(tmp_path: Path, clock: Clock) -> None:
    assert said(tmp_path / "err", clock, (0, 0), (1.0, 45_000_000)) == ["rchctl: upload 45.0 MB"]


def test_the_same_stage_of_the_next_step_is_timed_by_itself(tmp_path: Path, clock: Clock) -> None:
    steps = (0, 0), (1.0, 45_000_000), (9.0, 0), (1.0, 45_000_000)
    assert said(tmp_path / "err", clock, *steps) == ["rchctl: upload 45.0 MB"]


def test_a_run_that_is_tried_again_and_again_says_so_now_and_then(tmp_path: Path, clock: Clock) -> None:
    fd = os.open(tmp_path / "err", os.O_RDWR | os.O_CREAT)
    progress = Progress(Console({}, out=fd, err=fd))
    for _ in range(100):
        for view in ({"phase": "selecting"}, {"state": "QUEUED", "waiting": "here is busy"}):
            clock.now += 5
            progress.run(view)
    os.close(fd)
    told = (tmp_path / "err").read_text().splitlines()
    assert told == ["rchctl: selecting a worker", "rchctl: queued: here is busy"] * 4


def test_what_is_not_known_before_anybody_was_asked_is_not_said() -> None:
    view = {"phase": "selecting", "servable": "unknown", "servable_why": NOBODY_ASKED}
    assert position(view) == "selecting a worker"
    assert "not known" in position({**view, "servable_why": "mini: out of reach"})
