"""Trees of runs that are cloned from a kept one are those that an unpacking gives."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.btrfs_disk import btrfs_disk
from support.stored import Files, a_tar, a_worker, stored

from rch.contract.worker_rpc import Base, Stream
from rch.files.extract import ExtractError
from worker_agent import cloning, kept_trees, trees
from worker_agent.clock import boot_id
from worker_agent.cloning import Cloner, FileByFile, Tampered, WholeFolders, can_clone, verify
from worker_agent.kept_trees import KeptTrees
from worker_agent.source_index import SourceMember
from worker_agent.sweep import plan_all, sweep
from worker_agent.sync_record import Record, decode_record
from worker_agent.worker import Worker
from worker_agent.workspaces import RunRoom

pytestmark = pytest.mark.spec("11")

NUMBERS = count()
LARGE = "large\n" * 40_000
FILES: Files = {
    "Empty.swift": "",
    "Package.swift": "// p\n",
    "Sources/A.swift": LARGE,
    "Sources/Deep/B.swift": "b\n" * 3000,
    "Sources/Deep/Link": Path("../A.swift"),
    "only/link": Path("../Package.swift"),
    "run.sh": "#!/bin/sh\n",
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs_disk(tmp_path_factory.mktemp("btrfs")) as at:
        yield at


@pytest.fixture
def worker(disk: Path) -> Worker:
    return new_worker(disk)


def new_worker(disk: Path, config: str = "") -> Worker:
    return a_worker(disk / f"room{next(NUMBERS)}", config)


def edited(worker: Worker, base: Files, after: Files) -> str:
    """Store `after` as what sets it apart from `base`; its digest."""
    changes = {name: what for name, what in after.items() if base.get(name) != what}
    removed = tuple(sorted(set(base) - set(after)))
    digest = hashlib.sha256(a_tar(after)).hexdigest()
    body = a_tar(changes)
    stream = Stream(
        content_length=len(body),
        content_sha256=hashlib.sha256(body).hexdigest(),
        compression="none",
        format="tar",
    )
    over = Base(source_sha256=hashlib.sha256(a_tar(base)).hexdigest(), removed=removed)
    worker.sources.receive(digest, stream, io.BytesIO(body), over)
    return digest


def looks(tree: Path) -> dict[str, tuple[int, str | bytes]]:
    """All that a tree holds: modes, contents, links; folders as well."""
    found: dict[str, tuple[int, str | bytes]] = {}
    for path in [tree, *tree.rglob("*")]:
        mode = path.lstat().st_mode
        content: str | bytes = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(tree))] = (mode, content)
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Room:
    """A worker's kept trees, and trees cloned from them."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.trees = KeptTrees(worker.paths.trees)

    def unpack(self, digest: str) -> Path:
        """A tree that is held to what a plain unpacking gives."""
        number = next(NUMBERS)
        tree, plain = (self.worker.paths.data_dir / f"{kind}{number}" for kind in ("tree", "plain"))
        self.trees.unpack(self.worker.sources, digest, tree)
        trees.unpack(self.worker.sources, digest, plain)
        assert looks(tree) == looks(plain)
        return tree

    def keep(self, digest: str) -> None:
        """Have it unpacked once, and the sweep after that."""
        self.unpack(digest)
        self.trees.make_wanted(self.worker.sources)

    def kept(self, digest: str) -> Path:
        return self.worker.paths.trees / digest

    def inode(self, digest: str) -> int:
        return self.kept(digest).stat().st_ino


@pytest.fixture
def room(worker: Worker) -> Room:
    return Room(worker)


@pytest.fixture
def cloned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of members that were cloned."""
    names: list[str] = []
    original = FileByFile.clone_tree

    def noted(
        self: FileByFile, kept: Path, destination: Path, record: Record, same: Sequence[SourceMember]
    ) -> None:
        original(self, kept, destination, record, same)
        names.extend(member.path for member in same)

    monkeypatch.setattr(FileByFile, "clone_tree", noted)
    return names


def extents(path: Path) -> str:
    """Where a file's blocks are."""
    subprocess.run(["sync", "-f", str(path)], check=True)
    told = subprocess.run(["filefrag", "-v", str(path)], capture_output=True, text=True, check=True)
    return told.stdout.splitlines()[3].split(":")[2]


