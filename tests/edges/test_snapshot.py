"""Snapshots: what is bundled, what is refused, and that a digest is never of a mix."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.small_disk import fill, small_disk
from support.trees import Link, as_nobody, bundled, make

from rch.contract.errors import Failure, Kind
from rch.files.extract import Limits, extract
from rch.files.unzstd import bounded_reader
from rchd.edges import bundles
from rchd.edges.snapshot import Progress, Snapshot, SnapshotOptions, take

PACKAGE = "02ab0fe95f8def2ad70cf5cb3a63855854d915ad5ce9b98d952758b2162b71f4"  # docs/canonical-tar.md
EMPTY = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def snap(root: Path, spool: Path, **options: object) -> Snapshot:
    return take(root, msgspec.convert(options, SnapshotOptions), spool)


def refused(root: Path, spool: Path, **options: object) -> Failure:
    with pytest.raises(Failure) as caught:
        snap(root, spool, **options)
    failure = caught.value
    assert failure.exit_code == (3 if failure.kind is Kind.CONFIG else 92)
    assert "\n" not in failure.message
    assert not spool.exists() or not list(spool.iterdir())
    return failure


@pytest.mark.spec("5")
def test_a_package_gets_the_published_digest(root: Path, spool: Path) -> None:
    make(
        root,
        {
            "run.sh": "#!/bin/sh\n",
            "Package.swift": "/" * 512,
            "Sources/App/main.swift": "",
            "Sources-old": Link("Sources/App"),
            "Sources/Empty": None,
        },
    )
    (root / "run.sh").chmod(0o610)
    assert snap(root, spool).source_sha256 == PACKAGE


@pytest.mark.spec("5")
def test_a_bundle_is_durable_under_both_digests_and_unpacks_to_the_same_tree(
    root: Path, spool: Path, tmp_path: Path
) -> None:
    make(
        root,
        {"a": "one", "b/c": b"\0" * 5000, "b/l": Link("../a"), "é/x": "two", "big": os.urandom(3 << 20)},
    )
    (root / "a").chmod(0o755)
    taken = snap(root, spool)
    compressed = taken.spool_path.read_bytes()
    assert list(spool.iterdir()) == [taken.spool_path]
    assert taken.spool_path.name == f"{taken.source_sha256}-{taken.content_sha256}.tar.zst"
    assert taken.spool_path.stat().st_mode & 0o777 == 0o600
    assert hashlib.sha256(compressed).hexdigest() == taken.content_sha256
    assert len(compressed) == taken.compressed_bytes
    with taken.spool_path.open("rb") as file:
        tar = bounded_reader(file, max_output=taken.tar_bytes).read()
    assert len(tar) == taken.tar_bytes
    assert hashlib.sha256(tar).hexdigest() == taken.source_sha256
    with taken.spool_path.open("rb") as file:
        stream = bounded_reader(file, max_output=taken.tar_bytes)
        limits = Limits(max_entries=len(taken.entries), max_bytes=taken.tar_bytes)
        made = extract(stream, tmp_path / "out", limits=limits, canonical=True)
    assert [(one.path, one.kind, one.size, one.sha256, one.target) for one in made] == [
        (one.path, one.type, one.size, one.sha256, one.symlink_target or None) for one in taken.entries
    ]
    again = snap(tmp_path / "out", spool)
    assert (again.source_sha256, again.entries) == (taken.source_sha256, taken.entries)


@pytest.mark.spec("5")
def test_an_empty_tree_is_a_bundle_too(root: Path, spool: Path) -> None:
    taken = snap(root, spool)
    assert (taken.source_sha256, taken.entries, taken.tar_bytes) == (EMPTY, (), 1024)


@pytest.mark.spec("5")
@pytest.mark.fault("T3")
def test_the_digest_is_of_the_tree_and_of_nothing_else(tmp_path: Path, spool: Path) -> None:
    tree: dict[str, str | bytes | Link | None] = {
        f"{folder}/{name}": f"{folder}{name}"
        for folder in ("a", "a-b", "a b", "Z", "é")
        for name in ("x", "y", "ß")
    }
    tree["a.swift"] = "beside the folder a"
    tree["l"] = Link("a/x")
    first = make(tmp_path / "first", tree)
    old = os.umask(0o077)
    try:
        second = make(tmp_path / "second", dict(reversed(tree.items())) | {"empty/er": None})
    finally:
        os.umask(old)
    for number, path in enumerate(path for path in second.rglob("*") if path.is_file()):
        os.utime(path, (number, number))
    (second / "a" / "y").unlink()
    os.link(second / "a" / "x", second / "a" / "y")
    (second / "a" / "x").write_text("ax")
    (second / "a" / "y").unlink()
    (second / "a" / "y").write_text("ay")
    assert snap(first, spool).source_sha256 == snap(second, spool).source_sha256


@pytest.mark.spec("5")
def test_hard_links_are_two_files(root: Path, spool: Path) -> None:
    make(root, {"a": "same"})
    os.link(root / "a", root / "b")
    assert bundled(snap(root, spool)) == {"a": b"same", "b": b"same"}


@pytest.mark.spec("5")
def test_what_is_left_out_is_left_out_at_any_depth(root: Path, spool: Path) -> None:
    out = (
        ".git/config",
        ".DS_Store",
        "DerivedData/x",
        ".build/x",
        "T.xcresult/x",
        ".swiftpm/x",
        ".rch/other",
    )
    make(root, {f"{folder}{name}": "x" for folder in ("", "deep/er/") for name in out})
    make(root, {".rch/xcode.toml": "in", "sub/.rch/xcode.toml": "out", "sub/.git": "gitdir: elsewhere"})
    make(root, {"link/.build": Link("/somewhere/else"), "link/DerivedData": Link("../..")})
    make(
        root,
        {"files/DerivedData": "a file", "files/a.xcresult": "a file", ".gitignore": "x", "x.swift": "x"},
    )
    assert sorted(bundled(snap(root, spool))) == [
        ".gitignore",
        ".rch/xcode.toml",
        "files/DerivedData",
        "files/a.xcresult",
        "x.swift",
    ]


@pytest.mark.spec("5")
def test_names_are_stored_in_nfc(root: Path, spool: Path) -> None:
    spelled = unicodedata.normalize("NFD", "café/é.swift")
    make(root, {spelled: "x", "l": Link(spelled)})
    assert bundled(snap(root, spool)) == {"café/é.swift": b"x", "l": Link("café/é.swift")}


@pytest.mark.spec("5")
@pytest.mark.fault("T1")
@pytest.mark.parametrize(
    "names",
    [
        ("Readme", "README"),
        ("Sources/a", "sources/b"),
        ("é", unicodedata.normalize("NFD", "é")),
        ("é/a", unicodedata.normalize("NFD", "é") + "/b"),
        ("straße", "STRASSE"),
    ],
)
def test_names_that_a_mac_takes_for_one_are_refused(
    names: tuple[str, str], root: Path, spool: Path
) -> None:
    make(root, dict.fromkeys(names, "x"))
    if len({(root / name).stat().st_ino for name in names}) == 1:
        pytest.skip("this file system takes them for one already")
    failure = refused(root, spool)
    assert failure.label == "BUNDLER / PATH_COLLISION"
    assert failure.hint


@pytest.mark.spec("5")
@pytest.mark.fault("T1")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a\\b", r"a\\b"),
        (b"\xff", r"\udcff"),
        (b"\xe9t\xe9/x", r"\udce9t\udce9"),
        (b"/".join([b"d"] * 129), "deep"),
    ],
)
def test_names_that_no_worker_takes_are_refused(name: bytes, shown: str, root: Path, spool: Path) -> None:
    path = os.path.join(os.fsencode(root), name)  # noqa: PTH118  (bytes)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120  (bytes)
        with open(path, "wb"):  # noqa: PTH123  (bytes)
            pass
    except OSError:
        pytest.skip("this file system does not take it either")
    failure = refused(root, spool)
    assert failure.label == "BUNDLER / BAD_NAME"
    assert shown in failure.message


@pytest.mark.spec("5")
def test_odd_names_are_shown_escaped(root: Path, spool: Path) -> None:
    make(root, {"Icon\r": "kept", "a\x1b[31m": None})
    os.mkfifo(root / "a\x1b[31m" / "new\nline")
    failure = refused(root, spool)
    assert r"'a\x1b[31m/new\nline' is a FIFO" in failure.message
    (root / "a\x1b[31m" / "new\nline").unlink()
    assert bundled(snap(root, spool)) == {"Icon\r": b"kept"}


@pytest.mark.spec("5")
def test_fifos_and_sockets_are_refused(root: Path, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(root, {"a/b": "x"})
    os.mkfifo(root / "a" / "pipe")
    failure = refused(root, spool)
    assert (failure.label, failure.message) == ("BUNDLER / UNSUPPORTED_FILE", "'a/pipe' is a FIFO")
    (root / "a" / "pipe").unlink()
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("a/sock")
        assert refused(root, spool).message == "'a/sock' is a socket"
    make(root, {".rchignore": "sock\n"})
    assert sorted(bundled(snap(root, spool))) == [".rchignore", "a/b"]


ESCAPES: dict[str, dict[str, str | bytes | Link | None]] = {
    "absolute": {"l": Link("/etc/passwd")},
    "absolute into the tree": {"a": "x", "l": Link("ROOT/a")},
    "out": {"d/l": Link("../../beside")},
    "out and back in": {"a": "x", "l": Link("../root/a")},
    "the folder above": {"l": Link("..")},
    "through another link": {"d/e/up": Link("../.."), "y": Link("d/e/up/../beside")},
    "dangling": {"l": Link("nothing")},
    "dangling in a folder": {"a": "x", "l": Link("a/b")},
    "to what is left out": {".build/x": "x", "l": Link(".build/x")},
    "to an empty folder": {"e": None, "l": Link("e")},
    "to a name in another case": {"File": "x", "l": Link("file")},
    "itself": {"l": Link("l")},
    "a ring": {"a": Link("b"), "b": Link("a")},
}


@pytest.mark.spec("5")
@pytest.mark.fault("T2")
@pytest.mark.parametrize("symlinks", ["preserve", "dereference"])
@pytest.mark.parametrize("form", ESCAPES)
def test_links_that_leave_the_bundle_are_refused(form: str, symlinks: str, root: Path, spool: Path) -> None:
    make(root.parent, {"beside": "secret"})
    tree = {
        name: Link(one.target.replace("ROOT", str(root))) if isinstance(one, Link) else one
        for name, one in ESCAPES[form].items()
    }
    make(root, tree)
    failure = refused(root, spool, symlinks=symlinks)
    assert failure.label == "BUNDLER / SYMLINK_ESCAPE"
    assert any(repr(name) in failure.message for name, one in tree.items() if isinstance(one, Link))


@pytest.mark.spec("5")
def test_links_inside_are_kept_or_followed(root: Path, spool: Path) -> None:
    make(root, {"a/b/file": "x", "a/again": Link("b"), "top": Link("a/again/file"), "z/all": Link("../a")})
    kept = snap(root, spool)
    assert bundled(kept) == {
        "a/b/file": b"x",
        "a/again": Link("b"),
        "top": Link("a/again/file"),
        "z/all": Link("../a"),
    }
    assert [one.symlink_target for one in kept.entries] == ["b", msgspec.UNSET, "a/again/file", "../a"]
    followed = snap(root, spool, symlinks="dereference")
    assert bundled(followed) == dict.fromkeys(
        ("a/b/file", "a/again/file", "top", "z/all/again/file", "z/all/b/file"), b"x"
    )


@pytest.mark.spec("5")
@pytest.mark.parametrize(
    "tree",
    [
        {"a/f": "x", "a/l": Link("..")},
        {"a/f": "x", "a/l": Link("../b"), "b/f": "x", "b/l": Link("../a")},
        {"a/f": "x", "a/l": Link(".")},
    ],
)
def test_a_link_to_a_folder_that_holds_it_cannot_be_followed(
    tree: dict[str, str | bytes | Link | None], root: Path, spool: Path
) -> None:
    make(root, tree)
    failure = refused(root, spool, symlinks="dereference")
    assert failure.label == "BUNDLER / UNSUPPORTED_FILE"
    assert len(bundled(snap(root, spool))) == len(tree)


@pytest.mark.spec("5")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_cannot_be_read_is_named(
    what: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, {"ok": "x", "d/shut": "x"})
    shut = root / "d" / "shut" if what == "file" else root / "d"
    shut.chmod(0)
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)  # the way to it is closed to others
    with as_nobody():
        failure = refused(Path("root"), Path("spool"))
    shut.chmod(0o700)
    assert failure.label == "BUNDLER / UNREADABLE"
    assert failure.message == f"{str(shut.relative_to(root))!r} cannot be read: Permission denied"


def test_a_root_that_is_not_there_is_named(root: Path, spool: Path) -> None:
    failure = refused(root / "nowhere", spool)
    assert failure.label == "BUNDLER / UNREADABLE"
    assert "nowhere" in failure.message


@pytest.mark.spec("5")
def test_the_size_limit_is_met_by_equal_and_names_the_heaviest_folders(root: Path, spool: Path) -> None:
    make(
        root,
        {
            "Pods/Big/a": b"x" * 2_000_000,
            "Pods/Big/deep/b": b"x" * 1_000_000,
            "Sources/c": b"x" * 200_000,
            "d": b"y" * 100_000,
        },
    )
    size = snap(root, spool).tar_bytes
    assert snap(root, spool, max_bytes=size).tar_bytes == size
    for path in spool.iterdir():
        path.unlink()
    failure = refused(root, spool, max_bytes=size - 1)
    assert failure.label == "BUNDLER / SIZE_EXCEEDED"
    assert f"bundle of {size} bytes is over the limit of {size - 1}" in failure.message
    assert failure.message.endswith("folders are 'Pods/Big' 3.0 MB, 'Sources' 0.2 MB, '.' 0.1 MB")


@pytest.mark.fault("H12")
def test_a_full_disk_is_said_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    make(root, {"noise": os.urandom(3 << 20)})
    with small_disk(tmp_path / "disk", 1024) as disk:
        failure = refused(root, disk / "spool")
        assert failure.label == "BUNDLER / NO_SPACE"
        assert failure.retryable
        ballast = fill(disk)
        assert refused(root, disk / "spool").label == "BUNDLER / NO_SPACE"
        ballast.unlink()
        make(root, {"noise": "small again"})
        assert snap(root, disk / "spool").spool_path.exists()


class Meddler:
    """Does something to the tree at a given moment of a snapshot."""

    def __init__(self, act: Callable[[], None], *, at_byte: int = 0, times: int = 1) -> None:
        self.attempts: list[int] = []
        self._act = act
        self._at = at_byte
        self._times = times

    def __call__(self, progress: Progress) -> None:
        if progress.attempt not in self.attempts and progress.bytes_done >= self._at:
            self.attempts.append(progress.attempt)
            if len(self.attempts) <= self._times:
                self._act()


BIG = 3 << 20


def rewrite_in_place(root: Path) -> None:
    """Other bytes, same size, same mtime."""
    path = root / "big"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(BIG - 10)
        file.write(b"otherbytes")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def grow(root: Path) -> None:
    with (root / "big").open("ab") as file:
        file.write(b"more")


def shrink(root: Path) -> None:
    os.truncate(root / "big", BIG // 2)


def vanish(root: Path) -> None:
    (root / "big").unlink()


def become_link(root: Path) -> None:
    (root / "big").unlink()
    (root / "big").symlink_to("a")


def become_fifo(root: Path) -> None:
    (root / "big").unlink()
    os.mkfifo(root / "big")


def become_folder(root: Path) -> None:
    (root / "big").unlink()
    make(root, {"big/inside": "x"})


def be_replaced(root: Path) -> None:
    (root / "new").write_bytes(b"n" * BIG)
    (root / "new").rename(root / "big")


def gain_a_mode(root: Path) -> None:
    (root / "big").chmod(0o755)


def folder_becomes_link(root: Path) -> None:
    (root / "z").rename(root.parent / "elsewhere")
    (root / "z").symlink_to(root.parent / "elsewhere")


CHANGES = {
    "rewritten": rewrite_in_place,
    "grown": grow,
    "shrunk": shrink,
    "gone": vanish,
    "a link now": become_link,
    "a FIFO now": become_fifo,
    "a folder now": become_folder,
    "replaced": be_replaced,
    "executable now": gain_a_mode,
    "below a link now": folder_becomes_link,
}


def outcome(act: Callable[[], Snapshot]) -> object:
    """What comes of a snapshot: its digest and entries, or why there is none."""
    try:
        taken = act()
    except Failure as failure:
        return failure.label, failure.message
    return taken.source_sha256, taken.entries


@pytest.mark.spec("5")
@pytest.mark.fault("T4")
@pytest.mark.parametrize("at_byte", [0, 1 << 20], ids=["before it is read", "while it is read"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_meanwhile_begins_the_snapshot_again(
    change: str, at_byte: int, root: Path, spool: Path
) -> None:
    make(root, {"a": "first", "big": b"b" * BIG, "z/last": "last"})
    before = outcome(lambda: snap(root, spool))
    meddler = Meddler(lambda: CHANGES[change](root), at_byte=at_byte)
    came = outcome(lambda: take(root, SnapshotOptions(), spool, progress=meddler))
    assert meddler.attempts[0] == 1
    assert came == outcome(lambda: snap(root, spool))  # as if it had been taken after the change
    assert came != before
    assert not [path for path in spool.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.spec("5")
@pytest.mark.fault("T4")
@pytest.mark.parametrize("act", [rewrite_in_place, grow, be_replaced])
def test_a_file_that_keeps_changing_is_refused_by_name(
    act: Callable[[Path], None], root: Path, spool: Path
) -> None:
    make(root, {"a": "first", "big": b"b" * BIG})
    meddler = Meddler(lambda: act(root), times=2)
    with pytest.raises(Failure) as caught:
        take(root, SnapshotOptions(), spool, progress=meddler)
    assert caught.value.label == "BUNDLER / SOURCE_CHANGED"
    assert "'big'" in caught.value.message
    assert caught.value.retryable
    assert not list(spool.iterdir())


@pytest.mark.fault("T4")
def test_nothing_is_read_in_the_tick_of_its_last_change(root: Path, spool: Path) -> None:
    """A second write in one tick of the clock leaves the same stamp: by then it must be past."""
    begun: list[int] = []
    make(root, {"fresh": "x"})
    take(root, SnapshotOptions(), spool, progress=lambda _: begun.append(time.time_ns()))
    assert begun[0] - (root / "fresh").stat().st_ctime_ns >= 20_000_000


@pytest.mark.fault("T4")
def test_no_snapshot_under_a_busy_writer_holds_a_torn_file(root: Path, spool: Path) -> None:
    """A writer fills a file with one letter after another; each bundle has a single letter or none.

    A writer that was put aside in the middle of a write for longer than files' times tell apart leaves
    a file that is half written for everybody: what is bundled then proves nothing.
    """
    make(root, {"busy": b"a" * BIG})
    stop = threading.Event()
    written, slow = threading.Condition(), list[float]()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            with (root / "busy").open("r+b", buffering=0) as file:
                began = time.monotonic()
                file.write(bytes([97 + turn % 26]) * BIG)
                ended = time.monotonic()
            with written:
                if ended - began > bundles.TICK_NS / 1.1e9:
                    slow.append(ended)
                written.notify()

    writer = threading.Thread(target=write)
    writer.start()
    proved = 0
    try:
        for _ in range(40):
            began = time.monotonic()
            try:
                taken = snap(root, spool)
            except Failure as failure:
                assert failure.subkind == "SOURCE_CHANGED"  # noqa: PT017  (the other way it may end)
                torn = False
            else:
                held = bundled(taken)["busy"]
                assert isinstance(held, bytes)
                torn = len(set(held)) > 1
            with written:
                written.wait(60)  # for the write that is at work
                if any(ended > began for ended in slow):
                    continue
            assert not torn
            proved += 1
            if proved == 6:
                return
    finally:
        stop.set()
        writer.join()
    if not proved:
        pytest.skip("this machine is too busy for a writer that is never put aside")


@pytest.mark.spec("4")
@pytest.mark.parametrize("calls", [0, 1, 5])
def test_a_cancel_is_heeded_at_once_and_leaves_nothing(calls: int, root: Path, spool: Path) -> None:
    make(root, {"a": "x", "big": os.urandom(BIG)})
    left = iter([False] * calls)
    with pytest.raises(Failure) as caught:
        take(root, SnapshotOptions(), spool, cancelled=lambda: next(left, True))
    assert caught.value.kind is Kind.CANCELLED
    assert not spool.exists() or not list(spool.iterdir())


def test_progress_rises_to_the_whole(root: Path, spool: Path) -> None:
    make(root, {"a": "x", "big": os.urandom(BIG)})
    seen: list[Progress] = []
    taken = take(root, SnapshotOptions(), spool, progress=seen.append)
    done = [one.bytes_done for one in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, taken.tar_bytes)
    assert len(done) >= 4
    assert {(one.attempt, one.files_total, one.bytes_total) for one in seen} == {(1, 2, taken.tar_bytes)}
    assert [one.files for one in seen] == sorted(one.files for one in seen)
    assert (seen[0].files, seen[-1].files) == (0, 2)


@pytest.mark.spec("5")
def test_lfs_pointers_are_a_warning(root: Path, spool: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    make(root, {"a.png": pointer, "b.txt": "says version https://git-lfs.github.com/spec/v1\n"})
    assert snap(root, spool).warnings == (
        "1 Git LFS pointers stand in for their files (git lfs pull): a.png",
    )


@pytest.mark.spec("5")
def test_a_spool_below_the_root_is_not_bundled(root: Path) -> None:
    make(root, {"a": "x", "state/log": "x"})
    first = snap(root, root / "state" / "spool")
    second = snap(root, root / "state" / "spool")
    assert first.source_sha256 == second.source_sha256
    assert sorted(bundled(second)) == ["a", "state/log"]
