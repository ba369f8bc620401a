"""Toolchain and destination on what a real runner image and real tools tell of themselves."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from support.macs import CONSTRAINT, mac, mac_report, xcode_run
from support.recordings import recording

from rch.contract.classifier import Rejected, classify
from rch.contract.destinations import destination_change, resolve_destination
from rch.contract.errors import Failure
from rch.contract.policy import ClassifierPolicy
from rch.contract.records import Capabilities, Device, Runtime, ToolchainEntry
from rch.contract.toolchain import choose_xcode, toolchain_change, xcode_toolchain_inputs
from rchd.core.jobs import job_from
from rchd.core.select import select
from worker_agent.toolchains.simulators import read_simulators

XCODE = re.compile(r"^\| ([0-9.]+)( \(default\))? +\| (\w+) +\| (/Applications/\S+\.app) ", re.MULTILINE)
SYSTEM = re.compile(r"OS Version: macOS ([0-9.]+) \((\w+)\)")
SIMULATORS = re.compile(
    r"^\| (iOS|tvOS|watchOS|visionOS) ([0-9.]+) +\| ([0-9.]+) +\| (.+?) *\|$", re.MULTILINE
)


@pytest.fixture(scope="module")
def runner() -> Capabilities:
    """The image's own inventory as a worker there would tell it; its builds of runtimes are made up."""
    text = recording("toolchain/gha_macos-15-arm64-Readme.md")
    system = SYSTEM.search(text)
    assert system is not None
    runtimes, devices = [], []
    for family, name, version, phones in SIMULATORS.findall(text):
        tail = f"{'xrOS' if family == 'visionOS' else family}-{name.replace('.', '-')}"
        identifier = f"com.apple.CoreSimulator.SimRuntime.{tail}"
        runtimes.append(
            Runtime(identifier=identifier, name=f"{family} {name}", version=version, build="22A1")
        )
        for number, phone in enumerate(phones.split("<br>")):
            kind = f"com.apple.CoreSimulator.SimDeviceType.{re.sub('[^A-Za-z0-9]+', '-', phone)}"
            devices.append(
                Device(udid=f"{tail}-{number}", name=phone, device_type=kind, runtime=identifier)
            )
    return mac(
        hostname="runner",
        os_version=system[1],
        os_build=system[2],
        toolchains=tuple(
            ToolchainEntry(
                kind="xcode",
                version=version,
                build=build,
                path=path,
                developer_dir=f"{path}/Contents/Developer",
                active=bool(default),
            )
            for version, default, build, path in XCODE.findall(text)
        ),
        runtimes=tuple(runtimes),
        devices=tuple(devices),
    )


@pytest.mark.spec("7")
def test_the_inventory_of_a_runner_is_read_whole(runner: Capabilities) -> None:
    assert len(runner.toolchains) == 9
    assert (runner.os_version, runner.os_build) == ("15.7.7", "24G720")
    assert len({each.build for each in runner.toolchains}) == 9
    assert {each.name.split()[0] for each in runner.runtimes} >= {"iOS", "tvOS", "watchOS"}


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("build", "wanted", "found", "warned"),
    [
        ("16C5032a", None, "16C5032a", False),
        ("17C52", "16.2", "17C52", False),
        (None, "16.2", "16C5032a", False),
        (None, "16.0", "16A242d", False),
        (None, "26.2", "17C52", False),
        (None, ">=16.2,<17", "16F6", True),
        (None, ">=16.2", "17C529", True),
        (None, "<16.1", "16A242d", True),
        (None, "26.1", "17B100", True),
        (None, None, "16F6", False),
    ],
)
def test_nine_xcodes_side_by_side_serve_every_kind_of_wish(
    runner: Capabilities, build: str | None, wanted: str | None, found: str, *, warned: bool
) -> None:
    entry, warning = choose_xcode(runner, build, wanted)
    assert (entry.build, warning is not None) == (found, warned)
    inputs = xcode_toolchain_inputs(runner, entry)
    assert inputs["developer_dir"] == f"{entry.path}/Contents/Developer"
    assert toolchain_change(runner, inputs) is None


