"""What any `StateStore` promises. Another store joins by one more line in `STORES`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rch.contract.states import IllegalTransition
from rchd.edges.store import Batch, EventRow, JobRow, RunRow, SqliteStore, StateStore

T0, T1 = "2025-03-01T10:00:00.000Z", "2025-03-01T10:00:01.000Z"

STORES: dict[str, Callable[[Path], StateStore]] = {
    "sqlite": lambda folder: SqliteStore.open(folder / "state" / "rchd.db"),
}


def run(
    name: str, seq: int = 1, state: str = "QUEUED", *, doc: bytes = b"{}", client: str | None = None
) -> RunRow:
    return RunRow(f"run-{name:0>10}", seq, state, T0, T1, client, doc)


def job(
    name: str, of: str, seq: int = 1, state: str = "QUEUED", *, step: int = 0, doc: bytes = b"{}"
) -> JobRow:
    return JobRow(f"job-{name:0>10}", f"run-{of:0>10}", step, seq, state, doc)


def event(seq: int, of: str = "a", *, doc: bytes = b"{}") -> EventRow:
    return EventRow(seq, f"run-{of:0>10}", T0, "run.state", doc)


Reopen = Callable[[], StateStore]


@pytest.fixture(name="reopen", params=STORES)
def fixture_reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Opens the store anew, as after a restart."""
    opened: list[StateStore] = []

    def reopen() -> StateStore:
        for old in opened:
            old.close()
        opened.append(STORES[request.param](tmp_path))
        return opened[-1]

    yield reopen
    for old in opened:
        old.close()


@pytest.fixture(name="store")
def fixture_store(reopen: Reopen) -> StateStore:
    return reopen()


def test_a_new_store_is_empty(store: StateStore) -> None:
    loaded = store.load(active_only=False)
    assert (loaded.runs, loaded.jobs, loaded.last_event_seq) == ([], [], 0)
    assert store.run("run-0000000000") is None
    assert store.runs(10) == []
    assert store.events_after(0) == []
    assert store.last_event_seq() == 0


@pytest.mark.spec("4")
def test_what_was_committed_is_there_after_a_restart_to_the_byte(store: StateStore, reopen: Reopen) -> None:
    doc = bytes(range(256))
    batch = Batch(
        runs=[run("a", doc=doc, client="täg")], jobs=[job("x", "a", doc=doc)], events=[event(1, doc=doc)]
    )
    store.commit(batch)
    store = reopen()
    assert store.run(batch.runs[0].run_id) == batch.runs[0]
    assert store.jobs_of(batch.runs[0].run_id) == batch.jobs
    assert store.events_after(0) == batch.events


@pytest.mark.fault("H2")
def test_a_start_loads_what_has_not_ended_in_the_order_of_acceptance(
    store: StateStore, reopen: Reopen
) -> None:
    store.commit(Batch(runs=[run("z"), run("b"), run("ended", 1, "RUNNING")]))
    store.commit(
        Batch(
            runs=[run("a"), run("b", 2, "RUNNING"), run("ended", 2, "FAILED")],
            jobs=[job("2", "b", step=1), job("1", "b"), job("3", "ended", 2, "FAILED"), job("0", "z")],
            events=[event(7)],
        )
    )
    loaded = reopen().load(active_only=True)
    assert loaded.runs == [run("z"), run("b", 2, "RUNNING"), run("a")]
    assert loaded.jobs == [job("0", "z"), job("1", "b"), job("2", "b", step=1)]
    assert loaded.last_event_seq == 7
    everything = reopen().load(active_only=False)
    assert [row.run_id[-1] for row in everything.runs] == ["z", "b", "d", "a"]
    assert len(everything.jobs) == 4


@pytest.mark.spec("4")
def test_a_transition_replaces_and_an_equal_seq_replaces_the_doc(store: StateStore) -> None:
    store.commit(Batch(runs=[run("a", client="t")], jobs=[job("x", "a")]))
    newer = Batch(runs=[run("a", 2, "RUNNING", client="t")], jobs=[job("x", "a", 4, "RUNNING")])
    store.commit(newer)
    same = Batch(
        runs=[run("a", 2, "RUNNING", doc=b"phase 2", client="t")],
        jobs=[job("x", "a", 4, "RUNNING", doc=b"phase 2")],
    )
    store.commit(same)
    assert store.run("run-000000000a") == same.runs[0]
    assert store.jobs_of("run-000000000a") == same.jobs


@pytest.mark.spec("4")
@pytest.mark.fault("W7")
def test_a_stale_row_never_replaces_a_newer_one(store: StateStore) -> None:
    newer = Batch(runs=[run("a", 3, "SUCCEEDED")], jobs=[job("x", "a", 3, "SUCCEEDED")])
    store.commit(newer)
    store.commit(
        Batch(runs=[run("a", 2, "RUNNING")], jobs=[job("x", "a", 2, "RUNNING")], events=[event(1)])
    )
    assert store.run("run-000000000a") == newer.runs[0]
    assert store.jobs_of("run-000000000a") == newer.jobs
    assert store.last_event_seq() == 1  # the rest of the batch stands


@pytest.mark.spec("4")
def test_of_two_rows_in_one_batch_the_later_stands(store: StateStore) -> None:
    store.commit(Batch(runs=[run("a"), run("a", 2, "RUNNING"), run("a", 1)]))
    assert store.run("run-000000000a") == run("a", 2, "RUNNING")


