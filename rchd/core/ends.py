"""The run's own transitions: it begins, and it ends with a verdict (spec section 8, exit codes)."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from rch.contract.errors import Failure, Kind, lookup
from rch.contract.ids import parse_timestamp
from rch.contract.policy import ClassifierPolicy
from rch.contract.records import RunSummary, StepOutcome, Summary
from rch.contract.remedies import remedy
from rch.contract.states import RunState, move_run
from rchd.core import effects as fx
from rchd.core import model as m
from rchd.core.ask import go
from rchd.core.step import cancelled, end_here


def begin(run: m.Run, now: str) -> None:
    """QUEUED -> RUNNING. What went by until then and was no stage was waiting."""
    since = round((parse_timestamp(now) - parse_timestamp(run.created_at)) * 1000)
    run.timings["queue"] = max(0, since - sum(run.timings.values()))
    run.state, run.seq = move_run(run.state, run.seq, RunState.RUNNING)
    run.updated_at = now


def fail(run: m.Run, now: str, failure: Failure) -> list[fx.Effect]:
    """End a run that never reached a step."""
    run.trouble = m.Trouble(
        kind=failure.kind, subkind=failure.subkind, message=failure.message, hint=failure.hint
    )
    return end(run, now)


def end(run: m.Run, now: str) -> list[fx.Effect]:
    """Decide the run: rejected, else cancelled, else its own trouble, else its first failed step."""
    if run.cancel is not None and run.trouble is None:
        run.trouble = cancelled(run)
    for index, step in enumerate(run.steps):
        if step.summary is None and step.state is not None:
            end_here(run, index, run.trouble or cancelled(run), now)
    to, run.exit_code, run.human_summary = _decide(run)
    run.state, run.seq = move_run(run.state, run.seq, to)
    run.updated_at = run.ended_at = now
    run.phase = m.Ended()
    run.hold = None
    run.waiting = None
    run.op += 1
    return [fx.StopTimers(run_id=run.run_id)]


def leave(run: m.Run, now: str) -> list[fx.Effect]:
    """The run is done with its worker: it gives its lease back, and ends at once where it has none."""
    if run.lease is not None:
        return go(run, m.Releasing())
    return [fx.DropFetches(run_id=run.run_id), *end(run, now)]


def _decide(run: m.Run) -> tuple[RunState, int, str]:
    summaries = [step.summary for step in run.steps if step.summary is not None]
    rejected = [each for each in summaries if each.status == "rejected"]
    if rejected:
        first = rejected[0]
        run.trouble = m.Trouble(
            kind=Kind.CLASSIFIER_REJECTED, message=first.human_summary, hint=_instead(run, first)
        )
        return RunState.FAILED, first.exit_code, f"rejected: {first.human_summary}"
    if run.cancel is not None:
        run.trouble = cancelled(run)
        return RunState.CANCELLED, lookup(Kind.CANCELLED).exit_code, run.trouble.message
    if run.trouble is not None:
        code = lookup(Kind(run.trouble.kind), run.trouble.subkind).exit_code
        return RunState.FAILED, code, run.trouble.message
    for step, summary in zip(run.accepted.steps, [s.summary for s in run.steps], strict=True):
        if summary is not None and summary.status != "success":
            kind = summary.failure_kind or Kind.EXECUTOR
            subkind = summary.failure_subkind if isinstance(summary.failure_subkind, str) else None
            text = f"{step.action}: {summary.human_summary}"
            run.trouble = m.Trouble(kind=kind, subkind=subkind, message=text)
            state = RunState.CANCELLED if summary.status == "cancelled" else RunState.FAILED
            return state, summary.exit_code or lookup(Kind.INTERNAL).exit_code, text
    if any(step.summary is None for step in run.steps):
        run.trouble = m.Trouble(kind=Kind.INTERNAL, message="a planned step has no end")
        return RunState.FAILED, lookup(Kind.INTERNAL).exit_code, run.trouble.message
    parts = [
        f"{accepted.action}: {summary.human_summary}"
        for accepted, summary in zip(run.accepted.steps, summaries, strict=True)
    ]
    return RunState.SUCCEEDED, 0, "; ".join(parts)


def _instead(run: m.Run, rejected: Summary) -> str | None:
    """What to type in the place of the first refused word; None: what the registry says."""
    reasons = rejected.rejection_reasons
    if reasons is UNSET or not reasons:
        return None
    try:
        return remedy(reasons[0], msgspec.convert(run.accepted.policy, ClassifierPolicy))
    except msgspec.ValidationError:  # a policy of another version
        return None


def summary_of(run: m.Run) -> RunSummary:
    """`run_summary.json` of an ended run."""
    outcomes = tuple(_outcome(run, index) for index in range(len(run.steps)))
    counts = {name: sum(each.status == name for each in outcomes) for name in _COUNTED}
    scopes = tuple(word for step in run.accepted.steps for word in step.scope)
    trouble = run.trouble
    return RunSummary(
        created_at=run.ended_at or run.updated_at,
        run_id=run.run_id,
        status=_run_status(run, counts["rejected"]),
        exit_code=run.exit_code if run.exit_code is not None else 1,
        step_count=len(outcomes),
        steps_succeeded=counts["success"],
        steps_failed=counts["failed"],
        steps_cancelled=counts["cancelled"],
        steps_skipped=counts["skipped"],
        steps_rejected=counts["rejected"],
        duration_ms=duration_ms(run),
        human_summary=run.human_summary,
        failure_kind=None if trouble is None else trouble.kind,
        steps=outcomes,
        git=run.accepted.git,
        simulated=is_simulated(run),
        worker=run.worker,
        embedded_worker=run.embedded,
        failure_subkind=UNSET if trouble is None or trouble.subkind is None else trouble.subkind,
        scope=scopes or UNSET,
    )


_COUNTED = ("success", "failed", "cancelled", "skipped", "rejected")


def _run_status(run: m.Run, rejected: int) -> str:
    if rejected:
        return "rejected"
    return {RunState.SUCCEEDED: "success", RunState.CANCELLED: "cancelled"}.get(run.state, "failed")


def _outcome(run: m.Run, index: int) -> StepOutcome:
    accepted, summary = run.accepted.steps[index], run.steps[index].summary
    if summary is None:
        return StepOutcome(
            index=index, action=accepted.action, job_id=accepted.job_id, status="skipped", exit_code=None
        )
    subkind = summary.failure_subkind
    return StepOutcome(
        index=index,
        action=accepted.action,
        job_id=accepted.job_id,
        status=summary.status,
        exit_code=summary.exit_code,
        failure_kind=summary.failure_kind,
        failure_subkind=subkind if isinstance(subkind, str) else None,
        human_summary=summary.human_summary,
        cached_from_job_id=summary.cached_from_job_id,
    )


def duration_ms(run: m.Run) -> int:
    """Milliseconds from acceptance to the last change."""
    return max(0, round((parse_timestamp(run.updated_at) - parse_timestamp(run.created_at)) * 1000))


def is_simulated(run: m.Run) -> bool:
    """Whether it asked for stand-in tools, or anything of it was made with them."""
    by_worker = run.choice is not None and run.choice.capabilities.simulated
    asked = run.accepted.options.simulate
    return (
        asked or by_worker or any(step.summary is not None and step.summary.simulated for step in run.steps)
    )
