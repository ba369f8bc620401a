"""Destinations: what a constraint means on one worker (spec section 7).

    platform=iOS Simulator,name=iPhone 16,OS=latest   a simulator that exists there
    platform=macOS                                    the worker itself
    generic/platform=iOS                              no device at all: serves `build` alone

Pure over a capabilities snapshot. Runtimes that are gone or cannot be used do not count, nor do
devices whose runtime is one of those. The same snapshot and constraint give the same answer,
and nothing in what enters a job's identity tells one device of a kind from another.

With provisioning `ephemeral` a simulator is made for each job: its runtime and its kind have to be
there, and no device.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.flag_values import parse_destination
from rch.contract.records import Capabilities, Device, DeviceType, Runtime
from rch.contract.toolchain import HOST_DESTINATION, first_difference, host_destination_inputs
from rch.contract.versions import numbers_of

GENERIC = "generic"
"""The `name` of a destination that is a platform and no device."""

EXISTING, EPHEMERAL = "existing", "ephemeral"

_SIMULATOR_PLATFORMS = ("iOS Simulator", "tvOS Simulator", "watchOS Simulator", "visionOS Simulator")
_DEVICES = ("iOS", "tvOS", "watchOS", "visionOS", "DriverKit")
_SHOWN = 8


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A constraint made concrete. `value` is what `-destination` says; `inputs` enter the job key.

    `udid` names the device to use and enters nothing; `warning` says what was chosen among several.
    """

    value: str
    inputs: dict[str, str]
    udid: str | None = None
    warning: str | None = None


def resolve_destination(
    capabilities: Capabilities, constraint: str, action: str, provisioning: str = EXISTING
) -> Resolved:
    """What `constraint` is on this worker; `action` is build or test.

    `WORKER_INCOMPATIBLE` / `NO_DESTINATION` says what the worker lacks and what it has;
    `CONFIG` / `BAD_VALUE` where no worker could ever serve it.
    """
    asked, why = parse_destination(constraint), unserved(constraint)
    if asked is None or why is not None:
        raise _bad(constraint, why or "")
    if "generic/platform" in asked:
        return _generic(capabilities, constraint, asked, action)
    if asked["platform"] == "macOS":
        return _this_machine(capabilities, constraint, asked)
    return _simulator(capabilities, constraint, asked, ephemeral=provisioning == EPHEMERAL)


def is_simulator(constraint: str) -> bool:
    """Whether a constraint names a simulator, of which alone one can be made for a job."""
    return (parse_destination(constraint) or {}).get("platform") in _SIMULATOR_PLATFORMS


def unserved(constraint: str) -> str | None:
    """Why no worker could ever serve a constraint, as the rest of a sentence; None if one could."""
    asked = parse_destination(constraint)
    if asked is None:
        return "is not platform=...,name=...,OS=... (id= is not served)"
    if "generic/platform" in asked:
        known = {"macOS", *_DEVICES, *_SIMULATOR_PLATFORMS}
        return None if asked["generic/platform"] in known else "names no platform that is served"
    if asked["platform"] == "macOS":
        key = next((key for key in ("OS", "name") if key in asked), None)
        return key and f"has {key}=, which is for simulators: a Mac is chosen by tags"
    if asked["platform"] in _SIMULATOR_PLATFORMS:
        if "name" not in asked:
            return "names no device: add name=..."
        return "has a variant, which is for macOS alone" if "variant" in asked else None
    return _no_platform(asked["platform"])


def _no_platform(platform: str) -> str:
    if platform in _DEVICES:
        return f"is a device; simulators, macOS and generic/platform={platform} are served"
    return f"names no platform that is served ({', '.join(['macOS', *_SIMULATOR_PLATFORMS])})"


def destination_change(now: Capabilities, named: Mapping[str, str]) -> str | None:
    """None if the destination of a job's identity is here as it was, else the first thing that is not.

    Of a simulator any device of its name, type and runtime is the same; of one that is made for the
    job, that it can be.
    """
    if "sim_runtime_identifier" in named:
        return _simulator_change(now, named)
    here = host_destination_inputs(now)
    if named.get("name") == GENERIC and now.os_name == "macOS":
        return None
    if named.get("platform") == "macOS":
        here["name"] = named.get("name", "")  # a variant is a way to build, not another machine
    return first_difference(named, here)


