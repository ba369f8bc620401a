"""What `simctl list --json` tells, as recorded on real machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.recordings import recording

from worker_agent.toolchains.simulators import Simulators, read_simulators, simulators


@pytest.mark.spec("7")
def test_runtimes_and_devices_of_an_xcode_16_are_read() -> None:
    found = read_simulators(recording("simctl/simctl_list_xcode16.json"))
    assert [(each.name, each.version, each.build, each.available) for each in found.runtimes] == [
        ("iOS 17.5", "17.5", "21F79", True),
        ("iOS 18.0", "18.0", "22A3351", True),
        ("visionOS 1.2", "1.2", "21O5565d", True),
    ]
    of_17_4 = [each for each in found.devices if each.runtime.endswith("iOS-17-4")]
    assert len(of_17_4) == 14
    assert not any(each.available for each in of_17_4)
    vision = [each for each in found.devices if each.name == "Apple Vision Pro"]
    assert [(each.runtime.rpartition(".")[2], each.available) for each in vision] == [
        ("xrOS-1-1", False),
        ("xrOS-1-2", True),
    ]


@pytest.mark.spec("7")
def test_an_older_tool_says_availability_in_words() -> None:
    found = read_simulators(recording("simctl/devices_with_unavailable.json"))
    available = {each.available for each in found.devices}
    assert available == {True, False}
    assert found.runtimes == ()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "xcrun: error: unable to find utility",
        "[]",
        '{"runtimes": 5, "devices": []}',
        '{"runtimes": [5, {"name": "x"}], "devices": {"r": 3, "s": [{"udid": 1}]}}',
        '{"runtimes": [',
    ],
)
def test_what_is_no_listing_is_an_empty_one(text: str | None) -> None:
    assert read_simulators(text) == Simulators()


def test_notes_before_the_listing_are_passed_over() -> None:
    runtime = {"identifier": "a.iOS-18-0", "name": "iOS 18.0", "version": "18.0", "isAvailable": True}
    text = "Install Started\n1%.........20%\n" + json.dumps({"runtimes": [runtime]})
    assert [each.name for each in read_simulators(text).runtimes] == ["iOS 18.0"]


def test_a_machine_without_the_tool_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_agent.toolchains.simulators.SIMCTL", (str(tmp_path / "xcrun"),))
    assert simulators({}, "/Applications/Xcode.app/Contents/Developer") == Simulators()
