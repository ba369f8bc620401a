"""How quick a long stage goes, and how long it has still to go: for people, so it is smoothed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

SETTLES_SECONDS = 0.5  # before that a rate would be a guess
SMOOTH_SECONDS = 3.0  # how far back it is looked, about


@dataclass(frozen=True, slots=True)
class Speed:
    """`rate` in units (bytes) a second and `left` in seconds, each None while it is not known."""

    rate: float | None = None
    left: float | None = None


class Pace:
    """Follows one stage. Where it begins again, so does the rate; what was there at first is no speed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin(0)

    def _begin(self, done: int) -> None:
        self._began = self._at = self._clock()
        self._done = done
        self._rate: float | None = None
        self._fresh = True

    def at(self, done: int, total: int) -> Speed:
        """The speed, now that `done` of `total` (0: not known) are there."""
        if self._fresh or done < self._done:
            self._begin(done)
            self._fresh = False
            return Speed()
        now = self._clock()
        lasted = now - self._at
        if lasted > 0:
            current = (done - self._done) / lasted
            weight = 1.0 - math.exp(-lasted / SMOOTH_SECONDS)
            # The first rate is that of all so far, so that one odd moment does not stand for long.
            self._rate = current if self._rate is None else self._rate + weight * (current - self._rate)
            self._at, self._done = now, done
        if self._rate is None or now - self._began < SETTLES_SECONDS:
            return Speed()
        left = (total - done) / self._rate if self._rate > 0 and total >= done > 0 else None
        return Speed(self._rate, left)
