"""The database's tables, how a new file comes to be, how an old one is brought forward.

The version stands in `user_version` and in `meta`. A new file is made under another name
and renamed when it is whole, so that an empty file under the right name is always damage.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path

from rch.contract.states import JobState, RunState, is_terminal
from rch.files import durable

SCHEMA_VERSION = 1
APPLICATION_ID = 0x52434844  # "RCHD"
BUSY_SECONDS = 5.0

ACTIVE = f"state IN ({', '.join(repr(str(s)) for s in RunState if not is_terminal(s))})"
_RUN_STATES = ", ".join(repr(str(s)) for s in RunState)
_JOB_STATES = ", ".join(repr(str(s)) for s in JobState)

# `ord` is the order of acceptance, which no clock can turn round.
# AUTOINCREMENT: a number is never given twice, even after deletion.
_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    f"""CREATE TABLE runs (
      ord INTEGER PRIMARY KEY AUTOINCREMENT,
      run_id TEXT NOT NULL UNIQUE,
      seq INTEGER NOT NULL CHECK (seq >= 1),
      state TEXT NOT NULL CHECK (state IN ({_RUN_STATES})),
      created_at TEXT NOT NULL,
      updated_at TEXT NOT NULL,
      client_token TEXT UNIQUE,
      doc BLOB NOT NULL,
      sum INTEGER NOT NULL
    ) STRICT""",
    f"CREATE INDEX runs_active ON runs (ord) WHERE {ACTIVE}",
    f"""CREATE TABLE jobs (
      job_id TEXT NOT NULL PRIMARY KEY,
      run_id TEXT NOT NULL REFERENCES runs (run_id),
      step_index INTEGER NOT NULL CHECK (step_index >= 0),
      seq INTEGER NOT NULL CHECK (seq >= 1),
      state TEXT NOT NULL CHECK (state IN ({_JOB_STATES})),
      doc BLOB NOT NULL,
      sum INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX jobs_of_run ON jobs (run_id, step_index)",
    """CREATE TABLE events (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      run_id TEXT NOT NULL,
      at TEXT NOT NULL,
      type TEXT NOT NULL,
      doc BLOB NOT NULL,
      sum INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX events_of_run ON events (run_id, seq)",
)

# version -> the statements that lead to the next one
MIGRATIONS: Mapping[int, tuple[str, ...]] = {}


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection without implicit transactions, usable from any thread in turn.

    Durable at each commit; never mapped into memory (a torn mapping kills the process).
    """
    mode = "rw" if writable else "ro"
    con = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        con.execute("PRAGMA mmap_size = 0")
        con.execute("PRAGMA trusted_schema = OFF")
        con.execute("PRAGMA cell_size_check = ON")
        con.execute("PRAGMA foreign_keys = ON")
        con.execute("PRAGMA synchronous = FULL")
        if sys.platform == "darwin":
            con.execute("PRAGMA fullfsync = ON")
            con.execute("PRAGMA checkpoint_fullfsync = ON")
        if writable:
            con.execute("PRAGMA journal_mode = WAL")
            con.execute("PRAGMA journal_size_limit = 16777216")
    except BaseException:
        con.close()
        raise
    return con


def _stamp(con: sqlite3.Connection) -> None:
    con.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")
    con.execute(
        "INSERT INTO meta VALUES ('schema_version', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        (str(SCHEMA_VERSION),),
    )


def _draft(path: Path) -> Path:
    """A name to build at, free of what a crash may have left there."""
    draft = path.with_name(path.name + ".new")
    for suffix in ("", "-journal", "-wal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    return draft


def _settle(draft: Path, path: Path) -> None:
    """Give a finished draft its name, durably."""
    fd = os.open(draft, os.O_RDONLY)
    try:
        durable.sync_file(fd)
    finally:
        os.close(fd)
    durable.replace(draft, path)


def create(path: Path) -> None:
    """Make an empty database at `path`; a crash leaves nothing under that name."""
    draft = _draft(path)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(connect(draft, writable=True)) as con:
        con.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        con.execute("BEGIN IMMEDIATE")
        for statement in _TABLES:
            con.execute(statement)
        _stamp(con)
        con.execute("COMMIT")
    _settle(draft, path)


def _back_up(path: Path, con: sqlite3.Connection, version: int) -> Path:
    """A whole copy beside `path`; an earlier copy is never overwritten."""
    number, backup = 1, path.with_name(f"{path.name}.v{version}.bak")
    while backup.exists():
        number += 1
        backup = path.with_name(f"{path.name}.v{version}.{number}.bak")
    draft = _draft(path)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(sqlite3.connect(draft)) as copy:
        con.backup(copy)
    _settle(draft, backup)
    return backup


def migrate(path: Path, con: sqlite3.Connection) -> Path | None:
    """Bring an older schema forward in one transaction, after a backup, whose path is given."""
    version: int = con.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return None
    backup = _back_up(path, con, version)
    con.execute("BEGIN IMMEDIATE")
    try:
        for step in range(version, SCHEMA_VERSION):
            for statement in MIGRATIONS[step]:
                con.execute(statement)
        _stamp(con)
        con.execute("COMMIT")
    except BaseException:
        if con.in_transaction:
            con.execute("ROLLBACK")
        raise
    return backup
