"""What a bundle leaves out (spec section 5).

Asked for every name on the way down; a folder that is left out is not entered, so that a name
is matched by itself alone and never through the folders above it, as git does it.
"""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import pathspec

from rch.contract.errors import Failure, Kind
from rch.contract.tar_names import MAX_DEPTH
from rchd.edges import git

CONFIG = ".rch/xcode.toml"
IGNORE_FILE = ".rchignore"
_MAX_IGNORE_FILE = 1 << 20
_MAX_VERDICTS = 100_000  # of one ignore file
_MAX_RULES = 1000
_MAX_LINE = 1000
_MAX_SPANS = 2  # of any number of folders, within one pattern: each multiplies what a long path costs
_SPAN = "/.+)?/"
_ANY_CHAR, _HOLE = "[^/]", "\0"  # no name holds the second, so that it can stand for the first
_BETWEEN = re.compile(r"(\(\?:\.\+/\)\?|\(\?:/\.\+\)\?/|/)")
# Folders and links to them; a plain file that only has such a name is a file like any other.
_LEFT_OUT_FOLDERS = frozenset({"DerivedData", ".build", ".swiftpm", ".rch"})
_LEFT_OUT = frozenset({".git", ".DS_Store"})
_SPOKEN_OF = _LEFT_OUT | _LEFT_OUT_FOLDERS
RESULTS = ".xcresult"
_BELOW = re.compile(r"/\*\*/\s*$")  # the folders below, which pathspec takes for the one above them
_FOLDER_MARK = "ps_d"  # the group in which pathspec says that it matched a folder


def nfc(name: str) -> str:
    """The form in which names are stored and matched."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class Patterns:
    """Lines in gitignore syntax. `Failure` CONFIG for one that cannot be read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for number, line in enumerate(lines, 1):
            if len(line) > _MAX_LINE or _HOLE in line:
                raise _bad_line(number, f"is over {_MAX_LINE} characters, or holds a zero byte")
            try:
                compiled = pathspec.GitIgnoreSpec.from_lines([_BELOW.sub("/**/*/", nfc(line))]).patterns
            except ValueError as error:
                raise _bad_line(number, str(error)) from None
            for pattern in compiled:
                regex = getattr(pattern, "regex", None)
                if pattern.include is not None and isinstance(regex, re.Pattern):
                    self._rules.append((_bounded(regex, number), pattern.include))
            if len(self._rules) > _MAX_RULES:
                raise _bad_line(number, f"is past the {_MAX_RULES} patterns that are read")
        self._rules.reverse()
        # Most names match nothing: one look tells.
        anything = "|".join(f"(?:{regex.pattern})" for regex, _ in self._rules)
        self._any = re.compile(anything.replace(f"?P<{_FOLDER_MARK}>", "?:")) if anything else None
        self._verdicts: dict[str, bool] = {}

    def __bool__(self) -> bool:
        """Whether any line says anything."""
        return bool(self._rules)

    def match(self, path: str, *, folder: bool) -> bool:
        """Whether the last line that speaks of `path` itself leaves it out; kept, for trees come again."""
        if path.count("/") > MAX_DEPTH:  # such a tree is refused as it is, and patterns cost by depth
            return False
        asked = f"{path}/" if folder else path
        verdict = self._verdicts.get(asked)
        if verdict is None:
            if len(self._verdicts) >= _MAX_VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[asked] = self._judge(path, asked)
        return verdict

    def _judge(self, path: str, asked: str) -> bool:
        if self._any is None or not self._any.search(asked):
            return False
        for regex, include in self._rules:
            if _speaks_of(regex, path, asked):
                return include
        return False


def _bad_line(number: int, what: str) -> Failure:
    return Failure(Kind.CONFIG, f"{IGNORE_FILE} line {number}: {what}", subkind="BAD_VALUE")


def _bounded(regex: re.Pattern[str], number: int) -> re.Pattern[str]:
    """The same pattern, in time that a long name does not multiply.

    Where several stars stand in one name, all but its last one take the first place that fits and never
    another, which finds what there is to be found.
    """
    text = regex.pattern
    if text.count(_SPAN) > _MAX_SPANS:
        raise _bad_line(number, f"has more than {_MAX_SPANS} '**' between names")
    parts = _BETWEEN.split(text.replace(_ANY_CHAR, _HOLE))
    return re.compile("".join(map(_one_way, parts)).replace(_HOLE, _ANY_CHAR))


def _one_way(part: str) -> str:
    """One name of a pattern, its middle pieces each in an atomic group."""
    pieces = part.split(f"{_HOLE}*")
    middle = "".join(f"(?>{_HOLE}*?{piece})" for piece in pieces[1:-1])
    return pieces[0] + middle + f"{_HOLE}*" + pieces[-1] if len(pieces) > 1 else part


def _speaks_of(regex: re.Pattern[str], path: str, asked: str) -> bool:
    """Whether the pattern means `path` itself, not a folder above it or only what is below it."""
    marked = _FOLDER_MARK in regex.groupindex
    for found in regex.finditer(asked):
        mark = found.end(_FOLDER_MARK) if marked else -1
        if mark < 0:
            return asked == path or regex.search(path) is not None
        if asked != path and mark == len(asked):
            return True
    return False


