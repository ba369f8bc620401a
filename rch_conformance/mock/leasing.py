"""Leases of a mock worker: who has a slot, and with which fence (spec section 3.4)."""

from __future__ import annotations

from collections.abc import Callable

from rch.contract.worker_rpc import Code, RpcError
from rch_conformance.mock.state import Lease, WorkerState

RETRY_SECONDS = 1


def taken(state: WorkerState, is_over: Callable[[str], bool]) -> int:
    """How many slots are: by a lease each, and by each job without one that is not over."""
    state.unleased = [job_id for job_id in state.unleased if not is_over(job_id)]
    return len(state.leases) + len(state.unleased)


def granted(state: WorkerState, run_id: str) -> Lease:
    """A new lease, its fence one higher than any before."""
    state.fence += 1
    lease = Lease(lease_id=f"lease-{state.fence:08d}", run_id=run_id, fence=state.fence, until=0)
    state.leases.append(lease)
    return lease


def live(state: WorkerState, lease_id: str, fence: int | None) -> Lease:
    """The lease, if it is live and the fence its own."""
    for lease in state.leases:
        if lease.lease_id == lease_id and lease.fence == fence:
            return lease
    raise RpcError(Code.LEASE_EXPIRED, f"lease {lease_id} with fence {fence} is not live")


def require_slot(used: int, slots: int) -> None:
    """`RpcError` BUSY where every slot is given away."""
    if used >= slots:
        data = {"retry_after_seconds": RETRY_SECONDS}
        raise RpcError(Code.BUSY, f"{used} of {slots} slots are taken", data)
