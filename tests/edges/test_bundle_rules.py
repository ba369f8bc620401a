"""What is left out: .rchignore read as git reads it, gitignore, the index."""

from __future__ import annotations

import os
import random
from pathlib import Path

import msgspec
import pytest
from support.trees import Link, bundled, checkout, git, make

from rch.contract.errors import Failure, Kind
from rchd.edges.ignore import Patterns
from rchd.edges.snapshot import Snapshot, SnapshotOptions, take


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def snap(root: Path, **options: object) -> Snapshot:
    return take(root, msgspec.convert(options, SnapshotOptions), root.parent / "spool")


def held(root: Path, **options: object) -> list[str]:
    return sorted(bundled(snap(root, **options)))


def refused(root: Path, **options: object) -> Failure:
    with pytest.raises(Failure) as caught:
        snap(root, **options)
    return caught.value


@pytest.mark.spec("5")
def test_rchignore_leaves_out_by_gitignore_syntax(root: Path) -> None:
    make(
        root,
        {
            ".rchignore": "# notes\n\n*.mov\n/docs/\nbuild/*\n!build/keep\n!important.mov\n"
            "Pods/**/Tests\r\nend\\ \n",
            "a.mov": "x",
            "important.mov": "x",
            "deep/b.mov": "x",
            "docs/a": "x",
            "deep/docs/a": "x",
            "build/x": "x",
            "build/keep": "x",
            "Pods/Tests/a": "x",
            "Pods/a/b/Tests/c": "x",
            "Pods/a/b/c": "x",
            "end ": "x",
        },
    )
    assert held(root) == [
        ".rchignore",
        "Pods/a/b/c",
        "build/keep",
        "deep/docs/a",
        "important.mov",
    ]


@pytest.mark.spec("5")
def test_rchignore_can_bring_back_below_a_line_for_everything(root: Path) -> None:
    make(root, {".rchignore": "*\n!*/\n!*.swift\n", "a/b/c.swift": "x", "a/b/c.txt": "x", "d.swift": "x"})
    assert held(root) == ["a/b/c.swift", "d.swift"]


@pytest.mark.spec("5")
@pytest.mark.parametrize(
    "line", ["*", ".rch", ".rch/", ".rch/*", "xcode.toml", "**/xcode.toml", "/.rch/xcode.toml"]
)
def test_rchignore_cannot_remove_the_config(line: str, root: Path) -> None:
    make(root, {".rchignore": f"{line}\n", ".rch/xcode.toml": "x", ".rch/other": "x", "a": "x"})
    assert ".rch/xcode.toml" in held(root)
    assert ".rch/other" not in held(root)


@pytest.mark.spec("5")
def test_rchignore_cannot_bring_back_what_is_never_in(root: Path) -> None:
    make(root, {".rchignore": "!.build/\n!.git/\n!*.xcresult/\n", ".build/a": "x", ".git/a": "x", "b": "x"})
    assert held(root) == [".rchignore", "b"]


@pytest.mark.spec("5")
def test_a_config_folder_that_is_a_link_is_refused(root: Path) -> None:
    make(root, {"conf/xcode.toml": "x", ".rch": Link("conf")})
    assert refused(root).label == "BUNDLER / UNSUPPORTED_FILE"


@pytest.mark.spec("5")
@pytest.mark.parametrize(
    ("content", "said"),
    [(b"ok\n\xff\n", "not UTF-8"), (b"a\n!\n", "line 2"), (b"#" * ((1 << 20) + 1), "over 1048576 bytes")],
)
def test_an_rchignore_that_cannot_be_read_says_where(content: bytes, said: str, root: Path) -> None:
    make(root, {".rchignore": content})
    failure = refused(root)
    assert (failure.kind, failure.exit_code) == (Kind.CONFIG, 3)
    assert said in failure.message


@pytest.mark.spec("5")
def test_an_rchignore_that_is_a_link_is_refused(root: Path) -> None:
    make(root, {"a": "x", ".rchignore": Link("a")})
    assert refused(root).label == "BUNDLER / UNREADABLE"


