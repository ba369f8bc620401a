"""Events do not grow for ever: the newest stay, the file and its log stay small."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from rchd.edges import store as edge
from rchd.edges.store import Batch, EventRow, RunRow, SqliteStore

AT = "2025-03-01T10:00:00.000Z"
DOC = b"x" * 1500


def events(first: int, many: int, run_id: str = "run-0000000001") -> Batch:
    return Batch(events=[EventRow(seq, run_id, AT, "run", DOC) for seq in range(first, first + many)])


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "state" / "rchd.db")
    yield store
    store.close()


def test_the_newest_events_stay_and_the_number_goes_on(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "KEPT_EVENTS", 100)
    assert store.first_event_seq() == 1
    for first in range(1, 401, 4):
        store.commit(events(first, 4))
    assert [row.seq for row in store.events_after(0)] == list(range(301, 401))
    assert (store.first_event_seq(), store.last_event_seq()) == (301, 400)


def test_many_old_events_go_little_by_little(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit(events(1, 1000))
    monkeypatch.setattr(edge, "KEPT_EVENTS", 10)
    left = []
    for seq in range(1001, 1031):
        store.commit(events(seq, 1))
        left.append(len(store.events_after(0, limit=10_000)))
    steps = [before - after for before, after in pairwise(left)]
    assert all(step <= edge.PRUNED_AT_ONCE + 2 for step in steps)
    assert left[-1] == 10


def test_file_and_log_stay_small_however_many_transitions(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "KEPT_EVENTS", 200)
    monkeypatch.setattr(edge, "PRUNED_AT_ONCE", 5)
    path, sizes = tmp_path / "state" / "rchd.db", []
    for turn in range(120):
        row = RunRow("run-0000000001", turn + 1, "QUEUED", AT, AT, None, DOC)
        batch = events(turn * 50 + 1, 50)
        store.commit(Batch(runs=[row], events=batch.events))
        store.events_after(0)
        sizes.append((path.stat().st_size, path.with_name("rchd.db-wal").stat().st_size))
    files, logs = zip(*sizes, strict=True)
    assert max(logs) < 8 << 20, "the log is begun anew once it is taken over"
    assert files[-1] <= 1.2 * files[len(files) // 2]
