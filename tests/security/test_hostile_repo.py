"""A checkout from a stranger: it widens no right of its own, runs nothing here and costs little."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from support.trees import Link, checkout, git, make

from rch.config.discover import discover
from rch.config.invocation import policy_for
from rch.config.keys import is_table, known_keys, shown
from rch.config.layers import Resolved, load_config
from rch.config.root import find_root
from rch.config.schema import Config
from rch.contract.classifier import Rejected, classify
from rch.contract.denied import WORKER_OWNED
from rch.contract.errors import Failure
from rch.contract.local_api import SubmitParams
from rch.contract.policy import POLICY_ONLY
from rch.files.paths import host_paths
from rchctl.commands.init import config_text
from rchd.edges.git import describe, ignored, tracked
from rchd.edges.ignore import Patterns
from rchd.edges.intake import Intake
from rchd.edges.snapshot import SnapshotOptions, take

PACKAGE: dict[str, str | bytes | Link | None] = {
    "Package.swift": "// swift-tools-version: 5.9\n",
    "a.swift": "1\n",
}
XCODE = """backend = "xcodebuild"
[project]
workspace = "App.xcworkspace"
schemes = ["App"]
configurations = ["Debug"]
[destination]
value = "platform=macOS"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "root", PACKAGE)


def load(root: Path, repo: str | None = None, host: str = "", **overrides: object) -> Resolved:
    if repo is not None:
        make(root, {".rch/xcode.toml": repo})
    config = root.parent / "config.toml"
    config.write_text(host)
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_config(find_root(root), host_config=config, overrides=dotted)


def refusal(root: Path, repo: str | None = None, host: str = "", **overrides: object) -> Failure:
    with pytest.raises(Failure) as caught:
        load(root, repo, host, **overrides)
    assert caught.value.exit_code == 3
    return caught.value


# --- its own rights -------------------------------------------------------------------------

# For each key that a repo has, a value that is not the built-in one, as TOML.
OTHERS = {
    "backend": '"swiftpm"',
    "project.workspace": '"Other.xcworkspace"',
    "project.project": '"Other.xcodeproj"',
    "project.package": '"."',
    "project.schemes": '["Other"]',
    "project.configurations": '["release"]',
    "actions.verify": '["build"]',
    "actions.step": '[{ action = "build" }]',
    "destination.value": '"platform=macOS"',
    "destination.provisioning": '"ephemeral"',
    "toolchain.xcode_build": '"16C5032a"',
    "toolchain.xcode_version": '"16"',
    "toolchain.swift_version": '"6"',
    "timeouts.overall_seconds": "86400",
    "timeouts.idle_log_seconds": "7",
    "timeouts.connect_timeout_seconds": "7",
    "bundle.mode": '"git_index"',
    "bundle.symlinks": '"dereference"',
    "bundle.gitignore": "true",
    "bundle.max_bytes": "9007199254740991",
    "cache.namespace": '"other"',
    "cache.derived_data": '"shared"',
    "cache.spm": '"off"',
    "cache.workspace": '"warm"',
    "cache.results": "false",
    "run.continue_on_failure": "true",
    "run.artifact_profile": '"minimal"',
    "run.allow_no_tests": "true",
    "run.allow_narrowing": "true",
    "run.retry_tests": "5",
    "run.retry_infrastructure": "1",
    "selection.tags": '["fast"]',
    "selection.mode": '"adaptive"',
    "selection.on_busy": '"wait"',
    "selection.probe_ttl_seconds": "0",
    "queue.max_wait_seconds": "7",
}


def test_the_table_of_locks_has_every_key() -> None:
    keys = {key for key, kind in known_keys(Config).items() if not is_table(kind)}
    own = {key for key in keys if not key.startswith("policy.")} - {"schema_version"}
    assert set(OTHERS) == own


