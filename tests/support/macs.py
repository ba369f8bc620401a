"""Macs with Xcodes and simulators, and the run of an Xcode project."""

from __future__ import annotations

from typing import Any

import msgspec
from support.playbook import accepted, capabilities, report

from rch.contract.classifier import Rejected, classify
from rch.contract.policy import ClassifierPolicy
from rch.contract.records import Accepted, Capabilities, Device, Runtime, ToolchainEntry
from rchd.core import events as ev

CONSTRAINT = "platform=iOS Simulator,name=iPhone 16,OS=latest"
IOS_18_2 = "com.apple.CoreSimulator.SimRuntime.iOS-18-2"
PHONE = "com.apple.CoreSimulator.SimDeviceType.iPhone-16"
POLICY = ClassifierPolicy(
    backend="xcodebuild",
    workspace="App.xcworkspace",
    schemes=("App",),
    configurations=("Debug", "Release"),
    destination=CONSTRAINT,
)


def xcode(version: str = "16.2", build: str = "16C5032a", *, active: bool = True) -> ToolchainEntry:
    """An Xcode at the usual place."""
    app = f"/Applications/Xcode_{version}.app"
    return ToolchainEntry(
        kind="xcode",
        version=version,
        path=app,
        build=build,
        developer_dir=f"{app}/Contents/Developer",
        active=active,
    )


def mac(**changes: Any) -> Capabilities:
    """A Mac with one Xcode, one runtime and one phone."""
    base: dict[str, Any] = {
        "hostname": "mini",
        "os_name": "macOS",
        "os_version": "15.1",
        "os_build": "24B83",
        "arch": "arm64",
        "toolchains": (xcode(),),
        "runtimes": (Runtime(identifier=IOS_18_2, name="iOS 18.2", version="18.2", build="22C150"),),
        "devices": (phone("11111111-0000-0000-0000-000000000001"),),
    }
    return capabilities(**{**base, **changes})


def phone(udid: str, **changes: Any) -> Device:
    """An iPhone 16 with iOS 18.2."""
    base = Device(udid=udid, name="iPhone 16", device_type=PHONE, runtime=IOS_18_2)
    return msgspec.structs.replace(base, **changes)


def mac_report(
    worker: str = "mini", told: Capabilities | None = None, *, offers: bool = True, **changes: Any
) -> ev.ProbeReport:
    """A Mac that answered its probe; `offers`: it has the xcodebuild backend."""
    base = report(worker)
    assert base.result is not None
    features = (*base.result.features, *(("backend_xcodebuild",) if offers else ()))
    result = msgspec.structs.replace(base.result, capabilities=told or mac(), features=features)
    return msgspec.structs.replace(base, result=result, **changes)


def xcode_run(
    run_id: str = "run-00000001",
    actions: tuple[str, ...] = ("build", "test"),
    *,
    policy: ClassifierPolicy = POLICY,
    **options: Any,
) -> Accepted:
    """A run of an Xcode project as intake would accept it."""
    chosen = {"backend": "xcodebuild", "destination": policy.destination, **options}
    base = accepted(run_id, actions, **chosen)
    steps = []
    for step in base.steps:
        words = ["xcodebuild", step.action, "-workspace", "App.xcworkspace", "-scheme", "App"]
        verdict = classify([*words, "-destination", policy.destination or ""], policy)
        assert not isinstance(verdict, Rejected), verdict.reasons
        steps.append(
            msgspec.structs.replace(
                step, original_argv=verdict.original_argv, sanitized_argv=verdict.sanitized_argv
            )
        )
    return msgspec.structs.replace(
        base,
        steps=tuple(steps),
        options=msgspec.structs.replace(base.options, actions=actions),
        effective_config={"backend": "xcodebuild"},
        policy=msgspec.to_builtins(policy),
    )
