"""Facts of this machine: its system's name and version, its capacity (spec section 7)."""

from __future__ import annotations

import os
import platform
import plistlib
import shutil
from pathlib import Path

import msgspec

from rch.contract.records import Capacity
from worker_agent.toolchains.apple import AppleTools

DARWIN = platform.system() == "Darwin"
"""Whether this is a Mac."""

_OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_MACOS_VERSION = Path("/System/Library/CoreServices/SystemVersion.plist")


class System(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is Linux or macOS; `version` is 15.5, or `debian-12` (id and version) on Linux.

    `version` enters the job key, so it names what decides about binaries: a distribution
    without releases is its id alone.
    """

    name: str
    version: str
    build: str | None
    arch: str


def this_system(apple: AppleTools | None = None) -> System:
    """The system that runs this process; of a simulated worker the Mac that it plays."""
    if apple is not None:
        version, build = macos_version(Path(apple.system_version))
        return System(name="macOS", version=version, build=build, arch=apple.arch)
    arch = platform.machine() or "unknown"
    if DARWIN:
        version, build = macos_version(_MACOS_VERSION)
        return System(name="macOS", version=version, build=build, arch=arch)
    version = next((linux_version(file.read_text()) for file in _OS_RELEASE if file.is_file()), "unknown")
    return System(name="Linux", version=version, build=None, arch=arch)


def linux_version(os_release: str) -> str:
    """`<ID>-<VERSION_ID>` of an os-release file, `<ID>` where there is no version."""
    facts: dict[str, str] = {}
    for line in os_release.splitlines():
        key, sign, value = line.partition("=")
        if sign:
            facts[key.strip()] = value.strip().strip("\"'")
    distribution, version = facts.get("ID") or "linux", facts.get("VERSION_ID", "")
    return f"{distribution}-{version}" if version else distribution


def macos_version(file: Path) -> tuple[str, str | None]:
    """Version and build as the system's own property list has them."""
    try:
        facts = plistlib.loads(file.read_bytes())
    except (OSError, plistlib.InvalidFileException, ValueError):
        return platform.mac_ver()[0] or "unknown", None
    return str(facts.get("ProductVersion", "unknown")), facts.get("ProductBuildVersion")


def capacity(folder: Path, *, slots_total: int, slots_free: int) -> Capacity:
    """What the machine has now; free space is that of the file system of `folder`."""
    return Capacity(
        cpus=_cpus(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        slots_total=slots_total,
        slots_free=slots_free,
        disk_free_bytes=disk_free(folder),
        load_milli=int(os.getloadavg()[0] * 1000),
    )


def disk_free(folder: Path) -> int:
    """The free bytes of the file system that holds `folder`, or will once it is made."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gui_session() -> bool | None:
    """Whether this user is logged in at the screen; None where that has no meaning (not macOS)."""
    if not DARWIN:
        return None
    try:
        return Path("/dev/console").stat().st_uid == os.getuid()
    except OSError:
        return False
