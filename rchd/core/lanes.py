"""The lanes of the queue: who waits behind whom, and which lane comes next.

A lane holds the waiting runs of one origin, priority and need in the order of their acceptance, and
has a place in the round that its first run bears. Whoever looks for the next turn sees one run of each
need, however many wait.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import merge, nsmallest
from typing import NamedTuple

from rch.contract.records import RunOptions
from rchd.core import model as m
from rchd.core.able import Need, need_of
from rchd.core.fleet import Reach

MAX_HEADS = 256

OriginKey = tuple[str, str]
Find = Callable[[RunOptions], Reach | None]
"""The workers that a run may get; None: not known yet."""


class Ticket(NamedTuple):
    """Who came first: by the number of the acceptance, which no clock can turn round.

    Runs of a version that gave no numbers came before all others, by what the clock said then.
    """

    number: int
    created_at: str
    run_id: str


def ticket(run: m.Run) -> Ticket:
    """Where it stands in the order of acceptance."""
    return Ticket(run.number, run.created_at, run.run_id)


def priority_of(run: m.Run) -> int:
    """Lower ones go first."""
    return run.accepted.options.priority


def origin_of(run: m.Run) -> OriginKey:
    """Who asks, and for which project root."""
    return run.accepted.origin, run.accepted.root


@dataclass(slots=True)
class _Ring:
    """The lanes of one priority and need; `order` has the first run of each, by place."""

    lanes: dict[OriginKey, list[Ticket]] = field(default_factory=dict)
    order: list[tuple[int, Ticket, OriginKey]] = field(default_factory=list)

    def put(self, head: m.Run, place: int) -> None:
        """`head` is the first of its lane now, and stands at `place`."""
        head.place = place
        insort(self.order, (place, ticket(head), origin_of(head)))

    def take(self, head: m.Run) -> int:
        """`head` is the first of its lane no longer; where it stood."""
        entry = (head.place, ticket(head), origin_of(head))
        del self.order[bisect_left(self.order, entry)]
        head.place = 0
        return entry[0]


class Lanes:
    """All lanes. `runs` is the queue's own register, `find` says which workers a run may get."""

    def __init__(self, runs: dict[str, m.Run], find: Find, first_place: int) -> None:
        self._runs = runs
        self._find = find
        self._rings: dict[int, dict[Need, _Ring]] = {}
        self.next_place = first_place

    def _new_place(self) -> int:
        place, self.next_place = self.next_place, self.next_place + 1
        return place

    @property
    def memory(self) -> object:
        """All of it, to be compared."""
        return {
            (priority, need): (ring.lanes, ring.order)
            for priority, rings in self._rings.items()
            for need, ring in rings.items()
        }

    def enter(self, run: m.Run) -> list[m.Run]:
        """Into its lane; the runs whose place is another one now."""
        ring = self._rings.setdefault(priority_of(run), {}).setdefault(
            need_of(run.accepted.options), _Ring()
        )
        lane, own = ring.lanes.setdefault(origin_of(run), []), ticket(run)
        at = bisect_left(lane, own)
        if lane[at : at + 1] == [own]:
            return []
        lane.insert(at, own)
        if at > 0:
            run.place = 0
            return []
        if len(lane) > 1:
            before = self._runs[lane[1].run_id]
            own_place = [run.place] if run.place else []
            ring.put(run, min([*own_place, ring.take(before), *self._places_of_younger(run)]))
            return [run, before]
        ring.put(run, run.place or min(self._places_of_younger(run), default=0) or self._new_place())
        return [run]

    def _places_of_younger(self, run: m.Run) -> list[int]:
        """Where runs of its origin that came later and want the same workers stand: not before it."""
        reach, own = self._find(run.accepted.options), ticket(run)
        return [
            head.place
            for _, head in self._siblings(run)
            if ticket(head) > own and self._find(head.accepted.options) == reach
        ]

    def leave(self, run: m.Run, *, served: bool, returns: bool = False) -> list[m.Run]:
        """Out of its lane; one that was served sends its origin to the end of the round.

        One that `returns` and leaves nobody behind finds its place again.
        """
        rings, need, origin = (
            self._rings.get(priority_of(run), {}),
            need_of(run.accepted.options),
            origin_of(run),
        )
        ring = rings.get(need, _Ring())
        lane, own = ring.lanes.get(origin, []), ticket(run)
        at = bisect_left(lane, own)
        if lane[at : at + 1] != [own]:
            return []
        del lane[at]
        touched = {run.run_id: run}
        if at == 0:
            place = ring.take(run)
            if lane:
                first = self._runs[lane[0].run_id]
                ring.put(first, place)
                touched[first.run_id] = first
            else:
                self._drop(run, ring)
                run.place = place if returns else 0
        if served:
            touched |= {head.run_id: head for head in self._to_the_end(run)}
        elif at > 0:
            return []
        return list(touched.values())

    def _drop(self, run: m.Run, ring: _Ring) -> None:
        """Its lane is empty."""
        priority, need = priority_of(run), need_of(run.accepted.options)
        del ring.lanes[origin_of(run)]
        if not ring.lanes:
            del self._rings[priority][need]
        if not self._rings[priority]:
            del self._rings[priority]

    def _to_the_end(self, run: m.Run) -> list[m.Run]:
        """Its origin had a turn at its worker: whatever else it has for that one waits a round."""
        need, heads = need_of(run.accepted.options), []
        for ring, head in self._siblings(run):
            reach = self._find(head.accepted.options)
            same = need_of(head.accepted.options) == need
            if same or reach is None or run.worker is None or run.worker in reach:
                ring.take(head)
                heads.append((ticket(head), ring, head))
        for _, ring, head in sorted(heads, key=lambda each: each[0]):
            ring.put(head, self._new_place())
        return [head for _, _, head in heads]

    def _siblings(self, run: m.Run) -> Iterator[tuple[_Ring, m.Run]]:
        """The firsts of all lanes of its origin and priority, without itself."""
        origin = origin_of(run)
        for ring in self._rings.get(priority_of(run), {}).values():
            if origin in ring.lanes and (first := ring.lanes[origin][0].run_id) != run.run_id:
                yield ring, self._runs[first]

    # --- what is asked of them --------------------------------------------------------

    def priorities(self) -> list[int]:
        """Those that have lanes, the most urgent first."""
        return sorted(self._rings)

    def heads(self, priority: int) -> list[m.Run]:
        """The next one of each need, in the order of their turns: who is behind it wants the same."""
        first = (ring.order[0] for ring in self._rings.get(priority, {}).values())
        return [self._runs[own.run_id] for _, own, _ in nsmallest(MAX_HEADS, first)]

    def ahead(self, run: m.Run) -> tuple[int, str | None]:
        """How many that may want the same worker have their turn before `run`, and the first of them."""
        reach, priority, first = self._find(run.accepted.options), priority_of(run), None
        ahead = 0
        for urgency in self.priorities():
            rings = [ring for ring in self._rings[urgency].values() if self._beside(ring, reach)]
            if urgency <= priority and rings and first is None:
                first = min(ring.order[0] for ring in rings)[1].run_id
            if urgency < priority:
                ahead += sum(len(lane) for ring in rings for lane in ring.lanes.values())
            elif urgency == priority:
                ahead += _before(run, rings)
        return ahead, first

    def _beside(self, ring: _Ring, reach: Reach | None) -> bool:
        """Whether who stands there may want one of these workers."""
        other = self._find(self._runs[ring.order[0][1].run_id].accepted.options)
        return not reach or not other or bool(reach & other)

    def order(self) -> list[m.Run]:
        """All runs, origin after origin, as if all wanted the same worker."""
        found: list[m.Run] = []
        for priority in self.priorities():
            origins = _origins(list(self._rings[priority].values()))
            lanes = [merge(*lanes) for _, lanes in origins.values()]
            while lanes:
                firsts = [(lane, next(lane, None)) for lane in lanes]
                lanes = [lane for lane, first in firsts if first is not None]
                found += [self._runs[first.run_id] for _, first in firsts if first is not None]
        return found


def _origins(rings: list[_Ring]) -> dict[OriginKey, tuple[int, list[list[Ticket]]]]:
    """Each origin's place and lanes, in the order of the places."""
    lanes: dict[OriginKey, list[list[Ticket]]] = defaultdict(list)
    places: dict[OriginKey, int] = {}
    for place, _, origin in merge(*(ring.order for ring in rings)):
        places.setdefault(origin, place)
    for ring in rings:
        for origin, lane in ring.lanes.items():
            lanes[origin].append(lane)
    return {origin: (place, lanes[origin]) for origin, place in places.items()}


def _before(run: m.Run, rings: list[_Ring]) -> int:
    """How many turns of these lanes come before that of `run`, which is of the same priority."""
    own, before, earlier = origin_of(run), 0, True
    origins = _origins(rings)
    rounds = sum(bisect_left(lane, ticket(run)) for lane in origins[own][1]) if own in origins else 0
    for origin, (_, lanes) in origins.items():
        earlier = earlier and origin != own
        before += rounds if origin == own else min(sum(map(len, lanes)), rounds + earlier)
    return before