# --- what a clone is --------------------------------------------------------------------


def test_a_whole_source_is_kept_after_its_first_run_and_cloned(room: Room, cloned: list[str]) -> None:
    digest = stored(room.worker, FILES)
    room.unpack(digest)
    assert (cloned, names(room.worker.paths.trees)) == ([], {f"{digest}.wanted"})
    sweep(room.worker)
    assert names(room.worker.paths.trees) == {digest}
    before = room.inode(digest)
    tree = room.unpack(digest)
    assert set(cloned) == set(FILES)
    sweep(room.worker)
    assert room.inode(digest) == before
    if shutil.which("filefrag"):
        assert extents(tree / "Sources/A.swift") == extents(room.kept(digest) / "tree/Sources/A.swift")


def test_the_next_run_of_a_source_works_in_a_clone(worker: Worker, cloned: list[str]) -> None:
    digest = stored(worker, FILES)
    for run_id in ("run-0000000001", "run-0000000002"):
        run = RunRoom(worker.paths, run_id)
        assert run.enter()
        run.prepare(digest, worker.sources)
        assert looks(run.tree).keys() >= set(FILES)
        assert set(cloned) == (set(FILES) if run_id[-1] == "2" else set())
        run.release()
        assert sweep(worker) == (run_id,)


def test_an_edit_is_cloned_but_for_what_differs(room: Room, cloned: list[str]) -> None:
    base = stored(room.worker, FILES)
    after = {**FILES, "Package.swift": "// q\n", "Sources/Deep/New.swift": "new\n"}
    del after["run.sh"], after["only/link"]
    digest = edited(room.worker, FILES, after)
    assert room.worker.sources.full_of(digest) == base
    room.keep(digest)
    assert cloned == []
    room.unpack(digest)
    assert set(cloned) == set(after) - {"Package.swift", "Sources/Deep/New.swift"}
    assert names(room.worker.paths.trees) == {base}


NAMES = [f"{folder}{name}" for folder in ("", "d/", "d/e/", "f/") for name in ("u", "v.sh", "w", "x")]
WHAT: st.SearchStrategy[str | Path] = st.sampled_from(
    ["", "short\n", "x" * 3000, "y" * 3000, Path("u"), Path("v.sh")]
)


def possible(found: Files) -> dict[str, str | Path]:
    """Without links to links, or a file that is a folder too."""
    return {
        name: what
        for name, what in found.items()
        if (isinstance(what, str) or name[-1] in "wx")
        and not any(each.startswith(f"{name}/") for each in found)
    }


TREES = st.dictionaries(st.sampled_from([*NAMES, "f"]), WHAT, max_size=10).map(possible)


@settings(max_examples=7, deadline=None)
@given(pair=st.tuples(TREES, TREES))
@pytest.mark.parametrize("whole", [False, True])
def test_any_tree_and_any_edit_of_it_are_what_unpacking_gives(
    disk: Path, *, whole: bool, pair: tuple[Files, Files]
) -> None:
    shutil.rmtree(disk / "any", ignore_errors=True)
    room = Room(a_worker(disk / "any"))
    before = {**pair[0], "pad": LARGE}  # so that the edit is kept as one
    after = {**pair[1], "pad": LARGE}
    base = stored(room.worker, before)
    digest = edited(room.worker, before, after) if after != before else base
    with pytest.MonkeyPatch.context() as patch:
        if whole:
            patch.setattr(kept_trees, "can_clone", lambda _: WholeFolders(copied))
        room.keep(base)
        room.unpack(base)
        room.unpack(digest)
    assert names(room.worker.paths.trees) == {base}


def copied(origin: Path, destination: Path) -> None:
    """What one call does on macOS, but for the blocks."""
    shutil.copytree(origin, destination, symlinks=True)


