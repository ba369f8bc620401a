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


@variant("a tail is answered later than the next line comes", "submit-again-while-it-runs")
def _late_tails() -> None:
    ops = module("worker_agent.ops")
    real = ops._OPERATIONS["tail"]

    def late(call: Any) -> Any:
        time.sleep(0.4)
        return real(call)

    ops._OPERATIONS = {**ops._OPERATIONS, "tail": late}
