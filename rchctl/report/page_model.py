"""From records to a page. Pure: what it needs of source files is asked of the `excerpt` it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET

from rch.contract.states import is_terminal
from rchctl.render import duration, label, remedy, state_word
from rchctl.report.excerpts import Excerpt, Place
from rchctl.report.model import Fact, Headline, Page
from rchctl.report.past_model import past_page
from rchctl.report.records import RunRecords, StepRecords
from rchctl.report.step_model import step_page
from rchctl.report.timeline import StageTimes, Timeline, timeline
from rchctl.report.trends import PastRun

Excerpts = Callable[[Place], Excerpt]

_TONES = {"SUCCEEDED": ("good", "✔"), "FAILED": ("bad", "✘"), "CANCELLED": ("warn", "■")}

_ALTERED = "ALTERED RECORDS, they say: "


def page_of(run: RunRecords, past: Sequence[PastRun], excerpt: Excerpts, *, made_by: str) -> Page:
    """The page of `run`; `past` are the runs of its project up to it, newest first."""
    view = _view(run)
    accepted = run.accepted
    project = accepted.project if accepted is not None else "unknown project"
    return Page(
        title=f"{_ALTERED if run.altered else ''}{state_word(view)}: {project}",
        run_id=run.run_id,
        project=project,
        simulated=_is_simulated(run),
        scope=tuple(view["scope"]),
        over=is_terminal(view["state"]),
        headline=_headline(view, altered=bool(run.altered)),
        facts=_facts(run, view),
        warnings=() if accepted is None else accepted.warnings,
        timeline=_timeline(run),
        steps=tuple(
            step_page(step, index, excerpt, accepted, simulated=_is_simulated(run))
            for index, step in enumerate(run.steps)
        ),
        provenance=_provenance(run),
        past=past_page(past, run.run_id),
        notes=run.notes,
        made_by=made_by,
        altered=run.altered,
    )


def _is_simulated(run: RunRecords) -> bool:
    """Any record that says so is believed."""
    return (
        run.simulated
        or (run.summary is not None and run.summary.simulated)
        or (run.accepted is not None and run.accepted.options.simulate)
        or any(step.summary is not None and step.summary.simulated for step in run.steps)
    )


def _view(run: RunRecords) -> dict[str, Any]:
    """The run in the words of the daemon's view, which the client's other verbs read too."""
    summary = run.summary
    state = str(run.state.state) if run.state is not None else "UNKNOWN"
    view: dict[str, Any] = {
        "run_id": run.run_id,
        "state": state,
        "simulated": _is_simulated(run),
        "scope": [],
        "human_summary": "",
    }
    if summary is not None:
        view |= {
            "failure_kind": summary.failure_kind,
            "failure_subkind": None if summary.failure_subkind is UNSET else summary.failure_subkind,
            "human_summary": summary.human_summary,
            "exit_code": summary.exit_code,
            "scope": [] if summary.scope is UNSET else list(summary.scope),
        }
    elif run.accepted is not None:
        view["scope"] = [word for step in run.accepted.steps for word in step.scope]
    return view


def _headline(view: dict[str, Any], *, altered: bool) -> Headline:
    state = view["state"]
    tone, mark = _TONES.get(state, ("plain", "…"))
    if state == "SUCCEEDED" and (view["simulated"] or view["scope"]):
        tone, mark = "warn", "◐"
    if view["simulated"]:
        tone = "warn"
    if altered:
        tone, mark = "bad", "✘"
    return Headline(
        word=f"{_ALTERED if altered else ''}{state_word(view)}",
        tone=tone,
        mark=mark,
        why="" if state == "SUCCEEDED" else label(view),
        summary=str(view["human_summary"]),
        hint=remedy(view) if view.get("failure_kind") else None,
    )


def _facts(run: RunRecords, view: dict[str, Any]) -> tuple[Fact, ...]:
    accepted, summary = run.accepted, run.summary
    found = [Fact("run", run.run_id, code=True)]
    if accepted is not None:
        found.append(Fact("accepted", accepted.created_at))
    if summary is not None:
        worker = summary.worker or "none"
        found += [
            Fact("took", duration(summary.duration_ms)),
            Fact("exit code", str(summary.exit_code)),
            Fact("worker", f"{worker} (embedded on this machine)" if summary.embedded_worker else worker),
        ]
    if accepted is not None:
        found += [Fact("asked by", accepted.origin), Fact("backend", accepted.options.backend)]
    git = summary.git if summary is not None else accepted.git if accepted is not None else None
    if git is not None:
        dirty = ", with changes that are not committed" if git.dirty else ""
        found.append(Fact("git", f"{git.commit[:12]} on {git.branch or 'no branch'}{dirty}"))
    if run.state is not None and run.state.cancel is not UNSET:
        found.append(Fact("cancelled", f"{run.state.cancel.reason}, {run.state.cancel.requested_at}"))
    if run.state is not None and run.state.resumed_at is not UNSET:
        found.append(Fact("resumed", run.state.resumed_at))
    if run.state is not None and not is_terminal(view["state"]) and run.state.waiting is not UNSET:
        found.append(Fact("waits for", run.state.waiting))
    return tuple(found)


def _timeline(run: RunRecords) -> Timeline:
    return timeline(
        [_stage_times(step) for step in run.steps], None if run.summary is None else run.summary.duration_ms
    )


def _stage_times(step: StepRecords) -> StageTimes:
    return StageTimes(
        action=step.action,
        host={} if step.host_metrics is None else step.host_metrics.stages_ms,
        worker={} if step.metrics is None else step.metrics.stages_ms,
        job_ms=None if step.summary is None or step.metrics is None else step.summary.duration_ms,
    )


def _provenance(run: RunRecords) -> tuple[Fact, ...]:
    found = []
    if run.accepted is not None:
        found += [
            Fact("source sha256", run.accepted.source.source_sha256, code=True),
            Fact("root", run.accepted.root, code=True),
            Fact("policy sha256", run.accepted.policy_sha256, code=True),
        ]
    if run.plan is not None and run.plan.selected_worker is not None:
        found.append(
            Fact(
                "worker", f"{run.plan.selected_worker} ({run.plan.selected_worker_host or 'this machine'})"
            )
        )
        found.append(Fact("protocol", str(run.plan.protocol_version)))
    if run.selection is not None:
        found += [
            Fact("chosen" if each.chosen else "not chosen", f"{each.worker}: {each.reason}")
            for each in run.selection.candidates[:20]
        ]
    return tuple(found)