class Rules:
    """What one snapshot leaves out, asked from the root downwards.

    `index`: only what git's index names. `gitignore`: what git ignores is left out, but never
    `keep` and what is below it. Both need a git checkout: `Failure` CONFIG where there is none.
    """

    def __init__(self, root: Path, *, index: bool, gitignore: bool, keep: tuple[str, ...] = ()) -> None:
        self.warnings: list[str] = []
        self._root = root
        self._patterns = _patterns_of(_ignore_text(root))
        self._keep = tuple(_project_path(path) for path in keep)
        self._wanted: frozenset[str] | None = None
        self._wanted_folders: frozenset[str] = frozenset()
        if index:
            self._wanted = frozenset(nfc(path) for path in _ask(git.tracked, root, 'mode = "git_index"'))
            self._wanted_folders = frozenset(_folders(self._wanted)) | {".rch"}
        self._gitignore = gitignore and not index
        self._ignored: set[str] = set()
        self._opened: set[str] = set()
        self._plain = not (index or gitignore or self._patterns)
        if self._gitignore:
            self.enter_checkout("", "")

    def enter_checkout(self, path: str, disk: str) -> None:
        """A checkout of its own begins at `path` (on disk: `disk`); git knows only of one at a time."""
        if self._gitignore:
            prefix = f"{path}/" if path else ""
            found = _ask(git.ignored, self._root / disk, "gitignore = true")
            self._ignored.update(prefix + nfc(name.removesuffix("/")) for name in found)

    def asked_in(self, parent: str) -> frozenset[str] | None:
        """The names in a folder for which `leave_out` has to be asked, beside those in `RESULTS`.

        None: for all. Most trees have no rules of their own, and most names nothing is said of.
        """
        return _SPOKEN_OF if self._plain and parent != ".rch" else None

    def leave_out(self, path: str, *, folder: bool, link: bool = False) -> bool:
        """Whether the bundle goes without `path`. Folders must be asked for before what they hold."""
        parent, _, name = path.rpartition("/")
        if parent == ".rch":
            return path != CONFIG or folder
        if path == ".rch" and folder:
            return False
        if path == ".rch" and link:
            raise Failure(
                Kind.BUNDLER,
                ".rch is a link, so .rch/xcode.toml cannot be bundled",
                subkind="UNSUPPORTED_FILE",
                hint="make .rch a folder",
            )
        if name in _LEFT_OUT:
            return True
        if (folder or link) and (name in _LEFT_OUT_FOLDERS or name.endswith(RESULTS)):
            return True
        if self._wanted is not None and not self._is_wanted(path, folder=folder):
            return True
        if self._patterns.match(path, folder=folder):
            return True
        return self._git_leaves_out(path, parent, folder=folder)

    def _is_wanted(self, path: str, *, folder: bool) -> bool:
        named = self._wanted is not None and path in self._wanted
        if folder and named:
            self.warnings.append(f"{path}: the submodule is not checked out and is left out")
        return path in self._wanted_folders if folder else named

    def _git_leaves_out(self, path: str, parent: str, *, folder: bool) -> bool:
        if path not in self._ignored and parent not in self._opened:
            return False
        if any(path == keep or path.startswith(f"{keep}/") for keep in self._keep):
            return False
        if folder and any(keep.startswith(f"{path}/") for keep in self._keep):
            self._opened.add(path)  # entered for the project's sake alone
            return False
        return True


def _project_path(path: str) -> str:
    """A configured project path as the walk spells it; a package at the root is its manifest."""
    path = nfc(os.path.normpath(path))
    return "Package.swift" if path == "." else path


def _folders(paths: Iterable[str]) -> set[str]:
    folders: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _ask(question: Callable[[Path], list[str]], root: Path, setting: str) -> list[str]:
    try:
        return question(root)
    except git.GitError as error:
        raise Failure(
            Kind.CONFIG, f"bundle.{setting} needs a git checkout: {error}", subkind="BAD_VALUE"
        ) from None


def _ignore_text(root: Path) -> bytes:
    path = root / IGNORE_FILE
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise Failure(
            Kind.BUNDLER, f"{IGNORE_FILE} cannot be read: {error.strerror}", subkind="UNREADABLE"
        ) from None
    with open(fd, "rb") as file:  # noqa: PTH123  (a descriptor)
        text = file.read(_MAX_IGNORE_FILE + 1)
    if len(text) > _MAX_IGNORE_FILE:
        raise Failure(Kind.CONFIG, f"{IGNORE_FILE} is over {_MAX_IGNORE_FILE} bytes", subkind="BAD_VALUE")
    return text


@functools.lru_cache(maxsize=4)
def _patterns_of(text: bytes) -> Patterns:
    """The lines of an ignore file, compiled once as long as it stays the same."""
    try:
        return Patterns(text.decode("utf-8-sig").split("\n"))
    except UnicodeDecodeError:
        raise Failure(Kind.CONFIG, f"{IGNORE_FILE} is not UTF-8", subkind="BAD_VALUE") from None
