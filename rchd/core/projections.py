"""The files of a run that the host writes: a pure function of its state (spec sections 4 and 8).

They are written after the commit and made good at start, so nothing is lost with them.
"""

from __future__ import annotations

from msgspec import UNSET

from rch.contract.records import (
    Candidate,
    CapabilitiesRecord,
    CurrentStep,
    HostMetrics,
    JobIndex,
    JobStateRecord,
    PlannedStep,
    Record,
    RunIndex,
    RunPlan,
    RunStateRecord,
    StepPointer,
    Summary,
    WorkerSelection,
    encode_record,
    marked,
)
from rch.contract.states import is_terminal
from rchd.core import model as m
from rchd.core.ask import host_dir, step_dir
from rchd.core.ends import is_simulated, summary_of
from rchd.core.holds import NO_LEASES, offered
from rchd.core.select import ADAPTIVE


def projections(run: m.Run) -> dict[str, bytes]:
    """Path relative to the artifacts' root -> bytes, in the order in which they are written."""
    base = run.run_id
    records: dict[str, Record] = {
        f"{base}/accepted.json": run.accepted,
        f"{base}/run_state.json": _state(run),
    }
    if run.selection is not None:
        records[f"{base}/worker_selection.json"] = _selection(run, run.selection)
    if run.choice is not None:
        records[f"{base}/capabilities.json"] = CapabilitiesRecord(
            created_at=run.created_at,
            run_id=base,
            worker=run.choice.worker,
            capabilities=run.choice.capabilities,
            capabilities_sha256=run.choice.probe.capabilities_sha256 or UNSET,
        )
    if _is_planned(run):
        records[f"{base}/run_plan.json"] = _plan(run)
    for index in range(len(run.steps)):
        records |= _step_records(run, index)
    if is_terminal(run.state):
        records[f"{base}/run_summary.json"] = summary_of(run)
    records[f"{base}/run_index.json"] = _index(run)
    simulated = is_simulated(run)
    return {path: encode_record(marked(record, simulated=simulated)) for path, record in records.items()}


def _is_planned(run: m.Run) -> bool:
    return run.choice is not None or any(step.sanitized_argv is None for step in run.accepted.steps)


def _stands(run: m.Run, index: int) -> bool:
    """Whether the step's folder is the worker's set, or is about to be: nothing of ours may touch it."""
    step = run.steps[index]
    if isinstance(run.phase, m.Publishing) and run.phase.step == index:
        return True
    return step.summary is not None and not step.host_made


def _at_its_place(step: m.StepRun) -> bool:
    """Whether a summary of the host's own lies at the step's path: the job never reached a worker."""
    return step.host_made and step.told == 0


def _step_records(run: m.Run, index: int) -> dict[str, Record]:
    step = run.steps[index]
    place, host = step_dir(run, index), host_dir(run, index)
    records: dict[str, Record] = {}
    if step.state is not None and not _stands(run, index):
        records[f"{place}/job_state.json"] = _job_state(run, index)
    if step.summary is not None and step.host_made and not _at_its_place(step):
        records[f"{host}/summary.json"] = step.summary
    if step.summary is not None and _at_its_place(step):
        records[f"{place}/summary.json"] = step.summary
        records[f"{place}/job_index.json"] = _host_index(run, index, step.summary)
    if step.summary is not None and step.job is not None:
        records[f"{host}/host_metrics.json"] = HostMetrics(
            created_at=step.summary.created_at,
            run_id=run.run_id,
            job_id=step.job.job_id,
            job_key=step.job.job_key,
            stages_ms={**_bundling(run), **run.timings, **step.timings},
            counts={
                "source_bytes": run.accepted.source.tar_bytes,
                "source_files": run.accepted.source.files,
            },
        )
    return records


def _bundling(run: m.Run) -> dict[str, int]:
    """The one stage that came before the run."""
    return {} if run.accepted.bundle_ms is UNSET else {"bundle": run.accepted.bundle_ms}


def _host_index(run: m.Run, index: int, summary: Summary) -> JobIndex:
    step = run.steps[index]
    files = {"summary": "summary.json"}
    if step.state is not None:
        files["job_state"] = "job_state.json"
    return JobIndex(
        created_at=summary.created_at,
        run_id=run.run_id,
        job_id=summary.job_id,
        job_key=summary.job_key,
        artifact_profile=summary.artifact_profile,
        files=files,
    )


def _job_state(run: m.Run, index: int) -> JobStateRecord:
    step = run.steps[index]
    return JobStateRecord(
        created_at=step.created_at or run.created_at,
        run_id=run.run_id,
        job_id=run.accepted.steps[index].job_id,
        job_key=None if step.job is None else step.job.job_key,
        state=step.state or "",
        seq=step.seq,
        updated_at=step.updated_at or run.updated_at,
    )


def _state(run: m.Run) -> RunStateRecord:
    return RunStateRecord(
        created_at=run.created_at,
        run_id=run.run_id,
        state=run.state,
        seq=run.seq,
        updated_at=run.updated_at,
        current_step=_current(run),
        resumed_at=run.resumed_at or UNSET,
        lease_renewed=True if run.lease_renewed else UNSET,
        cancel=run.cancel or UNSET,
        waiting=run.waiting or UNSET,
    )


