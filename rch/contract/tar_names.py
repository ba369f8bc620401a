"""Which names a bundle or an artifact set may hold, and where its links lead (spec section 5).

One rule for both ends: the host refuses such a name before it bundles, the worker before it writes.
Two names that a Mac's file system takes for one are one name here, on every machine.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

MAX_PATH = 4095  # bytes: PATH_MAX without its NUL
MAX_NAME = 255  # bytes of one component
MAX_DEPTH = 128  # components: descriptors are held for each folder on the way down
MAX_NAMES_BYTES = 256 << 20  # of all names and targets of one set, folders on the way included
MAX_HOPS = 40  # links followed by one resolution, as kernels do
_SHOWN = 512
# ASCII without NUL and backslash, no part empty, too long, "." or "..": what `safe_path` lets pass at once.
_PART = rf"(?!\.\.?(?:/|\Z))[\x01-.0-\[\]-\x7f]{{1,{MAX_NAME}}}"
_PLAIN_PATH = re.compile(rf"{_PART}(?:/{_PART}){{0,{MAX_DEPTH - 1}}}")


class TarError(ValueError):
    """What makes a tar or a name unfit, as one line that names it."""


class CollisionError(TarError):
    """Two names of one set are the same on a file system that folds case or normalises."""


class TooMuchError(TarError):
    """The names of a set are more than one set may have."""


class LinkError(TarError):
    """A symbolic link leads out of its root, or nowhere that can be told."""


def shown(name: str) -> str:
    """A name as a message may hold it: quoted, control characters escaped, cut when very long."""
    text = repr(name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def fold(path: str) -> str:
    """The form in which two names that may not stand side by side are equal."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


def _plain_text(text: str, what: str) -> bytes:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise TarError(f"{what} is not UTF-8") from None
    if "\0" in text:
        raise TarError(f"{what} holds a NUL")
    if "\\" in text:
        raise TarError(f"{what} holds a backslash")
    if len(raw) > MAX_PATH:
        raise TarError(f"{what} is over {MAX_PATH} bytes")
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        raise TarError(f"{what} is not in NFC")
    return raw


def safe_path(path: str) -> None:
    """Refuse with `TarError` what is no plain relative POSIX path of a set."""
    if len(path) <= MAX_PATH and _PLAIN_PATH.fullmatch(path):
        return  # what most are
    _close_look(path)


def _close_look(path: str) -> None:
    """All of the rule, and a reason for what breaks it."""
    raw = _plain_text(path, f"the name {shown(path)}")
    parts = raw.split(b"/")
    for part in parts:
        if part in {b"", b".", b".."}:
            raise TarError(f"the name {shown(path)} is absolute or has an empty, '.' or '..' part")
        if len(part) > MAX_NAME:
            raise TarError(f"the name {shown(path)} has a part over {MAX_NAME} bytes")
    if len(parts) > MAX_DEPTH:
        raise TarError(f"the name {shown(path)} is over {MAX_DEPTH} folders deep")


def safe_target(path: str, target: str) -> None:
    """Refuse with `LinkError` a link target that leaves the root by its own words."""
    try:
        _plain_text(target, f"the target {shown(target)} of link {shown(path)}")
    except TarError as error:
        raise LinkError(str(error)) from None
    if not target:
        raise LinkError(f"link {shown(path)} has an empty target")
    if target.startswith("/"):
        raise LinkError(f"link {shown(path)} has the absolute target {shown(target)}")
    parts = target.split("/")
    if len(parts) > MAX_DEPTH:
        raise LinkError(f"link {shown(path)} has a target over {MAX_DEPTH} parts long")
    depth = path.count("/")
    for part in parts:
        if part == "..":
            depth -= 1
        elif part not in {"", "."}:
            depth += 1
        if depth < 0:
            raise LinkError(f"link {shown(path)} leads out of its root: {shown(target)}")


def resolve(path: str, links: Mapping[str, str]) -> str:
    """Where link `path` leads in the end, "" being the root; `LinkError` when out of it or in a ring.

    `links` holds every link of the set, `fold(path)` to target. Links on the way are followed,
    in any case, for a worker's file system may fold case; what is no link counts as a folder.
    """
    return _Resolver(links, str).follow(path, path)[0]


