"""Reads what the runs on this disk came to, newest first. Records that cannot be read are left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import UNSET

from rch.contract.canonical import jcs_sha256
from rch.contract.errors import Failure
from rch.contract.records import Accepted, RunSummary, Summary, TestFailure, TestNote, TestSummary
from rchctl.indices import run_index, step_items, steps_of
from rchctl.report.junit import Case
from rchctl.report.places import run_folders
from rchctl.report.records import Reading
from rchctl.report.trends import PastRun, PastStep, TestCounts

MOST_FOLDERS = 5000
"""So many runs are looked at, the newest first."""


def past_runs(
    artifacts: Path, of_project: Callable[[str, str], bool], limit: int, *, most: int | None = None
) -> Iterator[PastRun]:
    """At most `limit` ended runs of a project, told by name and root, newest first, of `most` looked at."""
    found = 0
    for looked, folder in enumerate(run_folders(artifacts)):
        if found >= limit or looked >= (MOST_FOLDERS if most is None else most):
            return
        run = _run(folder, of_project)
        if run is not None:
            found += 1
            yield run


def with_outcomes(runs: Collection[PastRun], groups: Collection[str]) -> list[PastRun]:
    """The runs, the steps of `groups` with the outcome of each of their tests."""
    return [replace(run, steps=tuple(_with_outcomes(step, groups) for step in run.steps)) for run in runs]


def _with_outcomes(step: PastStep, groups: Collection[str]) -> PastStep:
    if step.junit is None or step.group not in groups:
        return step
    found = Reading(step.junit.parent).cases(step.junit)
    if found is None:
        return step
    return replace(step, outcomes={case.key: case.outcome for case in found.cases})


def _run(folder: Path, of_project: Callable[[str, str], bool]) -> PastRun | None:
    reading = Reading(folder)
    try:
        index = run_index(folder)
        accepted = reading.record(_place(folder, index, "accepted"), Accepted)
        if accepted is None or not of_project(accepted.project, accepted.root):
            return None
        summary = reading.record(_place(folder, index, "run_summary"), RunSummary)
        if summary is None:
            return None
        steps = tuple(_step(reading, folder, each) for each in steps_of(index))
    except Failure:
        return None
    return PastRun(
        run_id=summary.run_id,
        run_dir=folder,
        created_at=accepted.created_at,
        project=accepted.project,
        root=accepted.root,
        status=summary.status,
        exit_code=summary.exit_code,
        failure_kind=summary.failure_kind,
        failure_subkind=None if summary.failure_subkind is UNSET else summary.failure_subkind,
        duration_ms=summary.duration_ms,
        simulated=summary.simulated,
        scope=() if summary.scope is UNSET else summary.scope,
        worker=summary.worker,
        branch=None if summary.git is None else summary.git.branch,
        commit=None if summary.git is None else summary.git.commit,
        steps=steps,
    )


def _place(folder: Path, index: dict[str, Any], name: str) -> Path | None:
    path = index.get(name)
    return folder / path if isinstance(path, str) and ".." not in Path(path).parts else None


def _step(reading: Reading, folder: Path, pointer: dict[str, Any]) -> PastStep:
    named = {item.name: item.path for item in step_items(folder, pointer) if item.kind == "file"}
    summary = reading.record(named.get("host_summary", named.get("summary")), Summary)
    tests = reading.record(named.get("test_summary"), TestSummary)
    inputs = reading.key_inputs(named.get("job_key_inputs"))
    same = None
    if inputs is not None:
        # Not the argv: a narrowed run of the same source speaks of the same tests.
        same = jcs_sha256(
            {
                "source": inputs.source_sha256,
                "toolchain": inputs.toolchain,
                "destination": inputs.destination,
            }
        )
    return PastStep(
        action=str(pointer.get("action", "")),
        status=str(pointer.get("status") or "skipped"),
        duration_ms=None if summary is None else summary.duration_ms,
        cached=summary is not None and summary.cached_from_job_id is not UNSET,
        group=same,
        tests=None if tests is None else _counts(tests),
        failed=() if tests is None else tuple(_key(each) for each in tests.failures),
        retried=() if tests is None else tuple(_key(each) for each in tests.flaky),
        junit=named.get("junit"),
    )


def _counts(tests: TestSummary) -> TestCounts:
    return TestCounts(tests.total, tests.passed, tests.failed, tests.skipped, len(tests.flaky))


def _key(test: TestFailure | TestNote) -> str:
    """As `junit.xml` names it, which puts the device behind the name."""
    name = test.name if test.device is UNSET else f"{test.name} [{test.device}]"
    return Case(test.suite, name, "", 0).key
