"""Which worker could serve what: worked out once, and anew only where a worker's own word changed.

Pure. What a probe says of load, free slots and clocks is new each time and decides nothing here;
were all worked out anew at each probe, a probe would cost as much as there are workers times needs.
"""

from __future__ import annotations

import msgspec

from rch.contract.records import Capacity, RunOptions
from rch.contract.worker_rpc import ProbeResult
from rchd.core import select
from rchd.core.events import ProbeReport

MAX_NEEDS = 256
Need = tuple[str, tuple[str, ...], tuple[tuple[str, str], ...], str | None, str, tuple[str, ...], bool]
"""What a run asks of a worker."""

_ANY = Capacity(cpus=0, memory_bytes=0, slots_total=0, slots_free=0, disk_free_bytes=0, load_milli=0)


def need_of(options: RunOptions) -> Need:
    """What a run asks of a worker, as a key."""
    wanted = tuple(sorted(options.toolchain.items()))
    where = options.destination, options.provisioning
    return options.backend, options.tags, wanted, *where, options.actions, options.simulate


def says_the_same(one: ProbeReport, other: ProbeReport) -> bool:
    """Whether each run fares with both of these alike, with the same words too."""
    return _lasting(one) == _lasting(other) and _same_result(one.result, other.result)


def _lasting(report: ProbeReport) -> ProbeReport:
    """What a report says beside its result, without what is new each time."""
    return msgspec.structs.replace(
        report, duration_ms=0, age_seconds=0, fresh=False, skew_seconds=None, broken=False, result=None
    )


def _same_result(one: ProbeResult | None, other: ProbeResult | None) -> bool:
    if one is None or other is None or one is other:
        return one is other
    return _lasting_result(one) == _lasting_result(other)


def _lasting_result(result: ProbeResult) -> ProbeResult:
    capabilities = msgspec.structs.replace(result.capabilities, probed_at="", capacity=_ANY)
    return msgspec.structs.replace(result, capabilities=capabilities)


class Able:
    """Worker by worker, the needs that it could serve; at most `MAX_NEEDS` needs are remembered."""

    def __init__(self) -> None:
        self._known: dict[str, dict[Need, bool]] = {}

    def forget(self, worker: str) -> None:
        """What this worker could serve may be something else by now."""
        self._known.pop(worker, None)

    def serves(self, options: RunOptions, need: Need, report: ProbeReport) -> bool:
        """Whether the worker of `report`, the newest of it, could serve `options`, whose need this is."""
        known = self._known.setdefault(report.worker, {})
        if need not in known:
            if len(known) >= MAX_NEEDS:
                known.clear()
            known[need] = bool(select.select(options, (report,)).choices)
        return known[need]
