"""Snapshots of trees that are known: as if all had been read, and of no mix of moments."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.small_disk import fill, small_disk
from support.trees import Link, bundled, make

from rch.contract.errors import Failure
from rch.files.descent import Descent
from rchd.edges import bases, packing, thin
from rchd.edges.bases import Memory
from rchd.edges.intake import source_record
from rchd.edges.snapshot import Progress, Snapshot, SnapshotOptions, take
from rchd.edges.walk import Found
from rchd.edges.whole import whole_bundle

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
TREE: dict[str, str | bytes | Link | None] = {
    "Package.swift": "// swift-tools-version: 5.9\n",
    "Sources/App/a.swift": "let a = 1\n",
    "Sources/App/b.swift": "let b = 2\n",
    "Sources/App/empty": "",
    "Sources/Other/c.swift": "let c = 3\n",
    "Sources-x": Link("Sources/App"),
    "run.sh": "#!/bin/sh\n",
    "image.png": POINTER,
    "é": "not ASCII",
    "d/" * 45 + "long.swift": "a name that needs PAX",
}


class Desk:
    """A tree that somebody works in, and what is known of it."""

    def __init__(self, folder: Path) -> None:
        self.root = make(folder / "root", TREE)
        self.spool = folder / "spool"
        self.memory = Memory()
        self._elsewhere = folder / "elsewhere"

    def take(self, **options: object) -> Snapshot:
        return take(self.root, msgspec.convert(options, SnapshotOptions), self.spool, memory=self.memory)

    def fresh(self, **options: object) -> Snapshot:
        """The same tree, read by who knows nothing of it."""
        return take(self.root, msgspec.convert(options, SnapshotOptions), self._elsewhere)

    def check(self, **options: object) -> Snapshot:
        """A snapshot, which is what one by a stranger is."""
        taken, whole = self.take(**options), self.fresh(**options)
        assert taken.source_sha256 == whole.source_sha256
        assert (taken.entries, taken.tar_bytes) == (whole.entries, whole.tar_bytes)
        assert taken.warnings == whole.warnings
        return taken


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    assert desk.take().base is None
    return desk


def rewrite(path: Path, text: str) -> None:
    """Other bytes under the same size and the same mtime."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap(root: Path) -> None:
    (root / "Sources/App/a.swift").rename(root / "kept")
    (root / "Sources/App/b.swift").rename(root / "Sources/App/a.swift")
    (root / "kept").rename(root / "Sources/App/b.swift")


def relink(root: Path) -> None:
    (root / "Sources-x").unlink()
    (root / "Sources-x").symlink_to("Sources/Other")


