"""A run from its files alone: what `rchd --rebuild` puts into a new database (spec section 4).

What the files do not say is derived. The lease is named by none of them: a name that no worker
gives stands for it, and resumption asks for it anew by the run's id, as after an outage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec
from msgspec import UNSET

from rch.contract.errors import Kind, lookup
from rch.contract.ids import is_id, is_timestamp
from rch.contract.records import (
    Accepted,
    CancelIntent,
    RunStateRecord,
    RunSummary,
    decode_record,
)
from rch.contract.states import JobState, RunState, is_terminal
from rchd.core import model as m
from rchd.core import step as steps
from rchd.core.ends import end
from rchd.core.holds import offered
from rchd.core.jobs import job_of
from rchd.core.restore_choice import own_record, restore_selection
from rchd.core.restore_steps import restore_step
from rchd.core.select import warnings_of

Files = Mapping[str, bytes]

UNKNOWN_LEASE = m.Lease(lease_id="lease-unknown", fence=0, ttl_seconds=90)
"""Never live at a worker: each refuses it, and gives the run's own when asked without a name."""

DOUBT = "SIGNAL"
"""The reason of a cancel that nobody asked for: of a run that may have been cancelled."""


class Restored(msgspec.Struct, kw_only=True):
    """A run as it can go on or stand, and what could not be made out, a line each.

    `decided_here`: its end is none that the files tell of, so they are to be written anew.
    """

    run: m.Run
    notes: list[str]
    decided_here: bool = False


class Unknown(ValueError):  # noqa: N818  (a finding, not a defect)
    """The files do not say what the run is."""


def restore(
    name: str, files: Files, *, embedded: Collection[str] = (), damaged: Mapping[str, str] | None = None
) -> Restored:
    """The run of the folder `name`; `Unknown` where its request cannot be read.

    `files` is keyed by path below that folder. `embedded` names the workers that serve without an
    inventory. `damaged` names published steps, by job id, whose set is not what it says, and why.
    """
    notes: list[str] = []
    accepted = _request(name, files)
    state = _known_state(own_record(name, files, RunStateRecord, notes), notes)
    summary = own_record(name, files, RunSummary, notes)
    run = m.Run(
        accepted=accepted,
        state=RunState.QUEUED,
        seq=1,
        created_at=accepted.created_at,
        updated_at=accepted.created_at,
        phase=m.Waiting(reason="the database was made anew"),
        steps=[m.StepRun() for _ in accepted.steps],
    )
    restore_selection(run, files, notes)
    for index in range(len(run.steps)):
        restore_step(run, index, files, notes)
    if state is None:
        _without_state(run, summary, files, notes)
    else:
        _put_state(run, state, notes)
    if is_terminal(run.state):
        decided = _put_end(run, summary, notes)
    else:
        run.embedded = run.worker in embedded
        _put_phase(run, damaged or {}, notes)
        decided = is_terminal(run.state)
    if run.choice is not None and run.state != RunState.QUEUED:
        run.warnings = warnings_of(run.choice)
    return Restored(run=run, notes=notes, decided_here=decided)


def _request(name: str, files: Files) -> Accepted:
    data = files.get("accepted.json")
    if data is None:
        raise Unknown("accepted.json is missing: nobody knows what was asked for")
    try:
        accepted = decode_record(data, Accepted)
    except ValueError as error:
        raise Unknown(f"accepted.json cannot be read ({error}): nobody knows what was asked for") from error
    if accepted.run_id != name:
        raise Unknown(f"accepted.json speaks of run {accepted.run_id}: the folder is a copy")
    jobs = [step.job_id for step in accepted.steps]
    if not is_id(name) or not all(map(is_id, jobs)) or len(set(jobs)) < len(jobs):
        raise Unknown("accepted.json has ids that are none")
    if not is_timestamp(accepted.created_at):
        raise Unknown(f"accepted.json has the time {accepted.created_at!r}, which is none")
    return accepted


def _known_state(state: RunStateRecord | None, notes: list[str]) -> RunStateRecord | None:
    if state is None:
        notes.append("there is no run_state.json that can be believed")
        return None
    if state.state not in set(RunState) or state.seq < 1 or not is_timestamp(state.updated_at):
        notes.append(f"run_state.json says {state.state!r}, seq {state.seq}, at {state.updated_at!r}")
        return None
    return state


# --- where it stands ------------------------------------------------------------------


def _put_state(run: m.Run, state: RunStateRecord, notes: list[str]) -> None:
    run.state, run.seq = RunState(state.state), state.seq
    run.created_at, run.updated_at = state.created_at, state.updated_at
    run.cancel = state.cancel or None
    run.resumed_at = state.resumed_at or None
    run.lease_renewed = state.lease_renewed is True
    run.waiting = state.waiting or None
    if run.state == RunState.QUEUED and any(step.state is not None for step in run.steps):
        notes.append("run_state.json is older than the run's steps")
        run.state, run.seq = RunState.RUNNING, run.seq + 1


