"""Simulator runtimes and devices of a Mac, as `simctl list --json` tells them (spec section 7).

The tool's output is read leniently: what has not the form of a runtime or a device is left
out, and what it does not call available is kept as not available.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.records import Device, DeviceType, Runtime
from worker_agent.toolchains.versions import output_of

SIMCTL = ("/usr/bin/xcrun", "simctl", "list", "--json", "runtimes", "devices")
"""Asks without a word about pairs and device types, which takes half the time."""

EPHEMERAL_PREFIX = "rch-ephemeral-"
"""The name of a simulator that is made for one job begins so: it is nobody else's, and not told of."""


class _Runtime(msgspec.Struct, frozen=True):
    identifier: str
    name: str
    version: str
    buildversion: str = ""
    isAvailable: bool | None = None  # noqa: N815  (Apple's name)
    availability: str = ""
    supportedDeviceTypes: Any = None  # noqa: N815  (Apple's name)


class _Device(msgspec.Struct, frozen=True):
    udid: str
    name: str
    deviceTypeIdentifier: str = ""  # noqa: N815  (Apple's name)
    isAvailable: bool | None = None  # noqa: N815  (Apple's name)
    availability: str = ""


class Simulators(msgspec.Struct, frozen=True, kw_only=True):
    """What there is; sorted, so that equal machines tell equal capabilities."""

    runtimes: tuple[Runtime, ...] = ()
    devices: tuple[Device, ...] = ()


def simulators(env: Mapping[str, str], developer_dir: str, xcrun: str | None = None) -> Simulators:
    """What the simulator service of one Xcode tells; nothing where it does not answer.

    `xcrun` is another program than a Mac's own.
    """
    program = xcrun or SIMCTL[0]
    if not Path(program).is_file():
        return Simulators()
    asked = {key: env[key] for key in ("HOME", "PATH", "TMPDIR") if key in env}
    argv = [program, *SIMCTL[1:]]
    return read_simulators(output_of(argv, {**asked, "DEVELOPER_DIR": developer_dir}))


def read_simulators(text: str | None) -> Simulators:
    """Runtimes and devices in what `simctl list --json` prints; a device of an unknown runtime too."""
    try:
        told = decode_json(json_of(text or ""))
    except msgspec.DecodeError:
        return Simulators()
    if not isinstance(told, dict):
        return Simulators()
    rows = told.get("runtimes")
    runtimes = [one for row in (rows if isinstance(rows, list) else []) if (one := _runtime(row))]
    tables = told.get("devices")
    devices = [
        each
        for runtime, of_it in (tables.items() if isinstance(tables, dict) else ())
        for row in (of_it if isinstance(of_it, list) else [])
        if (each := _device(row, runtime)) and not each.name.startswith(EPHEMERAL_PREFIX)
    ]
    return Simulators(
        runtimes=tuple(sorted(runtimes, key=lambda each: (each.identifier, each.build))),
        devices=tuple(sorted(devices, key=lambda each: (each.runtime, each.name, each.udid))),
    )


def json_of(text: str) -> str:
    """What `simctl` printed from the first brace on: a first start prints notes before it."""
    return text[max(0, text.find("{")) :]


def _runtime(row: Any) -> Runtime | None:
    try:
        told = msgspec.convert(row, _Runtime)
    except msgspec.ValidationError:
        return None
    return Runtime(
        identifier=told.identifier,
        name=told.name,
        version=told.version,
        build=told.buildversion,
        available=_available(told),
        device_types=tuple(_device_types(told.supportedDeviceTypes)),
    )


def _device_types(rows: Any) -> list[DeviceType]:
    """The kinds that a runtime says it supports, sorted."""
    found = []
    for row in rows if isinstance(rows, list) else []:
        with suppress(msgspec.ValidationError):
            found.append(msgspec.convert(row, DeviceType))
    return sorted(found, key=lambda each: (each.name, each.identifier))


def _device(row: Any, runtime: str) -> Device | None:
    try:
        told = msgspec.convert(row, _Device)
    except msgspec.ValidationError:
        return None
    return Device(
        udid=told.udid,
        name=told.name,
        device_type=told.deviceTypeIdentifier,
        runtime=runtime,
        available=_available(told),
    )


def _available(told: _Runtime | _Device) -> bool:
    """By the newer member, else by the older one's words."""
    return told.isAvailable if told.isAvailable is not None else told.availability == "(available)"
