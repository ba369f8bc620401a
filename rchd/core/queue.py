"""Whose turn it is: by priority, then origin after origin, then by acceptance (sections 3.4, 12).

An origin is who submits (a terminal, an editor) for which project root. The waiting runs of one
origin, priority and need (what they ask of a worker) make a lane; the lanes of a priority take
turns. Where a lane stands in the round is a number that its first run holds (`Run.place`), so that
a restart finds the same order. A turn that got a worker sends all lanes of its origin that could
have had that one to the end of the round: an origin has one share of each worker.

A run that looks, or that a busy worker has sent back, keeps its place: the workers in its reach are
left to it by whoever comes after, and nobody else waits for it. So on each worker the order of the
queue is the order of the leases, and no worker idles for another one's sake. Where a reach is not
known yet it may be any worker. Of the runs of a group one stands in a lane, and none while another
one of them looks or has its worker: two of a group never run at once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from rch.contract.records import Accepted, RunOptions
from rch.contract.states import is_terminal
from rchd.core import model as m
from rchd.core.fleet import Reach
from rchd.core.lanes import Find, Lanes, Ticket, priority_of, ticket

GroupKey = tuple[str, str]


class Standing(Enum):
    """What a live run means to the queue. `ASIDE`: it waits for another, and holds up its group alone."""

    READY = "ready"
    HELD = "held"
    LOOKING = "looking"
    ASIDE = "aside"
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
        case m.Coalescing():
            return Standing.ASIDE
        case _:
            return None if is_terminal(run.state) else Standing.SERVED


def group_of(accepted: Accepted) -> GroupKey | None:
    """A group's name counts within one project root."""
    return None if accepted.group is None else (accepted.root, accepted.group)


@dataclass(slots=True)
class _Group:
    """The live runs of a group: `waiting` in order, `active` ones that look, stand aside or are served."""

    waiting: list[tuple[int, Ticket]] = field(default_factory=list)
    active: set[str] = field(default_factory=set)
    contender: str | None = None


class Turn(NamedTuple):
    """Who may look for a worker, and which ones it leaves to those before it."""

    run: m.Run
    spared: Reach


def _unknown(_options: RunOptions) -> Reach | None:
    return None