@pytest.mark.spec("6")
@pytest.mark.parametrize("whole", ["", "table"], ids=["key", "table"])
@pytest.mark.parametrize("key", OTHERS)
def test_a_locked_key_is_refused_to_repo_and_command_line_alike(key: str, whole: str, root: Path) -> None:
    table, _, leaf = key.rpartition(".")
    lock = table if whole and table else key
    host = f"[policy]\nlock = ['{lock}']\n"
    value = tomllib.loads(f"v = {OTHERS[key]}")["v"]
    repo = f"[{table}]\n{leaf} = {OTHERS[key]}\n" if table else f"{key} = {OTHERS[key]}\n"
    told = [refusal(root, repo, host)]
    shutil.rmtree(root / ".rch")
    if key != "backend":  # an implied package has said its own
        told.append(refusal(root, None, host, **{key.replace(".", "__"): value}))
    for failure in told:
        assert failure.label == "CONFIG / LOCKED"
        assert f"{key}: cannot be {shown(value)}" in failure.message
        assert f'[policy] lock "{lock}" keeps it at ' in failure.message


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("lock", "repo"),
    [
        ("actions.verify", "[[actions.step]]\naction = 'build'\n"),
        ("toolchain.xcode_version", "[toolchain]\nxcode_build = '16C5032a'\n"),
        ("project.workspace", "[project]\nproject = 'A.xcodeproj'\n"),
    ],
)
def test_a_lock_holds_what_would_take_the_place_of_its_key(lock: str, repo: str, root: Path) -> None:
    failure = refusal(root, repo, f"[policy]\nlock = ['{lock}']\n")
    assert failure.label == "CONFIG / LOCKED"
    assert f'lock "{lock}"' in failure.message


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    "table",
    ["lock = []", "allow_flags = ['-skipMacroValidation']", "[[policy.namespace]]\nname='a'\nroot='/'"],
)
def test_a_repo_has_no_policy(table: str, root: Path) -> None:
    repo = f"[policy]\n{table}\n" if not table.startswith("[") else f"{table}\n"
    assert refusal(root, repo).label == "CONFIG / LOCKED"


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    "text",
    [
        "[env]\nPATH = '/tmp'\n",
        "env = { DEVELOPER_DIR = '/x' }\n",
        "[worker]\nswift = '/x'\n",
        "[project]\npackage = '../other'\n",
        "[project]\npackage = '/etc'\n",
        "[cache]\nnamespace = '../other'\n",
        "[cache]\nnamespace = '/etc'\n",
        "[cache]\nnamespace = '.hidden'\n",
        "[cache]\nnamespace = 'a\\u0000b'\n".replace("'", '"'),
        "[timeouts]\noverall_seconds = 86401\n",
        "[timeouts]\nidle_log_seconds = 0\n",
        "[bundle]\nmax_bytes = 9007199254740992\n",
        "[bundle]\nmax_bytes = 99999999999999999999999999\n",
        "[bundle]\nmax_bytes = -1\n",
        "[run]\nretry_tests = 6\n",
        "[run]\nallow_flags = ['-sdk']\n",
        "[actions]\nverify = [" + "'build', " * 101 + "]\n",
        "[actions]\n" + "[[actions.step]]\naction = 'build'\n" * 101,
        "[[actions.step]]\naction = 'test'\nonly_testing = ['-resultBundlePath']\n",
        "[[actions.step]]\naction = 'build'\nconfiguration = '--scratch-path'\n",
    ],
)
def test_what_no_repo_may_say_is_refused_before_anything_runs(text: str, root: Path) -> None:
    refusal(root, text)


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    "path",
    ["/Applications/App.xcworkspace", "../App.xcworkspace", "a/../../App.xcworkspace", "./App.xcworkspace"],
)
def test_a_container_outside_of_the_root_is_refused(path: str, root: Path) -> None:
    make(root.parent, {"App.xcworkspace": None})
    assert "is not a relative path" in refusal(root, XCODE.replace("App.xcworkspace", path)).message


@pytest.mark.spec("6")
def test_a_repo_cannot_have_a_flag_that_is_the_workers_or_the_hosts(root: Path) -> None:
    make(root, {"App.xcworkspace": None})
    plain = policy_for(load(root, XCODE).config)
    assert plain.allow_flags == ()
    base = ["xcodebuild", "test", "-workspace", "App.xcworkspace", "-scheme", "App"]
    base += ["-destination", "platform=macOS"]
    assert not isinstance(classify(base, plain), Rejected)
    flags = {flag for flag in WORKER_OWNED if flag.startswith("-")} | (POLICY_ONLY - {"TEST_RUNNER_*"})
    for flag in sorted(flags):
        for words in ([flag], [flag, "value"]):
            assert isinstance(classify([*base, *words], plain), Rejected), words
    assert isinstance(classify([*base, "TEST_RUNNER_A=1"], plain), Rejected)
    for plan in ("/etc/Plan", "../Plan", "-Plan"):
        assert isinstance(classify([*base, "-testPlan", plan], plain), Rejected), plan
    allowed = policy_for(load(root, XCODE, "[policy]\nallow_flags = ['-skipMacroValidation']\n").config)
    assert not isinstance(classify([*base, "-skipMacroValidation"], allowed), Rejected)


