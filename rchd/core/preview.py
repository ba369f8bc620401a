"""What a run would be, told before there is one: pure over a draft and the workers' reports (section 7)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.local_plan import (
    CandidateView,
    FailureView,
    PlannedStepView,
    RunPlanView,
    WorkersPlanView,
)
from rch.contract.policy import GRAMMARS
from rch.contract.records import Accepted, RunOptions
from rchd.core.events import ProbeReport
from rchd.core.jobs import job_from
from rchd.core.model import Choice, Selection
from rchd.core.select import ADAPTIVE, all_drained, nobody, select, warnings_of


def who_serves(
    *, project: str, root: str, options: RunOptions, reports: Sequence[ProbeReport], embedded: bool
) -> tuple[WorkersPlanView, Selection]:
    """Every worker with its reason, those first that could serve, in the order in which they are asked."""
    selection = select(options, reports)
    by_name = {report.worker: report for report in reports}
    ranked = [
        _candidate(by_name[choice.worker], _reason(options, selection, rank), rank, choice)
        for rank, choice in enumerate(selection.choices)
    ]
    others = sorted(selection.refused, key=lambda name: (by_name[name].priority, name))
    ranked += [_candidate(by_name[name], selection.refused[name], None, None) for name in others]
    view = WorkersPlanView(
        project=project,
        root=root,
        backend=options.backend,
        actions=options.actions,
        selection_mode=options.selection_mode,
        tags=options.tags,
        toolchain=options.toolchain,
        destination=options.destination,
        workers=tuple(ranked),
        chosen=selection.choices[0].worker if selection.choices else None,
        embedded=embedded,
        failure=_nobody(selection, reports),
        simulated=options.simulate,
    )
    return view, selection


def _nobody(selection: Selection, reports: Sequence[ProbeReport]) -> FailureView | None:
    if selection.choices:
        return None
    return _failure(all_drained(selection) if selection.drained else nobody(selection, reports))


def _reason(options: RunOptions, selection: Selection, rank: int) -> str:
    if rank == 0:
        adaptive = options.selection_mode == ADAPTIVE
        order = "priority, free slots, load and free disk" if adaptive else "priority and name"
        return f"would serve: first by {order}"
    return f"could serve: asked if {selection.choices[rank - 1].worker} has no free slot"


def _candidate(report: ProbeReport, reason: str, rank: int | None, choice: Choice | None) -> CandidateView:
    view = CandidateView(
        worker=report.worker,
        host=report.host,
        priority=report.priority,
        tags=report.tags,
        serves=choice is not None,
        reason=reason,
        rank=rank,
    )
    if report.result is not None:
        told = report.result.capabilities
        view = msgspec.structs.replace(
            view,
            snapshot="fresh" if report.fresh else "cached",
            age_seconds=report.age_seconds,
            system=f"{told.os_name} {told.os_version} {told.arch}",
            capacity=msgspec.to_builtins(told.capacity),
            limits=msgspec.to_builtins(told.limits),
        )
    if choice is None:
        return view
    return msgspec.structs.replace(
        view,
        toolchain=choice.toolchain,
        xcode_version=choice.xcode_version,
        destination=choice.destination,
        destination_value=choice.concrete,
        udid=choice.udid,
        warnings=tuple(warnings_of(choice)),
    )


def planned_run(draft: Accepted, reports: Sequence[ProbeReport], *, embedded: bool) -> RunPlanView:
    """The jobs of a draft on the worker that would be asked first; none without such a one."""
    options, source = draft.options, draft.source
    view, selection = who_serves(
        project=draft.project, root=draft.root, options=options, reports=reports, embedded=embedded
    )
    choice = selection.choices[0] if selection.choices else None
    warnings = [*draft.warnings, *(warnings_of(choice) if choice else ())]
    return RunPlanView(
        selection=view,
        steps=tuple(_step(draft, index, choice) for index in range(len(draft.steps))),
        source={
            "source_sha256": source.source_sha256,
            "files": source.files,
            "tar_bytes": source.tar_bytes,
            "compressed_bytes": source.compressed_bytes,
        },
        timeouts={
            "overall_seconds": options.overall_seconds,
            "idle_log_seconds": options.idle_log_seconds,
            "connect_timeout_seconds": options.connect_timeout_seconds,
            "max_wait_seconds": options.max_wait_seconds,
        },
        artifact_profile=options.artifact_profile,
        queue=options.queue,
        warnings=tuple(warnings),
        failure=_rejected(draft) or view.failure,
    )


def _step(draft: Accepted, index: int, choice: Choice | None) -> PlannedStepView:
    step = draft.steps[index]
    view = PlannedStepView(
        index=index,
        action=step.action,
        original_argv=step.original_argv,
        reasons=tuple(msgspec.to_builtins(reason) for reason in step.reasons),
        scope=step.scope,
    )
    if choice is None or step.sanitized_argv is None:
        return view
    job = job_from(draft, index, choice, draft.created_at)
    tool = next(each.tool for name, each in GRAMMARS.items() if name == draft.options.backend)
    return msgspec.structs.replace(
        view,
        argv=(tool, *job.job_key_inputs.sanitized_argv),
        job_key=job.job_key,
        job_key_inputs=msgspec.to_builtins(job.job_key_inputs),
        udid=choice.udid,
    )


def _rejected(draft: Accepted) -> FailureView | None:
    """The first rejected step: no step of such a run is executed."""
    for step in draft.steps:
        if step.sanitized_argv is None:
            first = step.reasons[0]
            return _failure(Failure(Kind.CLASSIFIER_REJECTED, f"{first.message} ({first.code})"))
    return None


def _failure(failure: Failure) -> FailureView:
    return FailureView(
        kind=str(failure.kind),
        subkind=failure.subkind,
        exit_code=failure.exit_code,
        message=failure.message,
        hint=failure.hint,
    )