@pytest.mark.spec("4")
@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Batch(runs=[run("end", 4, "RUNNING")]), id="a run leaves its end"),
        pytest.param(Batch(runs=[run("end", 4, "SUCCEEDED")]), id="a run ends twice"),
        pytest.param(Batch(runs=[run("end", 3, "FAILED")]), id="an end changes in place"),
        pytest.param(Batch(runs=[run("a", 1, "RUNNING")]), id="a state changes without its seq"),
        pytest.param(Batch(jobs=[job("end", "end", 4, "RUNNING")]), id="a job leaves its end"),
        pytest.param(Batch(jobs=[job("y", "unknown")]), id="a job of no run"),
        pytest.param(Batch(events=[event(5)]), id="an event's seq is taken"),
        pytest.param(Batch(events=[event(4)]), id="an event's seq is behind"),
        pytest.param(Batch(events=[event(7), event(7)]), id="an event's seq does not rise"),
        pytest.param(Batch(runs=[run("b", client="t")]), id="a token is taken"),
        pytest.param(Batch(runs=[run("b", state="ASLEEP")]), id="a state that is none"),
        pytest.param(Batch(runs=[run("b", 0)]), id="a seq below 1"),
    ],
)
def test_a_defect_raises_and_nothing_of_its_batch_is_there(store: StateStore, bad: Batch) -> None:
    good = Batch(
        runs=[run("a", client="t"), run("end", 3, "SUCCEEDED")],
        jobs=[job("end", "end", 3, "SUCCEEDED")],
        events=[event(5)],
    )
    store.commit(good)
    fine = Batch(runs=[run("first")], events=[event(6)])
    with pytest.raises(IllegalTransition):
        store.commit(
            Batch(
                runs=[*fine.runs, *bad.runs],
                jobs=bad.jobs,
                events=[*(fine.events if not bad.events else ()), *bad.events],
            )
        )
    loaded = store.load(active_only=False)
    assert (loaded.runs, loaded.jobs) == (good.runs, good.jobs)
    assert store.events_after(0) == good.events
    store.commit(fine)  # and the store goes on
    assert store.last_event_seq() == 6


@pytest.mark.fault("C5")
def test_a_client_token_finds_its_run_after_it_ended_too(store: StateStore, reopen: Reopen) -> None:
    store.commit(Batch(runs=[run("a", client="one"), run("b", client="two"), run("c"), run("d")]))
    ended = run("a", 2, "CANCELLED", client="one")
    store.commit(Batch(runs=[ended]))
    store = reopen()
    assert store.by_token("one") == ended
    assert store.by_token("two") == run("b", client="two")
    assert store.by_token("three") is None


def test_runs_are_listed_from_the_last_accepted_by_state_and_start_of_id(store: StateStore) -> None:
    rows = [run("c"), run("a", 2, "RUNNING"), run("b"), run("a2", 2, "RUNNING")]
    for row in rows:
        store.commit(Batch(runs=[row]))
    store.commit(Batch(runs=[run("c", 2, "RUNNING")]))  # a change does not move it up
    rows[0] = run("c", 2, "RUNNING")
    assert store.runs(10) == rows[::-1]
    assert store.runs(2) == [rows[3], rows[2]]
    assert store.runs(0) == []
    assert store.runs(10, state="QUEUED") == [rows[2]]
    assert store.runs(10, prefix="run-000000000a") == [rows[1]]
    assert store.runs(10, prefix="run-00000000") == rows[::-1]
    assert store.runs(10, state="RUNNING", prefix="run-00000000a") == [rows[3]]
    assert store.runs(10, prefix="run-%") == []
    assert store.runs(10, prefix="r_n") == []
    assert store.runs(2, before=rows[2].run_id) == rows[1::-1]
    assert store.runs(10, state="QUEUED", before=rows[3].run_id) == [rows[2]]
    assert store.runs(10, before=rows[0].run_id) == []
    assert store.runs(10, before="run-nowhere") == []


@pytest.mark.spec("12")
def test_a_follower_goes_on_after_its_cursor(store: StateStore) -> None:
    events = [event(1), event(2, "b"), event(5), event(9, "b")]
    store.commit(Batch(events=events))
    assert store.events_after(0) == events
    assert store.events_after(2) == events[2:]
    assert store.events_after(0, limit=3) == events[:3]
    assert store.events_after(0, run_id="run-000000000b") == [events[1], events[3]]
    assert store.events_after(2, run_id="run-000000000b", limit=1) == [events[3]]
    assert store.events_after(9) == []
    assert store.last_event_seq() == 9


@pytest.mark.spec("11")
def test_runs_that_are_over_are_forgotten_with_their_jobs_and_no_others(
    store: StateStore, reopen: Reopen
) -> None:
    over, live = run("a", state="FAILED", client="token"), run("b")
    store.commit(Batch(runs=[over, live], jobs=[job("x", "a", state="FAILED"), job("y", "b")]))
    assert store.forget([over.run_id, live.run_id, "run-unknown"]) == 1
    assert store.forget([over.run_id]) == 0
    store = reopen()
    assert (store.run(over.run_id), store.jobs_of(over.run_id), store.by_token("token")) == (None, [], None)
    assert store.run(live.run_id) == live
    assert [each.job_id for each in store.jobs_of(live.run_id)] == ["job-000000000y"]


def test_an_empty_batch_is_no_work(store: StateStore) -> None:
    store.commit(Batch())
    store.commit(Batch(), urgent=True)
    assert store.last_event_seq() == 0


def test_closing_twice_is_closing_once(store: StateStore) -> None:
    store.close()
    store.close()
