"""What a run can hold of a worker, by the features that the worker offers (section 3.4). Pure.

With `lease` and `lease_renew` a short lease, which is renewed; with `lease` alone one for the whole run;
with neither there is nothing to hold, and each job of the run needs a free slot when it is submitted.
"""

from __future__ import annotations

import msgspec

from rch.contract.worker_rpc import Feature, ProbeResult
from rchd.core import events as ev
from rchd.core import model as m

NO_LEASES = "it gives no leases"
"""How `worker_selection.json` says of the chosen worker that the run holds nothing of it."""


def leased(event: ev.Reserved, terms: m.Terms) -> m.Lease:
    """The lease that was granted."""
    return m.Lease(lease_id=event.lease_id, fence=event.fence, ttl_seconds=event.ttl_seconds, terms=terms)


def offered(probe: ProbeResult) -> m.Terms | m.Unleased:
    """On which terms this worker gives leases; or that it gives none."""
    if Feature.LEASE not in probe.features:
        return m.UNLEASED
    return m.Terms.RENEWED if Feature.LEASE_RENEW in probe.features else m.Terms.WHOLE


def candidate(run: m.Run, phase: m.Reserving) -> m.Choice:
    """The candidate that `run` is about to ask."""
    if run.selection is None:
        raise AssertionError(f"run {run.run_id} asks a worker before it has candidates")
    return run.selection.choices[phase.index]


def whole_seconds(run: m.Run) -> int:
    """How long a lease has to live that is never renewed: until the last step that is left is over."""
    options = run.accepted.options
    left = sum(step.summary is None for step in run.steps)
    return options.connect_timeout_seconds + options.overall_seconds * max(1, left)


def reconsidered(hold: m.Lease | m.Unleased | None, probe: ProbeResult) -> m.Lease | m.Unleased | None:
    """What is left of a hold at a worker that offers something else by now.

    Who had no lease goes on without one: the slot is its own only while its job runs, as before.
    """
    now = offered(probe)
    if not isinstance(hold, m.Lease):
        return hold
    return now if isinstance(now, m.Unleased) else msgspec.structs.replace(hold, terms=now)
