"""No mutants: workers that differ from ours and keep the contract. No check may complain of one."""

from __future__ import annotations

import time
from typing import Any

from conformance.mutants import module, replaced, variant, wrap


@variant(
    "submit answered at the end of its job",
    "submit-has-its-shape",
    "seq-rises-by-one",
    "states-follow",
    "seq-goes-on-from-the-hosts",
)
def _late_answer() -> None:
    ops = module("worker_agent.ops")
    real = ops._OPERATIONS["submit"]

    def late(call: Any) -> Any:
        told, deadline = real(call), time.monotonic() + 5
        slow = "SlowTests" in call.payload.job.job_key_inputs.sanitized_argv
        while not slow and time.monotonic() < deadline:
            standing = call.worker.jobs.standing(call.payload.job.job_id)
            if standing.terminal:
                return replaced(told, state=standing.state.state, seq=standing.state.seq)
            time.sleep(0.02)
        return told

    ops._OPERATIONS = {**ops._OPERATIONS, "submit": late}


@variant("an operation without a name is no request", "unknown-operation")
def _nameless_operation() -> None:
    words = module("rch.contract.worker_rpc")

    def strict(real: Any) -> Any:
        def decode(line: bytes) -> Any:
            try:
                return real(line)
            except words.RpcError as error:
                if b'"op":""' in line:
                    raise words.RpcError(words.Code.INVALID_REQUEST, "op is empty") from error
                raise

        return decode

    wrap(module("worker_agent.rpc"), "decode_request", strict)


@variant("the policy's digest is held against the policy", "policy-of-a-host-permits-nothing")
def _policy_digest() -> None:
    submit, canonical = module("worker_agent.submit"), module("rch.contract.canonical")
    words = module("rch.contract.worker_rpc")

    def strict(real: Any) -> Any:
        def look(request: Any) -> None:
            real(request)
            record = request.classifier_policy
            named = request.invocation.classifier_policy_sha256
            if record is not None and canonical.jcs_sha256(record.policy) != named:
                raise words.RpcError(words.Code.INVALID_REQUEST, "classifier_policy_sha256 is another")

        return look

    wrap(submit, "_check_request", strict)


@variant(
    "no tail is offered, and there is no such operation",
    "bad-ids-are-refused",
    "wrong-types",
    "unknown-jobs",
)
def _no_tail() -> None:
    ops, envelope = module("worker_agent.ops"), module("rch.contract.worker_envelope")
    ops.FEATURES = tuple(feature for feature in ops.FEATURES if feature != "tail")
    envelope.OPERATIONS = {op: kind for op, kind in envelope.OPERATIONS.items() if op != "tail"}


@variant("a tail is answered later than the next line comes", "submit-again-while-it-runs")
def _late_tails() -> None:
    ops = module("worker_agent.ops")
    real = ops._OPERATIONS["tail"]

    def late(call: Any) -> Any:
        time.sleep(0.4)
        return real(call)

    ops._OPERATIONS = {**ops._OPERATIONS, "tail": late}
