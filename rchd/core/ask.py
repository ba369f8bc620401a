"""From a phase to the effect whose answer it awaits.

This is a pure function of the run, so that a retry and a restart ask for the very same.
"""

from __future__ import annotations

from collections.abc import Iterable

from rch.contract.attested import capabilities_digest
from rch.contract.ids import require_id
from rch.contract.records import Invocation, Job
from rch.contract.states import RunState
from rchd.core import effects as fx
from rchd.core import model as m
from rchd.core.holds import candidate, offered, whole_seconds
from rchd.core.jobs import policy_of

Effects = list[fx.Effect]

MAX_ARTIFACT_BYTES = 8 << 30
"""What is taken of one job's artifacts, whatever its worker says of itself."""
UNAWAITED = -1
LEAST_FETCH_SECONDS = 3600.0
"""A set may take so long to come, however little time its job has."""
LAST_FETCH_SECONDS = 30.0
"""How long the set of a cancelled run may take to come."""
VERDICT_SECONDS = 2.0
"""How long a verdict waits for its lease to be given back; after that it goes on beside."""


def go(run: m.Run, phase: m.AnyPhase) -> Effects:
    """Enter `phase` and ask for what it awaits."""
    run.phase = phase
    run.tries = 0
    run.waiting = None
    run.waited_seconds = 0.0
    run.op += 1
    return ask(run)


def retry(run: m.Run, seconds: float) -> Effects:
    """Ask again for the same after `seconds`, stretched at random."""
    run.op += 1
    return [fx.StartTimer(run_id=run.run_id, name="retry", seconds=seconds, op=run.op, spread=0.3)]


def step_dir(run: m.Run, index: int) -> str:
    """A step's folder, relative to the artifacts' root."""
    step = run.accepted.steps[index]
    return f"{require_id(run.run_id, 'run_id')}/steps/{step.action}/{require_id(step.job_id, 'job_id')}"


def host_dir(run: m.Run, index: int) -> str:
    """Where the host puts what it adds to a step, relative to the artifacts' root."""
    return f"{run.run_id}/host/{run.accepted.steps[index].job_id}"


def log_path(run: m.Run, index: int) -> str:
    """The live log of a step, relative to the artifacts' root; a stable place."""
    return f"{host_dir(run, index)}/live.log"


def ask(run: m.Run, *, tail_only: bool = False) -> Effects:
    """The effects that the run's phase awaits an answer to."""
    phase = run.phase
    if isinstance(phase, m.Waiting | m.Coalescing | m.Ended):
        return []
    if isinstance(phase, m.Selecting | m.Rechecking):
        return [_probe(run, phase)]
    if isinstance(phase, m.Publishing):
        job_id = run.accepted.steps[phase.step].job_id
        return [fx.Publish(run_id=run.run_id, op=run.op, job_id=job_id, step_dir=step_dir(run, phase.step))]
    return _ask_worker(run, tail_only=tail_only)


def _ask_worker(run: m.Run, *, tail_only: bool) -> Effects:
    phase = run.phase
    match phase:
        case m.Reserving():
            # Where there are no leases nothing is asked: `rchd.core.placing` goes on at once.
            terms = offered(candidate(run, phase).probe)
            return [] if isinstance(terms, m.Unleased) else [_reserve(run, phase.index, terms)]
        case m.Rereserving():
            terms = m.Terms.RENEWED if run.lease is None else run.lease.terms
            return [_reserve(run, run.chosen or 0, terms)]
        case m.Releasing():
            return [release(run, run.op), _verdict_timer(run)] if run.lease is not None else []
        case m.CheckingSource():
            return [_has_source(run)]
        case m.Uploading():
            return [_upload(run)]
        case m.Submitting():
            return [_submit(run, phase.step)]
        case m.Cancelling():
            return [cancel_effect(run, phase.step, op=run.op)]
        case m.Following():
            tail = _tail(run, phase)
            return [tail] if run.cancel is None or tail_only else [cancel_effect(run, phase.step), tail]
        case m.Fetching():
            limit = [] if run.cancel is None else [last_fetch_timer(run)]
            return [*limit, _fetch(run, phase.step)]
        case _:
            return []


