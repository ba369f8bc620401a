"""A run as clients see it."""

from __future__ import annotations

from msgspec import UNSET

from rch.contract.local_api import RunView, StepView
from rch.contract.states import is_terminal
from rchd.core import model as m
from rchd.core.ask import log_path
from rchd.core.ends import duration_ms, is_simulated
from rchd.core.fleet import Servable
from rchd.core.narrow import scope_of


def run_view(
    run: m.Run, artifacts: str, waiting: str | None = None, servable: Servable | None = None
) -> RunView:
    """The view; paths are below `artifacts`, the artifacts' root.

    `waiting` is what makes it wait where that is not its own: the queue, or a daemon that drains.
    `servable` is what is known of the workers, where it waits for one.
    """
    trouble = run.trouble
    return RunView(
        run_id=run.run_id,
        state=run.state,
        seq=run.seq,
        phase=type(run.phase).__name__.lower(),
        created_at=run.created_at,
        updated_at=run.updated_at,
        project=run.accepted.project,
        root=run.accepted.root,
        origin=run.accepted.origin,
        steps=tuple(_step_view(run, index, artifacts) for index in range(len(run.steps))),
        run_dir=f"{artifacts}/{run.run_id}",
        source_sha256=run.accepted.source.source_sha256,
        worker=run.worker,
        embedded_worker=run.embedded,
        simulated=is_simulated(run),
        waiting=waiting or _waiting(run),
        exit_code=run.exit_code,
        failure_kind=None if trouble is None else trouble.kind,
        failure_subkind=None if trouble is None else trouble.subkind,
        human_summary=run.human_summary,
        hint=None if trouble is None else trouble.hint,
        warnings=(*run.accepted.warnings, *run.warnings),
        cancel_requested=run.cancel is not None,
        duration_ms=duration_ms(run) if is_terminal(run.state) else None,
        servable=None if servable is None else servable.answer,
        servable_why="" if servable is None else servable.why,
        scope=scope_of(run.accepted),
        group=run.accepted.group,
    )


def _waiting(run: m.Run) -> str | None:
    if isinstance(run.phase, m.Coalescing):
        return f"the same job runs in run {run.phase.run_id}"
    return run.phase.reason if isinstance(run.phase, m.Waiting) else run.waiting


def _step_view(run: m.Run, index: int, artifacts: str) -> StepView:
    accepted, step = run.accepted.steps[index], run.steps[index]
    summary = step.summary
    served = UNSET if summary is None else summary.cached_from_job_id
    return StepView(
        index=index,
        action=accepted.action,
        job_id=accepted.job_id,
        state=_step_state(run, step),
        seq=step.seq,
        status=None if summary is None else summary.status,
        exit_code=None if summary is None else summary.exit_code,
        human_summary="" if summary is None else summary.human_summary,
        cached_from_job_id=None if served is UNSET else served,
        log_path=None if step.state is None else f"{artifacts}/{log_path(run, index)}",
    )


def _step_state(run: m.Run, step: m.StepRun) -> str:
    if step.state is not None:
        return step.state
    if step.summary is not None and step.summary.status == "rejected":
        return "REJECTED"
    return "SKIPPED" if is_terminal(run.state) else "PLANNED"
