"""Whether a database may be trusted, and what its errors mean (spec section 4, never silent).

A damaged database is refused by name and left as it is. SQLite takes a cut write-ahead log
for an unfinished one and would go on without its last commits; what the shared index file
says of an unclean end tells the two apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rch.contract.errors import Failure, Kind
from rch.files import durable
from rch.files.locks import FileLock, is_free
from rchd.edges import store_schema
from rchd.edges.private import is_marked

NO_SPACE = "NO_SPACE"
STATE = "STATE"
_ROOM = b"\0" * 65536
_RESTORE = "see what is wrong: rchctl check; make it anew from the artifacts: rchd --rebuild"
# What `state_failure` says of a file that a rebuild may replace without being asked twice.
REPLACEABLE = {"replaceable": True}
# Mistakes in this program: no word about the file.
DEFECTS = (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.NotSupportedError)


def state_failure(path: Path, what: str, *, hint: str | None = None) -> Failure:
    """`DAEMON` / `STATE`, naming the file."""
    return Failure(Kind.DAEMON, f"{path}: {what}", subkind=STATE, hint=hint)


def _lost(path: Path, what: str) -> Failure:
    """`DAEMON` / `STATE` for what a good copy or a rebuild mends, and nothing else."""
    return Failure(Kind.DAEMON, f"{path}: {what}", subkind=STATE, hint=_RESTORE, data=REPLACEABLE)


def damaged(path: Path, how: str) -> Failure:
    """`DAEMON` / `STATE` for a file that does not hold what was written."""
    return _lost(path, f"is damaged ({' '.join(how.split())})")


def is_replaceable(failure: Failure) -> bool:
    """Whether `failure` tells of a database that holds nothing which a rebuild would lose."""
    return bool(failure.data.get("replaceable"))


def rebuilt(path: Path) -> Path:
    """Where a rebuilt database stands, whole, until the old one has been put aside."""
    return path.with_name(path.name + ".rebuilt")


def space_failure(path: Path) -> Failure:
    """`DAEMON` / `NO_SPACE`, naming the file that could not be written."""
    return Failure(
        Kind.DAEMON,
        f"no space left to write {path}",
        subkind=NO_SPACE,
        hint=f"free space in {path.parent}: nothing that was accepted is lost",
    )


def _has_room(folder: Path) -> bool:
    """Whether the folder takes a few pages more; asked when SQLite does not tell why it could not."""
    probe = durable.temp_name(folder / "probe")
    try:
        probe.write_bytes(_ROOM)
    except OSError as error:
        return not durable.is_no_space(error)
    finally:
        probe.unlink(missing_ok=True)
    return True


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _is_full(path: Path, error: sqlite3.Error) -> bool:
    if _primary(error) == sqlite3.SQLITE_FULL:
        return True
    # A quota, or no room for the shared index, is told as an I/O error; a failed fsync never is space.
    code = getattr(error, "sqlite_errorcode", 0)
    syncs = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)
    return _primary(error) == sqlite3.SQLITE_IOERR and code not in syncs and not _has_room(path.parent)


def failure(path: Path, error: sqlite3.Error) -> Failure:
    """What `error` of the database at `path` means: `NO_SPACE` or `STATE`."""
    if _is_full(path, error):
        return space_failure(path)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if _primary(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return damaged(path, str(error))
    if _primary(error) == sqlite3.SQLITE_BUSY:
        return state_failure(path, f"another process is writing to it ({name})")
    return state_failure(path, f"{error} ({name})", hint="check the disk, then start rchd again")


def is_final(error: sqlite3.Error) -> bool:
    """Whether nothing more may be written after `error`, unless it was for want of space."""
    return _primary(error) not in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of files into `Failure`s about `path`; defects pass."""
    try:
        yield
    except DEFECTS:
        raise
    except sqlite3.Error as error:
        raise failure(path, error) from error
    except OSError as error:
        if durable.is_no_space(error):
            raise space_failure(path) from error
        raise state_failure(path, f"{error.strerror or error}") from error


def own_folder(path: Path) -> None:
    """Make the folder of `path`; refuse one that others own or may write to."""
    durable.make_dirs(path.parent)
    require_own(path)


def require_own(path: Path) -> None:
    """Refuse a folder of `path` that others own or may write to: files made there would be ours."""
    info = path.parent.stat()
    if info.st_uid != os.geteuid():
        raise state_failure(path.parent, f"belongs to uid {info.st_uid}, rchd runs as uid {os.geteuid()}")
    if info.st_mode & 0o022:
        mode = stat.S_IMODE(info.st_mode)
        raise state_failure(
            path.parent, f"others may write to it (mode {mode:04o})", hint=f"chmod 700 {path.parent}"
        )


def take(path: Path) -> FileLock:
    """The lock of the one writer; `ALREADY_RUNNING` names who has it."""
    lock = FileLock(_lock_of(path), "writes the state database")
    if not lock.try_acquire():
        raise Failure(
            Kind.DAEMON,
            f"{path} is open for writing in another process ({lock.holder() or 'unnamed'})",
            subkind="ALREADY_RUNNING",
        )
    return lock


