"""What the stand-in machine is: its system, its Xcodes, its simulators. Pure tables.

Numbers that a recording holds are the recording's (docs/simulation.md tells which); the rest
is what Apple's release notes say, or plainly made up where no reader looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass

MACOS_VERSION = "15.7.7"
MACOS_BUILD = "24G720"
ARCH = "arm64"

HOST_UDID = "00006030-000A58D12284001C"
"""The identifier by which the machine itself is a destination."""

SIM_TYPE = "com.apple.CoreSimulator.SimDeviceType."
SIM_RUNTIME = "com.apple.CoreSimulator.SimRuntime."


@dataclass(frozen=True, slots=True)
class Sdk:
    """One row of `-showsdks`: the canonical name is platform and version, as `macosx15.2`."""

    platform: str
    folder: str
    product: str
    version: str
    build: str


@dataclass(frozen=True, slots=True)
class Release:
    """One Xcode. `form` is which JSON `xcresulttool` writes: `16` or `26`."""

    version: str
    build: str
    bundle_version: str
    form: str
    testing_library: str
    sdks: tuple[Sdk, ...]

    @property
    def app(self) -> str:
        """The name of its folder, as on hosted build machines."""
        return f"Xcode_{self.version}.app"


RELEASES = (
    Release(
        version="16.2",
        build="16C5032a",
        bundle_version="23507",
        form="16",
        testing_library="102",
        sdks=(
            Sdk("iphoneos", "iPhoneOS", "iOS", "18.2", "22C146"),
            Sdk("iphonesimulator", "iPhoneSimulator", "Simulator - iOS", "18.2", "22C146"),
            Sdk("macosx", "MacOSX", "macOS", "15.2", "24C94"),
        ),
    ),
    Release(
        version="26.0.1",
        build="17A400",
        bundle_version="24231",
        form="26",
        testing_library="1082",
        sdks=(
            Sdk("iphoneos", "iPhoneOS", "iOS", "26.0", "23A337"),
            Sdk("iphonesimulator", "iPhoneSimulator", "Simulator - iOS", "26.0", "23A337"),
            Sdk("macosx", "MacOSX", "macOS", "26.0", "25A352"),
        ),
    ),
)
"""The first is the selected one."""


@dataclass(frozen=True, slots=True)
class DeviceType:
    """A kind of simulator; `identifier` is the end of Apple's name for it."""

    name: str
    identifier: str
    model: str
    family: str
    minimum: str


@dataclass(frozen=True, slots=True)
class SimRuntime:
    """A simulator runtime; `identifier` is the end of Apple's name for it."""

    name: str
    version: str
    build: str
    identifier: str
    platform: str = "iOS"


DEVICE_TYPES = (
    DeviceType("iPhone 16", "iPhone-16", "iPhone17,3", "iPhone", "18.0.0"),
    DeviceType("iPhone 16 Pro", "iPhone-16-Pro", "iPhone17,1", "iPhone", "18.0.0"),
    DeviceType("iPhone 17", "iPhone-17", "iPhone18,3", "iPhone", "26.0.0"),
    DeviceType("iPad (10th generation)", "iPad-10th-generation", "iPad13,18", "iPad", "16.1.0"),
)

RUNTIMES = (
    SimRuntime("iOS 18.2", "18.2", "22C150", "iOS-18-2"),
    SimRuntime("iOS 26.0", "26.0", "23A343", "iOS-26-0"),
)

TWIN = SimRuntime("iOS 18.2", "18.2", "22C5125e", "iOS-18-2")
"""A second runtime with the name and the identifier of another: a beta beside its release."""

FIRST_DEVICES = (
    ("iPhone 16", "iOS-18-2"),
    ("iPhone 16 Pro", "iOS-18-2"),
    ("iPad (10th generation)", "iOS-18-2"),
    ("iPhone 17", "iOS-26-0"),
)
"""Type and runtime of the simulators that a new machine has."""


def release_named(version: str) -> Release:
    """The release of that version; `ValueError` that names those there are."""
    for release in RELEASES:
        if release.version == version:
            return release
    known = ", ".join(release.version for release in RELEASES)
    raise ValueError(f"there is no stand-in for Xcode {version!r}: only for {known}")


def device_type(named: str) -> DeviceType | None:
    """By name, by short or by whole identifier."""
    short = named.removeprefix(SIM_TYPE)
    return next((each for each in DEVICE_TYPES if named == each.name or short == each.identifier), None)


def runtime(named: str) -> SimRuntime | None:
    """By name, by short or by whole identifier."""
    short = named.removeprefix(SIM_RUNTIME)
    return next((each for each in RUNTIMES if named == each.name or short == each.identifier), None)
