"""Warm workspaces: which slot a job has, and when one is thrown away."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
from support import stored
from support.stored import Files, a_worker, contents, job_of
from support.worker_pipe import is_running

from rch.contract.errors import Failure
from rch.contract.records import Job
from rch.contract.worker_rpc import RpcError
from worker_agent import kept
from worker_agent.cache_keys import CacheConfig, cache_config
from worker_agent.clock import boot_id, boot_seconds
from worker_agent.kept import DIRTY, LAST, KeptFolder
from worker_agent.processes import Group
from worker_agent.slots import SlotRoom
from worker_agent.worker import Worker
from worker_agent.workspaces import RunRoom, Workspace

pytestmark = pytest.mark.spec("11")

WARM = CacheConfig(namespace="app", workspace="warm")
FILES: Files = {"Package.swift": "// p\n", "A.swift": "a\n", "Sources/B.swift": "b\n"}


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return a_worker(tmp_path, "max_concurrent_jobs = 2\n")


def room(worker: Worker, job: Job, *, fresh: bool = False) -> SlotRoom:
    return SlotRoom(worker, job, WARM, fresh=fresh)


def entered(worker: Worker, files: Files, name: str, *, run: str = "", fresh: bool = False) -> SlotRoom:
    """A job in its slot, the source in the tree."""
    job = job_of(stored.stored(worker, files), name, run=run)
    slot = room(worker, job, fresh=fresh)
    assert slot.enter()
    slot.prepare(job.job_key_inputs.source_sha256, worker.sources)
    assert contents(slot.tree) == files
    return slot


def left(slot: Workspace) -> None:
    slot.settle()
    slot.release()


def used(worker: Worker, files: Files, name: str, *, run: str = "", fresh: bool = False) -> SlotRoom:
    """A whole job."""
    slot = entered(worker, files, name, run=run, fresh=fresh)
    left(slot)
    assert not (slot.folder / DIRTY).exists()
    return slot


def is_warm(slot: Workspace) -> bool:
    return bool(slot.counts["workspace_warm"])


# --- which ----------------------------------------------------------------------------


def test_the_same_source_goes_before_the_same_run_before_the_last_used(worker: Worker) -> None:
    other = {**FILES, "A.swift": "A\n"}
    one, two = entered(worker, FILES, "1"), entered(worker, other, "2")
    assert (one.folder.name, two.folder.name) == ("0", "1")
    left(two)
    left(one)  # the last used
    assert used(worker, other, "3").folder.name == "1"
    assert used(worker, FILES, "4").folder.name == "0"
    third = {**FILES, "A.swift": "third\n"}
    assert used(worker, third, "5", run="3").folder.name == "1"
    assert used(worker, {"Package.swift": "// q\n"}, "6").folder.name == "1"


def test_a_dirty_slot_is_begun_anew_before_another_is_made(worker: Worker) -> None:
    assert used(worker, FILES, "1").folder.name == "0"
    first = entered(worker, FILES, "2")
    assert is_warm(first)
    first.release()  # not settled
    second = used(worker, FILES, "3")
    assert (second.folder.name, is_warm(second)) == ("0", False)
    assert is_warm(used(worker, FILES, "4"))


def test_jobs_at_once_have_a_slot_each_and_a_tree_of_the_run_beyond(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = entered(worker, FILES, "1"), entered(worker, FILES, "2")
    assert {one.folder.name, two.folder.name} == {"0", "1"}
    third = room(worker, job_of(stored.stored(worker, FILES), "3"))
    assert not third.enter()
    assert third.otherwise() is third
    monkeypatch.setattr("worker_agent.slots.PATIENCE_SECONDS", 0.0)
    cold = third.otherwise()
    assert isinstance(cold, RunRoom)
    assert "no workspace of app is free" in cold.notes[-1]
    assert cold.enter()
    left(one)
    left(two)


def test_another_toolchain_has_another_key(worker: Worker) -> None:
    sha256 = stored.stored(worker, FILES)
    inputs = job_of(sha256, "1").job_key_inputs.toolchain
    folders = set()
    for number, version in enumerate(("6.3.1", "6.4")):
        job = job_of(sha256, str(number), toolchain={**inputs, "swift_version": version})
        slot = room(worker, job)
        assert slot.enter()
        slot.prepare(sha256, worker.sources)
        assert not is_warm(slot)
        left(slot)
        folders.add(slot.folder.parent.name)
    assert folders == {
        "swift_6.3.1__linux_debian-12__x86_64",
        "swift_6.4__linux_debian-12__x86_64",
    }


def test_two_projects_of_one_name_each_find_their_own(worker: Worker) -> None:
    slot = used(worker, FILES, "1")
    other: Files = {"Package.swift": "// q\n", "Sources": "a file\n", "A.swift/B": "x\n"}
    for number, files in enumerate((other, FILES, other)):
        again = used(worker, files, str(number + 2))
        assert (again.folder, is_warm(again)) == (slot.folder, True)


# --- thrown away ----------------------------------------------------------------------


def thrown_away(worker: Worker, why: str, *, fresh: bool = False) -> None:
    """The next job of slot 0 finds nothing, and says why."""
    slot = used(worker, FILES, "9", fresh=fresh)
    assert (slot.folder.name, is_warm(slot)) == ("0", False)
    assert "workspace 0 of app was thrown away" in slot.notes[0]
    assert why in slot.notes[0]
    assert not list((slot.folder / "build").iterdir())


@pytest.fixture
def one(tmp_path: Path) -> Worker:
    """A worker with a slot that is warm."""
    worker = a_worker(tmp_path)
    (used(worker, FILES, "1").build / "product").touch()
    return worker


def slot_of(worker: Worker) -> Path:
    (slot,) = (worker.paths.workspaces / "app").glob("*/0")
    return slot


@pytest.mark.fault("W1")
def test_one_that_was_left_dirty(one: Worker) -> None:
    slot = entered(one, FILES, "2")
    slot.release()
    thrown_away(one, "job job-0000000002 did not come to its end in it")
    (slot_of(one) / DIRTY).write_bytes(b"../../../x")
    thrown_away(one, "did not come to its end in it")


@pytest.mark.fault("W1")
def test_one_is_not_entered_while_its_last_job_lives(one: Worker) -> None:
    slot = entered(one, FILES, "2")
    slot.release()
    folder = one.jobs.folder("job-0000000002")
    folder.mkdir(parents=True)
    owner = one.jobs.lock("job-0000000002")
    assert owner.try_acquire()
    assert not room(one, job_of(stored.stored(one, FILES), "3")).enter()
    owner.release()
    with subprocess.Popen(["sleep", "60"], start_new_session=True, env={"TMPDIR": "/of/2"}) as child:
        group = Group(pgid=child.pid, started=boot_seconds(), boot=boot_id(), tmp="/of/2")
        one.jobs.write_group("job-0000000002", group)
        thrown_away(one, "did not come to its end in it")
        assert not is_running(child.pid)


@pytest.mark.parametrize("how", ["cut", "bent", "empty", "gone"])
def test_one_whose_record_cannot_be_read(one: Worker, how: str) -> None:
    record = slot_of(one) / "record"
    whole = record.read_bytes()
    if how == "gone":
        record.unlink()
    else:
        record.write_bytes({"cut": whole[:-1], "bent": whole[:-1] + b"x", "empty": b""}[how])
    thrown_away(one, "its record cannot be read")


def test_one_of_another_boot_or_of_a_toolchain_that_moved(one: Worker) -> None:
    path = slot_of(one) / LAST
    told = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(told | {"boot": "another"}))
    thrown_away(one, "the machine was restarted since")
    moved = told["toolchain"] | {"toolchain_dir": "/elsewhere"}
    path.write_bytes(msgspec.json.encode(told | {"toolchain": moved}))
    thrown_away(one, "another toolchain")
    path.write_bytes(b"{")
    thrown_away(one, "it does not say who used it last")


@pytest.mark.fault("W1")
def test_one_that_a_second_execution_would_have_had(one: Worker) -> None:
    thrown_away(one, "an execution of this job was lost", fresh=True)


def test_one_that_is_a_link_and_one_whose_tree_is(one: Worker, tmp_path: Path) -> None:
    slot = slot_of(one)
    slot.rename(tmp_path / "moved")
    slot.symlink_to(tmp_path / "moved")
    thrown_away(one, "it is no folder")
    assert (tmp_path / "moved/tree/A.swift").exists()
    for name in ("tree", "build"):
        (slot / name).rename(tmp_path / name)
        (slot / name).symlink_to("/etc")
        thrown_away(one, "Not a directory")


def test_one_whose_tree_does_not_let_itself_be_changed(one: Worker) -> None:
    stuck = slot_of(one) / "tree" / "stuck"
    stuck.touch()
    if subprocess.run(["chattr", "+i", str(stuck)], capture_output=True, check=False).returncode:
        pytest.skip("no file can be made immutable here")
    try:
        thrown_away(one, "Operation not permitted")
    finally:
        found = one.paths.workspaces.rglob("stuck")
        subprocess.run(["chattr", "-i", *map(str, found)], check=True)


def test_one_that_cannot_even_be_thrown_away_is_passed_over(
    one: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slot_of(one) / DIRTY).write_text("job-0000000001")

    def refused(_self: KeptFolder) -> Path:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(KeptFolder, "throw_away", refused)
    slot = room(one, job_of(stored.stored(one, FILES), "2"))
    assert not slot.enter()
    assert not slot.enter()
    assert slot.notes == ["workspace 0 cannot be used: Operation not permitted"]


def test_a_source_that_was_damaged_is_no_source_any_more(one: Worker) -> None:
    files = {**FILES, "A.swift": "A\n"}
    job = job_of(stored.stored(one, files), "2")
    sha256 = job.job_key_inputs.source_sha256
    path = one.sources.path(sha256)
    path.write_bytes(path.read_bytes().replace(b"A\n\0", b"Z\n\0"))
    slot = room(one, job)
    assert slot.enter()
    with pytest.raises(Failure, match=r"damaged at A\.swift"):
        slot.prepare(sha256, one.sources)
    left(slot)
    assert not one.sources.exists(sha256)
    assert not slot.folder.exists()
    missing = room(one, job)
    assert missing.enter()
    with pytest.raises(Failure, match="is not stored"):
        missing.prepare(sha256, one.sources)


def test_one_that_was_looked_at_and_not_used_is_as_it_was(one: Worker) -> None:
    before = {path: path.stat().st_mtime_ns for path in slot_of(one).rglob("*")}
    slot = room(one, job_of("ab" * 32, "2"))
    assert slot.enter()
    left(slot)
    assert {path: path.stat().st_mtime_ns for path in slot_of(one).rglob("*")} == before
    assert is_warm(used(one, FILES, "3"))


# --- what a host may say --------------------------------------------------------------


@pytest.mark.parametrize(
    "cache",
    [
        {"namespace": "../up"},
        {"namespace": "a/b"},
        {"namespace": ""},
        {"namespace": ".hidden"},
        {"namespace": "x" * 65},
        {"namespace": "a\n"},
        {"namespace": 1},
        {"namespace": "app", "workspace": "hot"},
        {"namespace": "app", "derived_data": "../x"},
        {"workspace": "warm"},
        "warm",
    ],
)
def test_what_may_not_come_near_a_path_is_refused(cache: object) -> None:
    job = msgspec.structs.replace(job_of("ab" * 32, "1"), effective_config={"cache": cache})
    with pytest.raises(RpcError, match="cache") as refused:
        cache_config(job)
    assert refused.value.code == "INVALID_REQUEST"


def test_nothing_else_holds_a_slot_once_it_is_left(one: Worker) -> None:
    slot = entered(one, FILES, "2")
    assert not room(one, job_of(stored.stored(one, FILES), "3")).enter()
    left(slot)
    assert room(one, job_of(stored.stored(one, FILES), "3")).enter()
    assert [path.name for path in slot.folder.parent.iterdir()] == ["0"]


@pytest.mark.parametrize(
    ("change", "products"),
    [
        ({"A.swift": "another\n"}, "stay"),
        ({"Package.swift": "// another\n"}, "go"),
        ({"A.swift": None}, "stay"),
        ({"data.txt": None}, "go"),
    ],
)
def test_build_products_stay_unless_they_may_speak_of_what_is_gone(
    worker: Worker, change: dict[str, str | None], products: str
) -> None:
    files: Files = {**FILES, "data.txt": "d\n"}
    slot = entered(worker, files, "1")
    (slot.build / "product").write_text("made of it")
    left(slot)
    after: Files = {path: text for path, text in {**files, **change}.items() if text is not None}
    again = used(worker, after, "2")
    assert again.folder == slot.folder
    assert is_warm(again)
    assert (again.build / "product").exists() is (products == "stay")
    assert any("begin anew" in note for note in again.notes) is (products == "go")


def test_one_whose_tools_were_replaced_in_place(one: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "tools_of", lambda _toolchain: "others")
    thrown_away(one, "the tools that made it were replaced")