def all_gone(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def file_to_folder(root: Path) -> None:
    (root / "run.sh").unlink()
    make(root, {"run.sh/now": "a folder"})


def folder_to_file(root: Path) -> None:
    shutil.rmtree(root / "Sources/Other")
    make(root, {"Sources/Other": "a file"})


EDITS: dict[str, Callable[[Path], object]] = {
    "edited": lambda root: (root / "Sources/App/a.swift").write_text("let a = 10\n"),
    "edited in place": lambda root: rewrite(root / "Sources/App/a.swift", "let a = 7\n"),
    "first": lambda root: (root / "Package.swift").write_text("// swift-tools-version: 6.0\n"),
    "last": lambda root: (root / "é").write_text("changed"),
    "a new one": lambda root: make(root, {"Sources/App/new.swift": "new"}),
    "a new first one": lambda root: make(root, {"A": "before all"}),
    "a new last one": lambda root: make(root, {"ü": "after all"}),
    "gone": lambda root: (root / "Sources/App/b.swift").unlink(),
    "a folder gone": lambda root: shutil.rmtree(root / "Sources/Other"),
    "all gone": all_gone,
    "executable": lambda root: (root / "run.sh").chmod(0o755),
    "emptied": lambda root: (root / "run.sh").write_text(""),
    "filled": lambda root: (root / "Sources/App/empty").write_text("no longer"),
    "another link": relink,
    "swapped": swap,
    "a file is a folder": file_to_folder,
    "a folder is a file": folder_to_file,
    "a long name": lambda root: (root / ("d/" * 45) / "long.swift").write_text("edited"),
    "a pointer fetched": lambda root: (root / "image.png").write_bytes(b"\x89PNG"),
    "a pointer more": lambda root: make(root, {"more.png": POINTER}),
    "ignored now": lambda root: make(root, {".rchignore": "*.png\n"}),
}


@pytest.mark.spec("5")
@pytest.mark.parametrize("edit", EDITS)
def test_what_changed_is_spooled_alone_and_the_digest_is_that_of_all(desk: Desk, edit: str) -> None:
    EDITS[edit](desk.root)
    taken = desk.check()
    assert taken.base is not None
    changed = bundled(taken)
    assert len(changed) < 4
    assert desk.check() == taken  # once more, from what is known
    again = [each for each in desk.spool.iterdir() if each.name.endswith(".delta.zst")]
    assert again == [taken.spool_path]


@pytest.mark.spec("5")
def test_a_thin_bundle_and_its_base_make_the_whole_one(desk: Desk) -> None:
    for edit in ("edited", "a new first one", "a new last one", "gone", "executable", "another link"):
        EDITS[edit](desk.root)
    taken = desk.check()
    assert taken.base is not None
    source = source_record(taken)
    whole = whole_bundle(desk.spool, source, taken.base)
    assert bundled(msgspec.structs.replace(taken, spool_path=whole.path)) == bundled(desk.fresh())
    before = whole.path.stat().st_mtime_ns
    assert whole_bundle(desk.spool, source, taken.base) == whole  # the same bytes, not made anew
    assert whole.path.stat().st_mtime_ns == before
    whole.path.unlink()
    (desk.spool / taken.base.spool_name).unlink()
    with pytest.raises(Failure) as caught:
        whole_bundle(desk.spool, source, taken.base)
    assert caught.value.label == "TRANSFER"
    assert sorted(each.name for each in desk.spool.iterdir()) == [taken.spool_path.name]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from now on."""
    read: list[str] = []

    class Counted(packing.opened):
        def __init__(self, one: Found, descent: Descent) -> None:
            read.append(one.path)
            super().__init__(one, descent)

    monkeypatch.setattr(thin, "opened", Counted)
    monkeypatch.setattr(packing, "opened", Counted)
    return read


@pytest.mark.spec("5")
def test_only_what_bears_another_stamp_is_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    first = desk.take()
    read = counted(monkeypatch)
    assert desk.take() == first
    assert read == []
    os.utime(desk.root / "run.sh")  # touched, and the same
    time.sleep(0.025)
    assert desk.take() == first
    assert read == ["run.sh"]
    assert desk.take() == first
    assert read == ["run.sh"]
    EDITS["edited"](desk.root)
    changed = desk.take()
    assert (changed.base is not None, read[1:]) == (True, ["Sources/App/a.swift"])
    (desk.root / "Sources/App/a.swift").write_text("let a = 1\n")
    assert desk.take() == first


@pytest.mark.fault("T4")
@pytest.mark.spec("5")
def test_the_same_size_in_the_same_tick_is_not_taken_from_the_cache(desk: Desk) -> None:
    """Git's racily clean file: written again at once, under the time that it had."""
    path = desk.root / "Sources/App/a.swift"
    for turn in range(12):
        path.write_text(f"let a = {turn % 10}\n")
        rewrite(path, f"let a = {(turn + 5) % 10}\n")
        assert desk.take().source_sha256 == desk.fresh().source_sha256


class Meddler:
    """Does something to the tree while it is walked, at the n-th folder."""

    def __init__(self, act: Callable[[], object], at: int) -> None:
        self.calls = 0
        self._act = act
        self._at = at

    def __call__(self) -> bool:
        self.calls += 1
        if self.calls == self._at:
            self._act()
        return False


def move_behind(root: Path) -> None:
    """From a folder that was not looked at yet to one that was."""
    (root / "Sources/Other/c.swift").rename(root / "Sources/App/moved.swift")


def both(root: Path) -> None:
    """Two files of one commit, the first of them already seen."""
    (root / "Package.swift").write_text("let pair = 1\n")
    (root / "Sources/Other/c.swift").write_text("let pair = 1\n")


@pytest.mark.fault("T4")
@pytest.mark.spec("5")
@pytest.mark.parametrize("act", [move_behind, both])
@pytest.mark.parametrize("at", [2, 40, 47, 49, 50])
def test_a_change_during_the_walk_is_in_it_whole_or_not_at_all(
    desk: Desk, act: Callable[[Path], None], at: int
) -> None:
    before = desk.fresh().source_sha256
    meddler = Meddler(lambda: act(desk.root), at)
    taken = take(desk.root, SnapshotOptions(), desk.spool, memory=desk.memory, cancelled=meddler)
    assert taken.source_sha256 in {before, desk.fresh().source_sha256}


@pytest.mark.fault("T4")
def test_a_file_that_changes_after_the_walk_is_looked_at_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.root / "Sources/App/a.swift"
    acts = iter([lambda: path.write_text("let a = 3\n")])

    class Late(packing.opened):
        def whole(self) -> bytes:
            found = super().whole()
            next(acts, lambda: 0)()
            return found

    monkeypatch.setattr(thin, "opened", Late)
    path.write_text("let a = 2\n")
    assert desk.take().source_sha256 == desk.fresh().source_sha256
    assert path.read_text() == "let a = 3\n"


@pytest.mark.spec("5")
@pytest.mark.parametrize("loss", ["gone", "damaged", "empty"])
def test_a_base_that_is_gone_or_damaged_is_made_anew(desk: Desk, loss: str) -> None:
    base = desk.take().spool_path
    EDITS["edited"](desk.root)
    if loss == "gone":
        base.unlink()
    else:
        base.write_bytes(b"" if loss == "empty" else base.read_bytes()[:-9] + bytes(9))
    taken = desk.check()
    assert taken.base is None
    EDITS["first"](desk.root)
    assert desk.check().base is not None


@pytest.mark.spec("5")
def test_much_that_changed_makes_a_base_of_its_own(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thin, "MAX_BYTES", 8192)
    make(desk.root, {"big": b"x" * 6000})
    assert desk.check().base is not None
    make(desk.root, {"big": b"x" * 9000})
    assert desk.check().base is None
    EDITS["edited"](desk.root)
    assert desk.check().base is not None
    monkeypatch.setattr(thin, "MAX_REMOVED", 1)
    EDITS["gone"](desk.root)
    assert desk.check().base is not None
    EDITS["a folder gone"](desk.root)
    assert desk.check().base is None


@pytest.mark.spec("5")
def test_the_size_limit_holds_for_thin_bundles_too(desk: Desk) -> None:
    size = desk.take().tar_bytes
    assert desk.take(max_bytes=size + 512).base is None
    make(desk.root, {"more": ""})
    assert desk.check(max_bytes=size + 512).base is not None
    make(desk.root, {"still": ""})
    with pytest.raises(Failure) as caught:
        desk.take(max_bytes=size + 512)
    assert caught.value.label == "BUNDLER / SIZE_EXCEEDED"


@pytest.mark.spec("5")
@pytest.mark.parametrize("name", ["PACKAGE.swift", "a\\b"])
def test_new_names_are_vetted_with_all_others(desk: Desk, name: str) -> None:
    make(desk.root, {name: "x"})
    with pytest.raises(Failure) as caught:
        desk.take()
    with pytest.raises(Failure) as wanted:
        desk.fresh()
    assert (caught.value.label, caught.value.message) == (wanted.value.label, wanted.value.message)
    (desk.root / name).unlink()
    assert desk.check().source_sha256


@pytest.mark.spec("5")
def test_links_that_are_followed_are_known_by_what_they_lead_to(desk: Desk) -> None:
    first = desk.check(symlinks="dereference")
    EDITS["edited"](desk.root)
    second = desk.check(symlinks="dereference")
    assert second.base is not None
    assert sorted(bundled(second)) == ["Sources-x/a.swift", "Sources/App/a.swift"]
    relink(desk.root)
    third = desk.check(symlinks="dereference")
    assert third.base is not None
    assert len({first.source_sha256, second.source_sha256, third.source_sha256}) == 3


@pytest.mark.fault("H12")
def test_a_full_disk_refuses_what_changed_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2048) as disk:
        desk = Desk(tmp_path)
        desk.spool = disk / "spool"
        desk.take()
        desk.memory.prepare()
        before = sorted(desk.spool.iterdir())
        (desk.root / "noise").write_bytes(os.urandom(100_000))
        ballast = fill(disk)
        with pytest.raises(Failure) as caught:
            desk.take()
        assert caught.value.label == "BUNDLER / NO_SPACE"
        assert sorted(desk.spool.iterdir()) == before
        ballast.unlink()
        assert desk.check().base is not None


