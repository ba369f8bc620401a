"""What git is asked, and that a hostile checkout runs nothing by being asked."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support.trees import checkout, git, make

from rch.contract.records import Git
from rchd.edges import git as git_edge
from rchd.edges.git import GitError, describe, ignored, tracked


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return checkout(tmp_path / "root", {"a": "one", "d/b": "two"})


@pytest.mark.spec("8")
def test_a_clean_checkout_has_its_commit_and_branch(root: Path) -> None:
    head = git(root, "rev-parse", "HEAD")
    assert describe(root) == Git(commit=head, branch="main", dirty=False)
    assert describe(root / "d") == Git(commit=head, branch="main", dirty=False)
    git(root, "checkout", "-q", "--detach")
    assert describe(root) == Git(commit=head, branch=None, dirty=False)
    git(root, "checkout", "-q", "-b", "feature/é")
    assert describe(root) == Git(commit=head, branch="feature/é", dirty=False)
    git(root, "checkout", "-q", "-b", "ghp_" + "A1b2" * 9)
    assert describe(root) == Git(commit=head, branch="[REDACTED]", dirty=False)


@pytest.mark.spec("8")
@pytest.mark.parametrize("change", ["edited", "untracked", "staged", "deleted"])
def test_whatever_differs_from_the_commit_is_dirty(change: str, root: Path) -> None:
    if change == "deleted":
        (root / "d" / "b").unlink()
    else:
        make(root, {"a" if change == "edited" else "new": "other"})
    if change == "staged":
        git(root, "add", "-A")
    said = describe(root)
    assert said is not None
    assert said.dirty
    below = describe(root / "d")
    assert below is not None
    assert below.dirty is (change == "deleted")  # only what is below the root counts


@pytest.mark.spec("8")
def test_changes_in_submodules_are_dirty(root: Path) -> None:
    checkout(root.parent / "dep", {"x": "x"})
    git(root, "submodule", "--quiet", "add", str(root.parent / "dep"), "dep")
    git(root, "commit", "-q", "-m", "second")
    said = describe(root)
    assert said is not None
    assert not said.dirty
    make(root, {"dep/x": "edited"})
    said = describe(root)
    assert said is not None
    assert said.dirty


@pytest.mark.spec("8")
def test_no_git_no_checkout_and_no_commit_are_none(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    plain = make(tmp_path / "plain", {"a": "x"})
    assert describe(plain) is None
    git(plain, "init", "-q")
    assert describe(plain) is None
    assert describe(tmp_path / "missing") is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert describe(root) is None


def test_the_environment_of_a_hook_does_not_lead_astray(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = checkout(tmp_path / "other", {"z": "x"})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert tracked(root) == ["a", "d/b"]


def test_asking_writes_nothing_into_the_checkout(root: Path) -> None:
    os.utime(root / "a", (1, 1))  # git would note that it is still the same
    before = (root / ".git" / "index").read_bytes()
    assert describe(root) is not None
    assert (root / ".git" / "index").read_bytes() == before
    git(root, "status")
    assert (root / ".git" / "index").read_bytes() != before


def test_names_come_as_they_are(root: Path) -> None:
    odd = ['quo"te', "tab\there", "new\nline", "é"]
    make(root, dict.fromkeys(odd, "x"))
    Path(os.fsdecode(os.fsencode(root / "d") + b"/\xff")).write_text("x")
    git(root, "add", "-A")
    make(root, {".git/info/exclude": "*.o\n/out/\n", "x.o": "", "out/deep/y": "", "d/z.o": ""})
    assert tracked(root) == sorted(["a", "d/b", "d/\udcff", *odd], key=os.fsencode)
    assert sorted(ignored(root)) == ["d/z.o", "out/", "x.o"]


def test_git_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(GitError, match="not a git repository"):
        tracked(tmp_path)
    with pytest.raises(GitError):
        ignored(tmp_path / "missing")


def booby_trap(checkout_: Path, mark: Path) -> None:
    """Every setting known to make a plain question run something."""
    trap = f"sh -c 'touch {mark}; cat'"
    hooks = make(checkout_ / ".git" / "traps", {"post-index-change": f"#!/bin/sh\ntouch {mark}\n"})
    (hooks / "post-index-change").chmod(0o755)
    for key, value in {
        "core.fsmonitor": trap,
        "core.hooksPath": str(hooks),
        "core.pager": trap,
        "core.sshCommand": trap,
        "core.editor": trap,
        "diff.external": trap,
        "filter.trap.clean": trap,
        "filter.trap.smudge": trap,
        "filter.trap.process": trap,
        "filter.trap.required": "true",
        "filter.a=b.c.clean": trap,
        "protocol.ext.allow": "always",
        "remote.origin.url": f"ext::{trap}",
        "remote.origin.promisor": "true",
        "remote.origin.partialclonefilter": "blob:none",
        "extensions.partialClone": "origin",
        "core.repositoryformatversion": "1",
    }.items():
        git(checkout_, "config", key, value)
    make(checkout_, {".git/info/attributes": "a filter=trap\nx filter=a=b.c\n* diff=trap\n"})


@pytest.mark.spec("1")
def test_a_hostile_checkout_runs_nothing_by_being_asked(root: Path, tmp_path: Path) -> None:
    checkout(tmp_path / "dep", {"x": "x"})
    git(root, "submodule", "--quiet", "add", str(tmp_path / "dep"), "dep")
    git(root, "commit", "-q", "-m", "second")
    mark = tmp_path / "sprung"
    booby_trap(root, mark)
    # A submodule's own settings, in its own git folder.
    git(root / "dep", "config", "core.fsmonitor", f"sh -c 'touch {mark}'")
    git(root / "dep", "config", "filter.trap.clean", f"sh -c 'touch {mark}; cat'")
    make(root, {".git/modules/dep/info/attributes": "* filter=trap\n"})
    for path in ("a", "dep/x"):
        content = (root / path).read_bytes()
        (root / path).unlink()
        (root / path).write_bytes(content)  # the same, but git has to look inside to know
    mark.unlink(missing_ok=True)
    said = describe(root)
    assert said is not None
    assert not said.dirty
    assert "a" in tracked(root)
    assert ignored(root) == []
    assert not mark.exists()


def test_the_trap_of_that_test_does_spring(root: Path, tmp_path: Path) -> None:
    """Without our settings the same checkout runs the same program, or the test above shows nothing."""
    mark = tmp_path / "sprung"
    booby_trap(root, mark)
    (root / "a").write_text("two, and longer than before")  # its size alone tells of the change
    git(
        root,
        "-c",
        "core.fsmonitor=false",
        "-c",
        "filter.trap.process=",
        "-c",
        "filter.trap.required=false",
        "status",
    )
    assert mark.exists()


@pytest.mark.fault("C3")
@pytest.mark.parametrize("name", ["HEAD", "config", "index", "info/exclude", "refs/heads/main"])
def test_a_pipe_among_the_files_of_git_is_not_waited_for(name: str, root: Path, seen: list[str]) -> None:
    assert describe(root) is not None
    seen.clear()
    place = root / ".git" / name
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    assert describe(root) is None
    for question in (tracked, ignored):
        with pytest.raises(GitError, match="is no file"):
            question(root)
    assert seen == []


@pytest.mark.fault("C3")
def test_a_pipe_behind_a_linked_work_tree_is_not_waited_for(root: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git(root, "worktree", "add", "-q", str(linked))
    assert describe(linked) is not None
    (root / ".git" / "config").unlink()
    os.mkfifo(root / ".git" / "config")
    with pytest.raises(GitError, match="config is no file"):
        tracked(linked)


@pytest.mark.fault("C3")
def test_what_a_run_is_told_of_its_checkout_has_one_bound(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    git(root, "config", "core.excludesFile", str(tmp_path / "pipe"))
    monkeypatch.setattr(git_edge, "DESCRIBE_SECONDS", 0.3)
    began = time.monotonic()
    assert describe(root) is None
    assert time.monotonic() - began < git_edge._TIMEOUT / 2


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that git was started for."""
    asked, real = list[str](), subprocess.run

    def run(argv: list[str], **options: Any) -> Any:
        asked.append(argv[-1])
        return real(argv, **options)

    monkeypatch.setattr(subprocess, "run", run)
    return asked
