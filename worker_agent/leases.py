"""Leases and slots: one table under one lock, counted by the boot clock (spec section 3.4).

A slot is held by a live lease, and by a job whose lease is not live (or that has none) until
the job's processes are gone. The table is replaced whole and durably before anything is
answered, so that the fence never falls back. A free slot goes to whoever asked first (`turns`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.worker_rpc import Code, RpcError
from rch.files.durable import make_dirs, write_atomic
from rch.files.locks import FileLock
from worker_agent import turns

DEFAULT_TTL_SECONDS = 90
MAX_TTL_SECONDS = 7 * 86_400
RETRY_AFTER_SECONDS = 2


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A claim on one slot. `deadline` is in boot seconds of the boot `boot`."""

    lease_id: str
    run_id: str
    host_id: str
    fence: int
    ttl_seconds: int
    deadline: float
    boot: str
    released: bool = False
    pins: tuple[str, ...] = ()


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was let in, the lease it came under, and the source that it unpacks."""

    job_id: str
    lease_id: str | None
    source_sha256: str | None = None


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All there is. `fence` is the highest that was ever given; `waiting` were refused, in order."""

    fence: int = 0
    leases: tuple[Lease, ...] = ()
    uses: tuple[Use, ...] = ()
    waiting: turns.Waiting = ()


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A lease and the slots as they stand with it."""

    lease: Lease
    slots_free: int


class Leases:
    """The table and its rules.

    `alive` says whether a job still holds what it was given; it ends what a lost one left.
    `boot_seconds` and `boot` are the clock and the identity of this boot. `low_disk` says what
    is missing while the disk is too full for a newcomer.
    """

    def __init__(
        self,
        folder: Path,
        lock: Path,
        *,
        slots: int,
        grace_seconds: float,
        boot_seconds: Callable[[], float],
        boot: str,
        alive: Callable[[str], bool],
        low_disk: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._path = folder / "table.json"
        self._lock = lock
        self._slots = slots
        self._grace = grace_seconds
        self._now = boot_seconds
        self._boot = boot
        self._alive = alive
        self._low_disk = low_disk

    # --- asking -----------------------------------------------------------------------

    def read(self) -> Table:
        """The table as it stands; the file is always whole."""
        try:
            return decode_json(self._path.read_bytes(), Table)
        except FileNotFoundError:
            return Table()

    def slots_free(self) -> int:
        """How many slots a newcomer could have; jobs that were lost count until they are swept."""
        return max(0, self._slots - self._taken(self.read()))

    def is_live(self, lease: Lease) -> bool:
        """Whether the lease still runs."""
        return not lease.released and lease.boot == self._boot and self._now() < lease.deadline

    def is_over(self, lease_id: str) -> bool:
        """Whether a job under the lease is to be ended: it expired and its grace is over, too."""
        lease = _find(self.read(), lease_id)
        return lease is None or (not self.is_live(lease) and not self._in_grace(lease))

    def require(self, lease_id: str | None, fence: int | None) -> Lease | None:
        """The live lease that a mutating call names, None for a call without one."""
        if lease_id is None and fence is None:
            return None
        if lease_id is None or fence is None:
            raise RpcError(Code.INVALID_REQUEST, "lease_id and fence go together")
        return self._require(self.read(), lease_id, fence)

    @contextmanager
    def held_still(self) -> Iterator[Table]:
        """The table, which nobody changes meanwhile: for who removes what nothing in it names."""
        with self._changing() as change:
            yield change.table

    # --- changing ---------------------------------------------------------------------

    def reserve(self, run_id: str, host_id: str, ttl_seconds: int | None) -> Granted:
        """The run's own lease, living on or revived with a higher fence, else a new one, else BUSY.

        A disk that is too full for a newcomer is NO_SPACE: who has a lease keeps it.
        """
        ttl = _ttl(ttl_seconds)
        with self._changing() as change:
            held = self._held_by(change.table, run_id)
            refusal = self._refusal(change.table, held, run_id, host_id)
            if refusal is None:
                return self._grant(change, held, run_id, host_id, ttl)
            if refusal.code is Code.NO_SPACE:
                raise refusal
            waiting = turns.noted(change.table.waiting, run_id, host_id, self._now(), self._boot)
            change.table = msgspec.structs.replace(change.table, waiting=waiting)
            change.dispensable = True
        raise refusal

    def _grant(self, change: _Change, held: Lease | None, run_id: str, host_id: str, ttl: int) -> Granted:
        table = change.table
        if held is not None and self.is_live(held):
            lease = msgspec.structs.replace(held, ttl_seconds=ttl, deadline=self._now() + ttl)
        else:
            lease = Lease(
                lease_id=held.lease_id if held else f"lease-{uuid.uuid4().hex}",
                run_id=run_id,
                host_id=host_id,
                fence=table.fence + 1,
                ttl_seconds=ttl,
                deadline=self._now() + ttl,
                boot=self._boot,
                pins=held.pins if held else (),
            )
            waiting = turns.without(table.waiting, run_id)
            table = msgspec.structs.replace(table, fence=lease.fence, waiting=waiting)
        change.table = _with(table, lease)
        return Granted(lease=lease, slots_free=self._slots - self._taken(change.table))

    def _refusal(self, table: Table, held: Lease | None, run_id: str, host_id: str) -> RpcError | None:
        """Why a run gets no slot now. A revival waits for no turn: what it revives was the run's own."""
        if held is not None and (self.is_live(held) or _has_use(table, held.lease_id)):
            return None
        if (missing := self._low_disk()) is not None:
            return RpcError(Code.NO_SPACE, missing)
        free = self._slots - self._taken(table)
        if free <= 0:
            return _busy(self._all_taken())
        if held is None and turns.before(table.waiting, run_id, host_id) >= free:
            return _busy("the free slot is kept for another host, which asked before")
        return None

    def renew(self, run_id: str, lease_id: str, fence: int, ttl_seconds: int | None) -> Granted:
        """The same lease with a new deadline; LEASE_EXPIRED if it is not live or not the caller's."""
        with self._changing() as change:
            lease = self._require(change.table, lease_id, fence)
            if lease.run_id != run_id:
                raise RpcError(Code.LEASE_EXPIRED, f"lease {lease_id} is not of run {run_id}")
            ttl = lease.ttl_seconds if ttl_seconds is None else _ttl(ttl_seconds)
            lease = msgspec.structs.replace(lease, ttl_seconds=ttl, deadline=self._now() + ttl)
            change.table = _with(change.table, lease)
            return Granted(lease=lease, slots_free=self._slots - self._taken(change.table))

    def release(self, lease_id: str, fence: int) -> tuple[str, ...]:
        """End a live lease; gives the jobs that run under it. Anything else does nothing."""
        with self._changing() as change:
            lease = _find(change.table, lease_id)
            if lease is None or lease.fence != fence or not self.is_live(lease):
                return ()
            change.table = _with(change.table, msgspec.structs.replace(lease, released=True))
            return tuple(use.job_id for use in change.table.uses if use.lease_id == lease_id)

    def pin(self, lease_id: str, *sources: str) -> None:
        """Keep sources for the lease's life; a lease that is not live pins nothing."""
        with self._changing() as change:
            lease = _find(change.table, lease_id)
            if lease is not None and self.is_live(lease) and not set(sources).issubset(lease.pins):
                pins = (*lease.pins, *(each for each in sources if each not in lease.pins))
                change.table = _with(change.table, msgspec.structs.replace(lease, pins=pins))

    def take(
        self, job_id: str, lease_id: str | None, fence: int | None, source_sha256: str | None = None
    ) -> None:
        """Let a job in: on its lease's slot, or on a free one. The caller holds the job's lock."""
        with self._changing() as change:
            if lease_id is not None and fence is not None:
                self._require(change.table, lease_id, fence)
            others = tuple(use for use in change.table.uses if use.job_id != job_id)
            table = msgspec.structs.replace(change.table, uses=others)
            if lease_id is None:
                self._require_slot(table)
            elif (other := next((use for use in others if use.lease_id == lease_id), None)) is not None:
                raise _busy(f"the slot of lease {lease_id} is used by job {other.job_id}")
            use = Use(job_id=job_id, lease_id=lease_id, source_sha256=source_sha256)
            change.table = msgspec.structs.replace(table, uses=(*others, use))

    def drop(self, job_id: str) -> None:
        """A job's processes are gone: it holds nothing any more."""
        with self._changing() as change:
            uses = tuple(use for use in change.table.uses if use.job_id != job_id)
            change.table = msgspec.structs.replace(change.table, uses=uses)

    def _held_by(self, table: Table, run_id: str) -> Lease | None:
        """The run's lease: the live one first, for one that is over may outlive it with its job."""
        own = [lease for lease in table.leases if lease.run_id == run_id and not lease.released]
        return next(filter(self.is_live, own), next(filter(self._in_grace, own), None))

    # --- rules ------------------------------------------------------------------------

    def _in_grace(self, lease: Lease) -> bool:
        if lease.released or lease.boot != self._boot:
            return False
        return self._now() < lease.deadline + self._grace

    def _require(self, table: Table, lease_id: str, fence: int) -> Lease:
        lease = _find(table, lease_id)
        if lease is None or not self.is_live(lease):
            raise RpcError(Code.LEASE_EXPIRED, f"lease {lease_id} is not live")
        if lease.fence != fence:
            raise RpcError(Code.LEASE_EXPIRED, f"fence {fence} is not that of lease {lease_id}")
        return lease

    def _require_slot(self, table: Table) -> None:
        if self._taken(table) >= self._slots:
            raise _busy(self._all_taken())

    def _all_taken(self) -> str:
        return "its only slot is taken" if self._slots == 1 else f"all {self._slots} slots are taken"

    def _taken(self, table: Table) -> int:
        live = {lease.lease_id for lease in table.leases if self.is_live(lease)}
        orphaned = {use.lease_id or use.job_id for use in table.uses if use.lease_id not in live}
        return len(live) + len(orphaned)

    def _tidied(self, table: Table) -> Table:
        uses = tuple(use for use in table.uses if self._alive(use.job_id))
        used = {use.lease_id for use in uses}
        leases = tuple(
            lease
            for lease in table.leases
            if lease.lease_id in used or self.is_live(lease) or self._in_grace(lease)
        )
        waiting = turns.alive(table.waiting, self._now(), self._boot)
        return msgspec.structs.replace(table, leases=leases, uses=uses, waiting=waiting)

    @contextmanager
    def _changing(self) -> Iterator[_Change]:
        make_dirs(self._path.parent)
        with FileLock(self._lock, "the lease table"):
            stored = self.read()
            change = _Change(self._tidied(stored))
            yield change
            if change.table != stored:
                with suppress(*((OSError,) if change.dispensable else ())):
                    write_atomic(self._path, msgspec.json.encode(change.table), mode=0o600)


class _Change:
    """The table while it is changed; whoever raises leaves the stored one as it was.

    `dispensable`: what is changed may be lost on a full disk.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.dispensable = False


def _ttl(asked: int | None) -> int:
    if asked is None:
        return DEFAULT_TTL_SECONDS
    if asked < 1:
        raise RpcError(Code.INVALID_REQUEST, f"ttl_seconds {asked} is not positive")
    return min(asked, MAX_TTL_SECONDS)


def _busy(why: str) -> RpcError:
    return RpcError(Code.BUSY, why, {"retry_after_seconds": RETRY_AFTER_SECONDS})


def _find(table: Table, lease_id: str) -> Lease | None:
    return next((lease for lease in table.leases if lease.lease_id == lease_id), None)


def _has_use(table: Table, lease_id: str) -> bool:
    return any(use.lease_id == lease_id for use in table.uses)


def _with(table: Table, lease: Lease) -> Table:
    others = tuple(other for other in table.leases if other.lease_id != lease.lease_id)
    return msgspec.structs.replace(table, leases=(*others, lease))
