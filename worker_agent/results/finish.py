"""The end of a job: facts gathered, verdict made, set sealed. The supervisor calls it once (section 8)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from rch.contract.errors import Failure, Kind, lookup
from rch.contract.junit_names import MAX_NAME_BYTES
from rch.contract.records import (
    Capabilities,
    Evidence,
    ExecutorEnv,
    JobStateRecord,
    Metrics,
    Summary,
    TestFailure,
)
from rch.contract.states import JobState, move_job
from rch.contract.worker_rpc import SubmitRequest
from rch.files.durable import remove_tree
from worker_agent.backends.config import allow_no_tests
from worker_agent.masking import Mask
from worker_agent.model import EndedByUs, JobLayout, Parted, PhaseExit
from worker_agent.results import seal, summaries
from worker_agent.results.buildlog import read_log
from worker_agent.results.facts import Facts, OwnFailure
from worker_agent.results.given import envelope
from worker_agent.results.junit import junit_xml
from worker_agent.results.logfacts import LogFacts
from worker_agent.results.places import Places
from worker_agent.results.sources import Sources, bundle_of, keep_bundle, sources_of, xunit_files
from worker_agent.results.verdict import Decision, decide

RICH = ("events.jsonl", "build_summary.json", "test_summary.json", "junit.xml")
"""What a set of the profile `rich` has and a `minimal` one has not."""

_BULKY = ("result.xcresult", "junit.xml", "events.jsonl", "test_summary.json", "build_summary.json")
# What manifest, attestation, index and a rewritten summary may take themselves, but for names of tests.
_CLOSING_BYTES = 32 << 10
_STATES = {"success": JobState.SUCCEEDED, "failed": JobState.FAILED, "cancelled": JobState.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the execution of a job ended, as its supervisor knows it.

    `state` is the job's last record; `log` what the live reader found (None: the log is read
    from disk); `failure` a failure of the worker's own before or between phases; `stages_ms`
    durations of stages that are no phases, `counts` what else was counted; `env` what the job's
    processes were run with; `lost` tells of earlier executions and tries, a sentence each.

    `part` gives the job's simulator back once the results are read; it may be asked again.
    """

    phases: tuple[PhaseExit, ...]
    ended: EndedByUs | None
    state: JobStateRecord
    attempts: int
    duration_ms: int
    log: LogFacts | None = None
    failure: Failure | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stages_ms: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    log_truncated: bool = False
    lost: tuple[str, ...] = ()
    part: Callable[[], Parted] = Parted


@dataclass(frozen=True, slots=True)
class Sealed:
    """A set that is complete on disk: its summary, and the job's terminal state."""

    summary: Summary
    state: JobStateRecord


def finish(
    layout: JobLayout,
    submit: SubmitRequest,
    ending: Ending,
    *,
    worker_name: str,
    capabilities: Capabilities,
    now: Callable[[], str],
    seed: bytes | None = None,
) -> Sealed:
    """Write what is left of the set and its commit marker, and say how the job ended.

    `OSError` goes to the caller; the call may then be made again.
    """
    job, folder = submit.job, layout.artifacts
    sources = sources_of(job, layout, ending.env)
    facts = gather(layout, submit, ending, sources)
    mask = Mask(ending.env)
    decision = mask.of(decide(facts))
    facts = replace(facts, xunit=mask.of(facts.xunit), bundle=mask.of(facts.bundle))
    failed = summaries.failures(facts, Places(layout.tree))
    parted = ending.part()
    _tell(layout.log, None if parted.problem is None else mask.text(parted.problem))
    simulated = capabilities.simulated
    put = partial(seal.put, folder, simulated=simulated)
    seal.write_given(folder, submit, now(), parted.device, simulated=simulated)
    put("metrics.json", _metrics(layout, submit, ending, facts, now()))
    keys = tuple(sorted(ending.env))
    put("executor_env.json", ExecutorEnv(**envelope(job, now()), keys=keys))
    _write_rich(layout, submit, facts, decision, failed, now(), simulated=simulated)
    keep_bundle(sources, folder)
    cut = _fit(layout, capabilities.limits.max_artifact_bytes)
    if cut is not None:
        decision = _too_large(decision, cut)
    summary = summaries.summary(
        job,
        facts,
        decision,
        created_at=now(),
        attempts=ending.attempts,
        duration_ms=ending.duration_ms,
        failed=failed,
        log_truncated=ending.log_truncated or (cut is not None and cut.log),
        simulated=simulated,
        cleanup_failed=parted.problem is not None,
    )
    put("summary.json", summary)
    state = _terminal(ending.state, decision, now())
    put("job_state.json", state)
    seal.commit(
        folder,
        submit,
        worker_name=worker_name,
        backend={"name": sources.name, "version": sources.version},
        capabilities=capabilities,
        created_at=now(),
        seed=seed,
    )
    return Sealed(summary, state)


def gather(layout: JobLayout, submit: SubmitRequest, ending: Ending, sources: Sources) -> Facts:
    """Everything that the verdict rests on."""
    job = submit.job
    log = ending.log
    if log is None:
        log = read_log(layout.log, layout.tree, tool=sources.name)
    own, places = ending.failure, Places(layout.tree, layout.build)
    tested = any(phase.name == "test" for phase in ending.phases)
    return Facts(
        action=job.action,
        backend=sources.name,
        phases=ending.phases,
        ended=ending.ended,
        failure=None if own is None else OwnFailure(own.kind, own.subkind, own.message),
        log=log,
        xunit=xunit_files(sources, log) if tested else (),
        bundle=bundle_of(sources, places, tested=tested) if ending.phases else None,
        allow_no_tests=allow_no_tests(job),
        lost=ending.lost,
    )


