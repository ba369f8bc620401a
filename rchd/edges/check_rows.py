"""The rows of the database, one by one and beside a daemon that lives, for `rchd check`.

A store refuses as a whole at the first row that is damaged; here each one is named.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.errors import Failure
from rchd.core import model as m
from rchd.core.compare import REBUILD, Finding
from rchd.edges import store_health
from rchd.edges.store import row_sum

_PAGE = 200
_RUN = "SELECT run_id, seq, state, created_at, updated_at, client_token, doc, sum FROM runs"
_JOB = "SELECT job_id, run_id, step_index, seq, state, doc, sum FROM jobs"
_EVENT = "SELECT seq, run_id, at, type, doc, sum FROM events"
_NEXT = "SELECT ord, run_id FROM runs WHERE ord > ? ORDER BY ord LIMIT ?"
_MOST_PROBLEMS = 10

Values = tuple[Any, ...]


class Rows:
    """The database at `path`, read beside whoever writes it. `Failure` if it cannot be read at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: list[Finding] = []
        with store_health.told(path):
            store_health.require_own(path)
            self._con = store_health.open_beside(path)

    def close(self) -> None:
        """Let go of the file."""
        self._con.close()

    def examine(self) -> None:
        """SQLite's own check, and every job and event; what is wrong goes to `findings`."""
        try:
            with store_health.told(self.path):
                for problem in store_health.integrity(self._con, _MOST_PROBLEMS):
                    self._wrong(f"is damaged ({problem})")
                for query in (_JOB, _EVENT):
                    for values in self._con.execute(query):
                        self._intact(values)
        except Failure as failure:
            self._wrong(failure.message)

    def runs(self) -> Iterator[m.Run]:
        """Every run whose row can be read, in the order of acceptance; the others go to `findings`."""
        last = 0
        while True:
            try:
                with store_health.told(self.path):
                    page = self._con.execute(_NEXT, (last, _PAGE)).fetchall()
            except Failure as failure:
                self._wrong(failure.message)
                return
            if not page:
                return
            last = page[-1][0]
            for _, run_id in page:
                run = self.run(run_id)
                if run is not None:
                    yield run

    def run(self, run_id: str) -> m.Run | None:
        """One run as its row has it now; None where there is none that can be read."""
        try:
            with store_health.told(self.path):
                values, jobs = self._at_one_moment(run_id)
        except Failure as failure:
            self._wrong(failure.message, run_id)
            return None
        if values is None or not self._intact(values, run_id):
            return None
        return self._decoded(values, jobs)

    def _at_one_moment(self, run_id: str) -> tuple[Values | None, list[Values]]:
        self._con.execute("BEGIN")
        try:
            values = self._con.execute(f"{_RUN} WHERE run_id = ?", (run_id,)).fetchone()
            return values, self._con.execute(f"{_JOB} WHERE run_id = ?", (run_id,)).fetchall()
        finally:
            self._con.execute("ROLLBACK")

    def count(self) -> int:
        """How many runs there are."""
        try:
            return int(self._con.execute("SELECT count(*) FROM runs").fetchone()[0])
        except sqlite3.Error:
            return 0

    def _decoded(self, values: Values, jobs: list[Values]) -> m.Run | None:
        run_id, seq, state, *_, doc, _sum = values
        try:
            run: m.Run = decode_json(doc, m.Run)
        except msgspec.MsgspecError as error:
            self._wrong(f"the row of {run_id} cannot be read ({error})", str(run_id))
            return None
        if (run.run_id, run.seq, run.state) != (run_id, seq, state):
            self._wrong(
                f"the row of {run_id} speaks of {run.run_id}, {run.state} (seq {run.seq})", run.run_id
            )
        for job_id, _, index, job_seq, job_state, *_ in jobs:
            step = run.steps[index] if isinstance(index, int) and index < len(run.steps) else None
            if step is None or (step.seq, step.state) != (job_seq, job_state):
                self._wrong(f"the row of job {job_id} does not say what its run's does", run.run_id)
        return run

    def _intact(self, values: Values, run_id: str | None = None) -> bool:
        *stored, checksum = values
        if row_sum(tuple(stored)) == checksum:
            return True
        self._wrong(f"the row of {stored[0]} fails its checksum", run_id)
        return False

    def _wrong(self, what: str, run_id: str | None = None) -> None:
        text = what.removeprefix(f"{self.path}: ")
        finding = Finding(
            severity="error",
            area="database",
            path=str(self.path),
            what=text,
            remedy=REBUILD,
            run_id=run_id,
        )
        if finding not in self.findings:
            self.findings.append(finding)