def _simulator_change(now: Capabilities, named: Mapping[str, str]) -> str | None:
    identifier, build = named["sim_runtime_identifier"], named.get("sim_runtime_build")
    builds = [each.build for each in now.runtimes if each.available and each.identifier == identifier]
    if build not in builds:
        return f"runtime {identifier} {build} is gone; there is {', '.join(builds) or 'none'}"
    provisioning = named.get("provisioning", EXISTING)
    if provisioning not in {EXISTING, EPHEMERAL}:
        return f"provisioning {provisioning!r} is not known"
    if provisioning == EPHEMERAL:
        kind = named.get("device_type_identifier")
        makes = _kinds_of(now, identifier, build)
        return None if any(each.identifier == kind for each in makes) else f"{kind} cannot be made there"
    if devices_of(now, named):
        return None
    return (
        f"no device {named.get('name')!r} ({named.get('device_type_identifier')}) with {identifier} is left"
    )


def _kinds_of(now: Capabilities, identifier: str, build: str | None) -> list[DeviceType]:
    """The kinds of devices that can be made for a usable runtime."""
    return [
        kind
        for each in now.runtimes
        if each.available and (each.identifier, each.build) == (identifier, build)
        for kind in each.device_types
    ]


def devices_of(now: Capabilities, named: Mapping[str, str]) -> list[Device]:
    """The usable devices that a simulator destination of a job's identity means, by udid."""
    wanted = named.get("name"), named.get("device_type_identifier"), named.get("sim_runtime_identifier")
    found = (
        each
        for each in now.devices
        if each.available and (each.name, each.device_type, each.runtime) == wanted
    )
    return sorted(found, key=lambda each: each.udid)


def _generic(capabilities: Capabilities, constraint: str, asked: dict[str, str], action: str) -> Resolved:
    platform = asked["generic/platform"]
    if action != "build":
        raise _bad(constraint, f"is generic: it serves build alone, not {action}")
    _need_macos(capabilities, constraint)
    # The SDK that it is built with comes with the Xcode, whose build is in the job key beside it.
    inputs = {"platform": platform, "name": GENERIC, "os_version": GENERIC, "provisioning": EXISTING}
    return Resolved(value=constraint, inputs=inputs)


def _this_machine(capabilities: Capabilities, constraint: str, asked: dict[str, str]) -> Resolved:
    _need_macos(capabilities, constraint)
    arch = asked.get("arch", capabilities.arch)
    if arch != capabilities.arch:
        raise _lacks(capabilities, constraint, f"its arch is {capabilities.arch}")
    inputs = {
        "platform": "macOS",
        "name": asked.get("variant", HOST_DESTINATION),
        "os_version": capabilities.os_version,
        "provisioning": EXISTING,
    }
    return Resolved(value=_words({**asked, "arch": arch}), inputs=inputs)


def _need_macos(capabilities: Capabilities, constraint: str) -> None:
    if capabilities.os_name != "macOS":
        raise _lacks(capabilities, constraint, f"it runs {capabilities.os_name}")


# --- simulators -----------------------------------------------------------------------


def _simulator(
    capabilities: Capabilities, constraint: str, asked: dict[str, str], *, ephemeral: bool
) -> Resolved:
    name = asked["name"]
    family = asked["platform"].removesuffix(" Simulator")
    usable = [each for each in capabilities.runtimes if each.available and family_of(each) == family]
    runtimes = _wanted(capabilities, constraint, usable, asked.get("OS", "latest"))
    if ephemeral:
        return _to_be_made(capabilities, constraint, asked, runtimes)
    for runtime in runtimes:
        devices = _devices_named(capabilities, runtime, name)
        if devices:
            return _chosen(capabilities, asked, runtime, devices)
    usable_there = {each.identifier for each in runtimes}
    there = _near(
        {each.name for each in capabilities.devices if each.available and each.runtime in usable_there},
        name,
    )
    version = "" if len(runtimes) > 1 else f" {runtimes[0].version}"
    raise _lacks(capabilities, constraint, f"with {family}{version} it has {there}, no {name!r}")


def _to_be_made(
    capabilities: Capabilities, constraint: str, asked: dict[str, str], runtimes: Sequence[Runtime]
) -> Resolved:
    """A device that is made for the job: by the name of its kind, on the newest runtime that has it."""
    name = asked["name"]
    for runtime in runtimes:
        kinds = sorted(each.identifier for each in runtime.device_types if each.name == name)
        if kinds:
            inputs = _inputs(asked, runtime, name, kinds[0], EPHEMERAL)
            return Resolved(value=_words({**asked, "OS": runtime.version}), inputs=inputs)
    makes = {each.name for runtime in runtimes for each in runtime.device_types}
    named = ", ".join(runtime.name for runtime in runtimes)
    what = f"for {named} it can make {_near(makes, name)}, no {name!r}"
    if not makes:
        what = f"it does not say which devices can be made for {named}: upgrade rch-worker there"
    raise _lacks(capabilities, constraint, what)


