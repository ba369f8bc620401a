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
