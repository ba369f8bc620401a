"""`submit`: one job, checked again in full, and handed to an owner of its own (spec section 3.3)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from rch.contract.canonical import jcs_sha256
from rch.contract.records import ClassifierPolicyRecord, JobStateRecord
from rch.contract.worker_rpc import Code, Feature, RpcError, SubmitRequest, SubmitResult
from worker_agent.backends import offers_xcodebuild
from worker_agent.cache_keys import cache_config
from worker_agent.jobs import MAX_ATTEMPTS, Standing
from worker_agent.results.given import envelope, fault_of
from worker_agent.source_words import missing
from worker_agent.watch import timeouts
from worker_agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rch.contract.policy import ClassifierPolicy
    from rch.files.locks import FileLock

_START_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.005


def submit(worker: Worker, request: SubmitRequest) -> SubmitResult:
    """Start the job, or say where it stands; two executions of one id are never alive at once."""
    _check_request(request)
    job_id = request.job.job_id
    deadline = time.monotonic() + _START_PATIENCE_SECONDS
    starts = 0
    while True:
        lock = worker.jobs.lock(job_id)
        if lock.try_acquire():
            try:
                standing = worker.jobs.settle(job_id)
                _check_same(request, standing)
                if standing.terminal and standing.state is not None:
                    return _result(standing.state)
                _admit(worker, request, standing)
                if (end := _served(worker, job_id, standing)) is not None:
                    return _result(end)
                starts += 1
                if (result := _launched(worker, job_id, lock, last=starts > MAX_ATTEMPTS)) is not None:
                    return result
            finally:
                lock.release()
        standing = worker.jobs.standing(job_id)
        _check_same(request, standing)
        # With an owner and without a state, somebody else's submit is on its way: wait for it.
        if standing.state is not None and not standing.lost:
            return _result(standing.state)
        if time.monotonic() > deadline:
            raise RpcError(Code.INTERNAL, f"job {job_id} does not come to life")
        time.sleep(_LOOK_SECONDS)


def _served(worker: Worker, job_id: str, standing: Standing) -> JobStateRecord | None:
    """The end of a new job for which an earlier success answers, None for one that has to run.

    It takes milliseconds and starts no process: until then this one is the job's owner.
    """
    if standing.attempt > 0 or worker.jobs.is_cancelled(job_id):
        return None  # what was lost once is executed, and what is not wanted is sealed as such
    from worker_agent.results import cache

    request = worker.jobs.request(job_id)
    found = None if request is None else cache.find(worker, request.job)
    if request is None or found is None:
        return None
    from worker_agent.results.served import serve

    return serve(worker, request, *found)


def _launched(worker: Worker, job_id: str, lock: FileLock, *, last: bool) -> SubmitResult | None:
    """The first word of a supervisor; None for one that died before it, unless it was the `last` one."""
    from worker_agent.launch import Stillborn, launch

    try:
        return launch(worker, job_id, lock)
    except Stillborn:
        if last:
            raise
        return None


def _result(state: JobStateRecord) -> SubmitResult:
    return SubmitResult(state=state.state, seq=state.seq)


def _check_request(request: SubmitRequest) -> None:
    job = request.job
    try:
        found = jcs_sha256(job.job_key_inputs)
    except ValueError as error:
        raise RpcError(Code.INVALID_REQUEST, f"job_key_inputs: {error}") from error
    if job.job_key != found:
        raise RpcError(
            Code.INVALID_REQUEST, f"job_key {str(job.job_key)[:64]} is not that of job_key_inputs, {found}"
        )
    if request.job_state_seq < 1:
        raise RpcError(Code.INVALID_REQUEST, f"job_state_seq {request.job_state_seq} is not positive")
    if job.action not in {"build", "test"}:
        raise RpcError(Code.INVALID_REQUEST, f"action {job.action[:40]!r} is not build or test")
    if request.invocation.sanitized_argv != job.job_key_inputs.sanitized_argv:
        raise RpcError(Code.INVALID_REQUEST, "invocation.sanitized_argv is not that of job_key_inputs")
    timeouts(job)
    cache_config(job)
    fault = fault_of(request)
    if fault is not None:
        raise RpcError(Code.INVALID_REQUEST, fault)


def _check_same(request: SubmitRequest, standing: Standing) -> None:
    """One id is one job."""
    job = request.job
    known = standing.state
    if known is not None and known.job_key != job.job_key:
        raise RpcError(Code.JOB_KEY_MISMATCH, f"job {job.job_id} has the job_key {known.job_key}")


def _admit(worker: Worker, request: SubmitRequest, standing: Standing) -> None:
    """Check all that an execution needs, and let the job in."""
    job_id, run_id = request.job.job_id, request.job.run_id
    lease = worker.leases.require(request.lease_id, request.fence)
    if lease is not None and lease.run_id != run_id:
        raise RpcError(Code.LEASE_EXPIRED, f"lease {lease.lease_id} is not of run {run_id}")
    ends_at_once = worker.jobs.is_cancelled(job_id) or standing.attempt >= MAX_ATTEMPTS
    if not ends_at_once:
        _check_toolchain(worker, request)
        request = _with_policy(request, _classify(worker, request))
        if not worker.jobs.end_leftovers(job_id):
            raise RpcError(
                Code.BUSY, f"what is left of job {job_id} does not end", {"retry_after_seconds": 5}
            )
        source = request.job.job_key_inputs.source_sha256
        worker.leases.take(job_id, request.lease_id, request.fence, source)
        if not worker.sources.exists(source):  # a sweep took it before it was in use
            worker.leases.drop(job_id)
            raise missing(source)
    worker.jobs.write_request(request)


def _check_toolchain(worker: Worker, request: SubmitRequest) -> None:
    from worker_agent.capabilities import unchanged

    inputs = request.job.job_key_inputs
    changed = unchanged(worker.config, worker.probe_cache, inputs, worker.apple)
    if changed is None:
        return
    if "xcode_build" in inputs.toolchain and not offers_xcodebuild(worker.toolchains()):
        needed = Feature.BACKEND_XCODEBUILD
        message = (
            f"job.job_key_inputs.toolchain names an Xcode, which needs the feature {needed}, not offered"
        )
        raise RpcError(Code.FEATURE_MISSING, message)
    raise RpcError(Code.TOOLCHAIN_CHANGED, changed)


def _with_policy(request: SubmitRequest, policy: ClassifierPolicy) -> SubmitRequest:
    """A host may leave its policy out; every set holds one, which is then the one judged by here."""
    if request.classifier_policy is not None:
        return request
    head = envelope(request.job, request.job.created_at)
    record = ClassifierPolicyRecord(**head, policy=msgspec.to_builtins(policy))
    return msgspec.structs.replace(request, classifier_policy=record)


def _classify(worker: Worker, request: SubmitRequest) -> ClassifierPolicy:
    """Judge the argv by the bundle's own names and this worker's own policy: a host has no say."""
    from rch.config.invocation import policy_from_bundle
    from rch.contract.classifier import Rejected, classify
    from rch.contract.errors import Failure

    argv = request.job.job_key_inputs.sanitized_argv
    facts = worker.sources.facts(request.job.job_key_inputs.source_sha256)
    try:
        policy = policy_from_bundle(facts.config, worker.config, top_level=facts.top_level)
    except Failure as failure:
        raise RpcError(Code.CLASSIFIER_REJECTED, failure.message) from failure
    verdict = classify(argv, policy, resolved_destination=_destination_of(argv))
    if isinstance(verdict, Rejected):
        data = {"rejection_reasons": msgspec.to_builtins(verdict.reasons)}
        raise RpcError(Code.CLASSIFIER_REJECTED, verdict.rejection_reason, data)
    if verdict.sanitized_argv != argv or verdict.action != request.job.action:
        raise RpcError(
            Code.CLASSIFIER_REJECTED, "sanitized_argv is not in its canonical form, or of another action"
        )
    return policy


def _destination_of(argv: Sequence[str]) -> str | None:
    """The concrete destination that the host resolved the config's to: the gate holds it against that."""
    words = list(argv)
    at = words.index("-destination") + 1 if "-destination" in words else len(words)
    return words[at] if at < len(words) else None
