"""A tree that a build may have changed is brought to exactly what a source holds."""

from __future__ import annotations

import os
import stat
import time
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
from support.stored import Files, a_worker, contents, stored

from rch.contract.errors import Failure
from worker_agent import sync
from worker_agent.source_index import sealed
from worker_agent.sync import Synced
from worker_agent.sync_record import NOTHING, Record, Stamped, decode_record, encode_record

pytestmark = pytest.mark.spec("11")

FILES: Files = {
    "Package.swift": "// p\n",
    "run.sh": "#!/bin/sh\n",
    "Sources/A.swift": "a\n",
    "Sources/Deep/B.swift": "b\n",
    "Sources/Deep/Link": Path("../A.swift"),
}


class Room:
    """A tree, a store, and the record of the last sync."""

    def __init__(self, root: Path) -> None:
        self.worker = a_worker(root)
        self.tree = root / "tree"
        self.tree.mkdir()
        self.record = NOTHING
        self.aside: list[Path] = []

    def sync(self, files: Files, *, newer_than: int = 0) -> Synced:
        sha256 = stored(self.worker, files)
        with self.worker.sources.open(sha256) as reader:
            done = sync.sync_tree(
                self.tree,
                self.worker.sources.members(sha256),
                self.record,
                reader,
                newer_than=newer_than,
                aside=self._next_aside,
            )
        self.record = decode_record(encode_record(done.record))
        assert contents(self.tree) == files
        return done

    def settle(self) -> None:
        """As if the record were older than its files by more than a tick."""
        self.record = Record(made=time.time_ns() + 10**10, folders=self.record.folders)

    def _next_aside(self) -> Path:
        self.aside.append(self.tree.parent / f"aside-{len(self.aside)}")
        return self.aside[-1]

    def stamps(self) -> dict[str, os.stat_result]:
        return {str(path.relative_to(self.tree)): path.lstat() for path in self.tree.rglob("*")}


@pytest.fixture
def room(tmp_path: Path) -> Room:
    room = Room(tmp_path)
    done = room.sync(FILES)
    assert (done.written, done.removed, done.kept) == (5, 0, 0)
    room.settle()
    return room


def did(done: Synced) -> tuple[int, int, int]:
    return done.written, done.removed, done.kept


def test_a_tree_that_is_right_is_not_touched(room: Room) -> None:
    before = room.stamps()
    assert did(room.sync(FILES)) == (0, 0, 5)
    after = room.stamps()
    assert all(before[name].st_mtime_ns == after[name].st_mtime_ns for name in before)
    assert all(before[name].st_ino == after[name].st_ino for name in before)
    modes = {name: oct(before[name].st_mode) for name in ("run.sh", "Package.swift")}
    assert modes == {"run.sh": "0o100755", "Package.swift": "0o100644"}


def test_one_file_that_differs_is_a_new_file_and_newer_than_all_before(room: Room) -> None:
    before = room.stamps()["Sources/A.swift"]
    floor = time.time_ns() + 10**9  # such as after a clock that was set back
    assert did(room.sync({**FILES, "Sources/A.swift": "A\n"}, newer_than=floor)) == (1, 0, 4)
    after = room.stamps()["Sources/A.swift"]
    assert after.st_ino != before.st_ino
    assert after.st_mtime_ns > floor


def test_files_folders_and_links_take_each_others_places(room: Room) -> None:
    turned: Files = {
        "Package.swift": Path("run.sh"),
        "run.sh": "#!/bin/sh\n",
        "Sources": "a file\n",
        "New/Er/C.swift": "c\n",
    }
    assert did(room.sync(turned)) == (3, 3, 1)
    assert did(room.sync(FILES)) == (4, 2, 1)
    assert did(room.sync({"Package.swift": "// p\n"})) == (0, 4, 1)
    assert [path.name for path in room.tree.iterdir()] == ["Package.swift"]


def test_a_mode_and_a_target_are_part_of_a_file(room: Room) -> None:
    script = {name.replace("run.sh", "run"): content for name, content in FILES.items()}
    assert did(room.sync(script)) == (1, 1, 4)
    room.settle()
    assert did(room.sync({**script, "Sources/Deep/Link": Path("B.swift")})) == (1, 0, 4)
    (room.tree / "run").chmod(0o755)
    room.settle()
    assert did(room.sync({**script, "Sources/Deep/Link": Path("B.swift")})) == (1, 0, 4)
    assert (room.tree / "run").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize("keep", ["mtime", "nothing"])
def test_bytes_that_changed_under_the_same_size_are_seen(room: Room, keep: str) -> None:
    file = room.tree / "Sources/A.swift"
    before = file.stat()
    file.write_text("z\n")
    if keep == "mtime":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert did(room.sync(FILES)) == (1, 0, 4)


