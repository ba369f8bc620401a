"""Leases of a mock worker: who has a slot, and with which fence (spec section 3.4)."""

from __future__ import annotations

from rch.contract.worker_rpc import Code, RpcError
from rch_conformance.mock.state import Lease, WorkerState

RETRY_SECONDS = 1


def granted(state: WorkerState, run_id: str, slots: int) -> Lease:
    """A new lease, its fence one higher than any before; `RpcError` BUSY where no slot is free."""
    if len(state.leases) >= slots:
        raise busy(len(state.leases), slots)
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


def busy(taken: int, slots: int) -> RpcError:
    """The refusal where every slot is given away."""
    data = {"retry_after_seconds": RETRY_SECONDS}
    return RpcError(Code.BUSY, f"{taken} of {slots} slots are taken", data)
