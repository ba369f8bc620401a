"""Whose turn it is: by priority, then origin after origin, then by acceptance (sections 3.4, 12).

An origin is who submits (a terminal, an editor) for which project root. The waiting runs of one
origin and priority make a lane; the lanes of a priority take turns. Where a lane stands in the
round is a number that its first run holds (`Run.place`), so that a restart finds the same order and
a run that leaves touches at most the row of the next one of its lane.

One run looks for a worker at a time, and a run that a busy worker has sent back keeps its place:
so the order of the queue is the order of the leases. Of the runs of a group one stands in a lane,
and none while another one of them looks or has its worker: two of a group never run at once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import NamedTuple

from rch.contract.records import Accepted
from rch.contract.states import is_terminal
from rchd.core import model as m

LaneKey = tuple[int, str, str]
GroupKey = tuple[str, str]


class Ticket(NamedTuple):
    """Who came first: by the number of the acceptance, which no clock can turn round.

    Runs of a version that gave no numbers came before all others, by what the clock said then.
    """

    number: int
    created_at: str
    run_id: str


class Standing(Enum):
    """What a live run means to the queue."""

    READY = "ready"
    HELD = "held"
    LOOKING = "looking"
    SERVED = "served"


def standing(run: m.Run) -> Standing | None:
    """Where a run stands; None: it is over."""
    match run.phase:
        case m.Waiting(timer=True):
            return Standing.HELD
        case m.Waiting():
            return Standing.READY
        case m.Selecting() | m.Reserving():
            return Standing.LOOKING
        case _:
            return None if is_terminal(run.state) else Standing.SERVED


def group_of(accepted: Accepted) -> GroupKey | None:
    """A group's name counts within one project root."""
    return None if accepted.group is None else (accepted.root, accepted.group)


@dataclass(slots=True)
class _Group:
    """The live runs of a group: `waiting` in order, `active` ones that look or are served."""

    waiting: list[tuple[int, Ticket]] = field(default_factory=list)
    active: set[str] = field(default_factory=set)
    contender: str | None = None


def ticket(run: m.Run) -> Ticket:
    """Where it stands in the order of acceptance."""
    return Ticket(run.number, run.created_at, run.run_id)


def _priority(run: m.Run) -> int:
    return run.accepted.options.priority


def _lane_of(run: m.Run) -> LaneKey:
    return _priority(run), run.accepted.origin, run.accepted.root


