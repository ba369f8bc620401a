"""What is built and tested on the worker: a small package, or an app where there is only an Xcode."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import msgspec

from rch.contract.destinations import resolve_destination
from rch.contract.errors import Failure
from rch.contract.records import Capabilities
from rch_conformance.checks import Broken, NotOffered
from rch_conformance.worker.forms import Item, canonical_tar, sha256

CONFIG = ".rch/xcode.toml"
LINES = tuple(f"conformance line {number} é 漢字 🦊" for number in range(1, 301))
"""What the passing tests print, where a test's own output reaches the log."""
TICK = re.compile(r"conformance tick (\d+)")
"""What the slow tests print four times a second."""

_APP = "ConformanceApp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A source and how it is asked for. `argv` gives the words for build, passing, failing and slow.

    `toolchain` and `destination` are those of `job_key_inputs`; `prints`: a test's output reaches the
    log; `denied` are command lines that no worker may carry out; `job` members that go beside.
    """

    backend: str
    items: tuple[Item, ...]
    config: Mapping[str, Any]
    toolchain: Mapping[str, str]
    destination: Mapping[str, str]
    constraint: str | None
    argv: Callable[[str], tuple[str, ...]]
    denied: tuple[tuple[str, ...], ...]
    prints: bool
    job: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tar(self) -> bytes:
        """The source in its canonical form."""
        return canonical_tar(self.items)

    @property
    def source_sha256(self) -> str:
        """Its digest."""
        return sha256(self.tar)


def project_for(capabilities: Mapping[str, Any]) -> Project:
    """The package where the worker has a Swift, else the app; `NotOffered` where it has no toolchain."""
    toolchains = [each for each in capabilities.get("toolchains") or () if isinstance(each, dict)]
    for kind, make in (("swift", _package), ("xcode", _app)):
        there = [each for each in toolchains if each.get("kind") == kind]
        if there:
            active = next((each for each in there if each.get("active")), there[0])
            return make(capabilities, active)
    raise NotOffered("toolchain", "capabilities.toolchains names neither a Swift nor an Xcode")


# --- Swift packages -----------------------------------------------------------------------


def _package(capabilities: Mapping[str, Any], swift: Mapping[str, Any]) -> Project:
    os_name, os_version = str(capabilities.get("os_name")), str(capabilities.get("os_version"))
    config = {"backend": "swiftpm", "project": {"package": "."}}
    text = 'schema_version = 1\nbackend = "swiftpm"\n[project]\npackage = "."\n' + _NARROW
    return Project(
        backend="swiftpm",
        items=_items("package", text),
        config=config,
        toolchain={
            "swift_version": str(swift.get("version")),
            "toolchain_dir": str(swift.get("path")),
            "os_name": os_name,
            "os_version": os_version,
            "arch": str(capabilities.get("arch")),
        },
        destination={
            "platform": os_name,
            "name": "host",
            "os_version": os_version,
            "provisioning": "existing",
        },
        constraint=None,
        argv=_swift_argv,
        denied=(
            ("build", "--scratch-path", "/tmp/elsewhere"),  # noqa: S108  (never opened)
            ("build", "-Xswiftc", "-DEVIL"),
            ("package", "reset"),
            ("run", "tool"),
            ("build", "--build-tests", "--disable-sandbox"),
        ),
        prints=not capabilities.get("simulated"),
    )


def _swift_argv(which: str) -> tuple[str, ...]:
    if which == "build":
        return ("build",)
    return ("test", "--filter", f"{which.capitalize()}Tests")


# --- apps ---------------------------------------------------------------------------------


def _app(capabilities: Mapping[str, Any], xcode: Mapping[str, Any]) -> Project:
    constraint = _constraint(capabilities)
    try:
        known = msgspec.convert(dict(capabilities), Capabilities)
        resolved = resolve_destination(known, constraint, "test")
    except (Failure, msgspec.ValidationError) as error:
        raise Broken(f"no destination follows from the capabilities: {error}") from error
    common = ("-destination", resolved.value, "-project", f"{_APP}.xcodeproj", "-scheme", _APP)
    tests = ("-destination", resolved.value), ("-project", f"{_APP}.xcodeproj", "-scheme", _APP)

    def argv(which: str) -> tuple[str, ...]:
        if which == "build":
            return ("build", *common)
        only = (f"-only-testing:{_APP}Tests/{which.capitalize()}Tests",)
        return ("test", *tests[0], *only, *tests[1])

    project = {"project": f"{_APP}.xcodeproj", "schemes": [_APP]}
    text = (
        'schema_version = 1\nbackend = "xcodebuild"\n'
        f'[project]\nproject = "{_APP}.xcodeproj"\nschemes = ["{_APP}"]\n'
        f'[destination]\nvalue = "{constraint}"\n{_NARROW}'
    )
    return Project(
        backend="xcodebuild",
        items=_items("app", text),
        config={"backend": "xcodebuild", "project": project, "destination": {"value": constraint}},
        toolchain={
            "xcode_build": str(xcode.get("build") or ""),
            "developer_dir": str(xcode.get("developer_dir") or xcode.get("path")),
            "macos_version": str(capabilities.get("os_version")),
            "macos_build": str(capabilities.get("os_build") or ""),
            "arch": str(capabilities.get("arch")),
        },
        destination=resolved.inputs,
        constraint=constraint,
        argv=argv,
        denied=(
            ("archive", *common),
            ("build", *common, "OTHER_SWIFT_FLAGS=-DEVIL"),
            ("build", "-derivedDataPath", "/tmp/elsewhere", *common),  # noqa: S108  (never opened)
            ("build", *common[:-1], "OtherScheme"),
        ),
        prints=not capabilities.get("simulated"),
        job={"xcode_version": str(xcode.get("version"))}
        | ({"udid": resolved.udid} if resolved.udid else {}),
    )


def _constraint(capabilities: Mapping[str, Any]) -> str:
    """A simulator that is there, an iPhone if possible; else the Mac itself."""
    usable = {
        str(each.get("identifier"))
        for each in capabilities.get("runtimes") or ()
        if each.get("available") and ".iOS-" in str(each.get("identifier"))
    }
    names = sorted(
        str(each.get("name"))
        for each in capabilities.get("devices") or ()
        if each.get("available") and each.get("runtime") in usable
    )
    phones = [name for name in names if name.startswith("iPhone")]
    if not names:
        return "platform=macOS"
    return f"platform=iOS Simulator,name={(phones or names)[0]},OS=latest"


# --- both ---------------------------------------------------------------------------------

_NARROW = "[run]\nallow_narrowing = true\n"


def _items(folder: str, config: str) -> tuple[Item, ...]:
    root = files("rch_conformance.worker").joinpath("data", folder)
    return (*_below(root, ""), Item(path=CONFIG, data=config.encode()))


def _below(place: Traversable, name: str) -> tuple[Item, ...]:
    if place.is_file():
        return (Item(path=name, data=place.read_bytes()),)
    prefix = f"{name}/" if name else ""
    inside = sorted(place.iterdir(), key=lambda each: each.name)
    return tuple(item for each in inside for item in _below(each, f"{prefix}{each.name}"))