def _without_state(run: m.Run, summary: RunSummary | None, files: Files, notes: list[str]) -> None:
    """The state file is written right after the request: without it, the rest has to say."""
    began = run.chosen is not None or any(step.state is not None for step in run.steps)
    if summary is not None:
        run.state = _STATES.get(summary.status, RunState.FAILED)
        run.seq, run.updated_at = 3 if began else 2, summary.created_at
        return
    if began:
        run.state, run.seq = RunState.RUNNING, 2
    if files.keys() - _AT_ACCEPTANCE:
        notes.append("it may have been cancelled, so it is not taken up again but ended")
        run.cancel = CancelIntent(reason=DOUBT, requested_at=run.updated_at)


_STATES = {"success": RunState.SUCCEEDED, "cancelled": RunState.CANCELLED}
_AT_ACCEPTANCE = frozenset({"accepted.json", "source_manifest.json"})


def _put_end(run: m.Run, summary: RunSummary | None, notes: list[str]) -> bool:
    """How it ended; True where that had to be decided once more."""
    if summary is None:
        _decide_anew(run, notes)
        return True
    run.phase = m.Ended()
    run.waiting = None
    run.ended_at = summary.created_at
    run.exit_code = summary.exit_code
    run.human_summary = summary.human_summary
    run.embedded = summary.embedded_worker
    if summary.failure_kind is not None:
        subkind = None if summary.failure_subkind is UNSET else summary.failure_subkind
        run.trouble = m.Trouble(
            kind=summary.failure_kind,
            subkind=subkind,
            message=summary.human_summary,
            hint=_remedy(summary, summary.failure_kind, subkind),
        )
    return False


def _remedy(summary: RunSummary, kind: str, subkind: str | None) -> str | None:
    """A trouble of the run's own came with a hint; one of a step, or of waiting, did not."""
    of_step = any(step.status not in {"success", "skipped"} for step in summary.steps)
    if of_step or kind not in set(Kind) or kind in {Kind.CANCELLED, Kind.WORKER_BUSY}:
        return None
    return lookup(Kind(kind), subkind).remedy


def _decide_anew(run: m.Run, notes: list[str]) -> None:
    """An ended run without its verdict: what its steps make of it, under the state that is known."""
    state, seq = run.state, run.seq
    if state == RunState.CANCELLED and run.cancel is None:
        run.cancel = CancelIntent(reason=DOUBT, requested_at=run.updated_at)
    trouble = m.Trouble(kind=Kind.INTERNAL, message=f"{state}; its run_summary.json is lost")
    for known in (None, trouble):
        run.state, run.seq, run.trouble = RunState.RUNNING, seq - 1, known
        end(run, run.updated_at)
        if run.state == state:
            break
    else:
        run.state = state
    run.seq = seq
    notes.append("its verdict was decided anew: run_summary.json is lost")


# --- what comes next ------------------------------------------------------------------


def _put_phase(run: m.Run, damaged: Mapping[str, str], notes: list[str]) -> None:
    """The phase from which the ordinary resumption goes on (`rchd.core.run.resume`)."""
    if run.state == RunState.QUEUED:
        return
    if run.choice is None or not run.choice.toolchain:
        _give_up(run, "it is not known on which worker it ran, and with which toolchain", notes)
        return
    for index, step in enumerate(run.steps):
        job_id = run.accepted.steps[index].job_id
        if job_id in damaged:
            _not_as_published(run, index, damaged[job_id], notes)
        elif step.state is not None and is_terminal(step.state) and step.summary is None:
            _not_as_published(run, index, "its summary is lost", notes)
        elif step.state is not None and step.summary is None and step.job is None:
            _give_up(run, f"the job of step {index} cannot be derived again", notes)
            return
    run.hold = m.UNLEASED if offered(run.choice.probe) is m.UNLEASED else UNKNOWN_LEASE
    due = steps.next_index(run)
    if due is None or (run.cancel is not None and run.steps[due].state is None):
        if run.lease is None:
            end(run, run.updated_at)
        else:
            run.phase = m.Releasing()
        return
    step = run.steps[due]
    if step.state is None:
        step.job, step.invocation = job_of(run, due, run.choice, run.updated_at)
        steps.queue(run, due, run.updated_at)
    # The same job once more, if need be: a worker that has it says where it stands.
    run.phase = m.Submitting(step=due)


def _give_up(run: m.Run, why: str, notes: list[str]) -> None:
    notes.append(f"it cannot go on: {why}")
    run.trouble = m.Trouble(kind=Kind.INTERNAL, message=f"the state was lost; {why}")
    end(run, run.updated_at)


def _not_as_published(run: m.Run, index: int, why: str, notes: list[str]) -> None:
    """No green rests on a set that is not what its manifest says."""
    step = run.steps[index]
    action = run.accepted.steps[index].action
    if step.state is None or step.host_made:
        return
    notes.append(f"the artifacts of step {action} are damaged ({why}): the step has failed")
    if is_terminal(step.state):
        step.state = JobState.RUNNING
    step.told = max(step.told, step.seq)
    trouble = m.Trouble(
        kind=Kind.ARTIFACTS,
        subkind="INTEGRITY_MISMATCH",
        message=f"the published artifacts are damaged: {why}",
    )
    steps.end_here(run, index, trouble, step.updated_at or run.updated_at, integrity_errors=(why,))


def acceptance_order(runs: Iterable[m.Run]) -> list[m.Run]:
    """In the order in which they were accepted, as well as it is known: by time, then by id."""
    return sorted(runs, key=lambda run: (run.created_at, run.run_id))