def target(run: m.Run, index: int | None = None) -> fx.Target:
    """The worker that serves `run`, or its candidate `index`."""
    at = run.chosen if index is None else index
    if run.selection is None or at is None:
        raise AssertionError(f"run {run.run_id} asks a worker before one is chosen")
    choice = run.selection.choices[at]
    deadline = float(run.accepted.options.connect_timeout_seconds)
    return fx.Target(worker=choice.worker, protocol=choice.protocol, deadline=deadline)


def _probe(run: m.Run, phase: m.Selecting | m.Rechecking) -> fx.Probe:
    options = run.accepted.options
    anew = isinstance(phase, m.Selecting) and phase.fresh
    return fx.Probe(
        run_id=run.run_id,
        op=run.op,
        max_age=0 if anew or run.tries else options.probe_ttl_seconds,
        tags=options.tags if isinstance(phase, m.Selecting) else (),
        deadline=float(options.connect_timeout_seconds),
        worker=run.worker if isinstance(phase, m.Rechecking) else None,
        simulate=options.simulate,
    )


def _lease(run: m.Run) -> tuple[str | None, int | None]:
    return (None, None) if run.lease is None else (run.lease.lease_id, run.lease.fence)


def _reserve(run: m.Run, index: int, terms: m.Terms) -> fx.Reserve:
    """Ask for a slot; how long a lease lives that will be renewed is the worker's to say."""
    ttl = whole_seconds(run) if terms is m.Terms.WHOLE else None
    return fx.Reserve(run_id=run.run_id, op=run.op, target=target(run, index), ttl_seconds=ttl)


def is_renewed(run: m.Run) -> bool:
    """Whether it has a lease that lives by being renewed."""
    return run.lease is not None and run.lease.terms is m.Terms.RENEWED


def renew(run: m.Run, ttl_seconds: int | None = None, *, revive: bool = False) -> fx.Reserve:
    """Renew the run's lease, as long as it was granted or for `ttl_seconds`; nobody waits for it.

    With `revive` no lease is named: an expired one is given to its run again.
    """
    lease_id, fence = (None, None) if revive else _lease(run)
    granted = None if run.lease is None else run.lease.ttl_seconds
    return fx.Reserve(
        run_id=run.run_id,
        op=UNAWAITED,
        target=target(run),
        lease_id=lease_id,
        fence=fence,
        ttl_seconds=ttl_seconds or granted,
    )


def farewell(runs: Iterable[m.Run]) -> list[fx.Reserve]:
    """Before the daemon leaves: each renewed lease for as long as its run's steps may take (spec 3.4)."""
    return [
        renew(run, run.accepted.options.overall_seconds * max(1, len(run.steps)))
        for run in runs
        if is_renewed(run) and run.state == RunState.RUNNING
    ]


def _verdict_timer(run: m.Run) -> fx.StartTimer:
    return fx.StartTimer(run_id=run.run_id, name="verdict", seconds=VERDICT_SECONDS, op=run.op)


def release(run: m.Run, op: int) -> fx.Release:
    """Give the run's lease back."""
    if run.lease is None:
        raise AssertionError(f"run {run.run_id} has no lease to give back")
    return fx.Release(
        run_id=run.run_id,
        op=op,
        target=target(run),
        lease_id=run.lease.lease_id,
        fence=run.lease.fence,
    )


def _has_source(run: m.Run) -> fx.HasSource:
    digest = run.accepted.source.source_sha256
    lease_id, _ = _lease(run)
    return fx.HasSource(
        run_id=run.run_id, op=run.op, target=target(run), source_sha256=digest, lease_id=lease_id
    )