def test_trees_that_nobody_asks_for_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "MAX_ROOTS", 2)
    memory, spool = Memory(), tmp_path / "spool"
    roots = [make(tmp_path / name, {"a": name}) for name in "xyz"]
    taken = [take(root, SnapshotOptions(), spool, memory=memory) for root in roots]
    assert memory.names == {each.spool_path.name for each in taken[1:]}
    take(roots[1], SnapshotOptions(), spool, memory=memory)
    take(roots[0], SnapshotOptions(), spool, memory=memory)
    assert memory.names == {taken[0].spool_path.name, taken[1].spool_path.name}
    memory.close()
    assert memory.names == frozenset()


def reborn(desk: Desk) -> Desk:
    """The same tree, in the daemon's next life."""
    desk.memory.close()
    desk.memory = Memory(desk.spool)
    return desk


@pytest.mark.spec("5")
def test_what_is_known_of_a_tree_outlives_the_daemon(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.memory = Memory(desk.spool)
    first = desk.take()
    desk.memory.prepare()
    EDITS["edited"](desk.root)
    EDITS["gone"](desk.root)
    read = counted(monkeypatch)
    taken = reborn(desk).take()
    assert (taken.base is not None, read) == (True, ["Sources/App/a.swift"])
    assert taken.source_sha256 == desk.fresh().source_sha256
    assert Memory(desk.spool).names == {first.spool_path.name}
    assert desk.check(max_bytes=1 << 30).base is None  # other settings may make another tree of it


@pytest.mark.fault("T4")
@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "no bundle", "another bundle"])
def test_what_is_known_is_believed_whole_or_not_at_all(desk: Desk, harm: str) -> None:
    desk.memory = Memory(desk.spool)
    bundle = desk.take().spool_path
    desk.memory.prepare()
    (known,) = desk.spool.glob("*.known")
    data = known.read_bytes()
    if harm == "no bundle":
        bundle.unlink()
    elif harm == "another bundle":
        bundle.write_bytes(b"shorter")
    else:
        known.write_bytes({"cut": data[:-1], "flipped": data[:-1] + bytes([data[-1] ^ 1])}.get(harm, b""))
    assert reborn(desk).check().base is None
    assert not known.exists()
    desk.memory.prepare()
    EDITS["edited"](desk.root)
    assert reborn(desk).check().base is not None


