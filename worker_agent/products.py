"""Whether build products of one source may serve the next one (spec section 11).

Build tools make anew what changed. What is no longer there they forget, and its products stay: a module
that nothing declares any more is still found, a resource or a tool is still beside the tests. A link that
leads elsewhere they may not see at all. After such a change a build begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_COMPILED = (".swift",)
"""What leaves nothing behind when it goes: the module that it was part of is made again."""
_MANIFESTS = ("Package.swift", "Package.resolved", "module.modulemap")
_MANIFEST_ENDS = (".pbxproj", ".xcworkspacedata", ".xcscheme", ".xcconfig", ".xctestplan")

Content = tuple[str | None, str | None]
"""A file's digest, or None and a link's target."""


def outlived(before: Mapping[str, Content], after: Mapping[str, Content]) -> str | None:
    """Why products of `before` may not be built on for `after`, paths to contents; None: they may."""
    gone = before.keys() - after.keys()
    if (removed := _first(path for path in gone if not path.endswith(_COMPILED))) is not None:
        return f"{removed} is gone"
    changed = [path for path, content in after.items() if before.get(path) != content]
    if (manifest := _first(path for path in {*changed, *gone} if _is_manifest(path))) is not None:
        return f"{manifest} is another one"
    links = (path for path in changed if path in before and (after[path][1] or before[path][1]))
    if (link := _first(links)) is not None:
        return f"the link {link} leads elsewhere"
    return None


def _is_manifest(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name in _MANIFESTS or name.startswith("Package@") or name.endswith(_MANIFEST_ENDS)


def _first(paths: Iterable[str]) -> str | None:
    return min(paths, default=None)
