"""The stand-ins under what host and worker make of them: destination, gate, command line."""

from __future__ import annotations

import msgspec
import pytest
from support.macs import mac
from support.standin import DEMO, Machine

from rch.config.invocation import policy_from_bundle
from rch.config.worker_config import WorkerConfig
from rch.contract.classifier import Accepted, classify
from rch.contract.destinations import devices_of, resolve_destination
from worker_agent.toolchains.simulators import SIMCTL, read_simulators


@pytest.mark.spec("6", "7", "11")
@pytest.mark.parametrize("action", ["build", "test"])
def test_what_the_gate_accepts_runs_with_what_the_worker_adds(machine: Machine, action: str) -> None:
    found = read_simulators(machine.start("xcrun", *SIMCTL[1:]).text)
    told = msgspec.structs.replace(mac(), runtimes=found.runtimes, devices=found.devices)
    repo = (DEMO / ".rch" / "xcode.toml").read_bytes()
    policy = policy_from_bundle(repo, WorkerConfig(), top_level=("Lantern.xcodeproj",))
    constraint = "platform=iOS Simulator,name=iPhone 16,OS=latest"
    place = resolve_destination(told, constraint, action)
    assert (place.inputs["os_version"], place.inputs["sim_runtime_build"]) == ("18.2", "22C150")
    asked = ["xcodebuild", action, "-project", "Lantern.xcodeproj", "-scheme", "Lantern"]
    judged = classify([*asked, "-destination", constraint], policy, resolved_destination=place.value)
    assert isinstance(judged, Accepted)
    (device,) = devices_of(told, place.inputs)
    own = ["-derivedDataPath", str(machine.derived), "-resultBundlePath", str(machine.home / "r.xcresult")]
    own += ["-collect-test-diagnostics", "never", "-clonedSourcePackagesDirPath", str(machine.home / "spm")]
    ran = machine.start("xcodebuild", *judged.sanitized_argv, *own, NSUnbufferedIO="YES")
    assert (ran.code, ran.err) == (0, "")
    assert machine.results("get build-results")["destination"]["deviceId"] == device.udid
    listed = machine.start("xcrun", "simctl", "list", "devices", device.udid, "-j").json["devices"]
    (row,) = [row for rows in listed.values() for row in rows]
    assert row["state"] == ("Booted" if action == "test" else "Shutdown")
