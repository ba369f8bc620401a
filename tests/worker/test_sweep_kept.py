"""How much of workspaces and caches a sweep keeps, and what it never touches."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest
from support.stored import a_worker, job_of, stored

from worker_agent.cache_keys import CacheConfig
from worker_agent.caches import JobCaches
from worker_agent.kept import DIRTY, LAST, KeptFolder, Last
from worker_agent.slots import SlotRoom
from worker_agent.sweep import sweep
from worker_agent.sweep_kept import Bounds, Found, Kind, plan, planned
from worker_agent.worker import Worker

pytestmark = pytest.mark.spec("11")

DAY = 86_400
NOW = 1_000 * DAY
DATA = Path("/data")


def found(name: str, *, days: float = 0, size: int = 10, **more: bool) -> Found:
    used = int((NOW - days * DAY) * 1e9)
    return Found(kind="workspace", path=DATA / name, bytes=size, used=used, **more)


def doomed(*all_of: Found, size: int = 0, days: int = 0) -> dict[str, str]:
    bounds: dict[Kind, Bounds] = {"workspace": Bounds(bytes=size, days=days)}
    return {one.name: one.reason for one in planned(all_of, bounds, DATA, NOW)}


# --- the plan -------------------------------------------------------------------------


def test_what_was_used_last_stays_within_the_size() -> None:
    three = (found("old", days=3), found("new", days=1), found("older", days=5))
    assert doomed(*three, size=20) == {"older": "with those that were used later it is over 20 bytes"}
    assert doomed(*three, size=9).keys() == {"old", "new", "older"}
    assert doomed(*three) == {}


def test_age_counts_from_the_last_use() -> None:
    assert doomed(found("old", days=14.1), found("new", days=13.9), days=14) == {
        "old": "it was not used for 14 days"
    }


def test_what_is_in_use_stays_and_takes_its_share() -> None:
    busy = found("busy", days=99, size=15, in_use=True, broken=True)
    assert doomed(busy, found("idle"), size=20, days=1).keys() == {"idle"}


def test_what_is_broken_goes_whatever_its_age() -> None:
    assert doomed(found("broken", broken=True)) == {"broken": "its last job did not come to its end in it"}


def test_each_kind_has_its_own_bounds() -> None:
    cache = msgspec.structs.replace(found("cache"), kind="cache")
    assert doomed(cache, found("slot"), size=10) == {}


# --- on the disk ----------------------------------------------------------------------


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return a_worker(tmp_path)


def slot(worker: Worker, namespace: str, number: str = "1") -> SlotRoom:
    """A job in a slot of that name."""
    job = job_of(stored(worker, {"Package.swift": "// p\n"}), number)
    room = SlotRoom(worker, job, CacheConfig(namespace=namespace, workspace="warm"), fresh=False)
    assert room.enter()
    room.prepare(job.job_key_inputs.source_sha256, worker.sources)
    return room


def used_days_ago(folder: Path, days: float) -> None:
    last = msgspec.json.decode((folder / LAST).read_bytes(), type=Last)
    used = int((time.time() - days * DAY) * 1e9)
    (folder / LAST).write_bytes(msgspec.json.encode(msgspec.structs.replace(last, used=used)))


def left(room: SlotRoom) -> Path:
    room.settle()
    room.release()
    return room.folder


@pytest.mark.fault("W8")
def test_a_sweep_removes_old_workspaces_and_no_locked_one(worker: Worker) -> None:
    (worker.paths.jobs).mkdir(parents=True)
    old, new, busy = left(slot(worker, "old")), left(slot(worker, "new")), slot(worker, "busy")
    used_days_ago(old, 15)
    lock = worker.paths.locks / "workspaces/old" / old.parent.name / "0.lock"
    assert lock.exists()
    (only,) = plan(worker, time.time())
    assert (only.kind, only.path, only.reason) == ("workspace", old, "it was not used for 14 days")
    assert only.name == str(old.relative_to(worker.paths.data_dir))
    assert only.bytes > 0
    assert only.age == pytest.approx(15 * DAY, abs=60)
    assert old.exists()  # a plan removes nothing
    sweep(worker)
    assert [path.exists() for path in (old, new, busy.folder, lock)] == [False, True, True, False]
    left(busy)
    assert slot(worker, "old", "2").counts["workspace_warm"] == 0


def test_a_sweep_removes_what_was_thrown_away_and_what_was_left_dirty(worker: Worker) -> None:
    worker.paths.jobs.mkdir(parents=True)
    dirty, clean = slot(worker, "dirty"), left(slot(worker, "clean"))
    dirty.release()
    aside = KeptFolder(worker.paths, worker.jobs, left(slot(worker, "aside"))).throw_away()
    (aside / "tree").chmod(0)
    sweep(worker)
    assert [path.exists() for path in (dirty.folder, clean, aside)] == [False, True, False]


@pytest.mark.fault("W8")
def test_a_dirty_one_whose_job_lives_is_left_alone(worker: Worker) -> None:
    worker.paths.jobs.mkdir(parents=True)
    room = slot(worker, "dirty")
    room.release()
    owner = worker.jobs.lock((room.folder / DIRTY).read_text())
    assert owner.try_acquire()
    sweep(worker)
    assert room.folder.exists()
    owner.release()


def test_the_size_bound_of_the_config_holds(tmp_path: Path) -> None:
    worker = a_worker(tmp_path, "keep_workspaces_bytes = 250000\nkeep_caches_bytes = 1\n")
    worker.paths.jobs.mkdir(parents=True)
    folders = [left(slot(worker, name)) for name in ("a", "b", "c")]
    for folder in folders:
        (folder / "build" / "product").write_bytes(os.urandom(90_000))
    used_days_ago(folders[0], 1)
    assert [one.path for one in plan(worker, time.time())] == [folders[0]]
    # What it takes is asked once a use.
    (folders[1] / "build" / "product").unlink()
    assert [one.path for one in plan(worker, time.time())] == [folders[0]]
    left(slot(worker, "b", "2"))
    assert plan(worker, time.time()) == ()


@pytest.mark.fault("W8")
def test_a_cache_of_swiftpm_goes_when_no_job_uses_it(tmp_path: Path) -> None:
    worker = a_worker(tmp_path, "keep_caches_bytes = 1\n")
    worker.paths.jobs.mkdir(parents=True)
    config = CacheConfig(namespace="app", spm="shared", derived_data="shared")
    uses = []
    for number in "12":
        job = job_of(stored(worker, {"Package.swift": "// p\n"}), number)
        only_spm = config if number == "1" else msgspec.structs.replace(config, derived_data="run")
        caches = JobCaches(worker, job, only_spm, look=lambda: False, tell=lambda _text: None)
        assert caches.enter()
        uses.append(caches)
    spm, build = uses[0].spm, uses[0].build
    assert spm is not None
    assert build is not None
    (spm / "clone").write_bytes(os.urandom(9000))
    (build / "product").write_bytes(os.urandom(9000))
    sweep(worker)
    assert [path.exists() for path in (spm, build)] == [True, True]
    uses[0].settle()
    uses[0].release()
    sweep(worker)
    assert [path.exists() for path in (spm, build)] == [True, False]
    killed = uses[1]._use
    assert killed is not None
    killed.release()  # its process is gone, its lock's file is not
    sweep(worker)
    assert not spm.exists()
    assert not killed.path.exists()
