"""What stands below a project root, seen once: names, kinds and stamps (spec section 5).

Every refusal of a bundle that can be told without reading a file is told here, the first path
in order first, so that the same tree gets the same answer on every machine.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from operator import attrgetter
from typing import Literal

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.tar_names import (
    MAX_DEPTH,
    LinkError,
    Names,
    TarError,
    TooMuchError,
    resolve,
    safe_path,
    shown,
)
from rch.files.descent import Descent
from rchd.edges.ignore import RESULTS, Rules, nfc

MAX_ENTRIES = 1_000_000
"""Of files and links, of folders, and of what one folder lists: a worker takes no more either."""

Stamp = tuple[int, int, int, int, int]
_NAME: Callable[[os.DirEntry[str]], str] = attrgetter("name")

# What becomes of a name when others work in the tree: it is gone, or something else by now.
_MOVED = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EISDIR,
        errno.EINVAL,  # no longer a link
        errno.ENXIO,
        errno.EAGAIN,
        errno.ESTALE,
    }
)
_ODD = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class Found(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One file or link: `path` as it is stored, `disk` as it is spelled on this machine."""

    path: str
    disk: str
    kind: Literal["file", "symlink"]
    size: int
    executable: bool
    stamp: Stamp
    target: str | None = None


class SourceChangedError(Exception):
    """The tree is not what it was a moment ago; `path` is where that was seen."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def stamp_of(info: os.stat_result) -> Stamp:
    """What a write, a replacement or a change of mode changes."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def refusal(subkind: str, message: str) -> Failure:
    """A `BUNDLER` failure."""
    return Failure(Kind.BUNDLER, message, subkind=subkind)


def read_failure(path: str, error: OSError) -> Exception:
    """What it means that `path` could not be opened or read."""
    if error.errno in _MOVED:
        return SourceChangedError(path)
    return refusal("UNREADABLE", f"{shown(path)} cannot be read: {error.strerror}")


def walk(
    root: int,
    rules: Rules,
    check: Callable[[], None],
    *,
    skip: os.stat_result | None = None,
    folders: dict[str, int] | None = None,
) -> list[Found]:
    """Every file and link below the descriptor `root` that `rules` leave in, sorted by path.

    `check` is called once a folder and may raise to end the walk; `skip` is a folder that is
    never entered (the spool itself), `folders` is told when each folder last changed (ns). `Failure`
    BUNDLER for what cannot be bundled.
    """
    found: list[Found] = []
    entered = 0
    ahead = [("", "")]
    with Descent(root) as descent:
        while ahead:
            check()
            path, disk = ahead.pop()
            if (
                path.count("/") >= MAX_DEPTH
            ):  # no file below could be bundled, and each step down costs more
                raise refusal("BAD_NAME", f"the folder {shown(path)} is over {MAX_DEPTH} folders deep")
            try:
                here = descent.at(disk)
                if folders is not None:
                    folders[path] = os.fstat(here).st_ctime_ns
                below = _take_folder(here, path, disk, rules, skip, found)
            except OSError as error:
                raise read_failure(path or ".", error) from error
            ahead.extend(reversed(below))
            entered += 1
            if len(found) > MAX_ENTRIES:
                raise refusal("SIZE_EXCEEDED", f"more than {MAX_ENTRIES} files; {heaviest(found)}")
            if entered + len(ahead) > MAX_ENTRIES + 1:  # the root is no folder of the tree's
                raise refusal("SIZE_EXCEEDED", f"more than {MAX_ENTRIES} folders; {heaviest(found)}")
    found.sort(key=lambda one: one.path)
    return found


def _take_folder(
    fd: int, path: str, disk: str, rules: Rules, skip: os.stat_result | None, found: list[Found]
) -> list[tuple[str, str]]:
    """Add what a folder holds to `found`; its folders, as stored and as spelled on disk."""
    with os.scandir(fd) as listing:
        entries = sorted(islice(listing, MAX_ENTRIES + 1), key=_NAME)
    if len(entries) > MAX_ENTRIES:
        raise refusal("SIZE_EXCEEDED", f"more than {MAX_ENTRIES} names in the folder {shown(path or '.')}")
    if path and any(entry.name == ".git" for entry in entries):
        rules.enter_checkout(path, disk)
    stored_below, disk_below = f"{path}/" if path else "", f"{disk}/" if disk else ""
    below: list[tuple[str, str]] = []
    spelled: dict[str, str] | None = None if all(entry.name.isascii() for entry in entries) else {}
    asked = rules.asked_in(path)
    for entry in entries:
        name = entry.name
        inside = disk_below + name
        stored = stored_below + name if spelled is None else nfc(stored_below + name)
        folder = entry.is_dir(follow_symlinks=False)
        asks = asked is None or name in asked or name.endswith(RESULTS)
        if asks and rules.leave_out(stored, folder=folder, link=entry.is_symlink()):
            continue
        if spelled is not None and spelled.setdefault(stored, inside) != inside:
            twins = f"{shown(stored)} stands there twice, in two spellings of Unicode"
            raise refusal("PATH_COLLISION", twins)
        if not folder:
            found.append(_look(fd, entry, stored, inside))
        elif not (skip and entry.inode() == skip.st_ino and _is(entry, skip)):
            below.append((stored, inside))
    return below


