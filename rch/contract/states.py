"""The run and job machines as tables (spec section 4).

    run:  QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED
    job:  the same, and RUNNING -> CANCEL_REQUESTED -> CANCELLED | SUCCEEDED | FAILED

`QUEUED -> FAILED | CANCELLED` is legal, terminal states are final, and every move raises
`seq` by exactly one. A move that is not in the table is a defect and raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class RunState(StrEnum):
    """The life of a run."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class JobState(StrEnum):
    """The life of a step job."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


_ENDS = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})

RUN_MOVES: Mapping[str, frozenset[str]] = {
    "QUEUED": frozenset({"RUNNING", "FAILED", "CANCELLED"}),
    "RUNNING": _ENDS,
    "SUCCEEDED": frozenset(),
    "FAILED": frozenset(),
    "CANCELLED": frozenset(),
}
JOB_MOVES: Mapping[str, frozenset[str]] = {
    "QUEUED": frozenset({"RUNNING", "FAILED", "CANCELLED"}),
    "RUNNING": _ENDS | {"CANCEL_REQUESTED"},
    "CANCEL_REQUESTED": _ENDS,
    "SUCCEEDED": frozenset(),
    "FAILED": frozenset(),
    "CANCELLED": frozenset(),
}


class IllegalTransition(AssertionError):  # noqa: N818  (it names what happened)
    """A move that the table does not have: a defect, never a peer's fault."""


def is_terminal(state: str) -> bool:
    """Whether nothing follows `state`."""
    return state in _ENDS


def move_run(state: RunState, seq: int, to: RunState) -> tuple[RunState, int]:
    """The new state and its `seq`; raises `IllegalTransition`."""
    if to not in RUN_MOVES[state]:
        raise IllegalTransition(f"run {state} -> {to}")
    return to, seq + 1


def move_job(state: JobState, seq: int, to: JobState) -> tuple[JobState, int]:
    """The new state and its `seq`; raises `IllegalTransition`."""
    if to not in JOB_MOVES[state]:
        raise IllegalTransition(f"job {state} -> {to}")
    return to, seq + 1


def can_mirror(state: JobState, seq: int, to: JobState, to_seq: int) -> bool:
    """Whether a worker's `(to, to_seq)` may follow the host's mirror: forward, never back."""
    if to_seq == seq:
        return to == state
    return (
        to_seq > seq and not is_terminal(state) and not (to == JobState.QUEUED and state != JobState.QUEUED)
    )


NOBODY_ASKED = "no worker has been asked yet"
"""Why it is not known whether a run can be served, before the first answer of any worker."""
