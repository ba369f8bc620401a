"""Section 3.4: slots without a lease, renewals that hold, and leases that run out under a job."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from rch_conformance.checks import Broken
from rch_conformance.worker.checks.framing import fresh_tar, stored
from rch_conformance.worker.orphans import short_lease
from rch_conformance.worker.peer import new_id
from rch_conformance.worker.rig import Rig
from rch_conformance.worker.suite import check, expect, expect_same

_LEASE, _RENEW = ("lease",), ("lease", "lease_renew")
_RENEWED_SECONDS = 3


@check("3.4", "a submit without a lease is taken where a slot is free")
def free_slot_needs_no_lease(rig: Rig) -> None:
    expect_same("the state of the job", rig.plain().status.get("state"), "SUCCEEDED")


@check("3.4", "an upload under a live lease with its fence is taken", needs=_LEASE)
def upload_under_a_lease(rig: Rig) -> None:
    rig.free_slots()
    lease = rig.lease(new_id())
    answer = rig.upload(fresh_tar(), **lease.members)
    rig.release(lease)
    stored(answer)


@check("3.4", "expires_at is ttl_seconds ahead, by the worker's own clock", needs=_LEASE)
def expires_at_is_ahead(rig: Rig) -> None:
    rig.free_slots()
    before = _when(rig.capabilities.get("probed_at"), "probed_at")
    lease = rig.lease(new_id())
    rig.release(lease)
    expires = _when(lease.granted.get("expires_at"), "expires_at")
    ahead = timedelta(seconds=float(lease.granted.get("ttl_seconds") or 0) - 1)
    expect(
        expires >= before + ahead,
        f"expires_at is {expires.isoformat()}: the worker was probed at {before.isoformat()},"
        f" and ttl_seconds is {lease.granted.get('ttl_seconds')!r}",
    )


def _when(text: object, what: str) -> datetime:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise Broken(f"{what} is {text!r}, no time") from error
    expect(when.tzinfo is not None, f"{what} is {text!r}, without a zone")
    return when


@check("3.4", "a renewal moves the end of a lease: it outlives its first ttl_seconds", needs=_RENEW)
def renewal_extends_the_lease(rig: Rig) -> None:
    rig.free_slots()
    lease = short_lease(rig, new_id(), _RENEWED_SECONDS)
    told = rig.reserve(lease.run_id, **lease.members, ttl_seconds=60)
    expect(told.ok, f"a renewal was refused: {told.shown()}")
    time.sleep(_RENEWED_SECONDS + 0.3)
    later = rig.reserve(lease.run_id, **lease.members)
    rig.release(lease)
    expect(later.ok, f"renewed for 60 s, the lease was over after {_RENEWED_SECONDS} s: {later.shown()}")


@check("3.4", "a job whose lease expired lives on within the grace, and when its run returns", needs=_RENEW)
def orphans_live_on(rig: Rig) -> None:
    seen = rig.orphan()
    expect_same("the state after the lease expired", seen.after_expiry, "RUNNING")
    expect_same("the state when its run has a lease again", seen.after_return, "RUNNING")


@check("3.4", "a slot stays taken after its lease expired, as long as its job runs", needs=_RENEW)
def orphans_hold_their_slot(rig: Rig) -> None:
    seen = rig.orphan()
    expect(
        seen.slots_of_others < seen.slots_total,
        f"others had {seen.slots_of_others} of {seen.slots_total} slots beside a job that runs",
    )


@check("3.4", "the run of an orphaned job gets a lease with a higher fence", needs=_RENEW)
def orphans_come_back_higher(rig: Rig) -> None:
    seen = rig.orphan()
    expect(seen.later_fence > seen.fence, f"the fence {seen.later_fence} is not over {seen.fence}")


@check(
    "3.4", "when the run of an orphaned job is back, its old fence changes nothing any more", needs=_RENEW
)
def orphans_leave_their_fence(rig: Rig) -> None:
    told = rig.orphan().by_old_fence
    expect_same("the answers to a cancel and a renewal with it", told, ("LEASE_EXPIRED", "LEASE_EXPIRED"))
