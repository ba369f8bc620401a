"""Reads the SQLite database of a result bundle, to hold it against what Apple's tool says.

The tool writes it beside the results of Xcode 16 and later, and it can be read on any machine.
The tests under verification could have written it too, so it is read as hostile: a copy that no
one can lock is opened read-only, tables must be tables, and every query has a deadline and a
number of rows.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

MAX_BYTES = 1 << 30
MAX_ROWS = 400_000
SECONDS = 20.0
NAME = "database.sqlite3"

_RESULTS = "TestCaseResultsByDestinationAndConfiguration"
_WANTED = {
    _RESULTS: {"destination_fk", "configuration_fk", "result", "testCase_fk"},
    "TestCases": {"identifier", "name", "testSuite_fk"},
}
_OUTCOMES = {
    "Success": "passed",
    "Failure": "failed",
    "Skipped": "skipped",
    "Expected Failure": "expected_failure",
}
# One row a test, destination and configuration; those without are sums of the same over others.
_QUERY = f"""
SELECT substr(r.result, 1, 40), substr(c.identifier, 1, 1000), substr(c.name, 1, 1000)
FROM {_RESULTS} AS r LEFT JOIN TestCases AS c ON c.rowid = r.testCase_fk
WHERE r.destination_fk IS NOT NULL AND r.configuration_fk IS NOT NULL
LIMIT {MAX_ROWS + 1}
"""  # noqa: S608  (no value of anyone's)
_STEPS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRead:
    """Counts of a bundle's database, and the identifiers of failed tests, sorted.

    `problem` tells why it could not be read; `foreign` that its layout is not a known one,
    which proves nothing against the bundle.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    expected: int = 0
    other: int = 0
    failing: tuple[str, ...] = ()
    problem: str | None = None
    foreign: bool = False

    @property
    def total(self) -> int:
        """Every counted result."""
        return self.passed + self.failed + self.skipped + self.expected + self.other


class _RefusedError(Exception):
    """Something that is not read."""


class _UnknownError(Exception):
    """A layout that is not known."""


def read_database(bundle: Path, *, seconds: float = SECONDS) -> DatabaseRead | None:
    """What the database of a bundle says; None where the bundle has none. Never an exception."""
    path = bundle / NAME
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return DatabaseRead(problem="is no regular file")
        if found.st_size > MAX_BYTES:
            return DatabaseRead(problem=f"is over {MAX_BYTES} bytes")
        return _read(path, time.monotonic() + seconds)
    except FileNotFoundError:
        return None
    except _UnknownError as error:
        return DatabaseRead(problem=str(error), foreign=True)
    except _RefusedError as error:
        return DatabaseRead(problem=str(error))
    except (sqlite3.Error, sqlite3.Warning, OSError, ValueError, OverflowError) as error:
        why = "took too long" if "interrupted" in str(error) else f"cannot be read: {str(error)[:200]}"
        return DatabaseRead(problem=why)


def _read(path: Path, deadline: float) -> DatabaseRead:
    log = path.with_name(f"{NAME}-wal")
    if log.exists() and log.lstat().st_size:
        raise _RefusedError("is in the midst of being written")
    # immutable: no lock of anyone's holds us up, and nothing is written beside it
    where = f"file:{quote(os.fspath(path.absolute()))}?mode=ro&immutable=1"
    with closing(sqlite3.connect(where, uri=True, timeout=1.0)) as database:
        database.text_factory = lambda raw: raw.decode(errors="replace")
        database.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 24)
        for setting in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON", "mmap_size=0"):
            database.execute(f"PRAGMA {setting}")
        _check_layout(database)
        return _count(database)


def _check_layout(database: sqlite3.Connection) -> None:
    """The tables that are read are plain tables with the columns that are read."""
    for table, wanted in _WANTED.items():
        row = database.execute(
            "SELECT type, substr(sql, 1, 20) FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
        if row is None:
            raise _UnknownError(f"has no table {table}")
        if row[0] != "table" or not str(row[1]).upper().startswith("CREATE TABLE"):
            raise _RefusedError(f"has something else than a table as {table}")
        columns = {str(one[1]) for one in database.execute(f"PRAGMA table_info({table})")}
        if not wanted <= columns:
            raise _UnknownError(f"has other columns in {table}")


def _rows(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    for number, (result, identifier, name) in enumerate(database.execute(_QUERY)):
        if number >= MAX_ROWS:
            raise _RefusedError(f"holds more than {MAX_ROWS} results")
        yield str(result), str(identifier or name or "?")


def _count(database: sqlite3.Connection) -> DatabaseRead:
    counts: dict[str, int] = {}
    failing: set[str] = set()
    for result, name in _rows(database):
        outcome = _OUTCOMES.get(result, "other")
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome == "failed":
            failing.add(name)
    return DatabaseRead(
        passed=counts.get("passed", 0),
        failed=counts.get("failed", 0),
        skipped=counts.get("skipped", 0),
        expected=counts.get("expected_failure", 0),
        other=counts.get("other", 0),
        failing=tuple(sorted(failing)),
    )
