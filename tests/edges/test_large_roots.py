"""Roots that are very large, or that cannot be read: taken at each bound, refused one beyond it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support.trees import Link, as_nobody, make

from rch.contract import tar_names
from rch.contract.errors import Failure
from rchd.edges import walk
from rchd.edges.snapshot import SnapshotOptions, take
from worker_agent import source_check

pytestmark = pytest.mark.spec("5")

FEW = 5
Tree = Mapping[str, str | bytes | Link | None]


def files_in_folders(count: int) -> Tree:
    return {f"d{number % 2}/{number}": "" for number in range(count)}


def folders_in_folders(count: int) -> Tree:
    return {"/".join(["d"] * count): None}


def folders_side_by_side(count: int) -> Tree:
    """Two levels of them, so that no folder lists many."""
    return {"a": None, "b": None} | {f"a/{number}": None for number in range(count - 2)}


def names_in_a_folder(count: int) -> Tree:
    """What is left out is listed all the same."""
    return {".rchignore": "*.o\n"} | {f"{number}.o": "" for number in range(count - 1)}


def bytes_of_names(count: int) -> Tree:
    """A link's target and a folder on the way count as a name does."""
    return {"d/ee": "", "l": Link("d"), "n" * (count - 7): ""}


Row = tuple[Callable[[int], Tree], int, str]
ROWS: dict[str, Row] = {
    "files": (files_in_folders, FEW, "more than 5 files; the heaviest folders are"),
    "folders in folders": (folders_in_folders, FEW, "more than 5 folders"),
    "folders": (folders_side_by_side, FEW, "more than 5 folders"),
    "names in a folder": (names_in_a_folder, FEW, "more than 5 names in the folder '.'"),
    "bytes of names": (bytes_of_names, 40, "the names of the set are over 40 bytes"),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(walk, "MAX_ENTRIES", FEW)
    monkeypatch.setattr(tar_names, "MAX_NAMES_BYTES", 40)
    return tmp_path / "root"


@pytest.mark.parametrize("name", ROWS)
def test_a_root_at_a_bound_is_bundled(name: str, root: Path, tmp_path: Path) -> None:
    tree, limit, _ = ROWS[name]
    take(make(root, tree(limit)), SnapshotOptions(), tmp_path / "spool")


@pytest.mark.parametrize("name", ROWS)
def test_a_root_one_beyond_a_bound_is_told_by_the_bound(name: str, root: Path, tmp_path: Path) -> None:
    tree, limit, said = ROWS[name]
    make(root, tree(limit + 1))
    with pytest.raises(Failure, match=said) as caught:
        take(root, SnapshotOptions(), tmp_path / "spool")
    assert (caught.value.label, caught.value.exit_code) == ("BUNDLER / SIZE_EXCEEDED", 92)


def test_links_that_are_followed_make_no_more_files_and_folders_than_a_root_may_have(
    root: Path, tmp_path: Path
) -> None:
    options = SnapshotOptions(symlinks="dereference")
    make(root, {"d/1": "", "d/2": "", "l": Link("d"), "x": ""})
    take(root, options, tmp_path / "spool")
    make(root, {"y": ""})
    with pytest.raises(Failure, match="with its links followed, more than 5 files"):
        take(root, options, tmp_path / "spool")
    (root / "y").unlink()
    (root / "x").unlink()
    (root / "d" / "2").unlink()
    make(root, {"d/e/f/1": ""})
    take(root / "d", options, tmp_path / "spool")
    with pytest.raises(Failure, match="more than 5 folders"):
        take(root, options, tmp_path / "spool")


@pytest.mark.parametrize("last", ["file", "folder"])
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_root_is_as_deep_as_the_limit_and_no_deeper(tmp_path: Path, last: str, beyond: int) -> None:
    path = "/".join(["d"] * (tar_names.MAX_DEPTH + beyond))
    root = make(tmp_path / "root", {path: "" if last == "file" else None})
    if not beyond:
        taken = take(root, SnapshotOptions(), tmp_path / "spool")
        assert len(taken.entries) == (last == "file")
        return
    with pytest.raises(Failure, match="over 128 folders deep") as caught:
        take(root, SnapshotOptions(), tmp_path / "spool")
    assert caught.value.label == "BUNDLER / BAD_NAME"


def test_a_worker_takes_as_many_entries_as_a_host_sends() -> None:
    assert walk.MAX_ENTRIES == source_check.MAX_ENTRIES


@pytest.mark.parametrize("mode", [0o311, 0])
def test_a_root_that_cannot_be_listed_is_told_and_not_taken_for_an_empty_one(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "shut", {"Package.swift": "// swift-tools-version: 5.9\n"})
    root.chmod(mode)
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)  # the way to it is closed to others
    try:
        with as_nobody():
            with pytest.raises(Failure, match="shut cannot be read: Permission denied") as caught:
                take(Path("shut"), SnapshotOptions(), Path("spool"))
            assert caught.value.label == "BUNDLER / UNREADABLE"
    finally:
        root.chmod(0o700)