PARTS = (
    "a",
    "b",
    "foo",
    "*",
    "**",
    "*.o",
    "?",
    "[ab]",
    "[!a]",
    "f*",
    r"c\ d",
    "c d",
    "f[o]o",
    r"\!a",
    "x.o",
)


def any_line(pick: random.Random) -> str:
    body = "/".join(pick.choice(PARTS) for _ in range(pick.choice((1, 1, 1, 2, 3))))
    before = pick.choice(("", "", "", "/", "!", "!", "!/"))
    return before + body + pick.choice(("", "", "/"))


@pytest.mark.spec("5")
@pytest.mark.parametrize("seed", range(3))
def test_patterns_mean_what_git_means(seed: int, root: Path) -> None:
    """The same lines and the same tree: what git leaves in is what we leave in."""
    pick = random.Random(seed)  # noqa: S311  (a repeatable choice, no secret)
    for _ in range(50):
        folders = "/".join(pick.choice(("a", "b", "foo", "c d")) for _ in range(pick.randrange(4)))
        name = pick.choice(("a", "b", "foo", "x.o", "y.swift"))
        path = root / folders / name
        if not any(parent.is_file() for parent in path.parents) and not path.is_dir():
            make(root, {str(path.relative_to(root)): "x"})
    git(root, "init", "-q")
    for _ in range(60):
        lines = [any_line(pick) for _ in range(pick.randrange(1, 5))]
        (root / ".git" / "info" / "exclude").write_text("\n".join(lines) + "\n")
        theirs = set(git(root, "ls-files", "-z", "--others", "--exclude-standard").split("\0")) - {""}
        patterns = Patterns(lines)
        ours = set()
        for folder, below, files in os.walk(root):
            here = os.path.relpath(folder, root).removeprefix(".")
            at = f"{here}/" if here else ""
            below[:] = [one for one in below if one != ".git" and not patterns.match(at + one, folder=True)]
            ours |= {at + one for one in files if not patterns.match(at + one, folder=False)}
        assert ours == theirs, lines


def project(root: Path) -> Path:
    return checkout(
        root,
        {
            ".gitignore": "*.log\nGenerated/\nApp.xcodeproj\n/secrets.env\n",
            "Sources/main.swift": "x",
            "Sources/.gitignore": "local.*\n",
            "é/ok": "x",
        },
    )


MESS: dict[str, str | bytes | Link | None] = {
    "a.log": "x",
    "secrets.env": "x",
    "Sources/local.swift": "x",
    "Sources/new.swift": "x",
    "Generated/deep/x.swift": "x",
    "App.xcodeproj/project.pbxproj": "x",
    "App.xcodeproj/xcuserdata/me": "x",
    "é/é.log": "x",
}


@pytest.mark.spec("5")
def test_the_worktree_is_all_that_is_there_ignored_by_git_or_not(root: Path) -> None:
    make(project(root), MESS)
    assert held(root) == sorted({".gitignore", "Sources/main.swift", "Sources/.gitignore", "é/ok", *MESS})


@pytest.mark.spec("5")
def test_gitignore_leaves_out_what_git_ignores_but_never_the_project(root: Path) -> None:
    make(project(root), MESS)
    git(root, "add", "-f", "a.log")
    base = [".gitignore", "Sources/.gitignore", "Sources/main.swift", "Sources/new.swift", "a.log", "é/ok"]
    assert held(root, gitignore=True) == base
    kept = [one for one in MESS if one.startswith("App.")]
    assert held(root, gitignore=True, keep=["./App.xcodeproj/"]) == sorted([*base, *kept])
    assert held(root, gitignore=True, keep=["Generated/deep"]) == sorted([*base, "Generated/deep/x.swift"])
    assert held(root, gitignore=True, keep=["."]) == base


