"""What a page shows, as plain values: the template decides nothing but where they stand."""

from __future__ import annotations

from dataclasses import dataclass

from rchctl.report.excerpts import Excerpt
from rchctl.report.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what is known under it. `code`: an identifier or digest."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict in words. `tone` is good, bad, warn or plain; `mark` a sign that needs no colour."""

    word: str
    tone: str
    mark: str
    why: str
    summary: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """A diagnostic or a failed test, with its source lines where there are some."""

    head: str
    tone: str
    place: str
    text: str
    excerpt: Excerpt | None = None


@dataclass(frozen=True, slots=True)
class TestRow:
    """One test of the list; `css` is the first letter of its outcome."""

    __test__ = False

    name: str
    outcome: str
    css: str
    took: str


@dataclass(frozen=True, slots=True)
class SuiteRows:
    """The tests of one suite."""

    name: str
    rows: tuple[TestRow, ...]


@dataclass(frozen=True, slots=True)
class Slow:
    """One of the slowest tests; `share` of the slowest in percent."""

    name: str
    took: str
    share: float


@dataclass(frozen=True, slots=True)
class StepPage:
    """One step, in the order of the page. `left_out` tells of what the page does not list."""

    anchor: str
    action: str
    status: str
    tone: str
    mark: str
    summary: str
    took: str
    verdict: str
    evidence: tuple[Fact, ...]
    reasons: tuple[Message, ...]
    failures: tuple[Message, ...]
    diagnostics: tuple[Message, ...]
    counts: tuple[Fact, ...]
    suites: tuple[SuiteRows, ...]
    tests_shown: int
    notes: tuple[Message, ...]
    slowest: tuple[Slow, ...]
    left_out: tuple[str, ...]
    log_end: tuple[str, ...]
    transfer: tuple[Fact, ...]
    provenance: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class RunBar:
    """One earlier run in the chart of durations, `x`, `y`, `width` and `height` in its units."""

    x: float
    y: float
    width: float
    height: float
    css: str
    title: str
    this: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """The outcome of a test in one run: a letter and its colour."""

    letter: str
    css: str
    title: str


@dataclass(frozen=True, slots=True)
class WaveringRow:
    """A test that wavers, with its outcome in each of the runs of the chart, oldest first."""

    test: str
    told: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class PastPage:
    """This project's runs up to this one."""

    told: str
    axis: str
    bars: tuple[RunBar, ...] = ()
    wavering: tuple[WaveringRow, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report. `altered`: files of it that are not what the manifest of their set lists."""

    title: str
    run_id: str
    project: str
    simulated: bool
    scope: tuple[str, ...]
    over: bool
    headline: Headline
    facts: tuple[Fact, ...]
    warnings: tuple[str, ...]
    timeline: Timeline
    steps: tuple[StepPage, ...]
    provenance: tuple[Fact, ...]
    past: PastPage
    notes: tuple[str, ...]
    made_by: str
    altered: tuple[str, ...] = ()
