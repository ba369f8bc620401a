"""Between a run's turn and its worker: whether a candidate is asked for a slot at all (sections 3.4, 11).

Not where the same job runs there already (`rchd.core.twins`). And not where the worker gives no leases:
there the run goes on at once, and its first submit shows whether a slot is free. So that the queue
orders our own runs at such a worker too, no more of them are there at once than it has slots: one more
is sent back as if the worker were busy, and woken when one of them is over.
"""

from __future__ import annotations

from rch.contract.errors import Kind
from rchd.core import effects as fx
from rchd.core import model as m
from rchd.core.holds import candidate, offered
from rchd.core.run import stand_back, take
from rchd.core.trouble import busy
from rchd.core.twins import Twins

Effects = list[fx.Effect]


class Placing:
    """Who executes what, and who is where without a lease: kept up run by run."""

    def __init__(self) -> None:
        self.twins = Twins()
        self._guests: dict[str, str] = {}

    @property
    def memory(self) -> object:
        """All of it, to be compared."""
        return self.twins.memory, self._guests

    def update(self, run: m.Run) -> list[m.Run]:
        """Take note of what became of `run`; the runs that wait for it no longer, oldest first."""
        if run.hold is m.UNLEASED and run.worker is not None:
            self._guests[run.run_id] = run.worker
        else:
            self._guests.pop(run.run_id, None)
        return self.twins.update(run)

    def place(self, run: m.Run, before: m.AnyPhase, effects: Effects, now: str) -> Effects:
        """What `effects`, which took `run` out of the phase `before`, become."""
        while isinstance(run.phase, m.Reserving) and run.phase != before:
            before = run.phase
            effects = self._coalesced(run, before, effects)
            if run.phase is before and offered(candidate(run, before).probe) is m.UNLEASED:
                effects = [*effects, *self._unleased(run, before, now)]
        return effects

    def _coalesced(self, run: m.Run, phase: m.Reserving, effects: Effects) -> Effects:
        """The same, but for the slot that it is about to ask for where the same job runs already."""
        other = self.twins.find(run, phase.index)
        if other is None:
            return effects
        rest = [each for each in effects if not isinstance(each, fx.Reserve)]
        if self.twins.is_crowded(other):
            return [*rest, *stand_back(run, f"the same job runs in run {other.run_id}")]
        run.phase = m.Coalescing(run_id=other.run_id)
        run.op += 1
        self.twins.wait(run, other)
        return rest

    def _unleased(self, run: m.Run, phase: m.Reserving, now: str) -> Effects:
        choice = candidate(run, phase)
        slots = max(1, choice.capabilities.capacity.slots_total)
        there = sum(worker == choice.worker for worker in self._guests.values())
        if there < slots:
            return take(run, phase, m.UNLEASED, now)
        message = (
            f"runs of this host are at all {slots} of its slots"
            if slots > 1
            else "a run of this host is there"
        )
        return busy(run, phase, m.Trouble(kind=Kind.WORKER_BUSY, message=message), 1.0, now)