@pytest.mark.spec("7")
@pytest.mark.parametrize(("build", "wanted"), [("17C529a", None), (None, "15.4"), (None, ">=16.4.1,<26")])
def test_what_the_runner_lacks_is_told_with_what_it_has(
    runner: Capabilities, build: str | None, wanted: str | None
) -> None:
    with pytest.raises(Failure) as refused:
        choose_xcode(runner, build, wanted)
    assert refused.value.subkind == "NO_TOOLCHAIN"
    for entry in runner.toolchains:
        assert f"{entry.version} {entry.build} ({entry.path})" in refused.value.message


@pytest.mark.spec("7")
def test_the_key_of_a_job_changes_with_each_of_the_nine_and_with_nothing_else(runner: Capabilities) -> None:
    keys = {}
    for entry in runner.toolchains:
        wanted = {"xcode_build": entry.build or ""}
        request = xcode_run(toolchain=wanted)
        (choice,) = select(request.options, (mac_report(told=runner),)).choices
        keys[entry.build] = job_from(request, 0, choice, "2026-01-01T00:00:00.000Z").job_key
    assert len(set(keys.values())) == 9


@pytest.mark.spec("7")
def test_latest_on_the_runner_is_its_newest_runtime_with_that_phone(runner: Capabilities) -> None:
    newest = max(
        (each.version for each in runner.runtimes if each.name.startswith("iOS")),
        key=lambda version: [int(part) for part in version.split(".")],
    )
    found = resolve_destination(runner, CONSTRAINT, "test")
    assert found.inputs["os_version"] == newest
    assert found.value == f"platform=iOS Simulator,name=iPhone 16,OS={newest}"
    exact = resolve_destination(runner, "platform=iOS Simulator,name=iPhone 16,OS=26.0.1", "test")
    assert exact.inputs["sim_runtime_identifier"].endswith("iOS-26-0")


@pytest.mark.spec("7")
def test_every_device_of_a_real_listing_is_found_again_by_its_destination() -> None:
    """Repeated names, runtimes that are gone and visionOS among them."""
    told = read_simulators(recording("simctl/simctl_list_xcode16.json"))
    there = mac(runtimes=told.runtimes, devices=told.devices)
    usable = {each.identifier: each for each in told.runtimes if each.available}
    resolved = 0
    for device in told.devices:
        if device.available and device.runtime in usable:
            version = usable[device.runtime].version
            tail = device.runtime.rpartition(".")[2].partition("-")[0]
            family = "visionOS" if tail == "xrOS" else tail
            constraint = f"platform={family} Simulator,name={device.name},OS={version}"
            found = resolve_destination(there, constraint, "test")
            assert found.inputs["name"] == device.name
            assert destination_change(there, found.inputs) is None
            resolved += 1
    assert resolved > 10
    gone = msgspec.structs.replace(there, runtimes=())
    assert destination_change(gone, found.inputs) is not None


@pytest.mark.spec("6")
def test_the_sdks_that_xcode_lists_pass_the_gate_by_name_and_never_by_path() -> None:
    policy = ClassifierPolicy(
        backend="xcodebuild",
        project="A.xcodeproj",
        schemes=("A",),
        destination="generic/platform=iOS",
        allow_flags=("-sdk",),
    )
    words = ["build", "-project", "A.xcodeproj", "-scheme", "A", "-destination", "generic/platform=iOS"]
    for sdk in json.loads(recording("toolchain/xcodebuild_showsdks_one_entry.json")):
        for name in (sdk["canonicalName"], sdk["platform"]):
            assert not isinstance(classify([*words, "-sdk", name], policy), Rejected)
        assert isinstance(classify([*words, "-sdk", sdk["sdkPath"]], policy), Rejected)
