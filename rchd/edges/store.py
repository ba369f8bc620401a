"""The truth about runs, jobs and events in one SQLite file (spec section 4).

A batch is one transaction: when `commit` returns, all of it survives a power cut; when it raises,
nothing of it is there. Two failures are told apart: `DAEMON` / `NO_SPACE` passes when
there is space again, `DAEMON` / `STATE` needs a person, and no write follows it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from rch.contract.errors import Failure
from rch.contract.states import IllegalTransition, is_terminal
from rch.files.locks import FileLock
from rchd.edges import store_health, store_schema
from rchd.edges.store_reserve import Reserve
from rchd.edges.store_rows import Batch, EventRow, JobRow, Loaded, RunRow, StateStore

__all__ = ["Batch", "EventRow", "JobRow", "Loaded", "RunRow", "SqliteStore", "StateStore"]

# Followers resume among the newest events of all runs; who asks for older ones is told of a gap.
KEPT_EVENTS = 10_000
PRUNED_AT_ONCE = 50

_Result = TypeVar("_Result")
_Row = TypeVar("_Row", RunRow, JobRow, EventRow)

_RUN = """
SELECT r.run_id, r.seq, r.state, r.created_at, r.updated_at, r.client_token, r.doc, r.sum
FROM runs AS r"""
_JOB = """
SELECT j.job_id, j.run_id, j.step_index, j.seq, j.state, j.doc, j.sum
FROM jobs AS j JOIN runs AS r ON r.run_id = j.run_id"""
_EVENT = "SELECT seq, run_id, at, type, doc, sum FROM events"
_RUN_NOW = "SELECT seq, state FROM runs WHERE run_id = ?"
_JOB_NOW = "SELECT seq, state FROM jobs WHERE job_id = ?"
_PUT_RUN = """
INSERT INTO runs (run_id, seq, state, created_at, updated_at, client_token, doc, sum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET seq = excluded.seq, state = excluded.state,
  created_at = excluded.created_at, updated_at = excluded.updated_at,
  client_token = excluded.client_token, doc = excluded.doc, sum = excluded.sum
"""
_PUT_JOB = """
INSERT INTO jobs (job_id, run_id, step_index, seq, state, doc, sum)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job_id) DO UPDATE SET run_id = excluded.run_id, step_index = excluded.step_index,
  seq = excluded.seq, state = excluded.state, doc = excluded.doc, sum = excluded.sum
