"""`gc`: what the sweep would remove now, or its removal while somebody waits for it (feature `gc`)."""

from __future__ import annotations

from collections.abc import Iterable

from rch.contract.worker_rpc import Code, GcEntry, GcRequest, GcResult, GcTotal, RpcError
from rch.files.locks import FileLock
from worker_agent.sweep import has_anything, plan_all, remove_each
from worker_agent.upkeep import Doomed
from worker_agent.worker import Worker

MOST_ENTRIES = 1000
PATIENCE_SECONDS = 30.0


def gc(worker: Worker, request: GcRequest) -> GcResult:
    """Name or remove; BUSY while another sweep goes on for longer than one waits."""
    if not has_anything(worker):
        return told((), dry_run=request.dry_run)
    if request.dry_run:
        return told(map(entry_of, plan_all(worker)), dry_run=True)
    lock = FileLock(worker.paths.locks / "sweep.lock", "gc")
    try:
        lock.acquire(PATIENCE_SECONDS)
    except TimeoutError as error:
        raise RpcError(Code.BUSY, "another sweep is going on", {"retry_after_seconds": 30}) from error
    try:
        return told([entry for _, entry in remove_each(worker, entry_of)], dry_run=False)
    finally:
        lock.release()


def entry_of(doomed: Doomed) -> GcEntry:
    """A thing as it is told of; it is still there, for its bytes are counted."""
    return GcEntry(
        kind=doomed.kind,
        name=doomed.name,
        bytes=doomed.size(),
        age_seconds=max(0, int(doomed.age_seconds)),
        reason=doomed.reason,
    )


def told(entries: Iterable[GcEntry], *, dry_run: bool) -> GcResult:
    """The answer: the largest first, as many as a message may hold."""
    found = sorted(entries, key=lambda entry: (-entry.bytes, entry.kind, entry.name))
    kinds = sorted({entry.kind for entry in found})
    totals = tuple(
        GcTotal(
            kind=kind,
            entries=sum(entry.kind == kind for entry in found),
            bytes=sum(entry.bytes for entry in found if entry.kind == kind),
        )
        for kind in kinds
    )
    return GcResult(
        dry_run=dry_run, entries=tuple(found[:MOST_ENTRIES]), totals=totals, more=len(found) > MOST_ENTRIES
    )
