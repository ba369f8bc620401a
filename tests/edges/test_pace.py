from __future__ import annotations

import pytest

from rchd.edges.pace import Pace, Speed


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_steady_stage_has_its_rate_and_what_is_left() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.at(0, 1000) == Speed()
    for done in range(100, 600, 100):
        clock.now += 1.0
        speed = pace.at(done, 1000)
    assert speed.rate == pytest.approx(100)
    assert speed.left == pytest.approx(5)


def test_nothing_is_said_of_the_first_moment_nor_of_what_was_there_before() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.at(900, 1000)  # an upload that goes on
    clock.now += 0.1
    assert pace.at(910, 1000) == Speed()
    clock.now += 0.9
    assert pace.at(1000, 1000).rate == pytest.approx(100)


def test_a_stage_that_begins_again_is_measured_again() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.at(0, 1000)
    clock.now += 1.0
    assert pace.at(900, 1000).rate == pytest.approx(900)
    assert pace.at(0, 1000) == Speed()


def test_a_stage_that_stands_still_has_no_end_in_sight() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.at(0, 1000)
    clock.now += 1.0
    assert pace.at(0, 1000) == Speed(rate=0.0, left=None)


def test_one_jump_does_not_turn_the_rate_over() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.at(0, 10_000)
    for done in range(100, 1100, 100):
        clock.now += 1.0
        pace.at(done, 10_000)
    clock.now += 0.1
    rate = pace.at(1500, 10_000).rate
    assert rate is not None
    assert 100 < rate < 300
