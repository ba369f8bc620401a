"""Runs that wait for one that runs the same job already: coalescing (spec section 11).

A run that is about to ask a worker for a slot waits instead while another run that has a slot there
is still to end a job with the key of one of its own. Any of its jobs counts, not the first alone: a
run that went on because its first job has a result would execute the second beside the other one. It
waits for executing runs alone, which wait for none, so that no two ever wait for each other.

Who waits is told by what becomes of the other run, whatever that is: each change of a run comes here.
"""

from __future__ import annotations

from rch.contract.results import covers, verdict_policy
from rchd.core import model as m
from rchd.core.fit import may_be_served
from rchd.core.jobs import job_from
from rchd.core.lanes import ticket
from rchd.core.step import next_index

_EXECUTING = (
    m.CheckingSource,
    m.Uploading,
    m.Rechecking,
    m.Submitting,
    m.Rereserving,
    m.Following,
    m.Fetching,
    m.Publishing,
)

MAX_WAITING = 64
"""More do not wait aside for one run: all are looked at when it is over, and again for each of them."""

Keys = frozenset[str]


class Twins:
    """Who executes which jobs, and who waits for whom: kept up run by run."""

    def __init__(self) -> None:
        self._executing: dict[str, dict[str, m.Run]] = {}
        self._keys: dict[str, tuple[str, ...]] = {}
        self._due: dict[str, Keys] = {}
        self._waiting: dict[str, dict[str, tuple[m.Run, Keys]]] = {}
        self._other: dict[str, str] = {}

    @property
    def memory(self) -> object:
        """All of it, to be compared."""
        executing = {worker: sorted(runs) for worker, runs in self._executing.items() if runs}
        waiting = {
            other: {run_id: keys for run_id, (_, keys) in runs.items()}
            for other, runs in self._waiting.items()
            if runs
        }
        return executing, self._keys, self._due, waiting, self._other

    def update(self, run: m.Run) -> list[m.Run]:
        """Take note of what became of `run`; the runs that wait for it no longer, oldest first."""
        if not isinstance(run.phase, m.Coalescing) and (other := self._other.pop(run.run_id, None)):
            self._waiting.get(other, {}).pop(run.run_id, None)
        before = self._due.get(run.run_id, frozenset())
        # Until its lease is given back nobody else might have the slot.
        leaving = isinstance(run.phase, m.Releasing) and run.cancel is None
        due = before if leaving else self._due_of(run)
        if due == before:
            return []
        worker = run.worker or ""
        if due:
            self._due[run.run_id] = due
            self._executing.setdefault(worker, {})[run.run_id] = run
        else:
            del self._due[run.run_id]
            del self._keys[run.run_id]
            self._executing[worker].pop(run.run_id)
        return self._freed(run.run_id, due)

    def _freed(self, run_id: str, due: Keys) -> list[m.Run]:
        waiting = self._waiting.get(run_id, {})
        freed = sorted((run for run, keys in waiting.values() if not keys & due), key=ticket)
        for run in freed:
            del waiting[run.run_id], self._other[run.run_id]
        if not waiting:
            self._waiting.pop(run_id, None)
        return freed

    def find(self, run: m.Run, index: int) -> m.Run | None:
        """The run that executes a job of `run` at the candidate `index` of it; None: go on."""
        if run.selection is None or run.cancel is not None or not run.accepted.options.queue:
            return None
        choice = run.selection.choices[index]
        if not may_be_served(run, choice):
            return None
        keys: Keys | None = None
        for other in sorted(self._executing.get(choice.worker, {}).values(), key=ticket):
            if _answers(other, run):
                keys = keys or frozenset(_keys(run, choice))
                if keys & self._due[other.run_id]:
                    return other
        return None

    def is_crowded(self, other: m.Run) -> bool:
        """Whether enough wait for `other`."""
        return len(self._waiting.get(other.run_id, {})) >= MAX_WAITING

    def wait(self, run: m.Run, other: m.Run) -> None:
        """`run`, whose phase says so, waits for `other`, which `find` gave."""
        choice = other.choice
        keys = frozenset() if choice is None else frozenset(_keys(run, choice))
        self._waiting.setdefault(other.run_id, {})[run.run_id] = (run, keys)
        self._other[run.run_id] = other.run_id

    def _due_of(self, run: m.Run) -> Keys:
        """The jobs that `run` executes or is about to, and whose results others may have."""
        choice = run.choice
        executing = isinstance(run.phase, _EXECUTING) and run.cancel is None
        # With its worker out of reach nobody knows how long that takes.
        if choice is None or not executing or run.waiting == m.UNREACHABLE:
            return frozenset()
        if not may_be_served(run, choice) or (first := next_index(run)) is None:
            return frozenset()
        keys = self._keys.get(run.run_id)
        if keys is None:
            keys = self._keys[run.run_id] = _keys(run, choice)
        return frozenset(
            key for key, step in zip(keys[first:], run.steps[first:], strict=True) if step.summary is None
        )


def _answers(other: m.Run, run: m.Run) -> bool:
    """Whether what `other` leaves stands for a job of `run` with the same key."""
    ours, theirs = run.accepted, other.accepted
    if not covers(theirs.options.artifact_profile, ours.options.artifact_profile):
        return False
    return verdict_policy(theirs.effective_config) == verdict_policy(ours.effective_config)


def _keys(run: m.Run, choice: m.Choice) -> tuple[str, ...]:
    """The key of each step's job at `choice`."""
    accepted = run.accepted
    steps = range(len(accepted.steps))
    return tuple(str(job_from(accepted, index, choice, accepted.created_at).job_key) for index in steps)
