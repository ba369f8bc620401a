"""What a destination constraint means on a worker, on real and on made listings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.recordings import recording

from rch.contract.canonical import jcs_sha256
from rch.contract.destinations import GENERIC, destination_change, devices_of, resolve_destination
from rch.contract.errors import Failure, Kind
from rch.contract.flag_values import refines
from rch.contract.records import Capabilities, Capacity, Device, DeviceType, Limits, Runtime
from worker_agent.toolchains.simulators import read_simulators

IOS_18 = "com.apple.CoreSimulator.SimRuntime.iOS-18-0"
PHONE = "com.apple.CoreSimulator.SimDeviceType.iPhone-16"


def mac(**members: Any) -> Capabilities:
    base = Capabilities(
        hostname="mini",
        agent_version="0.1.0",
        probed_at="2026-01-01T00:00:00Z",
        os_name="macOS",
        os_version="15.5",
        os_build="24F74",
        arch="arm64",
        toolchains=(),
        capacity=Capacity(
            cpus=8, memory_bytes=1, slots_total=1, slots_free=1, disk_free_bytes=1, load_milli=0
        ),
        limits=Limits(max_upload_bytes=0, max_artifact_bytes=0, max_log_bytes=0),
    )
    return msgspec.structs.replace(base, **members)


def runtime(version: str, build: str, *, family: str = "iOS", available: bool = True) -> Runtime:
    tail = f"{'xrOS' if family == 'visionOS' else family}-{version.replace('.', '-')}"
    return Runtime(
        identifier=f"com.apple.CoreSimulator.SimRuntime.{tail}",
        name=f"{family} {version}",
        version=version,
        build=build,
        available=available,
    )


def device(udid: str, name: str = "iPhone 16", *, runtime: str = IOS_18, kind: str = PHONE) -> Device:
    return Device(udid=udid, name=name, device_type=kind, runtime=runtime)


@pytest.fixture(scope="module")
def recorded() -> Capabilities:
    found = read_simulators(recording("simctl/simctl_list_xcode16.json"))
    return mac(runtimes=found.runtimes, devices=found.devices)


def refusal(capabilities: Capabilities, constraint: str, action: str = "test") -> Failure:
    with pytest.raises(Failure) as told:
        resolve_destination(capabilities, constraint, action)
    return told.value


# --- on a real listing ------------------------------------------------------------------


@pytest.mark.spec("7")
def test_latest_becomes_the_newest_runtime_that_has_the_device(recorded: Capabilities) -> None:
    asked = "platform=iOS Simulator,name=iPhone 15,OS=latest"
    found = resolve_destination(recorded, asked, "test")
    assert found.value == "platform=iOS Simulator,name=iPhone 15,OS=18.0"
    assert found.inputs == {
        "platform": "iOS Simulator",
        "name": "iPhone 15",
        "os_version": "18.0",
        "provisioning": "existing",
        "sim_runtime_identifier": IOS_18,
        "sim_runtime_build": "22A3351",
        "device_type_identifier": "com.apple.CoreSimulator.SimDeviceType.iPhone-15",
    }
    assert found.udid in {each.udid for each in recorded.devices if each.runtime == IOS_18}
    assert refines(found.value, asked)


@pytest.mark.spec("7")
def test_latest_passes_over_a_newer_runtime_without_the_device(recorded: Capabilities) -> None:
    asked = "platform=iOS Simulator,name=iPhone 13 mini,OS=latest"
    assert resolve_destination(recorded, asked, "test").value.endswith("OS=17.5")


@pytest.mark.spec("7")
def test_no_version_means_the_latest(recorded: Capabilities) -> None:
    found = resolve_destination(recorded, "platform=iOS Simulator,name=iPhone 15", "test")
    assert found.value == "platform=iOS Simulator,name=iPhone 15,OS=18.0"


@pytest.mark.spec("7")
def test_a_named_version_is_met_by_its_numbers(recorded: Capabilities) -> None:
    found = resolve_destination(recorded, "platform=iOS Simulator,name=iPhone 15,OS=17.5.0", "test")
    assert found.inputs["os_version"] == "17.5"


@pytest.mark.spec("7")
def test_the_devices_of_a_runtime_that_is_gone_do_not_count(recorded: Capabilities) -> None:
    told = refusal(recorded, "platform=iOS Simulator,name=iPhone 15,OS=17.4")
    assert (told.kind, told.subkind) == (Kind.WORKER_INCOMPATIBLE, "NO_DESTINATION")
    assert "it has iOS 17.5, iOS 18.0" in told.message


@pytest.mark.spec("7")
def test_visionos_is_found_under_its_older_name(recorded: Capabilities) -> None:
    found = resolve_destination(recorded, "platform=visionOS Simulator,name=Apple Vision Pro", "test")
    assert found.inputs["sim_runtime_identifier"].endswith("xrOS-1-2")
    assert found.inputs["os_version"] == "1.2"


@pytest.mark.spec("7")
def test_a_device_that_is_not_there_is_told_with_those_that_are(recorded: Capabilities) -> None:
    told = refusal(recorded, "platform=iOS Simulator,name=iPhone 99,OS=18.0")
    assert "no 'iPhone 99'" in told.message
    assert "'iPhone 15'" in told.message
    assert "mini" in told.message


@pytest.mark.spec("7")
def test_a_platform_without_a_runtime_says_so(recorded: Capabilities) -> None:
    assert "none of it" in refusal(recorded, "platform=tvOS Simulator,name=Apple TV").message


# --- what is twice there ----------------------------------------------------------------


@pytest.mark.spec("7")
def test_of_two_runtimes_of_one_version_the_newer_build_serves_and_is_told() -> None:
    both = mac(runtimes=(runtime("18.0", "22A3354"), runtime("18.0", "22A3351")), devices=(device("A"),))
    found = resolve_destination(both, "platform=iOS Simulator,name=iPhone 16,OS=18.0", "test")
    assert found.inputs["sim_runtime_build"] == "22A3354"
    assert found.warning == "iOS 18.0 is build 22A3354; there is also 22A3351"


@pytest.mark.spec("7")
def test_a_beta_build_comes_before_its_release() -> None:
    both = mac(runtimes=(runtime("18.0", "22A335b"), runtime("18.0", "22A335")), devices=(device("A"),))
    found = resolve_destination(both, "platform=iOS Simulator,name=iPhone 16", "test")
    assert found.inputs["sim_runtime_build"] == "22A335"


@pytest.mark.spec("7")
def test_version_numbers_are_compared_as_numbers() -> None:
    old = runtime("9.3", "13E233")
    new = runtime("18.0", "22A3351")
    two = mac(runtimes=(old, new), devices=(device("A", runtime=old.identifier), device("B")))
    assert resolve_destination(two, "platform=iOS Simulator,name=iPhone 16", "test").udid == "B"


@pytest.mark.spec("7")
def test_devices_of_one_name_and_type_are_the_same_destination_whatever_their_ids() -> None:
    runtimes = (runtime("18.0", "22A3351"),)
    asked = "platform=iOS Simulator,name=iPhone 16,OS=latest"
    one = resolve_destination(mac(runtimes=runtimes, devices=(device("B"), device("A"))), asked, "test")
    other = resolve_destination(mac(runtimes=runtimes, devices=(device("Z"),)), asked, "test")
    assert (one.udid, other.udid) == ("A", "Z")
    assert one.inputs == other.inputs
    assert one.value == other.value
    assert one.warning is None


@pytest.mark.spec("7")
def test_a_device_renamed_to_another_types_name_yields_to_the_true_one() -> None:
    renamed = device("A", kind="com.apple.CoreSimulator.SimDeviceType.iPhone-12")
    both = mac(runtimes=(runtime("18.0", "22A3351"),), devices=(renamed, device("B")))
    found = resolve_destination(both, "platform=iOS Simulator,name=iPhone 16", "test")
    assert found.inputs["device_type_identifier"] == PHONE
    assert "iPhone-12" in str(found.warning)


@pytest.mark.spec("7")
def test_a_runtime_that_cannot_be_used_does_not_serve() -> None:
    broken = mac(runtimes=(runtime("18.0", "22A3351", available=False),), devices=(device("A"),))
    assert "none of it" in refusal(broken, "platform=iOS Simulator,name=iPhone 16").message


# --- the machine itself, and no device at all -------------------------------------------


@pytest.mark.spec("7")
def test_macos_is_the_worker_itself() -> None:
    found = resolve_destination(mac(), "platform=macOS", "test")
    assert found.value == "platform=macOS,arch=arm64"
    assert found.inputs == {
        "platform": "macOS",
        "name": "host",
        "os_version": "15.5",
        "provisioning": "existing",
    }
    assert refines(found.value, "platform=macOS")


@pytest.mark.spec("7")
def test_a_variant_of_macos_is_another_destination() -> None:
    found = resolve_destination(mac(), "platform=macOS,variant=Mac Catalyst", "test")
    assert found.inputs["name"] == "Mac Catalyst"
    assert refines(found.value, "platform=macOS,variant=Mac Catalyst")


@pytest.mark.spec("7")
def test_a_generic_platform_serves_build_alone() -> None:
    found = resolve_destination(mac(), "generic/platform=iOS", "build")
    assert (found.value, found.inputs["name"]) == ("generic/platform=iOS", GENERIC)
    told = refusal(mac(), "generic/platform=iOS", "test")
    assert (told.kind, told.subkind) == (Kind.CONFIG, "BAD_VALUE")


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ("id=1234", "' is not platform=...,name=...,OS=... (id= is not served)"),
        ("platform=iOS Simulator,id=1234", "id= is not served"),
        ("platform=iOS,name=My Phone", "is a device"),
        ("platform=Linux", "names no platform that is served (macOS, iOS Simulator, tvOS Simulator"),
        ("generic/platform=Linux", "names no platform"),
        ("platform=iOS Simulator", "names no device"),
        ("platform=iOS Simulator,name=iPhone 16,variant=x", "has a variant, which is for macOS alone"),
        ("platform=macOS,OS=15.5", "for simulators"),
        ("platform=macOS,name=My Mac", "for simulators"),
    ],
)
def test_what_no_worker_could_serve_is_an_error_of_the_config(constraint: str, words: str) -> None:
    told = refusal(mac(), constraint)
    assert (told.kind, told.subkind) == (Kind.CONFIG, "BAD_VALUE")
    assert words in told.message
    assert constraint in told.message


@pytest.mark.spec("7")
@pytest.mark.parametrize("constraint", ["platform=macOS", "generic/platform=iOS"])
def test_a_worker_without_macos_lacks_it(constraint: str) -> None:
    told = refusal(mac(os_name="Linux"), constraint, "build")
    assert (told.kind, told.subkind) == (Kind.WORKER_INCOMPATIBLE, "NO_DESTINATION")
    assert "it runs Linux" in told.message


@pytest.mark.spec("7")
def test_another_arch_than_the_workers_is_lacking() -> None:
    assert "its arch is arm64" in refusal(mac(), "platform=macOS,arch=x86_64").message


# --- what is left of it later -----------------------------------------------------------


@pytest.mark.spec("4", "7")
@pytest.mark.parametrize(
    "constraint", ["platform=macOS", "platform=macOS,variant=Mac Catalyst", "generic/platform=iOS"]
)
def test_a_mac_serves_later_what_it_was_chosen_for_and_another_system_does_not(constraint: str) -> None:
    named = resolve_destination(mac(), constraint, "build").inputs
    assert destination_change(mac(), named) is None
    assert destination_change(mac(os_name="Linux"), named) is not None


@pytest.mark.spec("4", "7")
def test_after_an_upgrade_of_the_system_a_mac_is_another_destination() -> None:
    for constraint in ("platform=macOS", "platform=macOS,variant=Mac Catalyst"):
        named = resolve_destination(mac(), constraint, "build").inputs
        assert destination_change(mac(os_version="16.0"), named) == "os_version 15.5 is 16.0 now"


@pytest.mark.spec("4", "7")
def test_a_device_that_is_gone_is_told_by_name_kind_and_runtime() -> None:
    there = mac(runtimes=(runtime("18.0", "22A3351"),), devices=(device("B"), device("A")))
    named = resolve_destination(there, "platform=iOS Simulator,name=iPhone 16", "test").inputs
    # Whatever order the tools list them in, the same one is taken.
    assert [each.udid for each in devices_of(there, named)] == ["A", "B"]
    left = msgspec.structs.replace(there, devices=(device("C", "iPhone 15"),))
    assert destination_change(left, named) == f"no device 'iPhone 16' ({PHONE}) with {IOS_18} is left"


@pytest.mark.spec("7")
def test_who_wants_a_device_made_is_told_which_kinds_can_be() -> None:
    kinds = (
        DeviceType(identifier=f"{PHONE}e", name="iPhone 16e"),
        DeviceType(identifier=PHONE, name="iPhone 16"),
    )
    makes = msgspec.structs.replace(runtime("18.0", "22A3351"), device_types=kinds)
    with pytest.raises(Failure) as told:
        resolve_destination(
            mac(runtimes=(makes,)), "platform=iOS Simulator,name=iPhone 99", "test", "ephemeral"
        )
    assert "for iOS 18.0 it can make 'iPhone 16', 'iPhone 16e', no 'iPhone 99'" in told.value.message


# --- whatever the listing ---------------------------------------------------------------

runtimes = st.builds(
    runtime,
    st.sampled_from(["17.0", "17.5", "18.0", "18.10", "9.3"]),
    st.sampled_from(["21A1", "21A10", "21A9", "21A9b", "odd"]),
    family=st.sampled_from(["iOS", "visionOS"]),
    available=st.booleans(),
)
devices = st.builds(
    device,
    st.uuids().map(str),
    st.sampled_from(["iPhone 16", "iPhone 15"]),
    runtime=st.sampled_from(["17.0", "18.0", "18.10"]).map(lambda v: runtime(v, "x").identifier),
    kind=st.sampled_from([PHONE, f"{PHONE}e"]),
)


@pytest.mark.spec("7")
@given(st.lists(runtimes, max_size=6), st.lists(devices, max_size=8), st.randoms(use_true_random=False))
def test_the_answer_depends_on_the_set_alone(
    some: list[Runtime], there: list[Device], shuffle: Any
) -> None:
    asked = "platform=iOS Simulator,name=iPhone 16,OS=latest"

    def answer() -> object:
        try:
            return resolve_destination(mac(runtimes=tuple(some), devices=tuple(there)), asked, "test")
        except Failure as failure:
            return failure.message

    first = answer()
    shuffle.shuffle(some)
    shuffle.shuffle(there)
    assert answer() == first
    if not isinstance(first, str):
        assert refines(first.value, asked)  # type: ignore[attr-defined]
        assert first.udid not in jcs_sha256(first.inputs)  # type: ignore[attr-defined]


# --- devices that are made for a job ----------------------------------------------------


@pytest.mark.spec("7")
def test_a_device_that_is_made_needs_its_kind_and_its_runtime_and_no_device(recorded: Capabilities) -> None:
    asked = "platform=iOS Simulator,name=iPhone 15,OS=latest"
    bare = msgspec.structs.replace(recorded, devices=())
    assert "no 'iPhone 15'" in refusal(bare, asked).message
    made = resolve_destination(bare, asked, "test", "ephemeral")
    there = resolve_destination(recorded, asked, "test")
    assert made.value == there.value == "platform=iOS Simulator,name=iPhone 15,OS=18.0"
    assert made.udid is None
    assert made.inputs == {**there.inputs, "provisioning": "ephemeral"}
    assert jcs_sha256(made.inputs) != jcs_sha256(there.inputs)
    assert destination_change(bare, made.inputs) is None


@pytest.mark.spec("7")
def test_a_kind_that_cannot_be_made_is_told_with_those_that_can(recorded: Capabilities) -> None:
    with pytest.raises(Failure) as told:
        resolve_destination(recorded, "platform=iOS Simulator,name=My Phone,OS=18.0", "test", "ephemeral")
    assert told.value.label == "WORKER_INCOMPATIBLE / NO_DESTINATION"
    assert "for iOS 18.0 it can make 'iPhone" in told.value.message
    bare = [msgspec.structs.replace(each, device_types=()) for each in recorded.runtimes]
    older = msgspec.structs.replace(recorded, runtimes=tuple(bare))
    with pytest.raises(Failure, match="upgrade rch-worker"):
        resolve_destination(older, "platform=iOS Simulator,name=iPhone 15", "test", "ephemeral")


@pytest.mark.spec("4", "7")
def test_a_device_to_be_made_is_gone_when_its_runtime_or_its_kind_is(recorded: Capabilities) -> None:
    asked = "platform=iOS Simulator,name=iPhone 15,OS=18.0"
    named = resolve_destination(recorded, asked, "test", "ephemeral").inputs
    kept = [each for each in recorded.runtimes if each.identifier != IOS_18]
    gone = msgspec.structs.replace(recorded, runtimes=tuple(kept))
    assert f"runtime {IOS_18} 22A3351 is gone" in str(destination_change(gone, named))
    bare = [msgspec.structs.replace(each, device_types=()) for each in recorded.runtimes]
    unmade = msgspec.structs.replace(recorded, runtimes=tuple(bare))
    assert "cannot be made there" in str(destination_change(unmade, named))
    assert "is not known" in str(destination_change(recorded, {**named, "provisioning": "elsewhere"}))


@pytest.mark.spec("7")
def test_what_is_no_simulator_is_the_same_either_way() -> None:
    for asked, action in (("platform=macOS", "test"), ("generic/platform=iOS", "build")):
        assert resolve_destination(mac(), asked, action, "ephemeral") == resolve_destination(
            mac(), asked, action
        )