def _is(entry: os.DirEntry[str], skip: os.stat_result) -> bool:
    return os.path.samestat(entry.stat(follow_symlinks=False), skip)


def _look(fd: int, entry: os.DirEntry[str], path: str, disk: str) -> Found:
    info = entry.stat(follow_symlinks=False)
    mode = info.st_mode
    if stat.S_ISREG(mode):
        return Found(
            path=path,
            disk=disk,
            kind="file",
            size=info.st_size,
            executable=bool(mode & 0o111),
            stamp=stamp_of(info),
        )
    if not stat.S_ISLNK(mode):
        odd = _ODD.get(stat.S_IFMT(mode), "of an unknown kind")
        raise refusal("UNSUPPORTED_FILE", f"{shown(path)} is {odd}")
    return Found(
        path=path,
        disk=disk,
        kind="symlink",
        size=0,
        executable=False,
        stamp=stamp_of(info),
        target=nfc(os.readlink(entry.name, dir_fd=fd)),
    )


def vet(found: list[Found]) -> dict[str, str]:
    """Refuse names and links that no bundle may hold; where each link leads, path to path."""
    names = Names()
    for one in found:
        try:
            safe_path(one.path)
        except TarError as error:
            raise refusal("BAD_NAME", str(error)) from None
        try:
            if one.target is None:
                names.add(one.path)
            else:
                names.add_link(one.path, one.target)
        except LinkError as error:
            raise refusal("SYMLINK_ESCAPE", str(error)) from None
        except TooMuchError as error:
            raise refusal("SIZE_EXCEEDED", str(error)) from None
        except TarError as error:
            raise refusal("PATH_COLLISION", str(error)) from None
    if names.folder_count > MAX_ENTRIES:  # where links were followed there are more than were walked
        raise refusal("SIZE_EXCEEDED", f"more than {MAX_ENTRIES} folders; {heaviest(found)}")
    held = {one.path for one in found} | names.folders | {""}
    return {one.path: _destination(one, names, held) for one in found if one.target is not None}


def _destination(link: Found, names: Names, held: Collection[str]) -> str:
    try:
        reached = resolve(link.path, names.links)
    except LinkError as error:
        raise refusal("SYMLINK_ESCAPE", str(error)) from None
    if reached not in held:
        raise refusal(
            "SYMLINK_ESCAPE",
            f"link {shown(link.path)} leads to {shown(reached)}, which is missing, empty or left out",
        )
    return reached


def dereference(found: list[Found], leads_to: Mapping[str, str]) -> list[Found]:
    """The same tree with every link replaced by what it leads to; `leads_to` is `vet`'s answer.

    A link to a folder that holds the link would never end: `Failure` UNSUPPORTED_FILE.
    """
    tree = _Tree(found, leads_to)
    tree.copy("", "", ())
    return sorted(tree.copied, key=lambda one: one.path)


class _Tree:
    """The folders of a walk, for copying them to where links stand."""

    def __init__(self, found: list[Found], leads_to: Mapping[str, str]) -> None:
        self.copied: list[Found] = []
        self._leads_to = leads_to
        self._files = {one.path: one for one in found}
        self._below: dict[str, dict[str, None]] = {"": {}}
        for path in self._files:
            child = path
            while child:
                parent = child.rpartition("/")[0]
                self._below.setdefault(parent, {})[child] = None
                child = parent

    def copy(self, folder: str, to: str, way: tuple[str, ...]) -> None:
        """Copy what `folder` holds to `to`; `way` are the folders that we are inside of."""
        if folder in way:
            raise refusal("UNSUPPORTED_FILE", f"{shown(to)} is a link to a folder that holds it")
        if len(way) > MAX_DEPTH:
            raise refusal("BAD_NAME", f"{shown(to)} is over {MAX_DEPTH} folders deep")
        for child in self._below[folder]:
            name = child.rpartition("/")[2]
            target = self._leads_to.get(child, child)
            path = f"{to}/{name}" if to else name
            if target in self._below:
                self.copy(target, path, (*way, folder))
            else:
                self.copied.append(msgspec.structs.replace(self._files[target], path=path))
            if len(self.copied) > MAX_ENTRIES:
                raise refusal("SIZE_EXCEEDED", f"with its links followed, more than {MAX_ENTRIES} files")


def heaviest(found: Iterable[Found], count: int = 5) -> str:
    """The folders, down to the second level, that weigh most: `the heaviest folders are …`."""
    weights: Counter[str] = Counter()
    for one in found:
        weights["/".join(one.path.split("/")[:-1][:2]) or "."] += one.size
    named = ", ".join(f"{shown(folder)} {size / 1e6:.1f} MB" for folder, size in weights.most_common(count))
    return f"the heaviest folders are {named}"
