"""Mutants that show only under a race, after a return, or the second time (sections 3.3, 3.4, 4, 8, 10)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conformance.mutants import module, mutant, refusal, replaced, wrap


def _leases() -> Any:
    return module("worker_agent.leases").Leases


# --- at once ------------------------------------------------------------------------------


@mutant("a submit beside another one of its job is refused", "submits-at-once")
def _busy_with_it() -> None:
    locks = module("rch.files.locks").FileLock

    def impatient(real: Any) -> Any:
        def try_acquire(self: Any) -> bool:
            if real(self):
                time.sleep(0.3)
                return True
            raise refusal("INTERNAL", "the job is being submitted")

        return try_acquire

    wrap(locks, "try_acquire", impatient)


@mutant("each of the submits at once executes the job", "submits-at-once")
def _each_executes() -> None:
    submitting = module("worker_agent.submit")

    def hasty(real: Any) -> Any:
        def submit(worker: Any, request: Any) -> Any:
            known = worker.jobs.standing(request.job.job_id).state
            time.sleep(0.5)  # whoever came meanwhile knows as little
            told = real(worker, request)
            if known is None:
                log = worker.jobs.attempt_folder(request.job.job_id, 1) / "artifacts" / "build.log"
                deadline = time.monotonic() + 10
                while not log.exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
                with log.open("a") as file:
                    file.write("conformance line 7 é 漢字 🦊\n")
            return told

        return submit

    wrap(submitting, "submit", hasty)


@mutant("leases counted without a lock", "reserves-at-once")
def _counted_without_a_lock() -> None:
    leases = module("worker_agent.leases")

    @contextmanager
    def changing(self: Any) -> Iterator[Any]:
        leases.make_dirs(self._path.parent)
        change = leases._Change(self._tidied(self.read()))
        time.sleep(0.3)
        yield change
        leases.write_atomic(self._path, module("msgspec").json.encode(change.table), mode=0o600)

    _leases()._changing = changing


# --- afterwards ---------------------------------------------------------------------------


@mutant("an expired lease good enough for an upload and a cancel", "expired-lease-changes-nothing")
def _expired_is_enough() -> None:
    find = module("worker_agent.leases")._find

    def lenient(real: Any) -> Any:
        def require(self: Any, lease_id: Any, fence: Any) -> Any:
            lease = find(self.read(), lease_id) if lease_id else None
            return (
                lease
                if lease and lease.fence == fence and not lease.released
                else real(self, lease_id, fence)
            )

        return require

    wrap(_leases(), "require", lenient)


@mutant("old fence of a run that came back accepted", "orphans-leave-their-fence")
def _old_fence() -> None:
    find = module("worker_agent.leases")._find

    def remembering(real: Any) -> Any:
        def grant(self: Any, change: Any, held: Any, *rest: Any) -> Any:
            granted = real(self, change, held, *rest)
            if held is not None and held.fence != granted.lease.fence:
                lease = replaced(granted.lease, pins=(*granted.lease.pins, f"was-{held.fence}"))
                change.table = module("worker_agent.leases")._with(change.table, lease)
            return granted

        return grant

    def lenient(real: Any) -> Any:
        def require(self: Any, table: Any, lease_id: str, fence: int) -> Any:
            lease = find(table, lease_id)
            was = lease is not None and f"was-{fence}" in lease.pins
            return real(self, table, lease_id, lease.fence if was else fence)

        return require

    wrap(_leases(), "_grant", remembering)
    wrap(_leases(), "_require", lenient)


@mutant("a timeout that the host tells taken for a cancel", "timeout-of-the-host-is-a-failure")
def _no_timeout() -> None:
    wrap(
        module("worker_agent.status"),
        "cancel",
        lambda real: lambda worker, request: real(worker, replaced(request, reason="USER")),
    )


# --- served from the cache ----------------------------------------------------------------


@mutant("a served set with the nonce of the first", "served-sets-are-attested-anew")
def _old_nonce() -> None:
    def stale(real: Any) -> Any:
        def seal(self: Any) -> Any:
            told = json.loads((self._origin / "attestation.json").read_bytes())
            self._life.request = replaced(self._life.request, host_nonce=told["host_nonce"])
            return real(self)

        return seal

    wrap(module("worker_agent.results.served")._Serving, "seal", stale)


@mutant("a served set with the records of the first", "served-records-name-their-job")
def _old_records() -> None:
    module("worker_agent.results.served").envelope = lambda *_: {}


@mutant("subjects with digests of nothing", "subjects-are-the-sets-files")
def _other_subjects() -> None:
    def other(real: Any) -> Any:
        def subjects(told: Any) -> Any:
            return [
                each if each["name"] == "manifest.json" else {**each, "digest": {"sha256": "0" * 64}}
                for each in real(told)
            ]

        return subjects

    wrap(module("rch.contract.provenance"), "_subjects", other)
