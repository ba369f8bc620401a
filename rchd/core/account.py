"""What a run came to, in one flat account: its line in the log, and what the metrics count."""

from __future__ import annotations

from msgspec import UNSET

from rchd.core import model as m
from rchd.core.ends import duration_ms, is_simulated

STAGES = ("bundle", "select", "reserve", "upload", "submit", "job", "fetch", "publish", "release")
"""The stages of a run, in the order in which they come."""

_STAGE_OF = {
    "selecting": "select",
    "reserving": "reserve",
    "rereserving": "reserve",
    "checkingsource": "upload",
    "uploading": "upload",
    "rechecking": "select",
    "submitting": "submit",
    "fetching": "fetch",
    "publishing": "publish",
    "releasing": "release",
}


def stages_ms(run: m.Run) -> dict[str, int]:
    """How long each stage of the run took in milliseconds, all steps together; `bundle` is not in it.

    A job that was served from a cache, or that the worker never ended, has no `job` of its own.
    """
    found: dict[str, int] = {}
    for timings in (run.timings, *(step.timings for step in run.steps)):
        for phase, ms in timings.items():
            if (stage := _STAGE_OF.get(phase)) is not None:
                found[stage] = found.get(stage, 0) + ms
    jobs = [
        step.summary.duration_ms
        for step in run.steps
        if step.summary is not None and not step.host_made and step.summary.cached_from_job_id is UNSET
    ]
    if jobs:
        found["job"] = sum(jobs)
    return {stage: found[stage] for stage in STAGES if stage in found}


def account(
    run: m.Run, *, queue_ms: int | None, bundle_ms: int | None, moved: dict[str, int]
) -> dict[str, object]:
    """The account of a run that has ended; what is not known is left out.

    `moved` has the bytes that went to the worker (`upload`) and came from it (`fetch`).
    """
    trouble = run.trouble
    stages = stages_ms(run)
    if bundle_ms is not None:
        stages = {"bundle": bundle_ms, **stages}
    whole: dict[str, object | None] = {
        "run_id": run.run_id,
        "project": run.accepted.project,
        "origin": run.accepted.origin,
        "state": str(run.state),
        "exit_code": run.exit_code,
        "kind": None if trouble is None else str(trouble.kind),
        "subkind": None if trouble is None else trouble.subkind,
        "worker": run.worker,
        "simulated": is_simulated(run) or None,
        "steps": len(run.steps),
        "cached": _cached(run) or None,
        "duration_ms": duration_ms(run),
        "queue_ms": queue_ms,
        **{f"{stage}_ms": ms for stage, ms in stages.items()},
        "source_bytes": run.accepted.source.compressed_bytes,
        **{f"{stage}_bytes": count for stage, count in sorted(moved.items())},
        "summary": run.human_summary,
    }
    return {key: value for key, value in whole.items() if value is not None}


def _cached(run: m.Run) -> int:
    """How many of its steps another job's result answered."""
    return sum(
        step.summary is not None and step.summary.cached_from_job_id is not UNSET for step in run.steps
    )
