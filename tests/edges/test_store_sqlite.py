"""What the SQLite store promises beyond the contract: processes, space, versions, its folder."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.small_disk import fill, small_disk

from rch.contract.errors import Failure, Kind
from rchd.edges import store_schema
from rchd.edges.store import Batch, EventRow, JobRow, RunRow, SqliteStore
from rchd.edges.store_reserve import RESERVE_BYTES

T = "2025-03-01T10:00:00.000Z"

# Writes batches of one run, two jobs and one event for ever; says each number once it is durable.
WRITER = """
import pathlib, sys
from rchd.edges.store import Batch, EventRow, JobRow, RunRow, SqliteStore
store = SqliteStore.open(pathlib.Path(sys.argv[1]))
number = store.last_event_seq()
while True:
    number += 1
    run = f"run-{number:010}"
    store.commit(Batch(
        runs=[RunRow(run, 1, "QUEUED", "T", "T", None, b"r" * 3000)],
        jobs=[JobRow(f"job-{number:010}-{step}", run, step, 1, "QUEUED", b"j" * 3000) for step in (0, 1)],
        events=[EventRow(number, run, "T", "accepted", b"e" * 3000)],
    ))
    print(number, flush=True)
"""

MAKE = """
import pathlib, sys
from rchd.edges.store import SqliteStore
SqliteStore.open(pathlib.Path(sys.argv[1]))
"""

READ = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1], uri=True).execute("SELECT run_id FROM runs").fetchall())
"""


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "rchd.db"


def _run(number: int, doc: bytes = b"{}") -> RunRow:
    return RunRow(f"run-{number:010}", 1, "QUEUED", T, T, None, doc)


def _writer(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)


def _read_until(child: subprocess.Popen[str], number: int) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= number:
            return
    raise AssertionError(f"the writer ended with {child.wait()}")


@pytest.mark.fault("H1")
@pytest.mark.parametrize("after", [1, 40, 300])
def test_a_killed_writer_leaves_whole_batches_and_all_that_it_acknowledged(path: Path, after: int) -> None:
    with _writer(path) as child:
        _read_until(child, after)
        child.kill()
        rest = child.stdout.read().split() if child.stdout is not None else []
    acknowledged = max([after, *map(int, rest)])
    store = SqliteStore.open(path)
    loaded = store.load(active_only=True)
    events = store.events_after(0, limit=100_000)
    assert acknowledged <= len(loaded.runs) <= acknowledged + 1
    assert len(loaded.jobs) == 2 * len(loaded.runs)
    assert [event.seq for event in events] == list(range(1, len(loaded.runs) + 1))
    store.commit(Batch(events=[EventRow(loaded.last_event_seq + 1, "run", T, "on", b"")]))
    store.close()


@pytest.mark.fault("H1")
def test_a_writer_killed_again_and_again_loses_nothing(path: Path) -> None:
    for round_ in range(1, 4):
        with _writer(path) as child:
            _read_until(child, round_ * 20)
            child.kill()
    store = SqliteStore.open(path)
    assert len(store.load(active_only=True).runs) >= 60
    store.close()


@pytest.fixture(name="strace")
def fixture_strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed")
    return found


