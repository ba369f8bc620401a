from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.small_disk import fill, small_disk

from rch.files import durable

OLD, NEW = b"old" * 1000, b"new" * 2000
STEPS = ["create", "write", "chmod", "sync", "rename", "mkdir"]


class Faulty(durable.System):
    """The real calls, each written down; call `number` of `step` fails with `code`."""

    def __init__(self, step: str = "", number: int = 1, code: int = errno.EIO) -> None:
        self.calls: list[str] = []
        self._step, self._number, self._code = step, number, code

    def _note(self, step: str) -> None:
        self.calls.append(step)
        if step == self._step and self.calls.count(step) == self._number:
            raise OSError(self._code, os.strerror(self._code))

    def create(self, path: Path) -> int:
        self._note("create")
        return super().create(path)

    def write(self, fd: int, data: memoryview) -> int:
        self._note("write")
        return super().write(fd, data[:1024])  # short writes are legal

    def chmod(self, fd: int, mode: int) -> None:
        self._note("chmod")
        super().chmod(fd, mode)

    def sync(self, fd: int) -> None:
        self._note("sync")
        super().sync(fd)

    def rename(self, src: Path, dst: Path) -> None:
        self._note("rename")
        super().rename(src, dst)

    def mkdir(self, path: Path, mode: int) -> None:
        self._note("mkdir")
        super().mkdir(path, mode)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


Install = Callable[..., Faulty]


@pytest.fixture(name="install")
def fixture_install(monkeypatch: pytest.MonkeyPatch) -> Install:
    def install(step: str = "", number: int = 1, code: int = errno.EIO) -> Faulty:
        faulty = Faulty(step, number, code)
        monkeypatch.setattr(durable, "_sys", faulty)
        return faulty

    return install


@pytest.mark.spec("4")
def test_a_write_goes_to_the_medium_before_its_name_and_the_name_after_it(
    tmp_path: Path, install: Install
) -> None:
    calls = install().calls
    durable.write_atomic(tmp_path / "a", OLD)
    assert [call for call in calls if call != "write"] == ["create", "chmod", "sync", "rename", "sync"]
    assert calls.count("write") == 3
    assert (tmp_path / "a").read_bytes() == OLD
    assert _names(tmp_path) == ["a"]


@pytest.mark.fault("H11")
@pytest.mark.fault("H12")
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(
    ("step", "number", "left"),
    [
        ("create", 1, OLD),
        ("write", 1, OLD),
        ("write", 4, OLD),
        ("chmod", 1, OLD),
        ("sync", 1, OLD),
        ("rename", 1, OLD),
        ("sync", 2, NEW),
    ],
)
def test_a_fault_at_any_step_leaves_old_or_new_whole_and_nothing_beside(
    tmp_path: Path, install: Install, step: str, number: int, left: bytes, code: int
) -> None:
    path = tmp_path / "a"
    path.write_bytes(OLD)
    faulty = install(step, number, code)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        durable.write_atomic(path, NEW)
    assert durable.is_no_space(caught.value) == (code == errno.ENOSPC)
    assert path.read_bytes() == left
    assert _names(tmp_path) == ["a"]
    assert faulty.calls.count("sync") <= (number if step == "sync" else 1)


@pytest.mark.fault("H11")
def test_a_failed_fsync_is_not_tried_again(tmp_path: Path, install: Install) -> None:
    faulty = install("sync", 1)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        durable.write_atomic(tmp_path / "a", NEW)
    assert faulty.calls.count("sync") == 1
    assert _names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has the real F_FULLFSYNC")
@pytest.mark.spec("4")
@pytest.mark.parametrize(("code", "plain"), [(errno.ENOTSUP, 1), (errno.EIO, 0), (0, 0)])
def test_a_full_flush_falls_back_only_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, plain: int
) -> None:
    flushed: list[str] = []

    def full_flush(_fd: int, command: int) -> None:
        assert command == 51
        flushed.append("full")
        if code:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full_flush)
    monkeypatch.setattr(os, "fsync", lambda _fd: flushed.append("plain"))
    if code == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(code)):
            durable.sync_dir(tmp_path)
    else:
        durable.sync_dir(tmp_path)
    assert flushed == ["full"] + ["plain"] * plain


