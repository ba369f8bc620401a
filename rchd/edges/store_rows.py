"""What the driver and a store say to one another: rows, batches, and the door itself (spec section 4).

`StateStore` is all that the driver knows of a store, so that another one can stand beside
SQLite; tests/edges/test_store.py is the contract that each of them passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class RunRow(msgspec.Struct, frozen=True):
    """A run as it stands. Times are RFC 3339; `doc` is the core's own, opaque here."""

    run_id: str
    seq: int
    state: str
    created_at: str
    updated_at: str
    client_token: str | None
    doc: bytes


class JobRow(msgspec.Struct, frozen=True):
    """A step job as it stands; `step_index` counts from 0 within its run."""

    job_id: str
    run_id: str
    step_index: int
    seq: int
    state: str
    doc: bytes


class EventRow(msgspec.Struct, frozen=True):
    """Something that followers are told, numbered over all runs."""

    seq: int
    run_id: str
    at: str
    type: str
    doc: bytes


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction writes. Of two rows with one id the later stands."""

    runs: Sequence[RunRow] = ()
    jobs: Sequence[JobRow] = ()
    events: Sequence[EventRow] = ()


class Loaded(msgspec.Struct, frozen=True):
    """What a start needs: runs in the order of their acceptance, their jobs in step order."""

    runs: list[RunRow]
    jobs: list[JobRow]
    last_event_seq: int


class StateStore(Protocol):
    """The truth, behind one small door. Any call may raise `Failure`."""

    def load(self, *, active_only: bool) -> Loaded:
        """All runs, or those that have not ended, at one moment."""

    def commit(self, batch: Batch, *, urgent: bool = False) -> None:
        """Make `batch` durable, all or nothing; from one thread at a time.

        `urgent` (a cancel, an end) may use the space that is kept back for a full disk.

        A row with a lower `seq` than the stored one is left out; an equal `seq` replaces
        the doc. `IllegalTransition`: a terminal state is left, a state changes without its
        `seq`, an event's `seq` does not rise, a job's run is unknown, a token is taken.
        """

    def forget(self, run_ids: Sequence[str]) -> int:
        """Remove runs that are over, and their jobs, all or none; how many there were.

        One that is not over, or not there, is left alone. Its events go in their turn.
        """

    def run(self, run_id: str) -> RunRow | None:
        """One run, or None."""

    def runs(
        self,
        limit: int,
        *,
        state: str | None = None,
        prefix: str | None = None,
        before: str | None = None,
    ) -> list[RunRow]:
        """At most `limit` runs, the last accepted first, by state and start of the id.

        `before`: only those that were accepted before that run; none where it is unknown.
        """

    def jobs_of(self, run_id: str) -> list[JobRow]:
        """A run's jobs in step order."""

    def by_token(self, token: str) -> RunRow | None:
        """The run that was submitted with this `client_token`, or None."""

    def events_after(self, seq: int, *, run_id: str | None = None, limit: int = 1000) -> list[EventRow]:
        """At most `limit` events above `seq`, in order, of one run or of all."""

    def first_event_seq(self) -> int:
        """The lowest `seq` that is still kept, older ones being a gap; one above the last if none is."""

    def last_event_seq(self) -> int:
        """The highest `seq` ever given to an event; 0 before the first."""

    def close(self) -> None:
        """Let go of everything. Twice is once."""