class Queue:
    """The order of the live runs, kept up run by run: `update` after each change of one."""

    def __init__(self, runs: Iterable[m.Run] = (), find: Find = _unknown) -> None:
        self._runs: dict[str, m.Run] = {}
        self._find = find
        self._seen: dict[str, Standing] = {}
        self._groups: dict[GroupKey, _Group] = {}
        self._eager: dict[str, m.Run] = {}
        self._held: dict[str, m.Run] = {}
        self._looking: dict[str, m.Run] = {}
        # Who stands in the round comes first and in its order; who does not joins behind.
        known = sorted(runs, key=lambda run: (run.place or float("inf"), ticket(run)))
        self._lanes = Lanes(self._runs, find, 1 + max((run.place for run in known), default=0))
        for run in known:
            self.update(run)

    @property
    def next_place(self) -> int:
        """The place in the round of who joins behind all others."""
        return self._lanes.next_place

    @next_place.setter
    def next_place(self, place: int) -> None:
        self._lanes.next_place = place

    @property
    def memory(self) -> object:
        """All of it, to be compared."""
        return self._seen, self._groups, self._lanes.memory, self.next_place

    # --- what is asked of it ----------------------------------------------------------

    def next_turn(self) -> Turn | None:
        """The run that may look for a worker now."""
        # Who may not wait is not made to: it looks at once, and ends where nobody is free.
        eager = [run for run in self._eager.values() if not self._group_is_active(run)]
        if eager:
            return Turn(min(eager, key=lambda run: (priority_of(run), ticket(run))), frozenset())
        taken: Reach | None = frozenset()
        nobody = True
        for priority in self._lanes.priorities():
            for looking in self._looking.values():
                if priority_of(looking) <= priority:
                    taken, nobody = _with(taken, self._asked_by(looking)), False
            for run in self._lanes.heads(priority):
                reach = self._find(run.accepted.options)
                ready = self._seen[run.run_id] is Standing.READY
                if ready and (nobody or (taken is not None and reach and not reach <= taken)):
                    return Turn(run, (taken or frozenset()) & (reach or frozenset()))
                if not ready or reach is None:
                    taken, nobody = _with(taken, reach), False
                if taken is None:
                    return None
        return None

    def _asked_by(self, run: m.Run) -> Reach | None:
        """The workers of which one may be given to this run any moment."""
        if isinstance(run.phase, m.Reserving) and run.selection is not None:
            return frozenset(choice.worker for choice in run.selection.choices)
        reach = self._find(run.accepted.options)
        spared = run.phase.spared if isinstance(run.phase, m.Selecting) else ()
        return None if reach is None else reach.difference(spared)

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
        """All runs in lanes in the order in which their turns come, if all want the same worker."""
        return self._lanes.order()

    def why(self, run: m.Run) -> str | None:
        """Why `run` waits, where it is the queue that makes it wait."""
        if self._seen.get(run.run_id) is not Standing.READY or run.run_id in self._eager:
            return None
        group = self._group(run.accepted)
        if group is not None and group.contender != run.run_id:
            mate = min(group.active, default=group.contender)
            return f"after run {mate} of group {run.accepted.group}"
        ahead, first = self._lanes.ahead(run)
        return f"behind {ahead} in the queue, first {first}" if ahead and first != run.run_id else None

    # --- what it is told --------------------------------------------------------------

    def update(self, run: m.Run) -> list[m.Run]:
        """Take note of what became of `run`; the runs whose `place` is another one now."""
        was, now = self._seen.get(run.run_id), standing(run)
        if was is now:
            return []
        self._note(run, now)
        touched: list[m.Run] = []
        key = group_of(run.accepted)
        contends = run.accepted.options.queue and now not in {None, Standing.SERVED, Standing.ASIDE}
        if contends and (key is None or now is Standing.LOOKING):
            touched += self._lanes.enter(run)
        # Who comes after it enters before it leaves, so that its lane keeps its place.
        if key is not None:
            touched += self._settle(key, run, now)
        if not contends:
            touched += self._left(run, was, now)
        if now is None:
            self._runs.pop(run.run_id, None)
        return touched

    def _left(self, run: m.Run, was: Standing | None, now: Standing | None) -> list[m.Run]:
        """It contends no more: it has had its turn, or is over, or comes back to its place."""
        aside = now is Standing.ASIDE
        if was is Standing.ASIDE:
            run.place = 0
        served = was is Standing.LOOKING and run.cancel is None and not aside
        return self._lanes.leave(run, served=served, returns=aside)

    def _note(self, run: m.Run, now: Standing | None) -> None:
        run_id = run.run_id
        self._runs[run_id] = run
        for register in (self._eager, self._held):
            register.pop(run_id, None)
        self._seen.pop(run_id, None)
        self._looking.pop(run_id, None)
        if now is None:
            return
        self._seen[run_id] = now
        if now is Standing.LOOKING:
            self._looking[run_id] = run
        if now is Standing.HELD:
            self._held[run_id] = run
        if now is Standing.READY and not run.accepted.options.queue:
            self._eager[run_id] = run

    def _settle(self, key: GroupKey, run: m.Run, now: Standing | None) -> list[m.Run]:
        """Let the group's first contend, and nobody while one of them is active."""
        group = self._groups.setdefault(key, _Group())
        own = (priority_of(run), ticket(run))
        at = bisect_left(group.waiting, own)
        if group.waiting[at : at + 1] == [own]:
            del group.waiting[at]
        group.active.discard(run.run_id)
        if now in {Standing.LOOKING, Standing.SERVED, Standing.ASIDE}:
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
            touched += self._lanes.enter(contender)
        for run_id in sorted({run.run_id, old or run.run_id} - {first}):
            if self._seen.get(run_id) in {Standing.READY, Standing.HELD}:
                touched += self._lanes.leave(self._runs[run_id], served=False)
        return touched

    def _group(self, accepted: Accepted) -> _Group | None:
        key = group_of(accepted)
        return None if key is None else self._groups.get(key)

    def _group_is_active(self, run: m.Run) -> bool:
        return self.blocker(run.accepted) is not None


def _with(taken: Reach | None, more: Reach | None) -> Reach | None:
    """Both; where one is not known it may be every worker."""
    return None if taken is None or more is None else taken | more