class _Resolver:
    """Follows links, each of them once. `same` gives what two names have in common that are one link.

    A set may hold a chain of long targets and a million links to its beginning: without memory of
    what was followed, that would take hours.
    """

    def __init__(self, links: Mapping[str, str], same: Callable[[str], str]) -> None:
        self._links = links
        self._same = same
        self._known: dict[str, tuple[str, int]] = {}

    def follow(self, at: str, path: str, above: int = 0) -> tuple[str, int]:
        """Where the link at `at` leads, and through how many others; `path` is what was asked of."""
        known = self._known.get(self._same(at))
        if known is not None:
            return known
        reached, hops = at.rpartition("/")[0], 0
        for part in self._links[fold(at)].split("/"):
            if part in {"", "."}:
                continue
            if part == "..":
                if not reached:
                    raise LinkError(f"link {shown(path)} leads out of its root through another link")
                reached = reached.rpartition("/")[0]
                continue
            reached = f"{reached}/{part}" if reached else part
            if len(reached) > MAX_PATH:
                raise LinkError(f"link {shown(path)} leads to a name over {MAX_PATH} bytes")
            if fold(reached) not in self._links:
                continue
            if above + hops >= MAX_HOPS:
                raise LinkError(f"link {shown(path)} goes through more than {MAX_HOPS} links or in a ring")
            reached, more = self.follow(reached, path, above + hops + 1)
            hops += 1 + more
        if hops > MAX_HOPS:
            raise LinkError(f"link {shown(path)} goes through more than {MAX_HOPS} links or in a ring")
        self._known[self._same(at)] = reached, hops
        return reached, hops


class Names:
    """The names of one set as they come, each refused if it cannot stand beside the earlier ones."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}
        self._folders: set[str] = set()
        self._listed: set[str] = set()
        self._links: dict[str, str] = {}
        self._bytes = 0

    @property
    def links(self) -> Mapping[str, str]:
        """Every link so far, `fold(path)` to target."""
        return self._links

    @property
    def folders(self) -> frozenset[str]:
        """Every folder so far, listed or only on the way to a name."""
        return frozenset(self._folders)

    @property
    def folder_count(self) -> int:
        """How many folders there are so far."""
        return len(self._folders)

    def add(self, path: str) -> None:
        """Take the name of a file; `CollisionError` or `TarError` if it is taken."""
        parent = path.rpartition("/")[0]
        if parent and parent not in self._folders:
            self._add_folder(parent)
        self._claim(path)

    def add_folder(self, path: str) -> None:
        """Take the name of a folder that is listed by itself."""
        if path not in self._folders:
            self._add_folder(path)
        elif path in self._listed:
            raise TarError(f"the name {shown(path)} comes twice")
        self._listed.add(path)

    def add_link(self, path: str, target: str) -> None:
        """Take the name of a link; `LinkError` if its target leaves the root by its own words."""
        safe_target(path, target)
        self._weigh(target)
        self.add(path)
        self._links[fold(path)] = target

    def check_links(self) -> None:
        """Once the set is whole: `LinkError` if any link leads out of the root through others."""
        resolver = _Resolver(self._links, fold)
        for key in self._links:
            resolver.follow(self._taken[key], self._taken[key])

    def _add_folder(self, path: str) -> None:
        missing = []
        while path and path not in self._folders:
            missing.append(path)
            path = path.rpartition("/")[0]
        for folder in reversed(missing):
            self._claim(folder)
            self._folders.add(folder)

    def _weigh(self, text: str) -> None:
        """Names are kept in memory until the set is whole: those of one set have a bound."""
        self._bytes += len(text) if text.isascii() else len(text.encode())
        if self._bytes > MAX_NAMES_BYTES:
            raise TooMuchError(f"the names of the set are over {MAX_NAMES_BYTES} bytes")

    def _claim(self, path: str) -> None:
        self._weigh(path)
        key = fold(path)
        other = self._taken.get(key)
        if other is None:
            self._taken[key] = path
        elif other == path:
            raise TarError(f"the name {shown(path)} comes twice, or as a folder and as something else")
        else:
            raise CollisionError(f"the names {shown(other)} and {shown(path)} are one name on a Mac")