@pytest.mark.fault("H1")
@pytest.mark.parametrize(
    ("call", "number"),
    [("fsync", n) for n in (1, 2, 3, 4)]
    + [("fdatasync", n) for n in (1, 3, 8)]
    + [("rename", n) for n in (1, 2)],
)
def test_a_death_at_any_step_of_the_making_leaves_nothing_or_a_whole_database(
    path: Path, strace: str, call: str, number: int
) -> None:
    kill = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    traced = [strace, "-qq", "-o", "/dev/null", "-f", *kill]
    done = subprocess.run([*traced, sys.executable, "-c", MAKE, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    store = SqliteStore.open(path)
    assert store.load(active_only=False).runs == []
    store.close()
    assert not [file for file in path.parent.iterdir() if ".new" in file.name]


@pytest.mark.fault("H11")
def test_after_a_failed_fsync_the_commit_failed_and_none_follows(path: Path, strace: str) -> None:
    code = """
import pathlib, sys
from rch.contract.errors import Failure
from rchd.edges.store import Batch, RunRow, SqliteStore
store = SqliteStore.open(pathlib.Path(sys.argv[1]))
def put(number):
    try:
        store.commit(Batch(runs=[RunRow(f"run-{number:010}", 1, "QUEUED", "T", "T", None, b"")]))
    except Failure as error:
        print(error.label, len(store.runs(99)), error.message)
put(1)
for number in (2, 3):
    pathlib.Path(sys.argv[1]).with_name("go").touch()
    put(number)
print(len(store.runs(99)))
"""
    SqliteStore.open(path).close()
    traced = [strace, "-qq", "-o", "/dev/null", "-f", "-P", f"{path}-wal", "-e", "trace=fsync,fdatasync"]
    # 1: the new log's header and its name, then the first commit; the second commit fails
    for when in range(1, 6):
        inject = ["-e", f"inject=fsync,fdatasync:error=EIO:when={when}"]
        done = subprocess.run(
            [*traced, *inject, sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = done.stdout.splitlines()
        if len(lines) == 3:
            break
    first, second, left = lines
    assert first.startswith("DAEMON / STATE 1 ")
    assert str(path) in first
    assert second == first
    assert left == "1"


@pytest.mark.fault("H6")
def test_a_second_writer_is_refused_and_named_even_while_the_first_is_stopped(path: Path) -> None:
    with _writer(path) as child:
        _read_until(child, 1)
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(Failure) as caught:
            SqliteStore.open(path)
        child.kill()
    assert (caught.value.kind, caught.value.subkind) == (Kind.DAEMON, "ALREADY_RUNNING")
    assert f"pid {child.pid} " in caught.value.message
    SqliteStore.open(path).close()


def test_another_process_may_read_while_we_write(path: Path) -> None:
    store = SqliteStore.open(path)
    store.commit(Batch(runs=[_run(1)]))
    uri = f"{path.as_uri()}?mode=ro"
    done = subprocess.run([sys.executable, "-c", READ, uri], capture_output=True, text=True, check=True)
    assert "run-0000000001" in done.stdout
    store.commit(Batch(runs=[_run(2)]))
    store.close()


def test_a_foreign_writer_delays_but_does_not_break_us(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_schema, "BUSY_SECONDS", 0.05)
    store = SqliteStore.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Failure, match="another process is writing") as caught:
        store.commit(Batch(runs=[_run(1)]))
    assert caught.value.subkind == "STATE"
    other.close()
    store.commit(Batch(runs=[_run(1)]))
    store.close()


def test_readers_see_whole_commits_alone_from_any_thread(path: Path) -> None:
    store = SqliteStore.open(path)
    seen: list[tuple[int, int]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            loaded = store.load(active_only=True)
            seen.append((len(loaded.runs), len(loaded.jobs)))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(100):
        jobs = [
            JobRow(f"job-{number:010}-{step}", f"run-{number:010}", step, 1, "QUEUED", b"")
            for step in (0, 1)
        ]
        store.commit(Batch(runs=[_run(number)], jobs=jobs))
    stop.set()
    for reader in readers:
        reader.join()
    store.close()
    assert seen
    assert all(jobs == 2 * runs for runs, jobs in seen)


@pytest.mark.spec("4")
def test_each_commit_is_durable_and_no_memory_is_mapped(path: Path) -> None:
    store = SqliteStore.open(path)
    for con in (store._writer, store._reader):
        assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert con.execute("PRAGMA synchronous").fetchone() == (2,)
        assert con.execute("PRAGMA mmap_size").fetchone() == (0,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._reader.execute("DELETE FROM runs")
    store.close()


def _no_space(caught: pytest.ExceptionInfo[Failure], path: Path) -> None:
    assert (caught.value.kind, caught.value.subkind) == (Kind.DAEMON, "NO_SPACE")
    assert caught.value.retryable
    assert str(path) in caught.value.message
    assert str(path.parent) in caught.value.hint


@pytest.mark.fault("H12")
def test_a_full_disk_fails_the_commit_but_not_the_store(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4096) as disk:
        path = disk / "state" / "rchd.db"
        store = SqliteStore.open(path)
        store.commit(Batch(runs=[_run(1)]))
        ballast = fill(disk)
        with pytest.raises(Failure) as caught:
            store.commit(Batch(runs=[_run(2, b"x" * 200_000)]))
        _no_space(caught, path)
        assert store.runs(10) == [_run(1)]
        ballast.unlink()
        store.commit(Batch(runs=[_run(2, b"x" * 200_000)]))
        store.close()
        store = SqliteStore.open(path)
        assert store.runs(10) == [_run(2, b"x" * 200_000), _run(1)]
        store.close()


@pytest.mark.fault("H12")
def test_on_a_full_disk_a_run_can_still_be_ended_and_no_other_work_takes_that_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4096) as disk:
        path = disk / "state" / "rchd.db"
        store = SqliteStore.open(path)
        store.commit(Batch(runs=[_run(number) for number in range(20)]))
        ballast = fill(disk)
        big = b"x" * 100_000
        ended = [RunRow(f"run-{number:010}", 2, "CANCELLED", T, T, None, big) for number in range(4)]
        for row in ended:
            store.commit(Batch(runs=[row]), urgent=True)
        with pytest.raises(Failure) as caught:
            store.commit(Batch(runs=[_run(99)]))
        _no_space(caught, path)
        ballast.unlink()
        store.commit(Batch(runs=[_run(99)]))
        assert (path.with_name("rchd.db.reserve")).stat().st_size == RESERVE_BYTES
        assert store.runs(99, state="CANCELLED") == ended[::-1]
        store.close()


@pytest.mark.fault("H12")
def test_when_the_reserve_is_gone_too_the_urgent_fails_alike(path: Path) -> None:
    store = SqliteStore.open(path)
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 1}")
    for urgent in (False, True):
        with pytest.raises(Failure) as caught:
            store.commit(Batch(runs=[_run(1, b"x" * 100_000)]), urgent=urgent)
        _no_space(caught, path)
    store._writer.execute("PRAGMA max_page_count = 1000000")
    store.commit(Batch(runs=[_run(1, b"x" * 100_000)]))
    store.close()


@pytest.mark.fault("H12")
def test_a_start_on_a_full_disk_says_so_and_a_later_one_works(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4096) as disk:
        path = disk / "state" / "rchd.db"
        ballast = fill(disk)
        with pytest.raises(Failure) as caught:
            SqliteStore.open(path)
        assert caught.value.subkind == "NO_SPACE"
        ballast.unlink()
        store = SqliteStore.open(path)
        store.commit(Batch(runs=[_run(1)]))
        store.close()
        fill(disk)
        with pytest.raises(Failure) as caught:
            SqliteStore.open(path).commit(Batch(runs=[_run(2, b"x" * 200_000)]))
        assert caught.value.subkind == "NO_SPACE"


@pytest.mark.fault("H2")
def test_ten_thousand_queued_runs_are_back_in_order_well_within_two_seconds(path: Path) -> None:
    store = SqliteStore.open(path)
    order = [(number * 7919) % 10_000 for number in range(10_000)]
    for start in range(0, 10_000, 1000):
        store.commit(Batch(runs=[_run(number, b"d" * 800) for number in order[start : start + 1000]]))
    store.close()
    begun = time.process_time()
    store = SqliteStore.open(path)
    loaded = store.load(active_only=True)
    took = time.process_time() - begun
    store.close()
    assert [int(row.run_id[4:]) for row in loaded.runs] == order
    assert took < 2


def test_the_files_are_private(path: Path) -> None:
    umask = os.umask(0)
    try:
        store = SqliteStore.open(path)
        store.commit(Batch(runs=[_run(1)]))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(umask)
    store.close()
    assert set(modes) == {"rchd.db", "rchd.db-wal", "rchd.db-shm", "rchd.db.lock", "rchd.db.reserve"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(Failure, match=r"others may write to it \(mode 0777\)") as caught:
        SqliteStore.open(path)
    assert (caught.value.kind, caught.value.subkind) == (Kind.DAEMON, "STATE")
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    os.chown(path.parent, 65534, -1)
    with pytest.raises(Failure, match="belongs to uid 65534"):
        SqliteStore.open(path)


@pytest.mark.fault("H8")
def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    SqliteStore.open(path).close()
    with sqlite3.connect(path) as con:
        con.execute("PRAGMA user_version = 2")
    con.close()
    before = path.read_bytes()
    with pytest.raises(Failure, match=f"{path}: has schema version 2, this rchd knows 1") as caught:
        SqliteStore.open(path)
    assert caught.value.subkind == "STATE"
    assert path.read_bytes() == before


@pytest.mark.fault("H8")
@pytest.mark.parametrize("earlier", [0, 1])
def test_an_older_schema_is_brought_forward_after_a_backup(
    path: Path, monkeypatch: pytest.MonkeyPatch, earlier: int
) -> None:
    store = SqliteStore.open(path)
    store.commit(Batch(runs=[_run(1)]))
    store.close()
    if earlier:
        path.with_name("rchd.db.v1.bak").write_bytes(b"an earlier backup")
    monkeypatch.setattr(store_schema, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(store_schema, "MIGRATIONS", {1: ("ALTER TABLE runs ADD COLUMN note TEXT",)})
    store = SqliteStore.open(path)
    assert store.runs(1) == [_run(1)]
    store.close()
    con = sqlite3.connect(path)
    assert con.execute("PRAGMA user_version").fetchone() == (2,)
    assert con.execute("SELECT note FROM runs").fetchall() == [(None,)]
    assert con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() == ("2",)
    con.close()
    backup = path.with_name("rchd.db.v1.2.bak" if earlier else "rchd.db.v1.bak")
    con = sqlite3.connect(backup)
    assert con.execute("PRAGMA user_version").fetchone() == (1,)
    assert con.execute("SELECT run_id FROM runs").fetchall() == [("run-0000000001",)]
    con.close()
    if earlier:
        assert path.with_name("rchd.db.v1.bak").read_bytes() == b"an earlier backup"


@pytest.mark.fault("H8")
def test_a_migration_that_fails_leaves_the_old_database(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.open(path)
    store.commit(Batch(runs=[_run(1)]))
    store.close()
    with monkeypatch.context() as patch:
        patch.setattr(store_schema, "SCHEMA_VERSION", 2)
        patch.setattr(
            store_schema, "MIGRATIONS", {1: ("DELETE FROM runs", "ALTER TABLE none ADD COLUMN x")}
        )
        with pytest.raises(Failure, match="no such table: none"):
            SqliteStore.open(path)
    store = SqliteStore.open(path)
    assert store.runs(1) == [_run(1)]
    store.close()


def test_an_old_schema_without_a_way_forward_is_refused(path: Path) -> None:
    SqliteStore.open(path).close()
    with sqlite3.connect(path) as con:
        con.execute("PRAGMA user_version = 0")
    con.close()
    with pytest.raises(Failure, match="has schema version 0"):
        SqliteStore.open(path)