@pytest.mark.fault("H12")
def test_a_limit_on_the_size_of_files_is_no_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(OLD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            durable.write_atomic(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not durable.is_no_space(caught.value)
    assert path.read_bytes() == OLD
    assert _names(tmp_path) == ["a"]


@pytest.mark.fault("H12")
def test_a_full_disk_leaves_the_old_content_and_takes_the_new_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        path = disk / "a"
        durable.write_atomic(path, OLD)
        ballast = fill(disk)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
            durable.write_atomic(path, NEW * 20)
        assert durable.is_no_space(caught.value)
        assert path.read_bytes() == OLD
        assert _names(disk) == ["a", "ballast"]
        ballast.unlink()
        durable.write_atomic(path, NEW * 20)
        assert path.read_bytes() == NEW * 20


@pytest.mark.parametrize(
    ("code", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False), (errno.EFBIG, False)]
)
def test_no_space_is_a_full_disk_or_a_full_quota(code: int, full: bool) -> None:  # noqa: FBT001  (a table)
    assert durable.is_no_space(OSError(code, "x")) is full


def test_the_mode_is_as_asked_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        durable.write_atomic(tmp_path / "open", NEW)
        durable.write_atomic(tmp_path / "secret", NEW, mode=0o600)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_write_replaces_a_link_and_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(OLD)
    (tmp_path / "a").symlink_to("target")
    durable.write_atomic(tmp_path / "a", NEW)
    assert (tmp_path / "target").read_bytes() == OLD
    assert not (tmp_path / "a").is_symlink()


def test_temporary_names_are_known_by_their_look_and_fit_beside_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    first, second = durable.temp_name(path), durable.temp_name(path)
    assert first != second
    assert first.parent == tmp_path
    assert durable.is_temp_name(first.name)
    assert not durable.is_temp_name("run_state.json")
    durable.write_atomic(path, NEW)
    assert path.read_bytes() == NEW


@pytest.mark.spec("4")
@pytest.mark.parametrize(("target", "syncs"), [("b", 1), ("deep/b", 2)])
def test_a_rename_makes_both_folders_durable(
    tmp_path: Path, install: Install, target: str, syncs: int
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(NEW)
    calls = install().calls
    durable.replace(tmp_path / "a", tmp_path / target)
    assert calls == ["rename"] + ["sync"] * syncs
    assert (tmp_path / target / "file").read_bytes() == NEW


@pytest.mark.fault("H11")
def test_a_rename_that_may_not_last_is_an_error(tmp_path: Path, install: Install) -> None:
    (tmp_path / "a").write_bytes(NEW)
    install("sync", 1)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        durable.replace(tmp_path / "a", tmp_path / "b")


def test_folders_are_made_private_and_durable_from_the_top(tmp_path: Path, install: Install) -> None:
    tmp_path.chmod(0o755)
    calls = install().calls
    durable.make_dirs(tmp_path / "a/b/c")
    assert calls == ["mkdir", "sync"] * 3
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    durable.make_dirs(tmp_path / "a/b/c")
    assert len(calls) == 6
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_folder_that_another_made_meanwhile_is_as_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Raced(durable.System):
        def mkdir(self, path: Path, mode: int) -> None:
            super().mkdir(path, mode)
            super().mkdir(path, mode)

    monkeypatch.setattr(durable, "_sys", Raced())
    durable.make_dirs(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(OLD)
    with pytest.raises(OSError, match="exists"):
        durable.make_dirs(tmp_path / "a")
    with pytest.raises(OSError, match=str(tmp_path / "a")):
        durable.make_dirs(tmp_path / "a/b")


@pytest.mark.fault("T2")
def test_removal_does_not_follow_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(OLD)
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/link").symlink_to(outside)
    (tree / "file").symlink_to(outside / "kept")
    (tmp_path / "root").symlink_to(tree)
    durable.remove_tree(tmp_path / "root")
    assert (tree / "sub").is_dir()
    durable.remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").read_bytes() == OLD


def test_removal_of_what_is_not_there_is_done(tmp_path: Path) -> None:
    durable.remove_tree(tmp_path / "none")
    (tmp_path / "file").write_bytes(OLD)
    durable.remove_tree(tmp_path / "file")
    assert _names(tmp_path) == []


def test_removal_reaches_below_any_depth(tmp_path: Path) -> None:
    """Deeper than a path can be named, the stack go, or descriptors last."""
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    durable.remove_tree(tree)
    assert _names(tmp_path) == []


def _as_nobody(work: Callable[[], object]) -> int:
    """Run `work` in a child without root's rights; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_removal_opens_folders_that_forbid_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("readonly", "closed"):
        (tree / name / "sub").mkdir(parents=True)
        (tree / name / "file").write_bytes(OLD)
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents):
            if folder.name.startswith(("pytest-", "popen-")) or folder == tmp_path:
                folder.chmod(0o755)
        for found in [tmp_path, tree, *tree.rglob("*")]:
            os.chown(found, 65534, -1)
    (tree / "readonly").chmod(0o500)
    (tree / "closed").chmod(0)
    assert _as_nobody(lambda: durable.remove_tree(tree)) == 0
    assert _names(tmp_path) == []