def family_of(runtime: Runtime) -> str:
    """iOS, tvOS, watchOS or visionOS, by a runtime's identifier, which no user can rename."""
    tail = runtime.identifier.rpartition(".")[2].partition("-")[0]
    return "visionOS" if tail == "xrOS" else tail


def _wanted(
    capabilities: Capabilities, constraint: str, usable: Sequence[Runtime], version: str
) -> list[Runtime]:
    """The runtimes that `version` allows, newest first; of one version the highest build first."""
    fitting = [
        each
        for each in usable
        if version == "latest" or (numbers_of(each.version) == numbers_of(version) != ())
    ]
    if not fitting:
        have = ", ".join(sorted({f"{family_of(each)} {each.version}" for each in usable})) or "none of it"
        raise _lacks(capabilities, constraint, f"of the runtime's platform it has {have}")
    return sorted(
        fitting, key=lambda each: (numbers_of(each.version), _build_rank(each.build)), reverse=True
    )


def _build_rank(build: str) -> tuple[int, str, int, str]:
    """Order of Apple's build numbers: 22A3351 < 22A3354 < 22B81; a beta's letter comes before none."""
    found = re.fullmatch(r"([0-9]+)([A-Z])([0-9]+)([a-z]?)", build)
    if found is None:
        return 0, "", 0, build
    return int(found[1]), found[2], int(found[3]), found[4] or "~"


def _devices_named(capabilities: Capabilities, runtime: Runtime, name: str) -> list[Device]:
    """Usable devices of that name: those whose type has the name too come first, then by type and udid."""
    same = [
        each
        for each in capabilities.devices
        if each.available and each.runtime == runtime.identifier and each.name == name
    ]
    return sorted(same, key=lambda each: (not _is_of_its_name(each), each.device_type, each.udid))


def _is_of_its_name(device: Device) -> bool:
    """Whether a device bears the name of its own type, as those do that Xcode makes."""
    kind = device.device_type.rpartition(".")[2]
    return _plain(kind) == _plain(device.name)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()


def _chosen(
    capabilities: Capabilities, asked: dict[str, str], runtime: Runtime, devices: Sequence[Device]
) -> Resolved:
    device = devices[0]
    inputs = _inputs(asked, runtime, device.name, device.device_type, EXISTING)
    value = _words({**asked, "OS": runtime.version})
    return Resolved(
        value=value, inputs=inputs, udid=device.udid, warning=_several(capabilities, runtime, devices)
    )


def _inputs(
    asked: dict[str, str], runtime: Runtime, name: str, kind: str, provisioning: str
) -> dict[str, str]:
    """What of a simulator enters a job's identity."""
    return {
        "platform": asked["platform"],
        "name": name,
        "os_version": runtime.version,
        "provisioning": provisioning,
        "sim_runtime_identifier": runtime.identifier,
        "sim_runtime_build": runtime.build,
        "device_type_identifier": kind,
    }


def _several(capabilities: Capabilities, runtime: Runtime, devices: Sequence[Device]) -> str | None:
    """What was chosen where a name fits more than one thing that differs."""
    chosen = devices[0]
    kinds = sorted({each.device_type for each in devices} - {chosen.device_type})
    if kinds:
        also = ", ".join(kinds)
        return f"{chosen.name!r} is {chosen.device_type}; devices of that name are also {also}"
    builds = {
        each.build
        for each in capabilities.runtimes
        if each.available and (family_of(each), each.version) == (family_of(runtime), runtime.version)
    } - {runtime.build}
    if builds:
        return f"{runtime.name} is build {runtime.build}; there is also {', '.join(sorted(builds))}"
    return None


def _near(names: Iterable[str], wanted: str) -> str:
    """These names, those like the wanted one first."""
    there = sorted(names)
    near = difflib.get_close_matches(wanted, there, n=_SHOWN, cutoff=0.0)
    shown = ", ".join(repr(name) for name in near)
    more = f" and {len(there) - len(near)} more" if len(there) > len(near) else ""
    return (shown or "no device") + more


def _words(asked: dict[str, str]) -> str:
    """A destination in words, its keys in Xcode's usual order."""
    order = ("platform", "variant", "arch", "name", "OS")
    return ",".join(f"{key}={asked[key]}" for key in order if key in asked)


def _bad(constraint: str, what: str) -> Failure:
    return Failure(Kind.CONFIG, f"destination.value = {constraint!r} {what}", subkind="BAD_VALUE")


def _lacks(capabilities: Capabilities, constraint: str, what: str) -> Failure:
    message = f"destination {constraint!r} is wanted; {capabilities.hostname} cannot serve it: {what}"
    return Failure(Kind.WORKER_INCOMPATIBLE, message, subkind="NO_DESTINATION")
