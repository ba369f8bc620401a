"""`gc`: what would go, what went, and what never does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.worker_pipe import MANIFEST, Bench, Refused, a_bench, submit_and_end, tar, until

from rch.contract.worker_rpc import GcEntry
from rch.files.locks import FileLock, is_free
from worker_agent import gc, sweep, upkeep
from worker_agent.leftovers import beyond, spared
from worker_agent.source_words import Stored
from worker_agent.worker import Worker

pytestmark = pytest.mark.spec("11")

DAY = 86_400.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path, "keep_sources_bytes = 1\n") as bench:
        yield bench


def everything(bench: Bench) -> set[str]:
    return {str(path.relative_to(bench.data)) for path in bench.data.rglob("*")}


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def fill(bench: Bench) -> dict[str, str]:
    """One thing of each kind that is over, by kind."""
    with bench.pipe() as pipe:
        sources = [bench.upload(pipe, tar({"Package.swift": MANIFEST, "n": str(n)})) for n in range(3)]
        for place, digest in enumerate(sources):
            aged(bench.data / "sources" / f"{digest}.seen", (5 - place) * DAY)
        job = bench.job(pipe, sources[-1])
        submit_and_end(pipe, job)
    locks = Worker(bench.env).paths.locks
    until(
        lambda: all(is_free(locks / f"{name}.lock") for name in (f"job-{job.job_id}", f"run-{job.run_id}"))
    )
    aged(bench.data / "jobs" / job.job_id / "state.json", 8 * DAY)
    part = bench.data / "sources" / "incoming" / f"{'0' * 64}-{'0' * 32}.part"
    part.write_bytes(b"x" * 500)
    aged(part, 2 * DAY)
    return {"source": sources[0], "job": job.job_id, "run": job.run_id, "upload": part.name}


def test_a_dry_run_names_everything_that_is_over_and_touches_nothing(bench: Bench) -> None:
    over = fill(bench)
    before = everything(bench)
    answer = bench.ask("gc", dry_run=True)
    assert {entry["kind"]: entry["name"] for entry in answer["entries"]} == over
    assert len(answer["entries"]) == len(over)
    assert all(entry["bytes"] > 0 and entry["reason"] for entry in answer["entries"])
    ages = {entry["kind"]: entry["age_seconds"] // DAY for entry in answer["entries"]}
    assert (ages["source"], ages["job"], ages["upload"]) == (5, 8, 2)
    assert answer["totals"] == [
        {"kind": kind, "entries": 1, "bytes": entry["bytes"]}
        for kind in sorted(over)
        for entry in answer["entries"]
        if entry["kind"] == kind
    ]
    assert everything(bench) == before


def test_what_was_named_goes_and_a_second_time_there_is_nothing(bench: Bench) -> None:
    over = fill(bench)
    named = bench.ask("gc", dry_run=True)["entries"]
    answer = bench.ask("gc", dry_run=False)
    assert {entry["name"] for entry in answer["entries"]} == {entry["name"] for entry in named}
    assert not any(name in path for path in everything(bench) for name in over.values())
    assert bench.ask("gc", dry_run=False)["entries"] == []


def test_what_is_in_use_is_neither_named_nor_removed(bench: Bench) -> None:
    over = fill(bench)
    worker = Worker(bench.env)
    job, run = worker.jobs.lock(over["job"]), FileLock(worker.paths.locks / f"run-{over['run']}.lock")
    lease = worker.leases.reserve("run-0000000009", "host-1", None).lease
    worker.leases.pin(lease.lease_id, over["source"])
    assert job.try_acquire()
    assert run.try_acquire()
    for dry_run in (True, False):
        assert [entry["kind"] for entry in bench.ask("gc", dry_run=dry_run)["entries"]] == ["upload"]
    job.release()
    run.release()
    worker.leases.release(lease.lease_id, lease.fence)
    kinds = {entry["kind"] for entry in bench.ask("gc", dry_run=False)["entries"]}
    assert kinds == {"source", "job", "run"}


def test_another_sweep_is_waited_for_and_then_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bench)
    monkeypatch.setattr(gc, "PATIENCE_SECONDS", 0.05)
    other = FileLock(Worker(bench.env).paths.locks / "sweep.lock", "another sweep")
    assert other.try_acquire()
    with pytest.raises(Refused, match="BUSY"):
        bench.ask("gc", dry_run=False)
    assert bench.ask("gc", dry_run=True)["entries"]
    other.release()


def test_a_worker_that_keeps_nothing_has_nothing_to_tell(bench: Bench) -> None:
    assert bench.ask("gc", dry_run=False) == {"dry_run": False, "entries": [], "totals": [], "more": False}
    with pytest.raises(Refused, match="INVALID_REQUEST"):
        bench.ask("gc")


def test_one_that_cannot_be_removed_keeps_none_of_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []

    def good() -> bool:
        gone.append("good")
        return True

    def doomed(name: str, remove: Any) -> upkeep.Doomed:
        return upkeep.Doomed("cache", name, 1.0, "a reason", lambda: 7, remove)

    def failing() -> bool:
        raise OSError(5, "Input/output error")

    def planner(_worker: Worker, _now: float) -> Iterator[upkeep.Doomed]:
        yield doomed("bad", failing)
        yield doomed("used", lambda: False)
        yield doomed("good", good)

    monkeypatch.setattr(sweep, "PLANNERS", (planner,))
    fill(bench)
    assert [entry["name"] for entry in bench.ask("gc", dry_run=False)["entries"]] == ["good"]
    assert gone == ["good"]


def test_of_very_many_the_largest_are_listed_and_all_are_counted() -> None:
    entries = [
        GcEntry(kind="job", name=f"{n}", bytes=n, age_seconds=0, reason="")
        for n in range(gc.MOST_ENTRIES + 9)
    ]
    answer = gc.told(entries, dry_run=True)
    assert (len(answer.entries), answer.more) == (gc.MOST_ENTRIES, True)
    assert answer.entries[0].bytes == gc.MOST_ENTRIES + 8
    assert answer.totals[0].entries == len(entries)


def one(name: str, *, base: str | None = None, whole: bool = True) -> Stored:
    return Stored(source_sha256=name, size=10, used=0.0, base=base, whole=whole)


def test_a_base_goes_only_with_all_that_is_built_on_it_and_after_them() -> None:
    stored = (one("t1", base="f"), one("g"), one("t2", base="f"), one("f"))
    assert beyond(stored, bound=1, keep=2) == stored[2:]
    assert spared(stored[2:], stored, frozenset()) == (stored[2],)  # t1 is kept, and needs f
    assert spared(stored, stored, frozenset({"t1"})) == (stored[2], stored[1])
    assert [each.source_sha256 for each in spared(stored[2:], stored[1:], frozenset())] == ["t2", "f"]
    assert spared(stored, stored, None) == ()


def test_a_source_whose_base_is_gone_goes_at_once() -> None:
    stored = (one("t", base="f", whole=False), one("g"))
    assert beyond(stored, bound=0, keep=2) == stored[:1]
    assert spared(stored[:1], stored, frozenset({"t"})) == ()
