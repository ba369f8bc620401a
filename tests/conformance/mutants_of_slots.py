"""Mutants of slots, leases that run out, and what a submit and a cancel take (sections 3.3, 3.4, 4)."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

from conformance.mutants import module, mutant, refusal, replaced, wrap


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


# --- submit, cancel, status, tail ---------------------------------------------------------


@mutant("job_state_seq not heeded", "seq-goes-on-from-the-hosts")
def _own_seq() -> None:
    _operation("submit", lambda call, real: real(_with_payload(call, job_state_seq=1)))


@mutant("a bad job_id made a good one", "ids-of-a-submit-are-ids")
def _bad_ids_taken() -> None:
    good = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{9,63}")

    def mended(value: str) -> str:
        return value if good.fullmatch(value) else f"x{hashlib.sha256(value.encode()).hexdigest()[:30]}"

    def lax(real: Any) -> Any:
        def decode(line: bytes) -> Any:
            framing = module("rch.contract.framing")
            asked = framing.decode_object(line)
            if asked.get("op") == "submit":
                for record in ("job", "invocation", "classifier_policy"):
                    part = asked["payload"][record]
                    part |= {name: mended(part[name]) for name in ("job_id", "run_id")}
                line = framing.encode_line(asked).rstrip()
            return real(line)

        return decode

    wrap(module("worker_agent.rpc"), "decode_request", lax)


@mutant("destination's name not checked", "destination-is-checked")
def _any_destination() -> None:
    def lax(real: Any) -> Any:
        def unchanged(config: Any, cache: Any, inputs: Any, apple: Any) -> Any:
            destination = {**inputs.destination, "name": "host", "provisioning": "existing"}
            return real(config, cache, replaced(inputs, destination=destination), apple)

        return unchanged

    wrap(module("worker_agent.capabilities"), "unchanged", lax)


@mutant("one reason of a cancel known", "reasons-are-taken")
def _users_alone() -> None:
    def few(call: Any, real: Any) -> Any:
        if call.payload.reason != "USER":
            raise refusal("INVALID_REQUEST", "the reason is not known")
        return real(call)

    _operation("cancel", few)


@mutant("cancel answered with another state", "cancel-of-a-running-job")
def _wrong_cancel_state() -> None:
    def wrong(call: Any, real: Any) -> Any:
        told = real(call)
        return replaced(told, state="SUCCEEDED") if told.state == "CANCEL_REQUESTED" else told

    _operation("cancel", wrong)


@mutant("strange cursor is an internal error", "strange-cursors-are-refused")
def _strange_cursor() -> None:
    def strict(real: Any) -> Any:
        def cursor(text: Any) -> Any:
            if text is not None and text.count(":") != 2:
                raise ValueError(text)
            return real(text)

        return cursor

    wrap(module("worker_agent.tail"), "_cursor", strict)


@mutant("log of a running job not counted", "log-is-counted-while-it-grows")
def _late_log_bytes() -> None:
    def late(call: Any, real: Any) -> Any:
        told = real(call)
        return told if told.artifacts_available else replaced(told, log_bytes=0)

    _operation("status", late)


@mutant("timeouts not kept", "overall-timeout-is-kept")
def _no_timeouts() -> None:
    def patient(real: Any) -> Any:
        def begin(self: Any, *given: Any, **named: Any) -> None:
            real(self, *given, **named)
            self._deadline, self.idle_seconds = 1e12, 1e9

        return begin

    wrap(module("worker_agent.watch").Watch, "__init__", patient)
