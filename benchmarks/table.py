"""Figures: ours beside theirs, taken in turns, as ratios of medians against a goal."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")

MILLI = 1000.0
_HEAD = ("figure", "unit", "ours", "theirs", "ratio", "goal", "met", "spread of the ratio")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table. `ours` and `theirs` hold a value for each round, of the same rounds.

    `goal` bounds the ratio of the medians from above, or from below where `higher` is better. With
    `absolute` it bounds the median of ours, and theirs is there to compare. No goal: for comparison.
    """

    name: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    unit: str = "ms"
    goal: float | None = None
    higher: bool = False
    absolute: bool = False
    note: str = ""

    @property
    def our_median(self) -> float:
        """Ours."""
        return statistics.median(self.ours)

    @property
    def their_median(self) -> float | None:
        """Theirs, where there is one."""
        return statistics.median(self.theirs) if self.theirs else None

    @property
    def ratio(self) -> float | None:
        """Ours by theirs."""
        return self.our_median / self.their_median if self.their_median else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        found = self.our_median if self.absolute else self.ratio
        if self.goal is None or found is None:
            return None
        return found >= self.goal if self.higher else found <= self.goal

    @property
    def spread(self) -> tuple[float, float] | None:
        """The quartiles of the rounds' own ratios; of ours where there is no ratio."""
        values = [one / other for one, other in zip(self.ours, self.theirs, strict=False) if other]
        values = values or list(self.ours)
        if len(values) < 2:
            return None
        lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
        return lower, upper

    def as_json(self) -> dict[str, Any]:
        """Every word of it, the rounds too."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.our_median,
            "theirs": self.their_median,
            "ratio": self.ratio,
            "goal": self.goal,
            "goal_is": ("at least" if self.higher else "at most") if self.goal is not None else None,
            "goal_of": "ours" if self.absolute else "ratio",
            "met": self.met,
            "spread": self.spread,
            "rounds": {"ours": list(self.ours), "theirs": list(self.theirs)},
            "note": self.note,
        }

    def _row(self) -> tuple[str, ...]:
        sign: Literal[">=", "<="] = ">=" if self.higher else "<="
        whose = " (ours)" if self.absolute else ""
        spread = self.spread
        return (
            self.name,
            self.unit,
            _short(self.our_median),
            _short(self.their_median),
            _short(self.ratio),
            "" if self.goal is None else f"{sign} {self.goal:g}{whose}",
            {True: "met", False: "NOT met", None: ""}[self.met],
            "" if spread is None else f"{_short(spread[0])} to {_short(spread[1])}",
        )


@dataclass(frozen=True)
class Missing:
    """A figure that cannot be taken here, and why."""

    name: str
    why: str


Found = Figure | Missing


def print_table(found: Sequence[Found]) -> None:
    """The figures as columns, the notes below them."""
    figures = [one for one in found if isinstance(one, Figure)]
    rows = [_HEAD, *(one._row() for one in figures)]  # noqa: SLF001  (our own)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows if figures else ():
        cells = [
            word.rjust(width) if 1 < column < 5 else word.ljust(width)
            for column, (word, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    for figure in figures:
        if figure.note:
            print(f"  {figure.name}: {figure.note}")
    for one in found:
        if isinstance(one, Missing):
            print(f"  {one.name}: not measured: {one.why}")


def in_turns(
    rounds: int,
    sides: Mapping[str, Callable[[int], T]],
    before: Callable[[int], None] | None = None,
) -> dict[str, list[T]]:
    """What each side gives in each round. Whoever went first goes last in the next round.

    One round more is run first and thrown away (number 0), unless only one is asked for. `before` is
    called with the round's number, 0 or 1 and on, outside of every side's own clock.
    """
    given: dict[str, list[T]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(0 if rounds > 1 else 1, rounds + 1):
        if before is not None:
            before(number)
        for name in names:
            value = sides[name](number)
            if number:
                given[name].append(value)
        names.append(names.pop(0))
        if sys.stderr.isatty():
            print(f"round {number} of {rounds}", end="\r", file=sys.stderr)
    return given


def clocked(act: Callable[[], object]) -> float:
    """Milliseconds that `act` takes."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * MILLI


def percentile(values: Iterable[float], part: float) -> float:
    """The value below which `part` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def _short(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