@pytest.mark.spec("11")
def test_a_namespace_that_the_host_keeps_for_a_project_is_no_others(root: Path) -> None:
    home = make(root.parent / "mine", PACKAGE)
    host = f"[[policy.namespace]]\nname = 'myapp'\nroot = '{home}'\n"
    for name in ("myapp", "MyApp"):  # one folder on a Mac
        failure = refusal(root, f"[cache]\nnamespace = '{name}'\n", host)
        assert failure.label == "CONFIG / LOCKED"
        assert f'cache.namespace = "{name}" is for other projects' in failure.message
    assert refusal(root, "backend = 'swiftpm'\n", host, cache__namespace="myapp").label == "CONFIG / LOCKED"
    assert load(root, "[cache]\nnamespace = 'other'\n", host).config.cache.namespace == "other"
    below = make(home / "nested", PACKAGE)
    assert load(below, "[cache]\nnamespace = 'myapp'\n", host).config.cache.namespace == "myapp"


@pytest.mark.spec("5")
@pytest.mark.parametrize("symlinks", ["preserve", "dereference"])
@pytest.mark.parametrize("form", ["file", "folder", "in steps", "of its own folder"])
def test_no_link_brings_a_file_from_outside_into_a_bundle(form: str, symlinks: str, root: Path) -> None:
    make(root.parent, {"home/.ssh/id_ed25519": "the key"})
    links: dict[str, dict[str, str | bytes | Link | None]] = {
        "file": {"x": Link("../home/.ssh/id_ed25519")},
        "folder": {"x": Link(str(root.parent / "home"))},
        "in steps": {"a/b": Link(".."), "x": Link("a/b/../home/.ssh/id_ed25519")},
        "of its own folder": {".rch": Link("../home/.ssh")},
    }
    make(root, links[form])
    options = msgspec.convert({"symlinks": symlinks}, SnapshotOptions)
    with pytest.raises(Failure) as caught:
        take(root, options, root.parent / "spool")
    assert caught.value.subkind in {"SYMLINK_ESCAPE", "UNSUPPORTED_FILE"}
    assert not [name for name in (root.parent / "spool").rglob("*") if name.is_file()]


# --- what it costs to look at it ------------------------------------------------------------


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Of the processor's time, which other work does not lengthen: tells moments from ages."""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


BOMBS = {
    "nested lists": "a = " + "[" * 10_000 + "]" * 10_000,
    "nested tables": "a = " + "{b = " * 10_000 + "1" + "}" * 10_000,
    "a dotted key": "a" + ".a" * 200_000 + " = 1",
    "a dotted header": "[a" + ".a" * 200_000 + "]",
    "a quoted dotted key": '"a"' + ' . "a"' * 100_000 + " = 1",
    "a long number": "[timeouts]\noverall_seconds = " + "9" * 500_000,
    "a long hexadecimal number": "[timeouts]\noverall_seconds = 0x" + "f" * 500_000,
    "a long key": "a" * 900_000 + " = 1",
    "a wide header": "[" + " " * 900_000 + "a]",
    "many keys": "".join(f"k{n} = 1\n" for n in range(60_000)),
    "many quotes": "a = [" + "'a'," * 200_000 + "]",
    "no TOML": "\x00" * 1000,
    "a bad character": "\xff" * 1000,
}


@pytest.mark.spec("6")
@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_config_that_is_a_bomb_is_refused_in_a_moment(text: str, root: Path) -> None:
    with within(20):
        failure = refusal(root, text)
    assert len(failure.message) < 1000
    assert "\n" not in failure.message


@pytest.mark.spec("6")
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "sparse", "outside", "loop"])
@pytest.mark.parametrize("name", [".rch/xcode.toml", "Package.swift"])
def test_a_file_that_is_none_is_refused_and_never_waited_for(kind: str, name: str, root: Path) -> None:
    place = root / name
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    (root.parent / "beside").write_text("backend = 'swiftpm'\n")
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "sparse":
        with place.open("wb") as file:
            file.truncate(2 << 30)
    else:
        targets = {"device": "/dev/zero", "outside": str(root.parent / "beside"), "loop": str(place)}
        place.symlink_to(targets[kind])
    with within(20):
        if name == "Package.swift":
            # Looked at by `init` alone; what it would be built of is not read here.
            if kind == "outside":
                return
            with pytest.raises(Failure):
                discover(root)
        else:
            refusal(root)


