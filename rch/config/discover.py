"""What a checkout tells of itself, for a first config: containers, shared schemes, platforms (section 6).

Xcode's files are read as text: no Xcode is needed, and nothing of the checkout is run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import msgspec

from rch.config.root import MANIFEST_NAME, top_level_names
from rch.config.sources import read_bytes
from rch.contract.errors import Failure, Kind
from rch.contract.flag_values import inside_root, valid_name
from rch.contract.policy import Backend

_CONFIGURATION = "isa = XCBuildConfiguration;"
_NAME = re.compile(r'\bname = "?([^";\n]+)"?;')
_SDKROOT = re.compile(r'\bSDKROOT = "?([a-z]+)"?;')
_PLATFORMS = re.compile(r'\bSUPPORTED_PLATFORMS = "?([a-z ]+)"?;')
_TEST_TARGET = re.compile(r"\.testTarget\s*\(")
_LOCATION = re.compile(r'\blocation\s*=\s*"(?:group|container|self):([^"]+\.xcodeproj)"')

_MAX_PROJECT = 64 << 20

DESTINATIONS = {
    "macosx": "platform=macOS",
    "iphoneos": "platform=iOS Simulator,name=iPhone 16,OS=latest",
    "xros": "platform=visionOS Simulator,name=Apple Vision Pro,OS=latest",
    "appletvos": "platform=tvOS Simulator,name=Apple TV,OS=latest",
    "watchos": "platform=watchOS Simulator,name=Apple Watch Series 10 (46mm),OS=latest",
}
"""A destination to begin with, by the SDK that a project is built with; the first that fits serves."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in a folder. `container` is the workspace's or project's name, None for a package."""

    backend: Backend
    container: str | None = None
    schemes: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()
    destination: str | None = None
    has_tests: bool = True


def discover(root: Path, container: str | None = None) -> Found:
    """What `root` holds; `container` names one where there are several.

    `CONFIG` / `NO_PROJECT` where there is nothing to build, `AMBIGUOUS` where there is too much.
    """
    names = top_level_names(root)
    there = _containers(names)
    if container is not None:
        if container not in names or not container.endswith((".xcworkspace", ".xcodeproj")):
            raise _refusal("NO_PROJECT", f"{root} holds no workspace or project {container!r}")
        return _xcode(root, container)
    if len(there) > 1 or (there and MANIFEST_NAME in names):
        both = [*there, *([MANIFEST_NAME] if MANIFEST_NAME in names else [])]
        raise _refusal("AMBIGUOUS", f"{root} holds {', '.join(both)}", hint="say which: --container NAME")
    if there:
        return _xcode(root, there[0])
    if MANIFEST_NAME in names:
        manifest = read_bytes(root / MANIFEST_NAME, MANIFEST_NAME).decode(errors="replace")
        return Found(backend="swiftpm", has_tests=bool(_TEST_TARGET.search(manifest)))
    what = f"{root} holds no {MANIFEST_NAME}, no *.xcworkspace and no *.xcodeproj"
    raise _refusal("NO_PROJECT", what, hint="go to the folder of the project")


def _containers(names: tuple[str, ...]) -> list[str]:
    """The workspaces; without one, the projects."""
    plain = [name for name in names if name.isprintable()]
    workspaces = [name for name in plain if name.endswith(".xcworkspace")]
    return workspaces or [name for name in plain if name.endswith(".xcodeproj")]


def _xcode(root: Path, container: str) -> Found:
    projects = [container] if container.endswith(".xcodeproj") else list(_members(root / container))
    texts = [_project_text(root / project) for project in projects]
    schemes = {name for each in (container, *projects) for name in _shared_schemes(root / each)}
    configurations = {name for text in texts for name in _configurations(text)}
    return Found(
        backend="xcodebuild",
        container=container,
        schemes=tuple(sorted(schemes, key=lambda name: (not container.startswith(f"{name}."), name))),
        configurations=tuple(sorted(configurations)),
        destination=_destination(texts),
        has_tests=any(_has_tests(root / each) for each in (container, *projects)),
    )


def _members(workspace: Path) -> Iterator[str]:
    """The projects that a workspace names, relative to its folder; those outside are left out."""
    try:
        text = read_bytes(workspace / "contents.xcworkspacedata", workspace.name).decode(errors="replace")
    except Failure:
        return
    for name in map(unescape, _LOCATION.findall(text)):
        if inside_root(name) and not name.startswith("Pods/") and (workspace.parent / name).is_dir():
            yield name


def _project_text(project: Path) -> str:
    try:
        data = read_bytes(project / "project.pbxproj", project.name, limit=_MAX_PROJECT)
    except Failure:
        return ""
    return data.decode(errors="replace")


def _configurations(text: str) -> Iterator[str]:
    """The name of each configuration: the first one behind its `isa`, before the next."""
    for part in text.split(_CONFIGURATION)[1:]:
        if (found := _NAME.search(part)) and valid_name(found[1]):
            yield found[1]


def _shared_schemes(container: Path) -> list[str]:
    """Those that the gate would take: another name could not be asked for."""
    files = sorted((container / "xcshareddata/xcschemes").glob("*.xcscheme"))
    return [file.stem for file in files if valid_name(file.stem)]


def _has_tests(container: Path) -> bool:
    """Whether a shared scheme of a workspace or project tests anything."""
    schemes = (container / "xcshareddata/xcschemes").glob("*.xcscheme")
    return any(
        b"<TestableReference" in read_bytes(file, file.name) for file in schemes if valid_name(file.stem)
    )


def _destination(texts: list[str]) -> str:
    """By the SDKs of the projects' build settings; a Mac, where they say nothing."""
    named = {sdk for text in texts for sdk in _SDKROOT.findall(text)}
    named |= {sdk for text in texts for found in _PLATFORMS.findall(text) for sdk in found.split()}
    # A library for all platforms is tried where it is quickest, an app where it runs.
    return next((value for sdk, value in DESTINATIONS.items() if sdk in named), DESTINATIONS["macosx"])


def _refusal(subkind: str, message: str, hint: str | None = None) -> Failure:
    return Failure(Kind.CONFIG, message, subkind=subkind, hint=hint)