def is_new(path: Path) -> bool:
    """Whether there is no database yet; a log without its database is refused."""
    if rebuilt(path).exists():
        raise _lost(path, f"its rebuild was cut off: {rebuilt(path).name} is not in its place yet")
    if path.exists() or path.is_symlink():
        return False
    log = path.with_name(path.name + "-wal")
    if log.exists():
        raise _lost(path, f"is missing, but its log {log.name} is there")
    return True


def refuse_a_lost_one(path: Path, artifacts: Path) -> None:
    """No database where there were runs: one that begins anew would drop them without a word (fault H9)."""
    if not is_new(path):
        return
    runs = sum(not is_marked(path.parent) for path in artifacts.glob("*/accepted.json"))
    if runs:
        raise _lost(path, f"is missing, and {runs} runs that it knew lie in {artifacts}")


class _LogState(msgspec.Struct, frozen=True):
    """What the shared index says of the write-ahead log: frames committed, frames in the database."""

    frames: int
    moved: int
    salt: bytes


def _log_state(head: bytes) -> _LogState | None:
    """Read the head of a `-shm` file; None if it says nothing (absent, torn, unfinished)."""
    if len(head) < 100 or head[:48] != head[48:96] or head[12] != 1:
        return None
    return _LogState(
        frames=int.from_bytes(head[16:20], sys.byteorder),
        moved=int.from_bytes(head[96:100], sys.byteorder),
        salt=head[32:40],
    )


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(136)
    except FileNotFoundError:
        return b""


def _check_log(shm: Path, before: bytes) -> None:
    """Refuse if SQLite found fewer frames than were committed before the unclean end.

    A frame is counted in the index only after the fsync of its commit, so a count above
    what recovery found is a loss, never a torn tail.
    """
    old, new = _log_state(before), _log_state(_read_head(shm))
    if old is None or old.moved >= old.frames:
        return
    found = new.frames if new is not None and new.salt == old.salt else 0
    if found < old.frames:
        with shm.open("r+b") as file:
            file.write(before)  # the next start must see what this one saw; SQLite rebuilds it anyway
        raise _lost(
            shm.with_name(shm.name.removesuffix("-shm") + "-wal"),
            f"is cut or damaged: {old.frames} pages were committed, {found} are left",
        )


def _check_schema(path: Path, con: sqlite3.Connection) -> None:
    version: int = con.execute("PRAGMA user_version").fetchone()[0]
    if con.execute("PRAGMA application_id").fetchone()[0] != store_schema.APPLICATION_ID:
        raise state_failure(path, "is no database of rchd", hint=_RESTORE)
    if version > store_schema.SCHEMA_VERSION:
        raise state_failure(
            path,
            f"has schema version {version}, this rchd knows {store_schema.SCHEMA_VERSION}",
            hint="use the newer rchd that wrote it; rchctl check tells more",
        )
    said = con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    known = range(version, store_schema.SCHEMA_VERSION)
    if said != (str(version),) or not all(step in store_schema.MIGRATIONS for step in known):
        raise _lost(path, f"has schema version {version} and says {said}: unknown")


def _require_file(path: Path) -> None:
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise _lost(path, "is no file")
    if info.st_size == 0:
        raise _lost(path, "is empty")


def examine(path: Path) -> None:
    """Refuse a database that is damaged, cut, or of a schema that is not known. Changes nothing.

    The caller holds the lock of the one writer.
    """
    _require_file(path)
    shm = path.with_name(path.name + "-shm")
    before = _read_head(shm)
    with contextlib.closing(store_schema.connect(path, writable=False)) as con:
        _check_schema(path, con)
        _check_log(shm, before)
        problems = integrity(con, 3)
    if problems:
        raise damaged(path, problems[0])


def integrity(con: sqlite3.Connection, most: int) -> list[str]:
    """What SQLite finds wrong with the file, at most `most` lines."""
    found = [" ".join(str(row[0]).split()) for row in con.execute(f"PRAGMA integrity_check({most:d})")]
    return [] if found == ["ok"] else found


def open_beside(path: Path) -> sqlite3.Connection:
    """A reading connection for who has no lock, beside a writer or without one; refuses as `examine`.

    A living writer has looked at its log itself, and the shared index is its own: only where
    there is none is the log compared with it, while a shared lock keeps a new writer waiting.
    """
    _require_file(path)
    shm = path.with_name(path.name + "-shm")
    with _no_writer(path) as alone:
        before = _read_head(shm)
        con = store_schema.connect(path, writable=False)
        try:
            _check_schema(path, con)  # the first read is what takes up the log
            if alone:
                _check_log(shm, before)
        except BaseException:
            con.close()
            raise
    return con


@contextlib.contextmanager
def _no_writer(path: Path) -> Iterator[bool]:
    """Whether nobody has the database open for writing; a taker of the lock waits for a moment."""
    try:
        fd = os.open(_lock_of(path), os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def has_writer(path: Path) -> bool:
    """Whether a process has the database open for writing."""
    return not is_free(_lock_of(path))


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