"""
_PUT_EVENT = "INSERT INTO events (seq, run_id, at, type, doc, sum) VALUES (?, ?, ?, ?, ?, ?)"
_IS_OVER = f"run_id = ? AND NOT (r.{store_schema.ACTIVE})"
_FORGET_JOBS = f"DELETE FROM jobs WHERE run_id IN (SELECT run_id FROM runs AS r WHERE {_IS_OVER})"  # noqa: S608  (ours)
_FORGET_RUN = f"DELETE FROM runs AS r WHERE {_IS_OVER}"  # noqa: S608  (ours)
_FIRST_EVENT = "SELECT min(seq) FROM events"
_PRUNE = "DELETE FROM events WHERE seq <= ? AND seq < ?"
# Holds the highest seq ever used, also when old events have been deleted (AUTOINCREMENT).
_LAST_EVENT = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"


def row_sum(values: tuple[object, ...]) -> int:
    """Checksum of a row: SQLite keeps none, and a flipped bit in a doc must not be believed."""
    return zlib.crc32(msgspec.msgpack.encode(values))


def _stored(row: RunRow | JobRow | EventRow) -> tuple[object, ...]:
    values = msgspec.structs.astuple(row)
    return (*values, row_sum(values))


def _newer(con: sqlite3.Connection, query: str, key: str, seq: int, state: str) -> bool:
    """Whether `(seq, state)` may be written over what is stored; raises on a defect."""
    old = con.execute(query, (key,)).fetchone()
    if old is None:
        return True
    if seq < old[0]:
        return False
    if (seq == old[0] and state != old[1]) or (seq > old[0] and is_terminal(old[1])):
        raise IllegalTransition(f"{key}: {old[1]} (seq {old[0]}) -> {state} (seq {seq})")
    return True


def _write(con: sqlite3.Connection, batch: Batch) -> None:
    for run in batch.runs:
        if _newer(con, _RUN_NOW, run.run_id, run.seq, run.state):
            con.execute(_PUT_RUN, _stored(run))
    for job in batch.jobs:
        if _newer(con, _JOB_NOW, job.job_id, job.seq, job.state):
            con.execute(_PUT_JOB, _stored(job))
    last: int = con.execute(_LAST_EVENT).fetchone()[0]
    for event in batch.events:
        if event.seq <= last:
            raise IllegalTransition(f"event {event.type} of {event.run_id}: seq {last} -> {event.seq}")
        con.execute(_PUT_EVENT, _stored(event))
        last = event.seq
    _prune(con, last, len(batch.events))


def _forget(con: sqlite3.Connection, run_ids: Sequence[str]) -> int:
    gone = 0
    for run_id in run_ids:
        con.execute(_FORGET_JOBS, (run_id,))
        gone += con.execute(_FORGET_RUN, (run_id,)).rowcount
    return gone


def _prune(con: sqlite3.Connection, last: int, new: int) -> None:
    """Let the oldest events go, a few more than came: no commit ever pays for many.

    What they take is used anew, so that the file stops growing and is never rewritten as a whole.
    """
    first = con.execute(_FIRST_EVENT).fetchone()[0]
    if new and first is not None and first <= last - KEPT_EVENTS:
        con.execute(_PRUNE, (last - KEPT_EVENTS, first + 2 * new + PRUNED_AT_ONCE))


class SqliteStore:
    """`StateStore` in one SQLite file: one writing connection, one that only reads.

    Reads may come from any thread and see whole commits alone.
    """

    def __init__(self, path: Path, lock: FileLock, writer: sqlite3.Connection) -> None:
        self._path = path
        self._lock = lock
        self._writer = writer
        self._reserve = Reserve(path.with_name(path.name + ".reserve"))
        self._reader = store_schema.connect(path, writable=False)
        self._write_turn = threading.Lock()
        self._read_turn = threading.Lock()
        self._lost: Failure | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """The store at `path`, made if it is not there.

        `Failure` `DAEMON`: `ALREADY_RUNNING` if another process has it open for writing;
        `STATE` if it is damaged, of a newer schema, or not ours; `NO_SPACE`.
        """
        with contextlib.ExitStack() as undo, store_health.told(path):
            store_health.own_folder(path)
            lock = store_health.take(path)
            undo.callback(lock.release)
            if store_health.is_new(path):
                store_schema.create(path)
            store_health.examine(path)
            writer = store_schema.connect(path, writable=True)
            undo.callback(writer.close)
            store_schema.migrate(path, writer)
            store = cls(path, lock, writer)
            undo.pop_all()
            return store

    def commit(self, batch: Batch, *, urgent: bool = False) -> None:
        """See `StateStore.commit`."""
        with self._write_turn:
            if self._lost is not None:
                raise self._lost
            if not urgent:
                self._keep_reserve()
            try:
                self._attempt(batch)
            except Failure as told:
                if not (urgent and told.subkind == store_health.NO_SPACE and self._reserve.spend()):
                    raise
                self._attempt(batch)

    def forget(self, run_ids: Sequence[str]) -> int:
        """See `StateStore.forget`."""
        with self._write_turn:
            if self._lost is not None:
                raise self._lost
            return self._guarded(partial(_forget, run_ids=run_ids))

    def _keep_reserve(self) -> None:
        with store_health.told(self._path):
            if not self._reserve.fill():
                raise store_health.space_failure(self._path)

    def _attempt(self, batch: Batch) -> None:
        self._guarded(partial(_write, batch=batch))

    def _guarded(self, act: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            return self._transact(act)
        except sqlite3.IntegrityError as error:
            raise IllegalTransition(f"refused by the schema: {error}") from error
        except store_health.DEFECTS:
            raise
        except sqlite3.Error as error:
            told = store_health.failure(self._path, error)
            if told.subkind != store_health.NO_SPACE and store_health.is_final(error):
                self._lost = told  # after a failed fsync nothing may be written on top
            raise told from error

    def _transact(self, act: Callable[[sqlite3.Connection], _Result]) -> _Result:
        con = self._writer
        con.execute("BEGIN IMMEDIATE")
        try:
            result = act(con)
            con.execute("COMMIT")
        except BaseException:
            if con.in_transaction:  # SQLite has rolled back by itself after some errors
                con.execute("ROLLBACK")
            raise
        return result

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """The reading connection at one moment of the database."""
        with self._read_turn, store_health.told(self._path):
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("ROLLBACK")

    def _rows(self, kind: type[_Row], found: Iterable[tuple[Any, ...]]) -> list[_Row]:
        rows = []
        for *values, checksum in found:
            if row_sum(tuple(values)) != checksum:
                raise store_health.damaged(self._path, f"the row of {values[0]} fails its checksum")
            rows.append(kind(*values))
        return rows

    def load(self, *, active_only: bool) -> Loaded:
        """See `StateStore.load`."""
        where = f" WHERE r.{store_schema.ACTIVE}" if active_only else ""
        with self._reading() as con:
            return Loaded(
                self._rows(RunRow, con.execute(f"{_RUN}{where} ORDER BY r.ord")),
                self._rows(JobRow, con.execute(f"{_JOB}{where} ORDER BY r.ord, j.step_index")),
                con.execute(_LAST_EVENT).fetchone()[0],
            )

    def run(self, run_id: str) -> RunRow | None:
        """See `StateStore.run`."""
        return self._one_run("r.run_id = ?", run_id)

    def by_token(self, token: str) -> RunRow | None:
        """See `StateStore.by_token`."""
        return self._one_run("r.client_token = ?", token)

    def _one_run(self, where: str, value: str) -> RunRow | None:
        with self._reading() as con:
            rows = self._rows(RunRow, con.execute(f"{_RUN} WHERE {where}", (value,)))
        return rows[0] if rows else None

    def runs(
        self,
        limit: int,
        *,
        state: str | None = None,
        prefix: str | None = None,
        before: str | None = None,
    ) -> list[RunRow]:
        """See `StateStore.runs`."""
        where, values = ["TRUE"], list[object]()
        if state is not None:
            where.append("r.state = ?")
            values.append(state)
        if prefix:
            where.append("r.run_id >= ? AND r.run_id < ?")  # a range of the index, no pattern to escape
            values += [prefix, prefix + chr(0x10FFFF)]
        if before is not None:
            where.append("r.ord < (SELECT ord FROM runs WHERE run_id = ?)")
            values.append(before)
        query = f"{_RUN} WHERE {' AND '.join(where)} ORDER BY r.ord DESC LIMIT ?"
        with self._reading() as con:
            return self._rows(RunRow, con.execute(query, (*values, max(limit, 0))))

    def jobs_of(self, run_id: str) -> list[JobRow]:
        """See `StateStore.jobs_of`."""
        query = f"{_JOB} WHERE j.run_id = ? ORDER BY j.step_index"
        with self._reading() as con:
            return self._rows(JobRow, con.execute(query, (run_id,)))

    def events_after(self, seq: int, *, run_id: str | None = None, limit: int = 1000) -> list[EventRow]:
        """See `StateStore.events_after`."""
        of_run = "" if run_id is None else " AND run_id = :run_id"
        query = f"{_EVENT} WHERE seq > :seq{of_run} ORDER BY seq LIMIT :limit"
        named = {"seq": seq, "run_id": run_id, "limit": max(limit, 0)}
        with self._reading() as con:
            return self._rows(EventRow, con.execute(query, named))

    def first_event_seq(self) -> int:
        """See `StateStore.first_event_seq`."""
        with self._reading() as con:
            first: int | None = con.execute(_FIRST_EVENT).fetchone()[0]
            return first if first is not None else con.execute(_LAST_EVENT).fetchone()[0] + 1

    def last_event_seq(self) -> int:
        """See `StateStore.last_event_seq`."""
        with self._reading() as con:
            last: int = con.execute(_LAST_EVENT).fetchone()[0]
            return last

    def close(self) -> None:
        """See `StateStore.close`."""
        self._reader.close()
        self._writer.close()
        self._lock.release()
