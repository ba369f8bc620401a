"""What git says about a checkout, asked so that the checkout runs nothing here.

A checkout's own configuration names programs that git would start: a file system monitor,
hooks, content filters, helpers of odd transports. Each is switched off for our questions;
what the user's own configuration names stays, for it is the user's.
"""

from __future__ import annotations

import math
import os
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

from rch.contract.records import Git
from rch.contract.redact import scrub

DESCRIBE_SECONDS = 5.0
"""For all that a run has on record of its checkout: a snapshot waits for it, and others for that."""
_TIMEOUT = 30.0
_until: ContextVar[float] = ContextVar("until", default=math.inf)
_MAX_NESTING = 8
_MAX_SUBMODULES = 100
_KEPT_VARIABLES = frozenset(
    {
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_EXEC_PATH",
        "GIT_CEILING_DIRECTORIES",
    }
)
_OVERRIDES = (
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.sshCommand=false"),
    *("-c", "core.askPass="),
    *("-c", "core.gitProxy="),
    *("-c", "credential.helper="),
    *("-c", "diff.external="),
    *("-c", "status.submoduleSummary=false"),
)
_GITLINK = b"160000 "
_MAX_WORD = 4096
_TREE_FILES = (".gitignore", ".gitattributes", ".gitmodules")
_OWN_FILES = (
    *("HEAD", "config", "config.worktree", "index", "packed-refs", "shallow"),
    *("info/exclude", "info/attributes", "info/grafts", "info/sparse-checkout", "objects/info/alternates"),
)


class GitError(Exception):
    """Git could not answer; one line, in git's own words where it had some."""


def describe(root: Path) -> Git | None:
    """Commit, branch (None when detached) and whether anything below `root` differs from the commit.

    Untracked files count, and so do changes in submodules. None where there is no git, no
    checkout, no commit yet, or no answer in time: the record is a courtesy, never a condition.
    """
    before = _until.set(time.monotonic() + DESCRIBE_SECONDS)
    try:
        return _describe(root)
    except GitError:
        return None
    finally:
        _until.reset(before)


def ignored(root: Path) -> list[str]:
    """What git ignores below `root`, relative to it; a folder that is ignored whole ends in "/".

    Checkouts inside the checkout are not looked into. `GitError` where git cannot tell.
    """
    _refuse_elsewhere(root)
    out = _git(root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    return _names(out)


def tracked(root: Path) -> list[str]:
    """The paths of the index below `root`, those of submodules too. `GitError` where git cannot tell.

    A submodule that is not checked out is there by its own path.
    """
    _refuse_elsewhere(root)
    return _names(_git(root, "ls-files", "-z", "--cached", "--recurse-submodules"))


def _refuse_elsewhere(root: Path) -> None:
    """A checkout can say that its files lie in another place: of that one nothing is told."""
    top = os.fsdecode(_git(root, "rev-parse", "--show-toplevel").removesuffix(b"\n"))
    if not root.resolve().is_relative_to(Path(top).resolve()):
        raise GitError("the work tree of this checkout lies elsewhere")


def _describe(root: Path) -> Git | None:
    _refuse_elsewhere(root)
    head, changed = _status(root)
    commit = head.get("branch.oid", "(initial)")
    if commit == "(initial)":
        return None
    branch = head.get("branch.head", "(detached)")
    return Git(
        commit=commit,
        branch=None if branch == "(detached)" else scrub(branch),
        dirty=changed or _submodule_changed(root, [_MAX_SUBMODULES], 0),
    )


def _status(root: Path) -> tuple[dict[str, str], bool]:
    """The branch lines, and whether there is any other."""
    out = _git(
        root,
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--untracked-files=normal",
        "--ignore-submodules=dirty",  # git would ask them with their own configuration
        "--",
        ".",
        filters=_local_filters(root),
    )
    head: dict[str, str] = {}
    changed = False
    for line in _names(out):
        if line.startswith("# "):
            key, _, value = line[2:].partition(" ")
            head[key] = value
        else:
            changed = True
    return head, changed


def _submodule_changed(root: Path, left: list[int], depth: int) -> bool:
    """Whether a submodule differs from its own commit; `GitError` where they are too many (`left`)."""
    listed = _git(root, "ls-files", "-z", "--stage").split(b"\0")
    links = [os.fsdecode(line.partition(b"\t")[2]) for line in listed if line.startswith(_GITLINK)]
    for link in links:
        below = root / link
        if depth == _MAX_NESTING or not os.path.lexists(below / ".git") or not _is_inside(below, root):
            continue
        left[0] -= 1
        if left[0] < 0:
            raise GitError(f"over {_MAX_SUBMODULES} submodules")
        if _status(below)[1] or _submodule_changed(below, left, depth + 1):
            return True
    return False


def _is_inside(path: Path, root: Path) -> bool:
    """Whether a path, which an index may hold in any form, is really below a folder."""
    return Path(os.path.normpath(path)) == path.resolve() and path.resolve().is_relative_to(root.resolve())


def _local_filters(root: Path) -> dict[str, str]:
    """Settings that switch off every content filter that the checkout itself defines.

    Git LFS, which is the user's own filter, would run what a checkout sets as its extension: there all
    filters are off.
    """
    asked = ("config", "-z", "--show-scope", "--name-only", "--get-regexp", r"^(filter|lfs)\.")
    out = _git(root, *asked, ok=(0, 1))  # 1: none is set
    fields = _names(out)
    keys = list(zip(fields[::2], fields[1::2], strict=False))
    own = {"local", "worktree"}
    lured = any(scope in own and key.startswith("lfs.extension.") for scope, key in keys)
    off: dict[str, str] = {}
    for scope, key in keys:
        if key.startswith("filter.") and (lured or scope in own):
            name = key.rpartition(".")[0]
            off |= {f"{name}.clean": "", f"{name}.process": "", f"{name}.required": "false"}
    return off


def _git(
    root: Path, *arguments: str, filters: Mapping[str, str] | None = None, ok: tuple[int, ...] = (0,)
) -> bytes:
    argv = ["git", "--no-pager", *_OVERRIDES, *arguments]
    _refuse_pipes(root)
    seconds = max(0.0, min(_TIMEOUT, _until.get() - time.monotonic()))
    try:
        done = subprocess.run(
            argv,
            cwd=root,
            env=_environment(filters or {}, root),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise GitError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]} gave no answer in {seconds:.0f} s") from None
    except OSError as error:
        raise GitError(f"git does not start: {error.strerror}") from None
    if done.returncode in ok:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip().splitlines()
    raise GitError(said[0] if said else f"git {arguments[0]} ended with {done.returncode}")


