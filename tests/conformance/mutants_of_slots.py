"""Mutants of slots, leases that run out, and what a submit and a cancel take (sections 3.3, 3.4, 4)."""

from __future__ import annotations

import dataclasses
from typing import Any

from conformance.mutants import module, mutant, refusal, replaced


def _operation(name: str, change: Any) -> None:
    """Have `change(call, real)` serve an operation."""
    ops = module("worker_agent.ops")
    real = ops._OPERATIONS[name]
    ops._OPERATIONS = {**ops._OPERATIONS, name: lambda call: change(call, real)}


def _with_payload(call: Any, **changes: Any) -> Any:
    payload = replaced(call.request.payload, **changes)
    return dataclasses.replace(call, request=replaced(call.request, payload=payload))


def _leases() -> Any:
    return module("worker_agent.leases").Leases


# --- leases and slots ---------------------------------------------------------------------


@mutant("many jobs under one lease", "one-lease-is-one-slot")
def _many_jobs() -> None:
    leases = module("worker_agent.leases")

    def take(self: Any, job_id: str, lease_id: Any, fence: Any, source_sha256: Any = None) -> None:
        with self._changing() as change:
            if lease_id is not None and fence is not None:
                self._require(change.table, lease_id, fence)
            others = tuple(use for use in change.table.uses if use.job_id != job_id)
            use = leases.Use(job_id=job_id, lease_id=lease_id, source_sha256=source_sha256)
            change.table = replaced(change.table, uses=(*others, use))

    _leases().take = take


@mutant("slot free when its lease expires", "orphans-hold-their-slot")
def _slot_free_at_expiry() -> None:
    def taken(self: Any, table: Any) -> int:
        return len({lease.lease_id for lease in table.leases if self.is_live(lease)})

    _leases()._taken = taken


@mutant("no grace for an expired lease", "orphans-live-on")
def _no_grace() -> None:
    _leases()._in_grace = lambda _self, _lease: False


@mutant("renewal extends nothing", "renewal-extends-the-lease")
def _idle_renewal() -> None:
    def renew(self: Any, run_id: str, lease_id: str, fence: int, _ttl: int) -> Any:
        lease = self._require(self.read(), lease_id, fence)
        if lease.run_id != run_id:
            raise refusal("LEASE_EXPIRED", "it is another run's")
        free = self._slots - self._taken(self.read())
        return module("worker_agent.leases").Granted(lease=lease, slots_free=free)

    _leases().renew = renew


@mutant("upload under a lease refused", "upload-under-a-lease")
def _no_upload_under_lease() -> None:
    def refuse(call: Any, real: Any) -> Any:
        if call.payload.lease_id is not None:
            raise refusal("LEASE_EXPIRED", "it is not live")
        return real(call)

    _operation("upload_source", refuse)


@mutant("no slot without a lease", "free-slot-needs-no-lease")
def _no_free_slot() -> None:
    def busy(call: Any, real: Any) -> Any:
        if call.payload.lease_id is None:
            raise refusal("BUSY", "no lease, no slot")
        return real(call)

    _operation("submit", busy)


@mutant("expires_at in the past", "expires-at-is-ahead")
def _expired_from_the_start() -> None:
    _operation("reserve", lambda call, real: replaced(real(call), expires_at="1970-01-01T00:00:00.000Z"))


@mutant("job_state_seq not heeded", "seq-goes-on-from-the-hosts")
def _own_seq() -> None:
    _operation("submit", lambda call, real: real(_with_payload(call, job_state_seq=1)))
