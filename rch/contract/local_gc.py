"""`workers.gc` of the local socket: what is over on the workers (spec sections 11, 12)."""

from __future__ import annotations

import msgspec

from rch.contract.worker_rpc import GcEntry, GcTotal


class WorkersGcParams(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is over on one worker, or on each, is removed; `dry_run`: it is only named."""

    name: str | None = None
    dry_run: bool = False


class WorkerGcView(msgspec.Struct, frozen=True, kw_only=True):
    """What went on one worker, or would go. `error`: why nothing is known; `more`: not all is listed."""

    name: str
    error: str | None = None
    entries: tuple[GcEntry, ...] = ()
    totals: tuple[GcTotal, ...] = ()
    more: bool = False


class WorkersGcView(msgspec.Struct, frozen=True, kw_only=True):
    """The workers that were asked, in the order of selection."""

    dry_run: bool
    workers: tuple[WorkerGcView, ...]


class HostGcParams(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Old runs on this machine are removed; `dry_run`: they are only named.

    `keep` and `release` name a run that is from now on kept for good, or no more: then nothing is removed.
    """

    dry_run: bool = False
    keep: str | None = None
    release: str | None = None


class HostGcEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What went, or would go. `error`: why it did not after all.

    `kind` is `run`, or `rejected`: a set that failed its checks, of a run that stays.
    """

    kind: str
    run_id: str
    project: str
    ended_at: str
    bytes: int
    reason: str
    error: str | None = None


class HostGcView(msgspec.Struct, frozen=True, kw_only=True):
    """What went, or would go, oldest first; `more`: not all is listed.

    `held` counts the runs that stay though a bound is over, by what holds them: `newest`, `pinned`,
    `used` (somebody holds a lock on the folder).
    """

    dry_run: bool
    entries: tuple[HostGcEntry, ...]
    more: bool
    runs: int
    bytes: int
    kept_runs: int
    kept_bytes: int
    held: dict[str, int]
    pinned: tuple[str, ...] = ()
