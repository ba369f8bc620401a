"""An Xcode project or workspace: its targets, their Swift sources, its shared schemes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker_agent.standin.pbxproj import Plist, PlistError, parse

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_BYTES = 32 << 20


class ProjectError(ValueError):
    """A project that cannot be read; says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """`sources` are the Swift files, sorted; `kind` is the product type's last word."""

    name: str
    project: str
    kind: str
    sources: tuple[Path, ...]
    dependencies: tuple[str, ...]

    @property
    def tests(self) -> bool:
        """Whether it is a bundle of tests."""
        return self.kind in {"unit-test", "ui-testing"}


@dataclass(frozen=True, slots=True)
class Testable:
    """A bundle of tests as a scheme names it."""

    target: str
    parallel: bool


@dataclass(frozen=True, slots=True)
class Scheme:
    """`builds` are the targets of its build action; `tests` those that it tests, less skipped ones."""

    name: str
    builds: tuple[str, ...]
    tests: tuple[Testable, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """A remote package that a project names; `version` is None where no pin is resolved."""

    identity: str
    location: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Container:
    """A project or a workspace. `path` is its own folder, `root` the folder around that."""

    path: Path
    targets: tuple[Target, ...]
    schemes: Mapping[str, Scheme]
    configurations: tuple[str, ...]
    packages: tuple[Package, ...]
    resolved: Path

    @property
    def root(self) -> Path:
        """Where paths of the container begin."""
        return self.path.parent

    @property
    def name(self) -> str:
        """Without its suffix."""
        return self.path.stem

    @property
    def kind(self) -> str:
        """`project` or `workspace`."""
        return "workspace" if self.path.suffix == ".xcworkspace" else "project"

    def target(self, name: str) -> Target | None:
        """The target of that name."""
        return next((each for each in self.targets if each.name == name), None)


def load(path: Path) -> Container:
    """Read a `.xcodeproj` or `.xcworkspace`; `ProjectError` if it cannot be read."""
    inner = path if path.suffix == ".xcworkspace" else path / "project.xcworkspace"
    resolved = inner / "xcshareddata/swiftpm/Package.resolved"
    projects = list(_members(path)) if path.suffix == ".xcworkspace" else [path]
    trees = [(project, _objects(project)) for project in projects]
    targets = tuple(each for project, tree in trees for each in _targets(project, tree))
    schemes = {each.name: each for folder in dict.fromkeys([path, *projects]) for each in _schemes(folder)}
    names = {name for _, tree in trees for name in _configurations(tree)}
    packages = tuple(each for _, tree in trees for each in _packages(tree, _pins(resolved)))
    return Container(path, targets, schemes, tuple(sorted(names)), packages, resolved)


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ProjectError(f"{file.name} is over {_MAX_BYTES} bytes")
        return file.read_text()
    except (OSError, ValueError) as error:
        raise ProjectError(f"{file.name}: {error}") from error


def _xml(file: Path) -> Element:
    from xml.etree.ElementTree import ParseError, fromstring

    text = _read(file)
    if "<!ENTITY" in text:
        raise ProjectError(f"{file.name} declares entities")
    try:
        return fromstring(text)  # noqa: S314  (no entities; the tree is built on this machine anyway)
    except ParseError as error:
        raise ProjectError(f"{file.name}: {error}") from error


def _members(workspace: Path) -> Iterator[Path]:
    for ref in _xml(workspace / "contents.xcworkspacedata").iter("FileRef"):
        kind, _, where = ref.get("location", "").partition(":")
        if where.endswith(".xcodeproj") and kind in {"group", "container"}:
            yield workspace.parent / where


def _objects(project: Path) -> dict[str, dict[str, Any]]:
    try:
        tree = parse(_read(project / "project.pbxproj"))
    except PlistError as error:
        raise ProjectError(f"project.pbxproj: {error}") from error
    objects = tree.get("objects") if isinstance(tree, dict) else None
    if not isinstance(objects, dict):
        raise ProjectError("project.pbxproj has no objects")
    return {key: each for key, each in objects.items() if isinstance(each, dict)}


def _of_kind(objects: Mapping[str, dict[str, Any]], isa: str) -> Iterator[dict[str, Any]]:
    return (each for each in objects.values() if each.get("isa") == isa)


def _texts(value: Plist | None) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    return value if isinstance(value, str) else ""


def _targets(project: Path, objects: dict[str, dict[str, Any]]) -> Iterator[Target]:
    places = _places(objects)
    for each in _of_kind(objects, "PBXNativeTarget"):
        kind = _text(each, "productType")
        files = {*_synchronized(project, objects, places, each), *_phases(project, objects, places, each)}
        depends = (_text(objects.get(one, {}), "target") for one in _texts(each.get("dependencies")))
        yield Target(
            name=_text(each, "name"),
            project=project.stem,
            kind=kind.rpartition(".")[2],
            sources=tuple(sorted(files)),
            dependencies=tuple(_text(objects[one], "name") for one in depends if one in objects),
        )


def _places(objects: dict[str, dict[str, Any]]) -> dict[str, Path]:
    """Folder or file of every group and reference, below the project's root."""
    found: dict[str, Path] = {}

    def visit(key: str, above: Path, depth: int) -> None:
        each = objects.get(key)
        if each is None or key in found or depth > 64:
            return
        base = Path() if _text(each, "sourceTree") == "SOURCE_ROOT" else above
        found[key] = base / _text(each, "path")
        for child in _texts(each.get("children")):
            visit(child, found[key], depth + 1)

    for project in _of_kind(objects, "PBXProject"):
        visit(_text(project, "mainGroup"), Path(), 0)
    return found


def _synchronized(
    project: Path, objects: dict[str, dict[str, Any]], places: dict[str, Path], target: dict[str, Any]
) -> Iterator[Path]:
    """Files of the folders that belong to a target as they stand (the form of Xcode 16)."""
    for key in _texts(target.get("fileSystemSynchronizedGroups")):
        where = places.get(key, Path(_text(objects.get(key, {}), "path")))
        yield from (file for file in (project.parent / where).rglob("*.swift") if file.is_file())


def _phases(
    project: Path, objects: dict[str, dict[str, Any]], places: dict[str, Path], target: dict[str, Any]
) -> Iterator[Path]:
    """Files that a target's compile phase lists one by one (the older form)."""
    for phase in (objects.get(one, {}) for one in _texts(target.get("buildPhases"))):
        if phase.get("isa") == "PBXSourcesBuildPhase":
            for built in (objects.get(one, {}) for one in _texts(phase.get("files"))):
                where = places.get(_text(built, "fileRef"))
                if where is not None and where.suffix == ".swift":
                    yield project.parent / where


def _configurations(objects: dict[str, dict[str, Any]]) -> list[str]:
    return [_text(each, "name") for each in _of_kind(objects, "XCBuildConfiguration")]


def _pins(resolved: Path) -> dict[str, str]:
    try:
        told = json.loads(resolved.read_bytes())
        pins = told["pins"] if "pins" in told else told["object"]["pins"]
        return {str(pin["identity"]): str(pin["state"].get("version") or "") for pin in pins}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _packages(objects: dict[str, dict[str, Any]], pins: Mapping[str, str]) -> Iterator[Package]:
    for each in _of_kind(objects, "XCRemoteSwiftPackageReference"):
        location = _text(each, "repositoryURL")
        identity = location.rstrip("/").rpartition("/")[2].removesuffix(".git").lower()
        yield Package(identity, location, pins.get(identity))


def _schemes(container: Path) -> Iterator[Scheme]:
    for file in sorted((container / "xcshareddata/xcschemes").glob("*.xcscheme")):
        root = _xml(file)
        yield Scheme(
            name=file.stem,
            builds=tuple(_references(root, "BuildAction/BuildActionEntries/BuildActionEntry")),
            tests=tuple(_testables(root)),
        )


def _references(root: Element, entries: str) -> Iterator[str]:
    for entry in root.iterfind(entries):
        for reference in entry.iterfind("BuildableReference"):
            yield reference.get("BlueprintName", "")


def _testables(root: Element) -> Iterator[Testable]:
    for entry in root.iterfind("TestAction/Testables/TestableReference"):
        reference = entry.find("BuildableReference")
        if reference is not None and entry.get("skipped") != "YES":
            yield Testable(reference.get("BlueprintName", ""), entry.get("parallelizable") == "YES")