def test_a_project_file_made_to_be_searched_for_ever_is_not(root: Path) -> None:
    (root / "Package.swift").unlink()
    text = "isa = XCBuildConfiguration; x\n" * 200_000 + 'isa = XCBuildConfiguration; name = "Q\x7fA"; '
    text += "isa = XCBuildConfiguration; name = Debug; SDKROOT = macosx;"
    make(root, {"App.xcodeproj/project.pbxproj": text})
    schemes = root / "App.xcodeproj/xcshareddata/xcschemes"
    make(schemes, {"App.xcscheme": "<TestableReference", 'x"\n[policy].xcscheme': "x"})
    os.mkfifo(schemes / "pipe\x1b.xcscheme")
    Path(os.fsdecode(os.fsencode(schemes) + b"/\xff.xcscheme")).write_text("x")
    with within(20):
        found = discover(root)
    assert found.schemes == ("App",)
    assert found.configurations == ("Debug",)
    assert tomllib.loads(config_text(found))["project"]["schemes"] == ["App"]


@pytest.mark.spec("5")
@pytest.mark.parametrize(
    "pattern", ["*a" * 60 + "*b", "**/a/**/a/**/a*a*a*b", "[a-b]*" * 50 + "c", "*?*?*?*?*?*b"]
)
def test_a_pattern_made_to_be_tried_in_every_way_is_tried_in_one(pattern: str) -> None:
    rules = Patterns([pattern])
    with within(20):
        assert not rules.match("a" * 255, folder=False)
        assert not rules.match("/".join(["aaaaaaa"] * 128), folder=False)
        assert not rules.match("a/" * 2000 + "a", folder=True)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["x"] * 1001, "line 1001: is past the 1000 patterns"),
        (["x" * 1001], "line 1: is over 1000 characters"),
        (["a/**/b/**/c/**/d"], "line 1: has more than 2 '**' between names"),
        (["a\0b"], "line 1: is over 1000 characters, or holds a zero byte"),
    ],
)
def test_an_ignore_file_has_bounds(lines: list[str], said: str) -> None:
    with pytest.raises(Failure, match=r"line \d") as caught:
        Patterns(lines)
    assert said in caught.value.message


def test_an_ignore_file_of_a_million_lines_is_refused_at_once(root: Path) -> None:
    make(root, {".rchignore": "x\n" * 500_000})
    with within(20), pytest.raises(Failure, match="patterns"):
        take(root, SnapshotOptions(), root.parent / "spool")


