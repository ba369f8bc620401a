"""One step of a run from its files alone (see `rchd.core.restore`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from rch.contract.records import (
    HostMetrics,
    Job,
    JobStateRecord,
    Record,
    RunSummary,
    Summary,
    decode_record,
)
from rch.contract.states import JobState
from rchd.core import model as m
from rchd.core.ask import host_dir, step_dir
from rchd.core.jobs import invocation_of, job_of

_R = TypeVar("_R", bound=Record)


def restore_step(run: m.Run, index: int, files: Mapping[str, bytes], notes: list[str]) -> None:
    """Fill in step `index` of a run whose worker is known already; `files` by path below its folder."""
    cut = len(run.run_id) + 1
    place, host = step_dir(run, index)[cut:], host_dir(run, index)[cut:]
    step = run.steps[index]
    published = f"{place}/manifest.json" in files
    # A publication that was cut moved the host's own word aside first.
    state = _read(files, f"{place}/job_state.json", JobStateRecord, run, index, notes) or _read(
        files, f"{host}/replaced/job_state.json", JobStateRecord, run, index, notes
    )
    if state is not None:
        step.state, step.seq = JobState(state.state), state.seq
        step.created_at, step.updated_at = state.created_at, state.updated_at
        step.told = state.seq if state.seq > 1 else 0
    made_here = _read(files, f"{host}/summary.json", Summary, run, index, notes)
    at_its_place = _read(files, f"{place}/summary.json", Summary, run, index, notes)
    if made_here is not None:
        step.summary, step.host_made, step.told = made_here, True, max(step.told, 1)
    elif at_its_place is not None:
        step.summary, step.host_made = at_its_place, not published
        step.told = step.told if published else 0
    elif published:
        step.summary = _from_run_summary(run, index, files)
    if published and state is None and step.summary is not None:
        notes.append(f"{place}/job_state.json is lost: its seq is a guess")
        step.state, step.seq = _ENDS.get(step.summary.status, JobState.FAILED), 3
        step.created_at = step.updated_at = step.summary.created_at
    step.followed = f"{host}/live.log" in files
    metrics = _read(files, f"{host}/host_metrics.json", HostMetrics, run, index, notes)
    step.timings = {} if metrics is None else dict(metrics.stages_ms)
    if step.state is not None:
        own = _read(files, f"{place}/job.json", Job, run, index, notes) if published else None
        _put_job(run, index, own, state, notes)


_ENDS = {"success": JobState.SUCCEEDED, "cancelled": JobState.CANCELLED}


def _put_job(
    run: m.Run, index: int, own: Job | None, state: JobStateRecord | None, notes: list[str]
) -> None:
    """The job as it was handed over; none where what is derived has another key."""
    step, made_at = run.steps[index], run.steps[index].created_at or run.created_at
    if own is None and run.choice is None:
        return
    if own is not None:
        step.job, step.invocation = own, invocation_of(run, index, own.created_at, own)
        return
    choice = run.choice
    if choice is None:
        return
    job, invocation = job_of(run, index, choice, made_at)
    if state is not None and state.job_key != job.job_key:
        notes.append(f"step {index} ran as job_key {state.job_key}, what is derived has {job.job_key}")
        return
    step.job, step.invocation = job, invocation


def _from_run_summary(run: m.Run, index: int, files: Mapping[str, bytes]) -> Summary | None:
    """What the run's own summary tells of a step whose `summary.json` is lost."""
    try:
        told = decode_record(files.get("run_summary.json", b""), RunSummary)
        outcome = told.steps[index]
    except (ValueError, IndexError):
        return None
    if outcome.status == "skipped" or outcome.exit_code is None:
        return None
    return Summary(
        created_at=told.created_at,
        run_id=run.run_id,
        job_id=outcome.job_id,
        job_key=None,
        status=outcome.status,
        failure_kind=outcome.failure_kind,
        failure_subkind=outcome.failure_subkind or msgspec.UNSET,
        exit_code=outcome.exit_code,
        attempts=1,
        backend=run.accepted.options.backend,
        human_summary=outcome.human_summary,
        duration_ms=0,
        artifact_profile=run.accepted.options.artifact_profile,
        simulated=told.simulated,
    )


def _read(
    files: Mapping[str, bytes], path: str, kind: type[_R], run: m.Run, index: int, notes: list[str]
) -> _R | None:
    """The record at `path` if it is this step's own; None, with a note, where it is not."""
    data = files.get(path)
    if data is None:
        return None
    wanted = run.run_id, run.accepted.steps[index].job_id
    try:
        record = decode_record(data, kind)
    except ValueError as error:
        notes.append(f"{path} cannot be read ({error})")
        return None
    if (getattr(record, "run_id", None), getattr(record, "job_id", None)) != wanted:
        notes.append(f"{path} speaks of another job")
        return None
    if isinstance(record, JobStateRecord) and record.state not in set(JobState):
        notes.append(f"{path} has the state {record.state!r}, which is none")
        return None
    return record
