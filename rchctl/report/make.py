"""A report, from a run's folder to its HTML: what is read, in which order, and what is left out."""

from __future__ import annotations

from pathlib import Path

import rch
from rch.contract.records import SourceManifest
from rchctl.report.excerpts import Sources
from rchctl.report.page import render
from rchctl.report.page_model import page_of
from rchctl.report.past import past_runs, with_outcomes
from rchctl.report.past_model import MOST_RUNS
from rchctl.report.records import Reading, RunRecords, StepRecords, read_run
from rchctl.report.trends import PastRun, doubtful_groups

FILE_NAME = "report.html"


def report_html(run_dir: Path) -> tuple[RunRecords, bytes]:
    """The records of the run at `run_dir`, and its page; `Failure` ARTIFACTS without its indices."""
    run = read_run(run_dir)
    page = page_of(run, _past(run), _sources(run).excerpt, made_by=f"rchctl {rch.__version__}")
    return run, render(page).encode()


def _past(run: RunRecords) -> list[PastRun]:
    """The ended runs of its project beside it, up to it, those of its own kind alone."""
    if run.accepted is None:
        return []
    root, simulated = run.accepted.root, run.accepted.options.simulate
    beside = past_runs(run.run_dir.parent, lambda _, where: where == root, 2 * MOST_RUNS)
    found = [each for each in beside if each.run_id <= run.run_id and each.simulated == simulated]
    return with_outcomes(found[:MOST_RUNS], doubtful_groups(found))


def _sources(run: RunRecords) -> Sources:
    """The local files. A large manifest is read only where some message names a place."""
    named = any(_names_a_place(step) for step in run.steps)
    if not named or run.accepted is None:
        return Sources(None, None)
    manifest = Reading(run.run_dir).record(run.source_manifest, SourceManifest)
    return Sources(Path(run.accepted.root), manifest)


def _names_a_place(step: StepRecords) -> bool:
    failures = step.tests.failures if step.tests is not None else ()
    messages = step.build.diagnostics if step.build is not None else ()
    return any(each.path for each in failures) or any(each.path for each in messages)
