"""Section 3.4: leases and fences."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rch.contract.worker_rpc import ReserveResult
from rch_conformance.checks import NotOffered
from rch_conformance.worker.checks.framing import fresh_tar
from rch_conformance.worker.checks.running import expect_retry
from rch_conformance.worker.jobs import wait_for_end
from rch_conformance.worker.peer import Answer, new_id
from rch_conformance.worker.rig import Lease, Rig
from rch_conformance.worker.suite import check, expect, expect_same, shaped

_LEASE, _RENEW = ("lease",), ("lease", "lease_renew")
_SHORT_SECONDS = 1
_MOST_SLOTS = 256


def _fresh(rig: Rig, **more: object) -> Lease:
    """A lease of a run of its own, on a worker that is free of ours."""
    rig.free_slots()
    return rig.lease(new_id(), **more)


def _renewed(rig: Rig, lease: Lease, **changes: object) -> Answer:
    return rig.reserve(lease.run_id, **{**lease.members, **changes})


@check("3.4", "one lease is one slot: beside its job a second one under it is answered BUSY", needs=_LEASE)
def one_lease_is_one_slot(rig: Rig) -> None:
    job, _ = rig.running()
    other = rig.job(run_id=job.run_id)
    answer = rig.submit(other)
    if answer.ok:
        rig.ask("cancel", {"job_id": other.job_id, "reason": "USER"})
        wait_for_end(rig.peer, other.job_id, rig.job_timeout)
    expect_retry(answer.refused_with("BUSY").data)


@check("3.4", "a release cancels the jobs that run under the lease", needs=_LEASE)
def release_cancels(rig: Rig) -> None:
    job, _ = rig.running()
    rig.hand_back(job)
    status = wait_for_end(rig.peer, job.job_id, rig.job_timeout)
    expect_same("the state of the job", status.get("state"), "CANCELLED")


@check(
    "3.4",
    "reserve answers {lease_id, fence, ttl_seconds, expires_at, slots_total, slots_free}",
    needs=_LEASE,
)
def reserve_has_its_shape(rig: Rig) -> None:
    lease = _fresh(rig)
    told = shaped(lease.granted, ReserveResult, "reserve")
    expect(
        told.slots_free < told.slots_total,
        f"with a lease out {told.slots_free} of {told.slots_total} are free",
    )
    rig.release(lease)


@check("3.4", "each new lease has a higher fence", needs=_LEASE)
def fences_rise(rig: Rig) -> None:
    fences = []
    for _ in range(3):
        lease = _fresh(rig)
        fences.append(lease.fence)
        rig.release(lease)
    expect(fences[0] < fences[1] < fences[2], f"three leases, one after the other, had the fences {fences}")


@check("3.4", "a run with a live lease gets the same lease again", needs=_LEASE)
def one_run_has_one_lease(rig: Rig) -> None:
    lease = _fresh(rig)
    again = rig.lease(lease.run_id)
    expect_same("lease_id and fence of the second reserve", again.members, lease.members)
    expect_same("slots_free", again.granted.get("slots_free"), lease.granted.get("slots_free"))
    rig.release(again)


@check("3.4", "a reserve with lease_id and fence renews: same lease, same fence", needs=_RENEW)
def renewal_keeps_the_lease(rig: Rig) -> None:
    lease = _fresh(rig)
    told = _renewed(rig, lease, ttl_seconds=120).payload
    same = {"lease_id": told.get("lease_id"), "fence": told.get("fence")}
    expect_same("lease_id and fence after the renewal", same, lease.members)
    rig.release(lease)


@check("3.4", "a renewal with a stale fence is refused with LEASE_EXPIRED", needs=_RENEW)
def stale_fence_renews_nothing(rig: Rig) -> None:
    lease = _fresh(rig)
    for fence in (lease.fence - 1, lease.fence + 1):
        _renewed(rig, lease, fence=fence).refused_with("LEASE_EXPIRED")
    rig.release(lease)


@check(
    "3.4",
    "submit, cancel and upload_source with a stale fence are refused with LEASE_EXPIRED",
    needs=_LEASE,
)
def stale_fence_changes_nothing(rig: Rig) -> None:
    rig.source()
    lease = _fresh(rig)
    for stale in (
        {**lease.members, "fence": lease.fence - 1},
        {"lease_id": f"lease-{new_id()}", "fence": lease.fence},
    ):
        _changes_nothing(rig, lease.run_id, stale)
    rig.release(lease)


@check(
    "3.4",
    "submit, cancel and upload_source under a lease that expired are refused with LEASE_EXPIRED",
    needs=_RENEW,
)
def expired_lease_changes_nothing(rig: Rig) -> None:
    rig.source()
    lease = _short(rig)
    _changes_nothing(rig, lease.run_id, lease.members)


def _changes_nothing(rig: Rig, run_id: str, stale: Mapping[str, Any]) -> None:
    """`Broken` unless all that changes something is refused under these members of a lease."""
    job = rig.job(run_id=run_id)
    answer = rig.ask("submit", {**job.payload, **stale})
    if answer.ok:
        rig.ask("cancel", {"job_id": job.job_id, "reason": "USER"})
    answer.refused_with("LEASE_EXPIRED")
    rig.ask("cancel", {"job_id": new_id(), "reason": "USER", **stale}).refused_with("LEASE_EXPIRED")
    rig.upload(fresh_tar(), **stale).refused_with("LEASE_EXPIRED")


@check("3.4", "a lease serves its own run alone", needs=_LEASE)
def leases_serve_their_run(rig: Rig) -> None:
    rig.source()
    lease = _fresh(rig)
    job = rig.job(run_id=new_id())
    answer = rig.ask("submit", {**job.payload, **lease.members})
    if answer.ok:
        rig.ask("cancel", {"job_id": job.job_id, "reason": "USER"})
    answer.refused_with("LEASE_EXPIRED")
    rig.release(lease)


@check("3.4", "a lease that was given back admits no submit", needs=_LEASE)
def released_lease_admits_nothing(rig: Rig) -> None:
    rig.source()
    lease = _fresh(rig)
    rig.release(lease)
    job = rig.job(run_id=lease.run_id)
    answer = rig.ask("submit", {**job.payload, **lease.members})
    if answer.ok:
        rig.ask("cancel", {"job_id": job.job_id, "reason": "USER"})
    answer.refused_with("LEASE_EXPIRED")


@check("3.4", "a release of an unknown, a released or a stale lease is ok and does nothing", needs=_LEASE)
def releases_are_idempotent(rig: Rig) -> None:
    lease = _fresh(rig)
    for members in (
        {"lease_id": f"lease-{new_id()}", "fence": 1},
        {**lease.members, "fence": lease.fence - 1},
    ):
        answer = rig.ask("release", members)
        expect(answer.ok, f"a release that has nothing to do was refused: {answer.shown()}")
    again = rig.lease(lease.run_id)
    expect_same("the lease after a stale release", again.members, lease.members)
    for _ in range(2):
        answer = rig.ask("release", lease.members)
        expect(answer.ok, f"a release was refused: {answer.shown()}")
    rig.forget(lease)


@check("3.4", "a lease that was given back makes its slot free for another run", needs=_LEASE)
def released_slot_is_free(rig: Rig) -> None:
    lease = _fresh(rig)
    rig.release(lease)
    other = _fresh(rig)
    expect(other.lease_id != lease.lease_id, "another run has the lease that was given back")
    rig.release(other)


@check(
    "3.4", "there are as many leases as slots, and then BUSY with retry_after_seconds over 0", needs=_LEASE
)
def leases_are_bounded(rig: Rig) -> None:
    held = [_fresh(rig)]
    total = held[0].granted.get("slots_total")
    expect(isinstance(total, int) and total > 0, f"slots_total is {total!r}")
    if not isinstance(total, int) or total > _MOST_SLOTS:
        raise NotOffered("few_slots", f"slots_total {total} is too many to try")
    answer = rig.reserve(new_id())
    while answer.ok and len(held) <= total:
        told = answer.payload
        held.append(Lease(str(told.get("run_id")), str(told.get("lease_id")), int(told["fence"]), told))
        answer = rig.reserve(new_id())
    for lease in held:
        rig.release(lease)
    if answer.ok:
        rig.ask("release", {name: answer.payload.get(name) for name in ("lease_id", "fence")})
    expect(len(held) <= total, f"{len(held)} leases were given out, slots_total is {total}")
    expect_retry(answer.refused_with("BUSY").data)


@check("3.4", "a lease that is not renewed expires: it is refused, and its slot is free", needs=_RENEW)
def leases_expire(rig: Rig) -> None:
    lease = _short(rig)
    _renewed(rig, lease).refused_with("LEASE_EXPIRED")
    other = _fresh(rig)
    expect(other.fence > lease.fence, f"the fence {other.fence} is not over {lease.fence}")
    rig.release(other)


@check("3.4", "a run whose lease expired gets one with a higher fence", needs=_RENEW)
def expired_lease_comes_back_higher(rig: Rig) -> None:
    lease = _short(rig)
    again = rig.lease(lease.run_id)
    expect(again.fence > lease.fence, f"the fence {again.fence} is not over {lease.fence}")
    rig.release(again)


def _short(rig: Rig) -> Lease:
    """A lease that has expired."""
    lease = _fresh(rig, ttl_seconds=_SHORT_SECONDS)
    granted = lease.granted.get("ttl_seconds")
    if not isinstance(granted, int) or granted > _SHORT_SECONDS:
        rig.release(lease)
        raise NotOffered("short_ttl", f"ttl_seconds {_SHORT_SECONDS} was asked for, {granted} granted")
    time.sleep(_SHORT_SECONDS + 0.3)
    rig.forget(lease)
    return lease