def test_of_trees_that_were_known_the_newest_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "MAX_ROOTS", 2)
    spool = tmp_path / "spool"
    for number, name in enumerate("xyz"):
        memory = Memory(spool)
        taken = take(make(tmp_path / name, {"a": name}), SnapshotOptions(), spool, memory=memory)
        memory.prepare()
        (known,) = spool.glob(f"*{taken.source_sha256}*.known")
        os.utime(known, (number, number))
        memory.close()
    assert len(Memory(spool).names) == 2
    assert len(list(spool.glob("*.known"))) == 2
    assert taken.spool_path.name in Memory(spool).names


def test_progress_of_what_is_known_tells_the_whole(desk: Desk) -> None:
    EDITS["edited"](desk.root)
    seen: list[Progress] = []
    taken = take(desk.root, SnapshotOptions(), desk.spool, memory=desk.memory, progress=seen.append)
    assert (seen[-1].bytes_done, seen[-1].bytes_total) == (taken.tar_bytes, taken.tar_bytes)
    assert (seen[-1].files, seen[-1].files_total) == (len(taken.entries), len(taken.entries))


@pytest.mark.spec("5")
@pytest.mark.parametrize("seed", range(3))
def test_any_history_of_edits_gives_the_digest_of_the_tree(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  (the same history each time)
    desk = Desk(tmp_path)
    names = [f"{folder}f{number}" for folder in ("", "a/", "a/b/", "c/", "ü/") for number in range(3)]
    for _ in range(12):
        for name in chance.sample(names, chance.randint(0, 4)):
            path = desk.root / name
            what = chance.randrange(5)
            if what == 0 and path.exists():
                path.unlink()
            elif what == 1 and path.exists():
                path.chmod(path.stat().st_mode ^ 0o111)
            elif what == 2 and path.exists():
                os.utime(path, ns=(0, chance.randrange(10**18)))
            else:
                make(desk.root, {name: chance.choice("xyz") * chance.randrange(2000)})
        desk.check()
