"""What a worker looks for in a submit before it takes it (spec section 3.3). Pure."""

from __future__ import annotations

from rch.contract.records import Capabilities
from rch.contract.toolchain import first_difference, host_destination_inputs, toolchain_change
from rch.contract.worker_rpc import SubmitRequest


def contradiction(asked: SubmitRequest) -> str | None:
    """Where a submit contradicts itself, or names what no worker does; None for a good one."""
    job, invocation = asked.job, asked.invocation
    ids = (invocation.run_id, invocation.job_id, invocation.job_key)
    wrong = None
    if job.action not in {"build", "test"} or invocation.accepted_action != job.action:
        wrong = f"job.action {job.action[:40]!r} is neither build nor test, or not the invocation's"
    elif ids != (job.run_id, job.job_id, job.job_key):
        wrong = f"invocation speaks of another job than {job.job_id}"
    elif invocation.sanitized_argv != job.job_key_inputs.sanitized_argv:
        wrong = "invocation.sanitized_argv is not that of job_key_inputs"
    elif asked.job_state_seq < 1:
        wrong = f"job_state_seq {asked.job_state_seq} is below 1"
    elif not asked.host_nonce:
        wrong = "host_nonce is empty"
    return wrong


def change(here: Capabilities, toolchain: dict[str, str], destination: dict[str, str]) -> str | None:
    """What of a job's toolchain and destination is not here; None if all of it is."""
    changed = toolchain_change(here, toolchain)
    if changed is None and "swift_version" in toolchain:
        return first_difference(destination, host_destination_inputs(here))
    from rch.contract.destinations import destination_change  # a start is quicker without

    return changed or destination_change(here, destination)
