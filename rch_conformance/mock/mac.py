"""The Mac that a mock worker plays: the same on every machine, so that job keys are, too.

It has one Swift toolchain, one Xcode, one iOS runtime and one phone, and runs none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rch.contract.records import (
    Capabilities,
    Capacity,
    Device,
    Limits,
    Runtime,
    ToolchainEntry,
)
from rch.contract.records.capabilities import DeviceType
from rch.contract.worker_rpc import Feature

FROZEN = "2026-01-01T00:00:00.000Z"
"""The time of everything that a worker with `--frozen` says and writes."""
NAME = "rch-mock-worker"
SEED = b"published key of rch-mock-worker"
"""The 32 bytes of the key that mock workers sign with. Everybody has them: a signature proves nothing."""
FINGERPRINT = "SHA256:24e91c1309a2484cfd1d418f8f7ff82ff9ba2ca636922c4bbd565ff458493832"
"""Of that key, for a pin."""
OTHER_SEED = b"some other key of a mock worker."
"""For the scenario that signs with a key that nobody pinned."""

MAC = Capabilities(
    hostname=NAME,
    agent_version="mock",
    probed_at=FROZEN,
    os_name="macOS",
    os_version="15.2",
    os_build="24C101",
    arch="arm64",
    toolchains=(
        ToolchainEntry(kind="swift", version="6.0.3", path="/opt/rch-mock-worker/swift/usr", active=True),
        ToolchainEntry(
            kind="xcode",
            version="16.2",
            path="/opt/rch-mock-worker/Xcode.app",
            build="16C5032a",
            developer_dir="/opt/rch-mock-worker/Xcode.app/Contents/Developer",
            active=True,
        ),
    ),
    capacity=Capacity(
        cpus=8,
        memory_bytes=16 << 30,
        slots_total=1,
        slots_free=1,
        disk_free_bytes=256 << 30,
        load_milli=500,
    ),
    limits=Limits(max_upload_bytes=1 << 30, max_artifact_bytes=1 << 30, max_log_bytes=64 << 20),
    runtimes=(
        Runtime(
            identifier="com.apple.CoreSimulator.SimRuntime.iOS-18-2",
            name="iOS 18.2",
            version="18.2",
            build="22C150",
            device_types=(
                DeviceType(identifier="com.apple.CoreSimulator.SimDeviceType.iPhone-16", name="iPhone 16"),
            ),
        ),
    ),
    devices=(
        Device(
            udid="00000000-0000-4000-8000-000000000016",
            name="iPhone 16",
            device_type="com.apple.CoreSimulator.SimDeviceType.iPhone-16",
            runtime="com.apple.CoreSimulator.SimRuntime.iOS-18-2",
        ),
    ),
    tools={},
    gui_session=True,
    attestation_pubkey_fingerprint=FINGERPRINT,
    simulated=True,
)

FEATURES = (
    Feature.SESSION,
    Feature.UPLOAD,
    Feature.TAIL,
    Feature.LEASE,
    Feature.LEASE_RENEW,
    Feature.FETCH_RESUME,
    Feature.ATTESTATION_SIGNING,
    Feature.BACKEND_XCODEBUILD,
)
"""What it offers where its scenario leaves nothing out."""


def mac(
    changes: Mapping[str, Any], *, simulated: bool, signs: bool, slots: tuple[int, int], probed_at: str
) -> Capabilities:
    """The Mac with `changes` over it; `slots` are those in all and those free.

    `msgspec.ValidationError` where the changes are none of a worker's capabilities.
    """
    plain: dict[str, Any] = msgspec.to_builtins(MAC)
    plain["probed_at"] = probed_at
    plain["capacity"]["slots_total"], plain["capacity"]["slots_free"] = slots
    if not signs:
        plain["attestation_pubkey_fingerprint"] = None
    whole = {**_merged(plain, changes), "simulated": simulated}  # no change has a say in that
    return msgspec.convert(whole, Capabilities)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        nested = isinstance(value, dict) and isinstance(below, dict)
        both[key] = _merged(below, value) if nested and isinstance(below, dict) else value
    return both
