"""`simctl`: its listing beside the recorded one, and the life of a simulator."""

from __future__ import annotations

import json
import threading
import time

import pytest
from support.recordings import recording
from support.standin import Machine

from worker_agent.toolchains.simulators import SIMCTL, read_simulators

KIND = "com.apple.CoreSimulator.SimDeviceType.iPhone-16"
RUNTIME = "com.apple.CoreSimulator.SimRuntime.iOS-18-2"


def simctl(machine: Machine, *argv: str, scenario: str = "") -> tuple[int, str, str]:
    ran = machine.start("xcrun", "simctl", *argv, scenario=scenario)
    return ran.code, ran.text, ran.err


@pytest.mark.spec("7")
def test_the_listing_has_the_members_of_the_recorded_one(machine: Machine) -> None:
    ours = machine.start("xcrun", "simctl", "list", "--json").json
    recorded = json.loads(recording("simctl/simctl_list_xcode16.json"))
    assert set(ours) == set(recorded)
    for kind in ("runtimes", "devicetypes"):
        assert set(ours[kind][0]) == set(recorded[kind][0])
    assert set(ours["runtimes"][0]["supportedDeviceTypes"][0]) == set(
        recorded["runtimes"][0]["supportedDeviceTypes"][0]
    )
    known = {key for rows in recorded["devices"].values() for row in rows for key in row}
    assert {key for rows in ours["devices"].values() for row in rows for key in row} <= known


@pytest.mark.spec("7")
def test_the_workers_own_reader_finds_runtimes_and_devices(machine: Machine) -> None:
    _, text, _ = simctl(machine, *SIMCTL[2:])
    found = read_simulators(text)
    assert [(each.name, each.build) for each in found.runtimes] == [
        ("iOS 18.2", "22C150"),
        ("iOS 26.0", "23A343"),
    ]
    assert ("iPhone 16", RUNTIME) in [(each.name, each.runtime) for each in found.devices]
    assert read_simulators(simctl(machine, *SIMCTL[2:])[1]) == found
    _, text, _ = simctl(machine, *SIMCTL[2:], scenario="two-runtimes")
    twins = [each for each in read_simulators(text).runtimes if each.identifier == RUNTIME]
    assert len({each.build for each in twins}) == 2


@pytest.mark.spec("7")
def test_a_simulator_is_made_booted_used_and_deleted(machine: Machine) -> None:
    code, told, _ = simctl(machine, "create", "rch-ephemeral-1", KIND, RUNTIME)
    udid = told.strip()
    assert (code, len(udid)) == (0, 36)
    _, booting, _ = simctl(machine, "bootstatus", udid, "-b")
    assert booting.startswith(f"Monitoring boot status for rch-ephemeral-1 ({udid}).\n")
    assert machine.xcodebuild("test", "-destination", f"id={udid}").code == 0
    assert simctl(machine, "bootstatus", udid)[1].endswith("Device already booted, nothing to do.\n")
    code, _, why = simctl(machine, "boot", udid)
    assert (code, why.splitlines()[-1]) == (149, "Unable to boot device in current state: Booted")
    assert simctl(machine, "erase", udid)[0] == 149
    assert [simctl(machine, verb, udid)[0] for verb in ("shutdown", "erase", "delete")] == [0, 0, 0]
    code, _, why = simctl(machine, "delete", udid)
    assert (code, why.splitlines()[-1]) == (148, f"Invalid device: {udid}")
    assert udid not in simctl(machine, "list")[1]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["create", "x", "iPhone 1", RUNTIME], 145, "Invalid device type: iPhone 1"),
        (["create", "x", KIND, "iOS 9"], 146, "Invalid runtime: iOS 9"),
        (["create", "x", "iPhone 17", RUNTIME], 147, "Incompatible device"),
        (["create"], 145, "Invalid device type:"),
        (["shutdown", "nobody"], 148, "Invalid device: nobody"),
        (["dance"], 1, "Unrecognized subcommand: dance"),
    ],
)
def test_what_cannot_be_done_is_told(machine: Machine, argv: list[str], code: int, words: str) -> None:
    found, _, why = simctl(machine, *argv)
    assert (found, words in why) == (code, True)


def test_scenarios_of_simulators(machine: Machine) -> None:
    assert simctl(machine, "bootstatus", "iPhone 16", "-b", scenario="no-boot")[0] == 149
    assert simctl(machine, "delete", "iPhone 16", scenario="no-delete")[0] == 149
    begun = time.monotonic()
    assert simctl(machine, "bootstatus", "iPhone 16", "-b", scenario="slow-boot:seconds=0.2")[0] == 0
    assert time.monotonic() - begun >= 0.2
    assert simctl(machine, "boot", "iPhone 16 Pro", scenario="slow-boot:seconds=60")[0] == 0
    listed = machine.start("xcrun", "simctl", "list", "devices", "-j").json["devices"][RUNTIME]
    assert {row["name"]: row["state"] for row in listed} == {
        "iPhone 16": "Booted",
        "iPhone 16 Pro": "Booting",
        "iPad (10th generation)": "Shutdown",
    }


def test_simulators_made_at_once_are_all_there(machine: Machine) -> None:
    def make(number: int) -> None:
        assert simctl(machine, "create", f"rch-ephemeral-{number}", KIND, RUNTIME)[0] == 0

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert simctl(machine, "list", "devices")[1].count("rch-ephemeral-") == 8


@pytest.mark.spec("7")
def test_an_sdk_has_the_members_of_the_recorded_one(machine: Machine) -> None:
    newer = str(machine.root / "Xcode_26.0.1.app/Contents/Developer")
    ours = machine.start("xcodebuild", "-showsdks", "-json", DEVELOPER_DIR=newer).json
    (recorded,) = json.loads(recording("toolchain/xcodebuild_showsdks_one_entry.json"))
    (same,) = [each for each in ours if each["canonicalName"] == recorded["canonicalName"]]
    own = {"buildID", "platformPath", "sdkPath"}
    assert {key: same[key] for key in same if key not in own} == {
        key: recorded[key] for key in recorded if key not in own
    }
    path = machine.start("xcrun", "--sdk", "iphoneos", "--show-sdk-path", DEVELOPER_DIR=newer).text
    assert path.strip() == same["sdkPath"]
    assert machine.start("xcrun", "--sdk", "watchos", "--show-sdk-path").code == 1


def test_the_system_says_its_version_whole_and_in_parts(machine: Machine) -> None:
    whole = machine.start("sw_vers").text
    assert whole.splitlines()[0] == "ProductName:    macOS"
    parts = [machine.start("sw_vers", flag).text.strip() for flag in ("-productVersion", "--buildVersion")]
    assert all(part in whole for part in parts)
    assert machine.start("sw_vers", "-colour").code == 1
    assert machine.start("xcode-select", "--switch", "/").code == 1
    assert machine.start("xcrun", "no-such-tool").code == 72