def test_what_is_cloned_whole_is_as_new_as_what_is_written(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_trees, "can_clone", lambda _: WholeFolders(copied))
    digest = stored(room.worker, FILES)
    room.keep(digest)
    start = time.time_ns() - 20_000_000  # a tick of the file system's clock
    tree = room.unpack(digest)
    assert all((tree / name).lstat().st_mtime_ns >= start for name in FILES)


# --- what was touched -------------------------------------------------------------------


def rewrite(tree: Path) -> None:
    path = tree / "Package.swift"
    info = path.stat()
    path.write_text("// X\n")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def swap_for_a_link(tree: Path) -> None:
    (tree / "Sources").rename(tree.parent / "moved")
    (tree / "Sources").symlink_to(tree.parent / "moved")


def remove(tree: Path) -> None:
    (tree / "Sources/A.swift").unlink()


def allow(tree: Path) -> None:
    (tree / "Package.swift").chmod(0o777)


def blind(tree: Path) -> None:
    (tree.parent / f"record.{boot_id()}").write_bytes(b"bent")


def forget(tree: Path) -> None:
    (tree.parent / f"record.{boot_id()}").rename(tree.parent / "record.earlier")


TOUCHES = [rewrite, swap_for_a_link, remove, allow, blind, forget]


@pytest.mark.parametrize(
    ("touch", "whole"),
    [*((touch, False) for touch in TOUCHES), (rewrite, True), (swap_for_a_link, True), (remove, True)],
)
def test_a_kept_tree_that_was_touched_is_thrown_away_and_made_anew(
    room: Room, monkeypatch: pytest.MonkeyPatch, *, whole: bool, touch: object
) -> None:
    assert callable(touch)
    if whole:
        monkeypatch.setattr(kept_trees, "can_clone", lambda _: WholeFolders(copied))
    digest = stored(room.worker, FILES)
    room.keep(digest)
    before = room.inode(digest)
    touch(room.kept(digest) / "tree")
    room.unpack(digest)
    assert names(room.worker.paths.trees) == {f"{digest}.wanted"}
    room.trees.make_wanted(room.worker.sources)
    assert room.inode(digest) != before
    assert names(room.worker.paths.trees) == {digest}


def test_what_was_added_is_noticed_where_all_is_cloned_at_once(room: Room) -> None:
    digest = stored(room.worker, FILES)
    room.keep(digest)
    tree = room.kept(digest) / "tree"
    record = decode_record((tree.parent / f"record.{boot_id()}").read_bytes())
    verify(tree, record)
    (tree / "Sources/empty").mkdir()
    with pytest.raises(Tampered):
        verify(tree, record)


# --- what goes wrong --------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_thinks_again_is_written_to(
    room: Room, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    digest = stored(room.worker, FILES)
    room.keep(digest)
    monkeypatch.setattr(cloning, "_known", {})
    assert can_clone(room.worker.paths.data_dir) is not None
    real, calls = cloning._ficlone, count()

    def later_not(to: int, origin: int) -> None:
        if next(calls) == 2:
            raise OSError(number, os.strerror(number))
        real(to, origin)

    monkeypatch.setattr(cloning, "_ficlone", later_not)
    room.unpack(digest)
    assert next(calls) == 3
    assert can_clone(room.worker.paths.data_dir) is None