def _tell(log: Path, problem: str | None) -> None:
    """Have a log, with a line about what did not go as it should after the tools had ended."""
    line = b"" if problem is None else f"[rch-worker: {problem}]\n".encode(errors="replace")
    with log.open("a+b") as file:
        if line:
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(line)))
            if file.read() != line:  # a set may have to be closed a second time
                file.write(line)


def _metrics(layout: JobLayout, submit: SubmitRequest, ending: Ending, facts: Facts, at: str) -> Metrics:
    stages: Counter[str] = Counter(ending.stages_ms)
    for phase in ending.phases:
        stages[phase.name] += phase.duration_ms
    counts = {
        "log_bytes": layout.log.stat().st_size,
        "errors": facts.error_count,
        "warnings": facts.warning_count,
        "tests": len(facts.cases),
        **ending.counts,
    }
    return Metrics(
        **envelope(submit.job, at),
        stages_ms=dict(stages),
        counts=counts,
        host_timings=submit.host_timings,
    )


def _write_rich(
    layout: JobLayout,
    submit: SubmitRequest,
    facts: Facts,
    decision: Decision,
    failed: tuple[TestFailure, ...],
    at: str,
    *,
    simulated: bool,
) -> None:
    """What the profile `rich` adds; what it alone has is removed from a `minimal` set."""
    job, folder = submit.job, layout.artifacts
    if job.artifact_profile != "rich":
        for name in RICH:
            (folder / name).unlink(missing_ok=True)
        return
    layout.events.touch()
    put = partial(seal.put, folder, simulated=simulated)
    put("build_summary.json", summaries.build_summary(job, facts, created_at=at))
    if any(phase.name == "test" for phase in facts.phases):
        put("test_summary.json", summaries.test_summary(job, facts, failed, created_at=at))
    if job.action == "test":
        session = summaries.session_failure(facts, decision, failed)
        tool = facts.tool("test")
        put("junit.xml", junit_xml(facts.cases, failed, tool=tool, session=session, simulated=simulated))


def _terminal(state: JobStateRecord, decision: Decision, at: str) -> JobStateRecord:
    to, seq = move_job(JobState(state.state), state.seq, _STATES[decision.status])
    return msgspec.structs.replace(state, state=str(to), seq=seq, updated_at=at)


# --- the size limit -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cut:
    """What had to go for the set to fit."""

    total: int
    limit: int
    log: bool


def _fit(layout: JobLayout, limit: int) -> _Cut | None:
    """Bring the set under `limit` bytes (0: none); None if it was there already.

    Bulky files go first; then the log loses its end, so that what a follower has read of it
    stays where it was.
    """
    total = _bytes_of(layout)
    if not limit or total + _closing_bytes(layout) <= limit:
        return None
    for name in _BULKY:
        if _bytes_of(layout) + _closing_bytes(layout) > limit:
            remove_tree(layout.artifacts / name)
    size = layout.log.stat().st_size
    keep = max(0, limit - _closing_bytes(layout) - (_bytes_of(layout) - size))
    if keep < size:
        _cut_text(layout.log, keep)
    return _Cut(total, limit, keep < size)


def _closing_bytes(layout: JobLayout) -> int:
    """What is still to come; the names in `junit.xml` come in base64, in the attestation."""
    try:
        names = min((layout.artifacts / "junit.xml").stat().st_size, MAX_NAME_BYTES)
    except FileNotFoundError:
        names = 0
    return _CLOSING_BYTES + names * 4 // 3


def _cut_text(file: Path, keep: int) -> None:
    """Keep the first `keep` bytes of a UTF-8 file, less if a character lies across the edge."""
    with file.open("r+b") as log:
        log.seek(max(0, keep - 3))
        head = log.read(keep - log.tell())
        edge = log.read(1)
        while head and edge and edge[0] & 0xC0 == 0x80:
            head, edge = head[:-1], head[-1:]
            keep -= 1
        log.truncate(keep)


def _bytes_of(layout: JobLayout) -> int:
    return sum(
        os.lstat(f"{folder}/{name}").st_size
        for folder, _, names in os.walk(layout.artifacts)
        for name in names
    )


def _too_large(decision: Decision, cut: _Cut) -> Decision:
    """The set does not hold all it should, whatever the tools said; a cancelled job stays cancelled."""
    if decision.status == "cancelled":
        return decision
    why = f"the artifacts take {cut.total} bytes, over the worker's max_artifact_bytes of {cut.limit}"
    return replace(
        decision,
        status="failed",
        outcome="SIZE_EXCEEDED",
        exit_code=lookup(Kind.ARTIFACTS, "SIZE_EXCEEDED").exit_code,
        evidence=(
            *decision.evidence,
            Evidence(source="worker", fact=f"{why}; without that: {decision.outcome}"),
        ),
        kind=Kind.ARTIFACTS,
        subkind="SIZE_EXCEEDED",
        why=why,
    )
