"""Who serves a run, from its files alone (see `rchd.core.restore`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TypeVar

import msgspec

from rch.contract.records import (
    CapabilitiesRecord,
    RunPlan,
    RunRecord,
    WorkerSelection,
    decode_record,
    schema_id_of,
)
from rch.contract.worker_rpc import PROTOCOL_MAX, PROTOCOL_MIN, REQUIRED_FEATURES, Feature, HeardProbe
from rchd.core import model as m
from rchd.core.events import ProbeReport
from rchd.core.fit import BACKEND_FEATURES
from rchd.core.holds import NO_LEASES
from rchd.core.select import select

_R = TypeVar("_R", bound=RunRecord)

_FEATURES = {*REQUIRED_FEATURES, *(each for each in BACKEND_FEATURES.values() if each)}
_LEASES = (Feature.LEASE, Feature.LEASE_RENEW)


def own_record(name: str, files: Mapping[str, bytes], kind: type[_R], notes: list[str]) -> _R | None:
    """The run's own record of this kind, if it has one that can be read."""
    path = _file_of(kind)
    data = files.get(path)
    if data is None:
        return None
    try:
        record = decode_record(data, kind)
    except ValueError as error:
        notes.append(f"{path} cannot be read ({error})")
        return None
    if record.run_id != name:
        notes.append(f"{path} speaks of run {record.run_id}")
        return None
    return record


@cache
def _file_of(kind: type[RunRecord]) -> str:
    return f"{schema_id_of(kind).partition('/')[2].partition('@')[0]}.json"


def restore_selection(run: m.Run, files: Mapping[str, bytes], notes: list[str]) -> None:
    """The worker that was chosen, with what it said of itself; of the others, why they do not serve."""
    plan = own_record(run.run_id, files, RunPlan, notes)
    said = own_record(run.run_id, files, WorkerSelection, notes)
    capabilities = own_record(run.run_id, files, CapabilitiesRecord, notes)
    if said is not None:
        others = [each for each in said.candidates if not each.chosen]
        run.selection = m.Selection(
            choices=(),
            refused={each.worker: each.reason for each in others},
            hosts={each.worker: each.host for each in others},
            probe_failures=said.probe_failures,
            weighed={each.worker: each.weighed for each in said.candidates if each.weighed},
        )
    worker = next((each.selected_worker for each in (plan, said) if each is not None), None)
    if worker is None or capabilities is None or capabilities.worker != worker:
        return
    if run.selection is None:
        run.selection = m.Selection(choices=(), refused={}, hosts={}, probe_failures=())
    leases = said is None or not any(each.chosen and NO_LEASES in each.reason for each in said.candidates)
    choice = _choice(run, worker, capabilities, notes, leases=leases)
    known = {"host": next((each.selected_worker_host for each in (plan, said) if each), None) or ""}
    protocol = plan.protocol_version if plan else said.negotiated_protocol_version if said else None
    choice = msgspec.structs.replace(choice, **known, protocol=protocol or choice.protocol)
    if said is not None:
        spoken = said.worker_protocol_range or {}
        probe = msgspec.structs.replace(
            choice.probe,
            protocol_min=spoken.get("min", PROTOCOL_MIN),
            protocol_max=spoken.get("max", PROTOCOL_MAX),
        )
        fresh = said.snapshot_source == "fresh"
        choice = msgspec.structs.replace(
            choice, probe=probe, age_seconds=said.snapshot_age_seconds, fresh=fresh
        )
    run.selection = msgspec.structs.replace(run.selection, choices=(choice,))
    run.chosen = 0


def _choice(
    run: m.Run, worker: str, capabilities: CapabilitiesRecord, notes: list[str], *, leases: bool
) -> m.Choice:
    """The choice as selection makes it from these capabilities; one without a toolchain if it does not."""
    result = HeardProbe(
        rch_xcode_lane_version="",
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        features=tuple(sorted({*_FEATURES, *(_LEASES if leases else ())})),
        capabilities=capabilities.capabilities,
        capabilities_sha256=capabilities.capabilities_sha256 or "",
    )
    report = ProbeReport(
        worker=worker,
        host="",
        priority=0,
        tags=run.accepted.options.tags,
        duration_ms=0,
        age_seconds=0,
        fresh=True,
        result=result,
    )
    found = select(run.accepted.options, (report,))
    if found.choices:
        return found.choices[0]
    notes += [f"worker {name} would not be chosen now: {why}" for name, why in found.refused.items()]
    return m.Choice(
        worker=worker,
        host="",
        protocol=PROTOCOL_MAX,
        probe=result,
        age_seconds=0,
        fresh=True,
        toolchain={},
        destination={},
    )
