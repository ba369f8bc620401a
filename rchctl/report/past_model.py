"""Earlier runs as small charts: lengths as bars, wavering tests as rows of letters. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rchctl.amounts import counted
from rchctl.render import duration
from rchctl.report.model import Cell, PastPage, RunBar, WaveringRow
from rchctl.report.text import cut
from rchctl.report.trends import PastRun, flaky, trend

MOST_RUNS = 30
"""So many runs are in the charts."""
WIDTH, HEIGHT = 600, 120
_GAP = 0.25
_TESTS = 20
_LETTERS = {"passed": ("P", "p"), "failed": ("F", "f"), "retried": ("R", "k")}
_STATUS = {"success": "passed", "failed": "failed", "cancelled": "cancelled", "rejected": "rejected"}


def past_page(past: Sequence[PastRun], run_id: str) -> PastPage:
    """The charts of `past`, newest first; `run_id` is the run of the page."""
    shown = list(reversed(past[:MOST_RUNS]))
    if not shown:
        return PastPage("no run of this project has ended yet", "")
    longest = max(run.duration_ms for run in shown) or 1
    return PastPage(
        told=_told(past),
        axis=f"0 to {duration(longest)}, oldest on the left",
        bars=tuple(
            _bar(run, at, len(shown), longest, this=run.run_id == run_id) for at, run in enumerate(shown)
        ),
        wavering=_wavering(past, shown),
        rows=tuple(_row(run) for run in past[:MOST_RUNS]),
    )


def word(run: PastRun) -> str:
    """How a run ended, and what keeps a success from being the gate's."""
    told = _STATUS.get(run.status, run.status)
    if run.simulated:
        return f"simulated: {told}"
    if run.scope and run.status == "success":
        return f"{told} (narrowed)"
    return f"{told} (cached)" if run.cached and run.status == "success" else told


def _told(past: Sequence[PastRun]) -> str:
    counts: dict[str, int] = {}
    for run in past:
        counts[word(run)] = counts.get(word(run), 0) + 1
    told = f"{counted(len(past), 'run')}: " + ", ".join(f"{count} {name}" for name, count in counts.items())
    found = trend(past)
    if found is None:
        return told
    middle = duration(found.median_ms)
    what = " and ".join(found.actions)
    told += f". Of the {found.runs} that executed {what} in whole and passed, the middle one took {middle}"
    if found.change_percent is not None:
        more = f"{abs(found.change_percent)} % {'more' if found.change_percent >= 0 else 'less'}"
        told += f"; the newest {found.recent} took {more} than those before"
    return told + "."


def _bar(run: PastRun, at: int, count: int, longest: int, *, this: bool) -> RunBar:
    room = WIDTH / max(count, 12)
    height = max(3.0, run.duration_ms * (HEIGHT - 4) / longest)
    css = {"success": "p", "failed": "f", "rejected": "f", "cancelled": "s"}.get(run.status, "s")
    if css == "p" and (run.simulated or run.scope or run.cached):
        css = "k"
    return RunBar(
        x=round(at * room + room * _GAP / 2, 1),
        y=round(HEIGHT - height, 1),
        width=round(room * (1 - _GAP), 1),
        height=round(height, 1),
        css=css,
        title=f"{run.created_at[:16].replace('T', ' ')}: {word(run)}, {duration(run.duration_ms)}",
        this=this,
    )


def _row(run: PastRun) -> tuple[str, ...]:
    tests = run.tests
    told = "" if tests is None else f"{tests.passed} of {tests.total} passed"
    return (run.created_at[:16].replace("T", " "), word(run), duration(run.duration_ms), told, run.run_id)


def _wavering(past: Sequence[PastRun], shown: Sequence[PastRun]) -> tuple[WaveringRow, ...]:
    rows = []
    for test in flaky(past)[:_TESTS]:
        outcomes = dict(reversed(test.evidence))
        cells = tuple(_cell(run, outcomes.get(run.run_id)) for run in shown)
        told = []
        if test.retried:
            told.append(f"passed only on a retry in {test.retried}")
        if test.disagreed:
            told.append(
                f"failed and passed on {test.disagreed} same source{'s' if test.disagreed > 1 else ''}"
            )
        rows.append(WaveringRow(cut(test.test, 300), "; ".join(told), cells))
    return tuple(rows)


def _cell(run: PastRun, outcome: str | None) -> Cell:
    letter, css = _LETTERS.get(outcome or "", ("·", "n"))
    at = run.created_at[:16].replace("T", " ")
    return Cell(letter, css, f"{at}: {outcome or 'did not run, or is not on record'}")
