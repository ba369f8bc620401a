"""What a worker says of itself (spec section 7)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from rch.contract.forms import (
    Fingerprint,
    Natural,
    Timestamp,
    ToolchainKind,
)


class ToolchainEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An installed toolchain. `kind` is xcode or swift; `path` its root folder."""

    kind: ToolchainKind
    version: str
    path: str
    build: str | None = None
    developer_dir: str | None = None
    active: bool = False


class DeviceType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of simulator that can be made."""

    identifier: str
    name: str


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """A simulator runtime, and the kinds of devices that can be made for it."""

    identifier: str
    name: str
    version: str
    build: str
    available: bool = True
    device_types: tuple[DeviceType, ...] = ()


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A simulator device."""

    udid: str
    name: str
    device_type: str
    runtime: str
    available: bool = True


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine has; `load_milli` is the one-minute load in thousandths."""

    cpus: Natural
    memory_bytes: Natural
    slots_total: Natural
    slots_free: Natural
    disk_free_bytes: Natural
    load_milli: Natural


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that the worker enforces, in bytes; 0: none."""

    max_upload_bytes: Natural
    max_artifact_bytes: Natural
    max_log_bytes: Natural


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself (spec section 7)."""

    hostname: str
    agent_version: str
    probed_at: Timestamp
    os_name: str
    os_version: str
    os_build: str | None
    arch: str
    toolchains: tuple[ToolchainEntry, ...]
    capacity: Capacity
    limits: Limits
    runtimes: tuple[Runtime, ...] = ()
    devices: tuple[Device, ...] = ()
    tools: dict[str, str] = {}
    gui_session: bool | None = None
    attestation_pubkey_fingerprint: Fingerprint | None = None
    simulated: bool = False
    home_beyond_ascii: bool | UnsetType = UNSET
    """Set where the worker's folders have letters beyond ASCII in their path: `swift build` fails there."""


_PASSING = frozenset({"slots_free", "disk_free_bytes", "load_milli"})


def stable_capabilities(capabilities: Capabilities | dict[str, Any]) -> dict[str, Any]:
    """The capabilities without what changes from probe to probe, for `capabilities_sha256`.

    Of a worker's own words, decoded from JSON, everything else stays as it was said: members that are
    unknown here, too, and none that was left out is added.
    """
    plain: dict[str, Any] = msgspec.to_builtins(capabilities)
    capacity = plain.get("capacity")
    if isinstance(capacity, dict):
        plain["capacity"] = {name: value for name, value in capacity.items() if name not in _PASSING}
    return {name: value for name, value in plain.items() if name != "probed_at"}