def _upload(run: m.Run) -> fx.Upload:
    lease_id, fence = _lease(run)
    limit = 0 if run.choice is None else run.choice.capabilities.limits.max_upload_bytes
    return fx.Upload(
        run_id=run.run_id,
        op=run.op,
        target=target(run),
        source=run.accepted.source,
        max_bytes=limit,
        lease_id=lease_id,
        fence=fence,
    )


def _job(run: m.Run, index: int) -> tuple[Job, Invocation]:
    step = run.steps[index]
    if step.job is None or step.invocation is None:
        raise AssertionError(f"step {index} of run {run.run_id} has no job yet")
    return step.job, step.invocation


def _submit(run: m.Run, index: int) -> fx.Submit:
    job, invocation = _job(run, index)
    lease_id, fence = _lease(run)
    return fx.Submit(
        run_id=run.run_id,
        op=run.op,
        target=target(run),
        job=job,
        invocation=invocation,
        policy=policy_of(run, job),
        job_state_seq=max(run.steps[index].seq, run.steps[index].told),
        host_nonce=run.accepted.steps[index].host_nonce,
        timings=dict(run.timings),
        lease_id=lease_id,
        fence=fence,
    )


def last_fetch_timer(run: m.Run) -> fx.StartTimer:
    """The end of a fetch that goes on after a cancel: a worker can make it last for ever."""
    return fx.StartTimer(run_id=run.run_id, name="fetch", seconds=LAST_FETCH_SECONDS, op=run.op)


def _tail(run: m.Run, phase: m.Following) -> fx.Tail:
    return fx.Tail(
        run_id=run.run_id,
        op=run.op,
        target=target(run),
        job_id=run.accepted.steps[phase.step].job_id,
        cursor=phase.cursor,
        log_path=log_path(run, phase.step),
    )


def cancel_effect(run: m.Run, index: int, reason: str | None = None, op: int = UNAWAITED) -> fx.CancelJob:
    """End step `index` on the worker; a lease that has proved dead is not named again."""
    lease_id, fence = (None, None) if run.cancel_bare else _lease(run)
    why = reason or (run.cancel.reason if run.cancel else "USER")
    return fx.CancelJob(
        run_id=run.run_id,
        op=op,
        target=target(run),
        job_id=run.accepted.steps[index].job_id,
        reason=why,
        lease_id=lease_id,
        fence=fence,
    )


def fetch_seconds(run: m.Run) -> float:
    """How long one try at a job's set may take: as long as the job, an hour at least.

    Without it a worker that sends a byte now and then would keep its run for ever. What a try took
    counts as waited for the worker, and bytes that came are kept for the next one.
    """
    return max(LEAST_FETCH_SECONDS, float(run.accepted.options.overall_seconds))


def _capabilities_digest(choice: m.Choice | None) -> str | None:
    """Over what the worker said; a choice of an older daemon has its words only as they were understood."""
    if choice is None:
        return None
    return choice.probe.capabilities_sha256 or capabilities_digest(choice.capabilities)


def _fetch(run: m.Run, index: int) -> fx.Fetch:
    job, _ = _job(run, index)
    told = None if run.choice is None else run.choice.capabilities
    limit = 0 if told is None else told.limits.max_artifact_bytes
    return fx.Fetch(
        run_id=run.run_id,
        op=run.op,
        target=target(run),
        job=job,
        host_nonce=run.accepted.steps[index].host_nonce,
        step_dir=step_dir(run, index),
        max_bytes=min(limit, MAX_ARTIFACT_BYTES) if limit > 0 else MAX_ARTIFACT_BYTES,
        capabilities_sha256=_capabilities_digest(run.choice),
        fingerprint=None if told is None else told.attestation_pubkey_fingerprint,
        seconds=fetch_seconds(run),
        pins=() if run.choice is None else run.choice.pins,
    )