class Queue:
    """The order of the live runs, kept up run by run: `update` after each change of one."""

    def __init__(self, runs: Iterable[m.Run] = ()) -> None:
        self._runs: dict[str, m.Run] = {}
        self._seen: dict[str, Standing] = {}
        self._rings: dict[int, OrderedDict[LaneKey, list[Ticket]]] = {}
        self._groups: dict[GroupKey, _Group] = {}
        self._eager: dict[str, m.Run] = {}
        self._held: dict[str, m.Run] = {}
        self._barriers: dict[str, int] = {}
        # Who stands in the round comes first and in its order; who does not joins behind.
        known = sorted(runs, key=lambda run: (run.place or float("inf"), ticket(run)))
        self._places = count(1 + max((run.place for run in known), default=0))
        for run in known:
            self.update(run)

    # --- what is asked of it ----------------------------------------------------------

    def next_turn(self) -> m.Run | None:
        """The run that may look for a worker now."""
        # Who may not wait is not made to: it looks at once, and ends where nobody is free.
        eager = [run for run in self._eager.values() if not self._group_is_active(run)]
        if eager:
            return min(eager, key=lambda run: (_priority(run), ticket(run)))
        if not self._rings:
            return None
        priority = min(self._rings)
        if any(barrier <= priority for barrier in self._barriers.values()):
            return None
        return self._first(priority)

    def held(self) -> list[m.Run]:
        """The runs that a busy worker has sent back."""
        return list(self._held.values())

    def mates(self, accepted: Accepted) -> list[str]:
        """The live runs of its group, without itself, oldest first."""
        group = self._group(accepted)
        if group is None:
            return []
        found = {each.run_id for _, each in group.waiting} | group.active
        return sorted(found - {accepted.run_id}, key=lambda run_id: ticket(self._runs[run_id]))

    def blocker(self, accepted: Accepted) -> str | None:
        """The run of its group that looks or is served now."""
        group = self._group(accepted)
        return None if group is None else min(group.active - {accepted.run_id}, default=None)

    def order(self) -> list[m.Run]:
        """All runs in lanes in the order in which their turns come, as things stand."""
        return [self._runs[run_id] for run_id in self._round()]

    def why(self, run: m.Run) -> str | None:
        """Why `run` waits, where it is the queue that makes it wait."""
        if self._seen.get(run.run_id) is not Standing.READY or run.run_id in self._eager:
            return None
        group = self._group(run.accepted)
        if group is not None and group.contender != run.run_id:
            mate = min(group.active, default=group.contender)
            return f"after run {mate} of group {run.accepted.group}"
        ahead = self._ahead(run)
        if not ahead:
            return None
        return f"behind {ahead} in the queue, first {self._first(min(self._rings)).run_id}"

    # --- what it is told --------------------------------------------------------------

    def update(self, run: m.Run) -> list[m.Run]:
        """Take note of what became of `run`; the runs whose `place` is another one now."""
        was, now = self._seen.get(run.run_id), standing(run)
        if was is now:
            return []
        self._note(run, now)
        touched: list[m.Run] = []
        key = group_of(run.accepted)
        contends = run.accepted.options.queue and now is not None and now is not Standing.SERVED
        if contends and (key is None or now is Standing.LOOKING):
            touched += self._enter(run)
        # Who comes after it enters before it leaves, so that its lane keeps its place.
        if key is not None:
            touched += self._settle(key, run, now)
        if not contends:
            touched += self._leave(run, served=was is Standing.LOOKING and run.cancel is None)
        if now is None:
            self._runs.pop(run.run_id, None)
        return touched

    def _note(self, run: m.Run, now: Standing | None) -> None:
        run_id = run.run_id
        self._runs[run_id] = run
        for register in (self._eager, self._held):
            register.pop(run_id, None)
        self._seen.pop(run_id, None)
        self._barriers.pop(run_id, None)
        if now is None:
            return
        self._seen[run_id] = now
        if now is Standing.LOOKING or now is Standing.HELD:
            self._barriers[run_id] = _priority(run)
        if now is Standing.HELD:
            self._held[run_id] = run
        if now is Standing.READY and not run.accepted.options.queue:
            self._eager[run_id] = run

    def _settle(self, key: GroupKey, run: m.Run, now: Standing | None) -> list[m.Run]:
        """Let the group's first contend, and nobody while one of them is active."""
        group = self._groups.setdefault(key, _Group())
        own = (_priority(run), ticket(run))
        at = bisect_left(group.waiting, own)
        if group.waiting[at : at + 1] == [own]:
            del group.waiting[at]
        group.active.discard(run.run_id)
        if now is Standing.LOOKING or now is Standing.SERVED:
            group.active.add(run.run_id)
        elif now is not None:
            insort(group.waiting, own)
        if not group.waiting and not group.active:
            del self._groups[key]
        first = group.waiting[0][1].run_id if group.waiting and not group.active else None
        old, group.contender = group.contender, first
        touched: list[m.Run] = []
        if first is not None and first not in self._eager:
            contender = self._runs[first]
            if first in self._held:
                self._barriers[first] = _priority(contender)
            touched += self._enter(contender)
        for run_id in sorted({run.run_id, old or run.run_id} - {first}):
            if self._seen.get(run_id) in {Standing.READY, Standing.HELD}:
                self._barriers.pop(run_id, None)
                touched += self._leave(self._runs[run_id], served=False)
        return touched

    def _group(self, accepted: Accepted) -> _Group | None:
        key = group_of(accepted)
        return None if key is None else self._groups.get(key)

    # --- lanes ------------------------------------------------------------------------

    def _enter(self, run: m.Run) -> list[m.Run]:
        ring = self._rings.setdefault(_priority(run), OrderedDict())
        lane, own = ring.setdefault(_lane_of(run), []), ticket(run)
        at = bisect_left(lane, own)
        if lane[at : at + 1] == [own]:
            return []
        before = self._runs[lane[0].run_id] if lane else None
        lane.insert(at, own)
        if before is None:
            run.place = run.place or next(self._places)
            return [run]
        if at > 0:
            run.place = 0
            return []
        run.place, before.place = before.place, 0
        return [run, before]

    def _leave(self, run: m.Run, *, served: bool) -> list[m.Run]:
        """Out of its lane; one that was served sends its lane to the end of the round."""
        ring, key = self._rings.get(_priority(run), OrderedDict()), _lane_of(run)
        lane, own = ring.get(key, []), ticket(run)
        at = bisect_left(lane, own)
        if lane[at : at + 1] != [own]:
            return []
        del lane[at]
        place, run.place = run.place, 0
        if not lane:
            del ring[key]
            if not ring:
                del self._rings[_priority(run)]
            return [run]
        first = self._runs[lane[0].run_id]
        if served:
            ring.move_to_end(key)
            first.place = next(self._places)
        elif at == 0:
            first.place = place
        else:
            return []
        return [run, first]

    def _first(self, priority: int) -> m.Run:
        lane = next(iter(self._rings[priority].values()))
        return self._runs[lane[0].run_id]

    def _group_is_active(self, run: m.Run) -> bool:
        return self.blocker(run.accepted) is not None

    def _ahead(self, run: m.Run) -> int:
        """How many turns come before that of `run`."""
        priority = _priority(run)
        ahead = sum(len(lane) for p, ring in self._rings.items() if p < priority for lane in ring.values())
        ring, own = self._rings.get(priority, OrderedDict()), _lane_of(run)
        rounds, earlier = bisect_left(ring.get(own, []), ticket(run)), True
        for key, lane in ring.items():
            earlier = earlier and key != own
            ahead += rounds if key == own else min(len(lane), rounds + earlier)
        return ahead

    def _round(self) -> Iterator[str]:
        for priority in sorted(self._rings):
            lanes = [iter(lane) for lane in self._rings[priority].values()]
            while lanes:
                going = []
                for lane in lanes:
                    first = next(lane, None)
                    if first is not None:
                        going.append(lane)
                        yield first.run_id
                lanes = going
