"""The jobs of a run: what is handed to the worker, and the ends that the host makes itself."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from rch.contract.canonical import jcs_sha256
from rch.contract.classifier import Rejected, classify
from rch.contract.errors import Kind, lookup
from rch.contract.policy import ClassifierPolicy
from rch.contract.records import (
    Accepted,
    ClassifierPolicyRecord,
    Invocation,
    Job,
    JobKeyInputs,
    Reason,
    Summary,
)
from rchd.core.model import Choice, Run, Trouble


def job_of(run: Run, index: int, choice: Choice, now: str) -> tuple[Job, Invocation]:
    """The job of step `index` on `choice`: what `submit` carries."""
    job = job_from(run.accepted, index, choice, now)
    return job, invocation_of(run, index, now, job)


def job_from(accepted: Accepted, index: int, choice: Choice, now: str) -> Job:
    """The job that step `index` of a request is on `choice`."""
    step = accepted.steps[index]
    inputs = JobKeyInputs(
        source_sha256=accepted.source.source_sha256,
        sanitized_argv=_argv(accepted, index, choice),
        toolchain=choice.toolchain,
        destination=choice.destination,
    )
    return Job(
        created_at=now,
        run_id=accepted.run_id,
        job_id=step.job_id,
        job_key=jcs_sha256(inputs),
        action=step.action,
        job_key_inputs=inputs,
        effective_config={
            "config": accepted.effective_config,
            "sources": [msgspec.to_builtins(source) for source in accepted.config_sources],
            "redactions": list(accepted.redactions),
        },
        artifact_profile=accepted.options.artifact_profile,
        original_constraint=accepted.options.destination,
        xcode_version=choice.xcode_version or UNSET,
        udid=choice.udid or UNSET,
    )


def _argv(accepted: Accepted, index: int, choice: Choice) -> tuple[str, ...]:
    """The step's canonical command line, its destination the concrete one where there is one."""
    step = accepted.steps[index]
    if choice.concrete is None or step.sanitized_argv is None:
        return step.sanitized_argv or ()
    policy = msgspec.convert(accepted.policy, ClassifierPolicy)
    verdict = classify(step.original_argv, policy, resolved_destination=choice.concrete)
    if isinstance(verdict, Rejected):
        # What was accepted stays so: a concrete destination only says more than the config's.
        raise AssertionError(verdict.rejection_reason)  # noqa: TRY004  (a defect, no wrong type)
    return verdict.sanitized_argv


def invocation_of(run: Run, index: int, now: str, job: Job | None) -> Invocation:
    """`invocation.json` of step `index`."""
    step = run.accepted.steps[index]
    argv = step.sanitized_argv or () if job is None else job.job_key_inputs.sanitized_argv
    return Invocation(
        created_at=now,
        run_id=run.run_id,
        job_id=step.job_id,
        job_key=None if job is None else job.job_key,
        original_argv=step.original_argv,
        sanitized_argv=argv,
        accepted_action=step.action if step.sanitized_argv is not None else None,
        rejected_flags=step.rejected_flags,
        classifier_policy_sha256=run.accepted.policy_sha256,
    )


def policy_of(run: Run, job: Job) -> ClassifierPolicyRecord:
    """`classifier_policy.json` of a job."""
    return ClassifierPolicyRecord(
        created_at=job.created_at,
        run_id=job.run_id,
        job_id=job.job_id,
        job_key=job.job_key,
        policy=run.accepted.policy,
    )


def host_summary(
    run: Run,
    index: int,
    now: str,
    trouble: Trouble,
    *,
    integrity_errors: tuple[str, ...] = (),
    reasons: tuple[Reason, ...] = (),
) -> Summary:
    """A `summary.json` that the host makes where there is nothing to fetch."""
    kind = Kind(trouble.kind)
    job = run.steps[index].job
    base = Summary(
        created_at=now,
        run_id=run.run_id,
        job_id=run.accepted.steps[index].job_id,
        job_key=None if job is None else job.job_key,
        status=_STATUS.get(kind, "failed"),
        failure_kind=str(kind),
        exit_code=lookup(kind, trouble.subkind).exit_code,
        attempts=0 if job is None else 1,
        backend=run.accepted.options.backend,
        human_summary=trouble.message,
        duration_ms=0,
        artifact_profile=run.accepted.options.artifact_profile,
        simulated=run.accepted.options.simulate
        or (run.choice is not None and run.choice.capabilities.simulated),
    )
    extra: dict[str, object] = {}
    if trouble.subkind is not None:
        extra["failure_subkind"] = trouble.subkind
    if integrity_errors:
        extra["integrity_errors"] = integrity_errors
    reasons = reasons or trouble.reasons
    if reasons:
        extra["rejection_reasons"] = reasons
        extra["rejection_reason"] = reasons[0].message
    return msgspec.structs.replace(base, **extra)


_STATUS = {Kind.CLASSIFIER_REJECTED: "rejected", Kind.CANCELLED: "cancelled"}