def _current(run: m.Run) -> CurrentStep | None:
    index = getattr(run.phase, "step", None)
    if index is None:
        return None
    step = run.accepted.steps[index]
    return CurrentStep(index=index, job_id=step.job_id, action=step.action)


def _plan(run: m.Run) -> RunPlan:
    choice = run.choice
    return RunPlan(
        created_at=run.created_at,
        run_id=run.run_id,
        steps=tuple(
            PlannedStep(
                index=index, action=step.action, job_id=step.job_id, rejected=step.sanitized_argv is None
            )
            for index, step in enumerate(run.accepted.steps)
        ),
        selected_worker=None if choice is None else choice.worker,
        selected_worker_host=None if choice is None else choice.host,
        continue_on_failure=run.accepted.options.continue_on_failure,
        protocol_version=None if choice is None else choice.protocol,
    )


def _selection(run: m.Run, selection: m.Selection) -> WorkerSelection:
    choice = run.choice
    ranks = {each.worker: index for index, each in enumerate(selection.choices)}
    candidates = [
        Candidate(
            worker=each.worker,
            host=each.host,
            chosen=run.chosen == ranks[each.worker],
            reason=_why(run, ranks[each.worker]),
            weighed=selection.weighed.get(each.worker, UNSET),
        )
        for each in selection.choices
    ]
    candidates += [
        Candidate(
            worker=name,
            host=selection.hosts.get(name, ""),
            chosen=False,
            reason=why,
            weighed=selection.weighed.get(name, UNSET),
        )
        for name, why in sorted(selection.refused.items())
    ]
    spoken = None
    if choice is not None:
        spoken = {"min": choice.probe.protocol_min, "max": choice.probe.protocol_max}
    return WorkerSelection(
        created_at=run.created_at,
        run_id=run.run_id,
        negotiated_protocol_version=None if choice is None else choice.protocol,
        worker_protocol_range=spoken,
        selected_worker=run.worker,
        selected_worker_host=None if choice is None else choice.host,
        selection_mode=run.accepted.options.selection_mode,
        candidate_count=len(candidates),
        probe_failures=selection.probe_failures,
        snapshot_age_seconds=0 if choice is None else choice.age_seconds,
        snapshot_source="fresh" if choice is None or choice.fresh else "cached",
        candidates=tuple(candidates),
    )


def _why(run: m.Run, rank: int) -> str:
    worker = run.selection.choices[rank].worker if run.selection else ""
    if rank == run.chosen:
        order = "priority, free slots, load and free disk" if _is_adaptive(run) else "priority and name"
        unleased = run.selection and offered(run.selection.choices[rank].probe) is m.UNLEASED
        return f"first by {order}; {NO_LEASES}" if unleased else f"first by {order} that granted a lease"
    if worker in run.passed:
        return f"could serve; granted no lease: {run.passed[worker]}"
    if run.chosen is None:
        return "could serve; no lease was granted"
    return "could serve; granted no lease" if rank < run.chosen else "could serve; an earlier one did"


def _is_adaptive(run: m.Run) -> bool:
    return run.accepted.options.selection_mode == ADAPTIVE


def _index(run: m.Run) -> RunIndex:
    ended = is_terminal(run.state)
    return RunIndex(
        created_at=run.created_at,
        run_id=run.run_id,
        accepted="accepted.json",
        run_summary="run_summary.json" if ended else None,
        run_plan="run_plan.json" if _is_planned(run) else None,
        run_state="run_state.json",
        worker_selection=None if run.selection is None else "worker_selection.json",
        capabilities=None if run.choice is None else "capabilities.json",
        source_manifest="source_manifest.json",
        steps=tuple(_pointer(run, index) for index in range(len(run.steps))),
    )


def _pointer(run: m.Run, index: int) -> StepPointer:
    step, accepted = run.steps[index], run.accepted.steps[index]
    cut = len(run.run_id) + 1
    place, host = step_dir(run, index)[cut:], host_dir(run, index)[cut:]
    summary = step.summary
    worker_made = summary is not None and not step.host_made
    own = f"{place if _at_its_place(step) else host}/summary.json"
    return StepPointer(
        index=index,
        action=accepted.action,
        job_id=accepted.job_id,
        job_index_path=f"{place}/job_index.json" if worker_made or _at_its_place(step) else None,
        status=_status(run, step),
        exit_code=None if summary is None else summary.exit_code,
        live_log_path=f"{host}/live.log" if step.followed else None,
        host_metrics_path=f"{host}/host_metrics.json" if summary is not None and step.job else None,
        host_summary_path=own if summary is not None and step.host_made else None,
        attestation_verification_path=f"{host}/attestation_verification.json" if worker_made else None,
    )


def _status(run: m.Run, step: m.StepRun) -> str | None:
    if step.summary is not None:
        return step.summary.status
    return "skipped" if is_terminal(run.state) else None
