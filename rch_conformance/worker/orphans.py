"""Section 3.4: what a lease that ran out leaves behind while its job runs, seen once for several checks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rch_conformance.checks import NotOffered
from rch_conformance.worker.jobs import Job, wait_for_end
from rch_conformance.worker.peer import new_id

if TYPE_CHECKING:
    from rch_conformance.worker.rig import Lease, Rig

_TTL_SECONDS = 4
_MOST_SLOTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A job whose lease expired: its states, the slots that others got beside it, and both fences.

    `by_old_fence`: what a cancel and a renewal with the first fence were answered after the return.
    """

    after_expiry: str
    after_return: str
    slots_total: int
    slots_of_others: int
    fence: int
    later_fence: int
    by_old_fence: tuple[str, ...]


def orphaned(rig: Rig) -> Orphan:
    """Let the lease of a slow job expire, ask for slots, come back with the same run, and end the job."""
    rig.free_slots()
    rig.source()
    lease = short_lease(rig, rig.run_id, _TTL_SECONDS)
    expired = time.monotonic() + _TTL_SECONDS + 0.3
    job = rig.job(rig.project().argv("slow"))
    try:
        rig.ask("submit", {**job.payload, **lease.members}).payload  # noqa: B018  (`Broken` for a refusal)
        time.sleep(max(0.0, expired - time.monotonic()))
        return _seen(rig, lease, job)
    finally:
        rig.ask("cancel", {"job_id": job.job_id, "reason": "USER"})
        wait_for_end(rig.peer, job.job_id, rig.job_timeout)
        rig.free_slots()


def _seen(rig: Rig, lease: Lease, job: Job) -> Orphan:
    total = lease.granted.get("slots_total")
    before = _state(rig, job)
    others = _others(rig, total if isinstance(total, int) else 1)
    again = rig.lease(lease.run_id)
    after = _state(rig, job)
    cancel = rig.ask("cancel", {"job_id": job.job_id, "reason": "USER", **lease.members})
    renewal = rig.reserve(lease.run_id, **lease.members)
    return Orphan(
        after_expiry=before,
        after_return=after,
        slots_total=total if isinstance(total, int) else 1,
        slots_of_others=others,
        fence=lease.fence,
        later_fence=again.fence,
        by_old_fence=tuple("ok" if answer.ok else answer.code for answer in (cancel, renewal)),
    )


def _state(rig: Rig, job: Job) -> str:
    return str(rig.result("status", job_id=job.job_id).get("state"))


def _others(rig: Rig, total: int) -> int:
    """How many leases other runs get, all of them given back."""
    held: list[dict[str, object]] = []
    while len(held) < min(total, _MOST_SLOTS):
        answer = rig.reserve(new_id())
        if not answer.ok:
            break
        held.append({name: answer.payload.get(name) for name in ("lease_id", "fence")})
    for members in held:
        rig.ask("release", members)
    return len(held)


def short_lease(rig: Rig, run_id: str, seconds: int) -> Lease:
    """A lease of so many seconds; `NotOffered` where the worker grants longer ones alone."""
    lease = rig.lease(run_id, ttl_seconds=seconds)
    granted = lease.granted.get("ttl_seconds")
    if not isinstance(granted, int) or granted > seconds:
        rig.release(lease)
        raise NotOffered("short_ttl", f"ttl_seconds {seconds} was asked for, {granted} granted")
    return lease
