"""A damaged database is refused by name, again at the next start, and never silently mended."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rch.contract.errors import Failure, Kind
from rchd.edges.store import Batch, EventRow, JobRow, RunRow, SqliteStore

T = "2025-03-01T10:00:00.000Z"
PAGE = 4096

# Commits 50 runs one by one and dies without closing: all of them stand in the log alone.
DIE = """
import os, pathlib, sys
from rchd.edges.store import Batch, RunRow, SqliteStore
store = SqliteStore.open(pathlib.Path(sys.argv[1]))
for number in range(50):
    store.commit(Batch(runs=[RunRow(f"run-{number:010}", 1, "QUEUED", "T", "T", None, b"r" * 900)]))
os._exit(0)
"""


def _fill_store(path: Path, runs: int = 200) -> None:
    store = SqliteStore.open(path)
    names = [f"run-{number:010}" for number in range(runs)]
    store.commit(
        Batch(
            runs=[RunRow(name, 1, "QUEUED", T, T, f"token {name}", name.encode() * 60) for name in names],
            jobs=[JobRow(f"job-{name}", name, 0, 1, "QUEUED", name.encode() * 60) for name in names],
            events=[EventRow(seq, name, T, "accepted", b"e" * 200) for seq, name in enumerate(names, 1)],
        )
    )
    store.close()


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "rchd.db"
    _fill_store(path)
    return path


def _refused(path: Path, names: str) -> Failure:
    """Refused twice in the same words, the file untouched."""
    before = path.read_bytes() if path.is_file() else None
    messages = []
    for _ in range(2):
        with pytest.raises(Failure) as caught:
            SqliteStore.open(path)
        assert (caught.value.kind, caught.value.subkind) == (Kind.DAEMON, "STATE")
        assert not caught.value.retryable
        messages.append(caught.value.message)
    assert messages[0] == messages[1]
    assert names in messages[0]
    assert "\n" not in messages[0]
    assert (path.read_bytes() if path.is_file() else None) == before
    return caught.value


def _zero(path: Path) -> None:
    path.write_bytes(b"")


def _half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 // PAGE * PAGE])


def _cut_in_a_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _text(path: Path) -> None:
    path.write_text("not a database at all\n" * 500)


def _head(path: Path) -> None:
    path.write_bytes(bytes(100) + path.read_bytes()[100:])


def _zero_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[2 * PAGE : 3 * PAGE] = bytes(PAGE)
    path.write_bytes(data)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.fault("H9")
@pytest.mark.parametrize(
    "harm", [_zero, _half, _cut_in_a_page, _text, _head, _zero_page, _folder, _dangling]
)
def test_a_damaged_database_is_refused_by_name(path: Path, harm: Callable[[Path], None]) -> None:
    harm(path)
    _refused(path, str(path))


def _everything(path: Path) -> tuple[object, ...]:
    store = SqliteStore.open(path)
    try:
        loaded = store.load(active_only=False)
        by_token = [store.by_token(f"token {row.run_id}") for row in loaded.runs]
        return loaded.runs, loaded.jobs, store.events_after(0), by_token, store.runs(1000)
    finally:
        store.close()


def _outcome(path: Path) -> tuple[object, ...] | Failure:
    try:
        return _everything(path)
    except Failure as error:
        return error


@pytest.mark.fault("H9")
def test_a_flipped_bit_anywhere_is_refused_or_harmless_never_believed(path: Path, tmp_path: Path) -> None:
    whole, data = _everything(path), path.read_bytes()
    refused = 0
    for number in range(90):
        copy = tmp_path / f"copy{number}" / "rchd.db"
        copy.parent.mkdir(mode=0o700)
        harmed = bytearray(data)
        harmed[number * 7919 * 101 % len(data)] ^= 1 << number % 8
        copy.write_bytes(harmed)
        found = _outcome(copy)
        if isinstance(found, Failure):
            assert found.subkind == "STATE"
            assert str(copy) in found.message
            refused += 1
        else:
            assert found == whole
        shutil.rmtree(copy.parent)
    assert refused > 30


@pytest.mark.fault("H9")
def test_damage_that_comes_while_it_is_open_is_told_when_it_is_read(path: Path) -> None:
    other = sqlite3.connect(path)
    store = SqliteStore.open(path)
    with other:
        other.execute("UPDATE runs SET doc = x'7b7d' WHERE run_id = 'run-0000000003'")
    other.close()
    with pytest.raises(Failure, match="run-0000000003 fails its checksum") as caught:
        store.run("run-0000000003")
    assert caught.value.subkind == "STATE"
    assert store.run("run-0000000004") is not None
    store.close()


@pytest.fixture(name="dead")
def fixture_dead(tmp_path: Path) -> Path:
    """A database whose daemon died with 50 commits in the log."""
    path = tmp_path / "dead" / "rchd.db"
    subprocess.run([sys.executable, "-c", DIE, str(path)], check=True)
    assert path.with_name("rchd.db-wal").stat().st_size > 50 * PAGE
    return path


def _runs(path: Path) -> int:
    store = SqliteStore.open(path)
    count = len(store.load(active_only=True).runs)
    store.close()
    return count


def test_an_unclean_end_alone_is_no_damage(dead: Path) -> None:
    assert _runs(dead) == 50
    assert _runs(dead) == 50


@pytest.mark.fault("H9")
def test_a_torn_tail_after_the_last_commit_is_no_damage(dead: Path) -> None:
    """What a death between write and fsync leaves."""
    with dead.with_name("rchd.db-wal").open("ab") as log:
        log.write(b"half a frame" * 100)
    assert _runs(dead) == 50


@pytest.mark.fault("H9")
def test_after_a_reboot_without_the_shared_index_the_log_is_enough(dead: Path) -> None:
    dead.with_name("rchd.db-shm").unlink()
    assert _runs(dead) == 50


@pytest.mark.fault("H9")
@pytest.mark.parametrize("keep", [0, 20, 32, 5000, -1, -5000])
def test_a_log_that_lost_commits_is_refused(dead: Path, keep: int) -> None:
    log = dead.with_name("rchd.db-wal")
    data = log.read_bytes()
    log.write_bytes(data[:keep])
    _refused(dead, str(log))
    log.write_bytes(data)
    assert _runs(dead) == 50


@pytest.mark.fault("H9")
def test_a_log_that_is_gone_is_refused(dead: Path) -> None:
    log = dead.with_name("rchd.db-wal")
    data = log.read_bytes()
    log.unlink()
    _refused(dead, str(log))
    log.write_bytes(data)
    assert _runs(dead) == 50


@pytest.mark.fault("H9")
@pytest.mark.parametrize("place", [20, 2000, 100_000, -3000])
def test_a_flipped_bit_in_the_log_is_refused(dead: Path, place: int) -> None:
    log = dead.with_name("rchd.db-wal")
    data = bytearray(log.read_bytes())
    data[place] ^= 4
    log.write_bytes(data)
    _refused(dead, str(log))


@pytest.mark.fault("H9")
def test_a_log_without_its_database_is_refused(dead: Path) -> None:
    dead.unlink()
    _refused(dead, "is missing, but its log rchd.db-wal is there")
    assert not dead.exists()


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir(mode=0o700)
    with sqlite3.connect(folder / "rchd.db") as con:
        con.execute("CREATE TABLE notes (text)")
    con.close()
    _refused(folder / "rchd.db", "is no database of rchd")