def test_one_that_is_being_made_or_removed_is_not_waited_for(room: Room, cloned: list[str]) -> None:
    digest = stored(room.worker, FILES)
    making = room.worker.paths.trees / f"{digest}.making"
    making.mkdir(parents=True)
    fd = os.open(making, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    room.keep(digest)
    assert names(making) == set()
    os.close(fd)
    room.keep(digest)
    fd = os.open(room.kept(digest), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    room.unpack(digest)
    assert cloned == []
    os.close(fd)
    assert names(room.worker.paths.trees) == {digest}


KILLED = """
import os, signal, sys
from worker_agent import kept_trees
from worker_agent.worker import Worker
kept_trees._stamps = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
worker = Worker({"RCH_WORKER_HOME": sys.argv[1]})
kept_trees.KeptTrees(worker.paths.trees).make_wanted(worker.sources)
"""


def test_what_a_killed_maker_left_is_made_anew_or_swept(room: Room, cloned: list[str]) -> None:
    digest = stored(room.worker, FILES)
    home = room.worker.paths.data_dir.parent
    for end in ("run", "sweep"):
        room.unpack(digest)
        done = subprocess.run([sys.executable, "-c", KILLED, str(home)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert names(room.worker.paths.trees) == {f"{digest}.making"}
        if end == "run":
            room.keep(digest)
            assert cloned == []
            assert names(room.worker.paths.trees) == {digest}
            assert room.trees.drop(room.kept(digest))
        else:
            (doomed,) = (each for each in plan_all(room.worker) if each.kind == "tree")
            assert (doomed.name, doomed.reason) == (f"{digest}.making", "its maker is gone")
            assert doomed.size() > len(LARGE)
            sweep(room.worker)
            assert names(room.worker.paths.trees) == set()


def test_a_disk_that_fills_up_keeps_no_tree_and_fails_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = stored(room.worker, FILES)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(kept_trees, "_stamps", full)
        room.keep(digest)
    assert names(room.worker.paths.trees) == set()
    with monkeypatch.context() as patch:
        patch.setattr(kept_trees, "_ROOM", 1 << 40)
        room.keep(digest)
    assert names(room.worker.paths.trees) == set()
    room.keep(digest)
    with monkeypatch.context() as patch:
        patch.setattr(cloning, "put_links", full)
        room.unpack(digest)
    assert names(room.worker.paths.trees) == {digest}


def test_a_folder_that_is_not_empty_is_refused_and_left(room: Room) -> None:
    digest = stored(room.worker, FILES)
    tree = room.worker.paths.data_dir / "taken"
    tree.mkdir()
    (tree / "mine").write_text("x")
    with pytest.raises(ExtractError, match="not empty"):
        room.trees.unpack(room.worker.sources, digest, tree)
    assert names(tree) == {"mine"}


# --- what goes --------------------------------------------------------------------------


def test_a_kept_tree_goes_with_its_source(disk: Path) -> None:
    room = Room(new_worker(disk, "keep_sources_bytes = 1\n"))
    digests = [stored(room.worker, {**FILES, "n": str(number)}) for number in range(3)]
    for place, digest in enumerate(digests):
        room.keep(digest)
        os.utime(room.worker.sources.shelf.seen(digest), (place, place))
    trees = [each for each in plan_all(room.worker) if each.kind == "tree"]
    assert [(each.name, each.reason) for each in trees] == [(digests[0], "its source goes")]
    sweep(room.worker)
    assert names(room.worker.paths.trees) == set(digests[1:])


def test_the_last_used_stay_and_one_that_is_used_now(room: Room) -> None:
    digests = [stored(room.worker, {**FILES, "n": str(number)}) for number in range(6)]
    for place, digest in enumerate(digests):
        room.keep(digest)
        os.utime(room.kept(digest) / f"record.{boot_id()}", (place, place))
    fd = os.open(room.kept(digests[0]), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    (doomed,) = (each for each in plan_all(room.worker) if each.kind == "tree")
    assert doomed.name == digests[1]
    assert not room.trees.drop(room.kept(digests[0]))
    sweep(room.worker)
    assert names(room.worker.paths.trees) == {digests[0], *digests[2:]}
    os.close(fd)
    sweep(room.worker)
    assert names(room.worker.paths.trees) == set(digests[2:])


# --- elsewhere --------------------------------------------------------------------------


def test_where_nothing_is_cloned_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloning, "is_btrfs", lambda _: True)  # whatever `tmp_path` lies on says so itself
    worker = a_worker(tmp_path)
    digest = stored(worker, FILES)
    cloner: Cloner | None = can_clone(worker.paths.data_dir)
    if cloner is not None:
        pytest.skip("the temporary folder lies where files are cloned")
    run = RunRoom(worker.paths, "run-0000000001")
    assert run.enter()
    run.prepare(digest, worker.sources)
    run.release()
    assert looks(run.tree).keys() >= set(FILES)
    assert not worker.paths.trees.exists()
    assert not [each for each in names(worker.paths.data_dir) if each.startswith((".", "tmp"))]