@pytest.mark.spec("5")
def test_gitignore_opens_an_ignored_folder_for_the_project_alone(root: Path) -> None:
    make(
        project(root),
        {"Generated/other": "x", "Generated/App.xcodeproj/p": "x", "Generated/deep/App.x/p": "x"},
    )
    assert [
        one for one in held(root, gitignore=True, keep=["Generated/App.xcodeproj"]) if "Gen" in one
    ] == ["Generated/App.xcodeproj/p"]


@pytest.mark.spec("5")
def test_gitignore_never_leaves_out_the_config(root: Path) -> None:
    checkout(root, {".gitignore": ".rch\n*.toml\n"})
    make(root, {".rch/xcode.toml": "x", "other.toml": "x"})
    assert held(root, gitignore=True) == [".gitignore", ".rch/xcode.toml"]
    assert held(root, mode="git_index") == [".gitignore", ".rch/xcode.toml"]


@pytest.mark.spec("5")
def test_gitignore_asks_each_checkout_for_its_own(root: Path) -> None:
    checkout(root / "vendor" / "dep", {".gitignore": "out/\n", "src": "x", "!first": "x"})
    make(project(root), {"vendor/dep/out/x": "x", "vendor/dep/a.log": "x", "out/x": "x"})
    assert held(root, gitignore=True) == [
        ".gitignore",
        "Sources/.gitignore",
        "Sources/main.swift",
        "out/x",
        "vendor/dep/!first",
        "vendor/dep/.gitignore",
        "vendor/dep/a.log",
        "vendor/dep/src",
        "é/ok",
    ]


@pytest.mark.spec("5")
def test_a_root_below_the_top_of_a_checkout_is_its_own_tree(root: Path) -> None:
    project(root)
    make(root, {"App/Package.swift": "x", "App/a.log": "x", "App/Generated/x": "x"})
    git(root, "add", "-A")
    make(root, {"App/untracked": "x"})
    (root.parent / "spool").mkdir()
    below = root / "App"
    spool = root.parent / "spool"
    taken = take(below, SnapshotOptions(gitignore=True), spool)
    assert sorted(bundled(taken)) == ["Package.swift", "untracked"]
    taken = take(below, SnapshotOptions(mode="git_index"), spool)
    assert sorted(bundled(taken)) == ["Package.swift"]


@pytest.mark.spec("5")
def test_git_index_takes_the_worktree_bytes_of_the_index(root: Path) -> None:
    checkout(root, {"a": "committed", "b": "x", "gone": "x", ".swiftpm/x": "x", "l": Link("a"), "é": "x"})
    make(root, {"a": "edited", "untracked": "x", "staged": "x"})
    (root / "gone").unlink()
    git(root, "add", "staged")
    make(root, {".rchignore": "b\n"})
    os.mkfifo(root / "pipe")
    assert bundled(snap(root, mode="git_index")) == {
        "a": b"edited",
        "l": Link("a"),
        "staged": b"x",
        "é": b"x",
    }


@pytest.mark.spec("5")
def test_git_index_takes_submodules_and_warns_of_those_that_are_not_there(root: Path) -> None:
    checkout(root.parent / "dep", {"dep.swift": "x", "sub/more": "x"})
    checkout(root, {"a": "x"})
    for name in ("there", "missing"):
        git(root, "submodule", "--quiet", "add", str(root.parent / "dep"), name)
    make(root, {"there/untracked": "x"})
    git(root, "submodule", "--quiet", "deinit", "-f", "missing")
    taken = snap(root, mode="git_index")
    assert sorted(bundled(taken)) == [".gitmodules", "a", "there/dep.swift", "there/sub/more"]
    assert taken.warnings == ("missing: the submodule is not checked out and is left out",)


@pytest.mark.spec("5")
@pytest.mark.parametrize("options", [{"mode": "git_index"}, {"gitignore": True}])
def test_settings_that_need_git_say_so_without_it(
    options: dict[str, object], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, {"a": "x"})
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    failure = refused(root, **options)
    assert failure.label == "CONFIG / BAD_VALUE"
    assert "not a git repository" in failure.message
    monkeypatch.setenv("PATH", "/nowhere")
    assert "git is not installed" in refused(root, **options).message
