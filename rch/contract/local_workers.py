"""The local socket's methods about workers of the inventory: what is known, and drains (section 12)."""

from __future__ import annotations

from typing import Any

import msgspec


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of the inventory and what is known of it.

    `aside` says why no new run is given to it, `aside_until` (as the clock stood then) how long;
    `drained`, that somebody wants that, and why, if anything was said. `agent` is the version of its
    rch-worker, as far as it was told; `lags`: it is older than this host's (`workers upgrade`).
    """

    name: str
    transport: str
    host: str
    priority: int
    tags: tuple[str, ...]
    status: str
    detail: str
    embedded: bool = False
    probe: dict[str, Any] | None = None
    probe_ms: int | None = None
    aside: str | None = None
    aside_until: str | None = None
    drained: str | None = None
    agent: str | None = None
    lags: bool = False


class WorkerListView(msgspec.Struct, frozen=True, kw_only=True):
    """The inventory, in the order that selection takes."""

    workers: tuple[WorkerView, ...]
    inventory: str
    embedded: bool


class WorkerDrainParams(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The worker `name` gets no new run, for a `reason`, if one is said; with `off`, it does again."""

    name: str
    reason: str = ""
    off: bool = False


class WorkerDrainView(msgspec.Struct, frozen=True, kw_only=True):
    """What holds now. `runs_running` go on there; `since` is null where the worker is not drained."""

    name: str
    drained: bool
    reason: str
    since: str | None
    runs_running: int