def test_a_hard_link_costs_a_look_and_not_the_files_times(room: Room, tmp_path: Path) -> None:
    file = room.tree / "Sources/A.swift"
    before = file.stat().st_mtime_ns
    time.sleep(0.01)
    os.link(file, tmp_path / "second")
    assert did(room.sync(FILES)) == (0, 0, 5)
    assert file.stat().st_mtime_ns == before
    (tmp_path / "second").write_text("z\n")
    room.settle()
    assert did(room.sync(FILES)) == (1, 0, 4)
    assert (tmp_path / "second").read_text() == "z\n"


@pytest.mark.parametrize(("later", "seen"), [(10**7, True), (10**10, False)])
def test_a_stamp_of_the_records_own_tick_is_not_believed(room: Room, later: int, *, seen: bool) -> None:
    """The file is another one, and every word of its stamp is that of the record.

    What an older stamp says is believed: that is what makes a sync quick.
    """
    file = room.tree / "Sources/A.swift"
    file.write_text("z\n")
    info = file.stat()
    old = room.record.folders["Sources"]["A.swift"]
    told = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    forged = {"A.swift": Stamped(old.sha256, old.executable, old.target, *told)}
    room.record = Record(made=info.st_ctime_ns + later, folders={**room.record.folders, "Sources": forged})
    with nullcontext() if seen else pytest.raises(AssertionError):
        assert room.sync(FILES).written == 1
    assert (file.read_text() == "a\n") is seen


def test_nothing_that_a_build_put_there_leads_out_or_stays(room: Room, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "Deep").mkdir(parents=True)
    (outside / "A.swift").write_text("mine\n")
    (room.tree / "Sources").rename(tmp_path / "was")
    (room.tree / "Sources").symlink_to(outside)
    (room.tree / "etc").symlink_to("/etc")
    (room.tree / "Package.swift").unlink()
    (room.tree / "Package.swift").symlink_to(outside / "A.swift")
    (room.tree / "made" / "by").mkdir(parents=True)
    (room.tree / "made" / "by" / "build").touch()
    (room.tree / "made").chmod(0)
    os.mkfifo(room.tree / "pipe")
    room.tree.chmod(0o700)
    done = room.sync(FILES)
    assert (done.written, done.kept) == (4, 1)
    assert (outside / "A.swift").read_text() == "mine\n"
    assert not list((outside / "Deep").iterdir())
    assert room.tree.stat().st_mode & 0o7777 == 0o755
    assert [path.name for path in room.aside] == ["aside-0"]


def test_folders_and_files_that_deny_themselves(room: Room) -> None:
    (room.tree / "Sources/Deep/B.swift").chmod(0)
    (room.tree / "Sources/Deep").chmod(0)
    (room.tree / "Sources").chmod(0o555)
    assert did(room.sync(FILES)) == (1, 0, 4)
    assert {path.stat().st_mode & 0o7777 for path in room.tree.rglob("*") if path.is_dir()} == {0o755}


def test_a_tree_that_is_a_link_is_not_entered(room: Room, tmp_path: Path) -> None:
    room.tree.rename(tmp_path / "was")
    room.tree.symlink_to(tmp_path / "was")
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        room.sync(FILES)


def test_a_store_that_is_damaged_is_never_written_as_if_it_were_right(room: Room) -> None:
    files = {**FILES, "Sources/A.swift": "A\n"}
    path = room.worker.sources.path(stored(room.worker, files))
    path.write_bytes(path.read_bytes().replace(b"A\n\0", b"Z\n\0"))
    with pytest.raises(Failure, match=r"damaged at Sources/A\.swift"):
        sync_again(room, path.stem)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(Failure, match="damaged at"):
        sync_again(room, path.stem)


def sync_again(room: Room, sha256: str) -> None:
    with room.worker.sources.open(sha256) as reader:
        members = room.worker.sources.members(sha256)
        sync.sync_tree(room.tree, members, NOTHING, reader, newer_than=0, aside=room._next_aside)


def test_a_record_that_is_cut_bent_or_of_another_form_is_no_record(room: Room) -> None:
    data = encode_record(room.record)
    assert decode_record(data) == room.record
    bent = bytes([data[-1] ^ 1])
    for bad in (b"", data[:31], data[:-1], data[:-1] + bent, data + b"x", sealed(b"\x01")):
        with pytest.raises(msgspec.DecodeError):
            decode_record(bad)


def test_no_two_files_bear_one_time(room: Room) -> None:
    """Who follows a link that leads elsewhere now looks at nothing else."""
    many = {**FILES, **{f"Sources/f{number}.swift": f"{number}\n" for number in range(200)}}
    room.sync(many)
    times = [one.st_mtime_ns for one in room.stamps().values() if stat.S_ISREG(one.st_mode)]
    assert len(times) == len(many) - 1  # one is a link
    assert len(set(times)) == len(times)
