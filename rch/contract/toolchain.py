"""Toolchains: which one serves a wish, and what of it enters a job's identity (spec section 7).

Host and worker compute the same members from the same capabilities, so that the worker can
tell when the toolchain that a job names is no longer there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rch.contract.errors import Failure, Kind
from rch.contract.records import Capabilities, ToolchainEntry
from rch.contract.versions import Numbers, is_release, matcher, numbers_of, same_version

HOST_DESTINATION = "host"
"""The `name` of the destination of a job that runs on the worker itself."""

_TITLES = {"swift": "Swift", "xcode": "Xcode"}


def swift_toolchain_inputs(capabilities: Capabilities, entry: ToolchainEntry) -> dict[str, str]:
    """The Swift toolchain's five members of `job_key_inputs`."""
    return {
        "swift_version": entry.version,
        "toolchain_dir": entry.path,
        "os_name": capabilities.os_name,
        "os_version": capabilities.os_version,
        "arch": capabilities.arch,
    }


def xcode_toolchain_inputs(capabilities: Capabilities, entry: ToolchainEntry) -> dict[str, str]:
    """The Xcode's five members of `job_key_inputs`; its marketing version is not one of them."""
    return {
        "xcode_build": entry.build or "",
        "developer_dir": entry.developer_dir or entry.path,
        "macos_version": capabilities.os_version,
        "macos_build": capabilities.os_build or "",
        "arch": capabilities.arch,
    }


def host_destination_inputs(capabilities: Capabilities) -> dict[str, str]:
    """The destination of a job that builds and tests on the worker itself."""
    return {
        "platform": capabilities.os_name,
        "name": HOST_DESTINATION,
        "os_version": capabilities.os_version,
        "provisioning": "existing",
    }


def toolchain_inputs(capabilities: Capabilities, entry: ToolchainEntry) -> dict[str, str]:
    """The members of either kind."""
    make = xcode_toolchain_inputs if entry.kind == "xcode" else swift_toolchain_inputs
    return make(capabilities, entry)


def backend_of(named: Mapping[str, str]) -> tuple[str, str]:
    """Name and version of the tool that serves a job, by the toolchain of its identity."""
    if "xcode_build" in named:
        return "xcodebuild", named["xcode_build"]
    return "swiftpm", named.get("swift_version", "unknown")


def toolchain_change(now: Capabilities, named: Mapping[str, str]) -> str | None:
    """None if the toolchain of a job's identity is here as it was, else the first thing that is not."""
    kind, member = ("swift", "toolchain_dir") if "swift_version" in named else ("xcode", "developer_dir")
    if member not in named:
        words = " ".join(f"{key}={value}" for key, value in sorted(named.items())) or "(empty)"
        return f"toolchain {words} is none that this worker serves"
    here = [toolchain_inputs(now, entry) for entry in now.toolchains if entry.kind == kind]
    same = next((each for each in here if each[member] == named.get(member)), None)
    if same is None:
        have = ", ".join(each[member] for each in here) or "none"
        return f"{member} {named.get(member)} is gone; there is {have}"
    return first_difference(named, same)


def first_difference(named: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """The first member, by name, in which two differ; None if they are one."""
    for key in sorted(named.keys() | here.keys()):
        if named.get(key) != here.get(key):
            return f"{key} {named.get(key)} is {here.get(key)} now"
    return None


def choose_swift(capabilities: Capabilities, wanted: str | None) -> tuple[ToolchainEntry, str | None]:
    """The Swift that serves `wanted` (`6.3.1`, `6.3`, `>=6.0,<7`), and a warning or None.

    An exact version wins; else the highest that matches, with a warning; releases come before
    development snapshots. With nothing wanted, the active one. None that matches is
    `WORKER_INCOMPATIBLE` / `NO_TOOLCHAIN`; a wish that is no version is `CONFIG` / `BAD_VALUE`.
    """
    return _choose(capabilities, "swift", wanted)


def choose_xcode(
    capabilities: Capabilities, build: str | None, wanted: str | None
) -> tuple[ToolchainEntry, str | None]:
    """The Xcode of `build` (`16C5032a`); without one, that of version `wanted` as for Swift.

    A build has no second best. Two Xcodes of one build: the active one, else by path.
    """
    if build is None:
        return _choose(capabilities, "xcode", wanted)
    there = _there(capabilities, "xcode")
    found = next((entry for entry in there if entry.build == build), None)
    if found is None:
        raise _incompatible(capabilities, f"Xcode build {build} is wanted", there)
    return found, None


def _choose(capabilities: Capabilities, kind: str, wanted: str | None) -> tuple[ToolchainEntry, str | None]:
    there = _there(capabilities, kind)
    if wanted is None:
        return _any(capabilities, there, kind), None
    try:
        matches = matcher(wanted)
    except ValueError as error:
        message = f"{kind}_version = {wanted!r} is no version (6.3.1, 6.3) and no range (>=6.0,<7)"
        raise Failure(Kind.CONFIG, message, subkind="BAD_VALUE") from error
    exact = [entry for entry in there if same_version(entry.version, wanted)]
    if exact:
        return exact[0], None
    fitting = [entry for entry in there if matches(entry.version)]
    if not fitting:
        raise _incompatible(capabilities, f"{_TITLES[kind]} {wanted} is wanted", there)
    best = fitting[0]
    return best, f"{_TITLES[kind]} {best.version} at {best.path} serves {kind}_version = {wanted!r}"


def _there(capabilities: Capabilities, kind: str) -> list[ToolchainEntry]:
    """The best first."""
    named = (one for one in capabilities.toolchains if one.kind == kind and numbers_of(one.version))
    return sorted(named, key=_rank, reverse=True)


def _rank(entry: ToolchainEntry) -> tuple[bool, Numbers, bool, str]:
    return is_release(entry.version), numbers_of(entry.version), entry.active, entry.path


NO_XCODE = "an Xcode is wanted"
"""Begins the refusal of a worker that has none at all."""


def _any(capabilities: Capabilities, there: list[ToolchainEntry], kind: str) -> ToolchainEntry:
    if not there:
        wish = "a Swift toolchain is wanted" if kind == "swift" else NO_XCODE
        raise _incompatible(capabilities, wish, there)
    return next((entry for entry in there if entry.active), there[0])


def _incompatible(capabilities: Capabilities, wish: str, there: Iterable[ToolchainEntry]) -> Failure:
    have = ", ".join(_words(entry) for entry in there) or "none"
    return Failure(
        Kind.WORKER_INCOMPATIBLE, f"{wish}; {capabilities.hostname} has {have}", subkind="NO_TOOLCHAIN"
    )


def _words(entry: ToolchainEntry) -> str:
    build = f" {entry.build}" if entry.kind == "xcode" and entry.build else ""
    return f"{entry.version}{build} ({entry.path})"