@pytest.mark.spec("5")
def test_folders_five_thousand_deep_are_refused_by_name(root: Path) -> None:
    make(root, {".rchignore": "**/a/**/b\n"})
    here = os.open(root, os.O_RDONLY)
    try:
        for _ in range(5000):
            os.mkdir("a", dir_fd=here)
            below = os.open("a", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    finally:
        os.close(here)
    try:
        with within(60), pytest.raises(Failure) as caught:
            take(root, SnapshotOptions(), root.parent / "spool")
        assert caught.value.exit_code == 92
        assert len(caught.value.message) < 1000
    finally:
        subprocess.run(["rm", "-rf", str(root)], check=True)


def test_a_name_of_255_bytes_full_of_escapes_is_told_harmlessly(root: Path) -> None:
    name = "\x1b]0;owned\x07\n\u202e" + "x" * 241
    assert len(name.encode()) == 255
    os.mkfifo(root / name)  # what a bundle refuses by name
    with pytest.raises(Failure) as caught:
        take(root, SnapshotOptions(), root.parent / "spool")
    assert caught.value.subkind == "UNSUPPORTED_FILE"
    assert caught.value.message.isprintable()


# --- nothing of it runs ---------------------------------------------------------------------


def trap_of(mark: Path) -> str:
    return f"sh -c 'touch {mark}; cat'"


def spring_loaded(root: Path, mark: Path) -> Path:
    """A checkout in which git, asked in a plain way, would run something."""
    checkout(root, {})
    trap = trap_of(mark)
    hooks = make(root / ".git" / "traps", {"post-index-change": f"#!/bin/sh\ntouch {mark}\n"})
    (hooks / "post-index-change").chmod(0o755)
    included = make(
        root / ".git", {"included": f"[core]\n\tfsmonitor = {trap}\n[alias]\n\tstatus = !touch {mark}\n"}
    )
    for key, value in {
        "include.path": str(included / "included"),
        "core.hooksPath": str(hooks),
        "core.pager": trap,
        "core.sshCommand": trap,
        "core.askPass": trap,
        "core.gitProxy": trap,
        "credential.helper": f"!touch {mark}",
        "diff.external": trap,
        "diff.trap.textconv": trap,
        "filter.trap.clean": trap,
        "filter.trap.process": trap,
        "filter.trap.required": "true",
        "alias.ls-files": f"!touch {mark}",
        "status.submoduleSummary": "true",
        "gpg.program": trap,
        "log.showSignature": "true",
    }.items():
        git(root, "config", key, value)
    make(root, {".git/info/attributes": "* filter=trap diff=trap\n"})
    content = (root / "a.swift").read_bytes()
    (root / "a.swift").unlink()
    (root / "a.swift").write_bytes(content)  # the same, but git has to look inside to know
    mark.unlink(missing_ok=True)
    return root


@pytest.mark.spec("1")
async def test_no_verb_that_looks_runs_anything_of_a_checkout(root: Path, tmp_path: Path) -> None:
    mark = tmp_path / "sprung"
    spring_loaded(root, mark)
    make(root, {"Package.swift": f'import Foundation\nsystem("touch {mark}")\n'})
    make(root, {"git": f"#!/bin/sh\ntouch {mark}\n", "swift": f"#!/bin/sh\ntouch {mark}\n"})
    for name in ("git", "swift"):
        (root / name).chmod(0o755)
    env = {**os.environ, "RCH_HOME": str(tmp_path / "home"), "PATH": f".:{root}:{os.environ['PATH']}"}
    for words in (
        ["init", "--print"],
        ["explain", "--", "swift", "build"],
        ["config", "show"],
        ["config", "validate"],
    ):
        looked = [sys.executable, "-m", "rchctl", *words]
        await anyio.run_process(looked, cwd=root, env=env)
    intake = Intake(host_paths({"RCH_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}))
    try:
        for overrides in ({}, {"bundle.gitignore": "true"}, {"bundle.mode": "git_index"}):
            accepted = await intake.take(SubmitParams(start=str(root), overrides=overrides))
            assert accepted.git is not None
            await intake.draft(SubmitParams(start=str(root), overrides=overrides))
    finally:
        intake.close()
    assert not mark.exists()
    await anyio.run_process(["git", "status"], cwd=root, check=False)
    assert mark.exists(), "without our settings the same checkout does run something"


def test_no_program_of_a_checkout_is_taken_for_git(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "sprung"
    checkout(root, {})
    make(root, {"git": f"#!/bin/sh\ntouch {mark}\n"})
    (root / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f".::{root}:{os.environ['PATH']}")
    assert describe(root) is not None
    assert tracked(root)
    assert not mark.exists()


def test_git_lfs_runs_no_extension_of_a_checkout(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for Git LFS in the user's own settings; the real one runs what a checkout names."""
    mark = tmp_path / "sprung"
    config = str(tmp_path / "gitconfig")
    for key, value in {"clean": trap_of(mark), "required": "true"}.items():
        subprocess.run(["git", "config", "--file", config, f"filter.lfs.{key}", value], check=True)
    checkout(root, {".gitattributes": "*.swift filter=lfs\n"})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", config)
    (root / "a.swift").write_text("2\n")
    assert describe(root) is not None
    assert mark.exists(), "what the user has set is the user's"
    mark.unlink()
    git(root, "config", "lfs.extension.x.clean", "anything")
    os.utime(root / "a.swift", (1, 1))
    assert describe(root) is not None
    assert not mark.exists()


def test_a_checkout_whose_folder_or_tree_lies_elsewhere_lists_nothing_of_there(
    root: Path, tmp_path: Path
) -> None:
    other = checkout(tmp_path / "other", {"private": "x", ".gitignore": "*.key\n"})
    make(other, {"id.key": "x"})
    make(root, {".git": f"gitdir: {other / '.git'}\n"})
    options = msgspec.convert({"gitignore": True}, SnapshotOptions)
    snapshot = take(root, options, tmp_path / "spool")
    assert {entry.path for entry in snapshot.entries} == {"Package.swift", "a.swift"}
    (root / ".git").unlink()
    checkout(root, {})
    git(root, "config", "core.worktree", str(other))
    for question in (tracked, ignored):
        try:
            told = question(root)
        except Exception as error:  # noqa: BLE001  (git's own refusal is as good)
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert "id.key" not in told


def test_a_crowd_of_submodules_is_not_asked_for_ever(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rchd.edges import git as module

    checkout(root.parent / "dep", {"x": "x"})
    checkout(root, {})
    for name in ("d1", "d2", "d3"):
        git(root, "submodule", "--quiet", "add", str(root.parent / "dep"), name)
    git(root, "commit", "-q", "-m", "more")
    assert describe(root) is not None
    monkeypatch.setattr(module, "_MAX_SUBMODULES", 2)
    assert describe(root) is None