def _refuse_pipes(root: Path) -> None:
    """`GitError` where one of git's own files is none: of a pipe it would wait for bytes for ever."""
    place = next(
        (each for folder in (root, *root.parents) if os.path.lexists(each := folder / ".git")), None
    )
    if place is None:
        return
    for path in (*_files_of(place), *(root / name for name in _TREE_FILES)):
        _refuse_pipe(path)


def _files_of(place: Path) -> Iterator[Path]:
    """What git reads of a checkout before anything else, whose `.git` lies at `place`."""
    _refuse_pipe(place)
    own = place if place.is_dir() else place.parent / _word(place, "gitdir:")
    yield own / "commondir"
    common = own / _word(own / "commondir")
    for folder in dict.fromkeys((own, common)):
        yield from (folder / name for name in _OWN_FILES)
    yield common / _word(own / "HEAD", "ref:")


def _word(path: Path, key: str = "") -> str:
    """The one word of a small file of git's, after its key; "" where there is none."""
    _refuse_pipe(path)
    try:
        with path.open("rb") as file:
            line = os.fsdecode(file.read(_MAX_WORD)).split("\n", 1)[0]
    except OSError:
        return ""
    return line.removeprefix(key).strip() if line.startswith(key) and "\0" not in line else ""


def _refuse_pipe(path: Path) -> None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return  # git says what is wrong with it
    is_null = stat.S_ISCHR(found.st_mode) and found.st_rdev == Path(os.devnull).stat().st_rdev
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or is_null):
        raise GitError(f"{path.name} is no file")


def _environment(settings: Mapping[str, str], root: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in _KEPT_VARIABLES}
    kept["PATH"] = _path_outside(kept.get("PATH", os.defpath), root)
    kept |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ASKPASS": "false",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "none",  # no missing object is fetched, by whatever helper
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for number, (key, value) in enumerate(settings.items()):
        kept |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return kept


def _path_outside(path: str, root: Path) -> str:
    """The folders of a PATH in which programs of the user lie, and none of the checkout's."""
    return os.pathsep.join(
        folder
        for folder in path.split(os.pathsep)
        if folder.startswith("/") and not Path(folder).resolve().is_relative_to(root.resolve())
    )


def _names(out: bytes) -> list[str]:
    return [os.fsdecode(name) for name in out.split(b"\0") if name]
