"""What a worker would serve a run with, and whether it still could."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.macs import CONSTRAINT, IOS_18_2, PHONE, POLICY, mac, mac_report, phone, xcode, xcode_run
from support.playbook import Playbook, report, unreachable

from rch.contract.errors import Failure, Kind
from rch.contract.records import Accepted, Invocation, Job, Runtime
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.fit import fit
from rchd.core.preview import planned_run
from rchd.core.select import drifted, nobody, select

OTHER_BUILD = Runtime(identifier=IOS_18_2, name="iOS 18.2", version="18.2", build="22C999")
FIRST, SECOND = "11111111-0000-0000-0000-000000000001", "22222222-0000-0000-0000-000000000002"


def choice_of(request: Accepted, told: ev.ProbeReport) -> m.Choice:
    found = select(request.options, (told,))
    assert found.choices, found.refused
    return found.choices[0]


def handed_over(told: ev.ProbeReport, request: Accepted | None = None) -> tuple[Job, Invocation]:
    """What the first step's submit carries."""
    play = Playbook()
    run = play.accept(request or xcode_run())
    play.answer(run, ev.Probed, reports=(told,), embedded=False)
    play.grant(run, told.worker)
    play.answer(run, ev.SourceKnown, exists=True)
    sent = play.one(fx.Submit)
    return sent.job, sent.invocation


# --- what it would be with --------------------------------------------------------------


@pytest.mark.spec("7")
def test_an_xcode_job_has_its_five_and_its_seven_and_a_concrete_destination() -> None:
    job, invocation = handed_over(mac_report())
    inputs = job.job_key_inputs
    assert inputs.toolchain == {
        "xcode_build": "16C5032a",
        "developer_dir": "/Applications/Xcode_16.2.app/Contents/Developer",
        "macos_version": "15.1",
        "macos_build": "24B83",
        "arch": "arm64",
    }
    assert inputs.destination == {
        "platform": "iOS Simulator",
        "name": "iPhone 16",
        "os_version": "18.2",
        "provisioning": "existing",
        "sim_runtime_identifier": IOS_18_2,
        "sim_runtime_build": "22C150",
        "device_type_identifier": PHONE,
    }
    concrete = "platform=iOS Simulator,name=iPhone 16,OS=18.2"
    assert inputs.sanitized_argv == (
        *("build", "-destination", concrete, "-scheme", "App", "-workspace", "App.xcworkspace"),
    )
    assert invocation.sanitized_argv == inputs.sanitized_argv
    assert "-destination" in invocation.original_argv
    assert CONSTRAINT in invocation.original_argv
    assert (job.original_constraint, job.xcode_version) == (CONSTRAINT, "16.2")


@pytest.mark.spec("7")
def test_the_udid_travels_beside_the_key_and_never_in_it() -> None:
    one, _ = handed_over(mac_report(told=mac(devices=(phone(FIRST),))))
    other, _ = handed_over(mac_report(told=mac(devices=(phone(SECOND),))))
    assert (one.udid, other.udid) == (FIRST, SECOND)
    assert one.job_key == other.job_key
    assert FIRST not in str(msgspec.to_builtins(one.job_key_inputs))


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("wanted", "build", "warned"),
    [
        ({"xcode_build": "15F31d"}, "15F31d", False),
        ({"xcode_version": "15.4"}, "15F31d", False),
        ({"xcode_version": ">=15,<17"}, "16C5032a", True),
        ({"xcode_version": "15"}, "15F31d", True),
        ({"xcode_build": "15F31d", "xcode_version": "16.2"}, "15F31d", False),
        ({}, "16C5032a", False),
    ],
)
def test_an_exact_build_wins_over_a_version(wanted: dict[str, str], build: str, *, warned: bool) -> None:
    told = mac(toolchains=(xcode("15.4", "15F31d", active=False), xcode()))
    choice = choice_of(xcode_run(toolchain=wanted), mac_report(told=told))
    assert choice.toolchain["xcode_build"] == build
    assert bool(choice.warnings) is warned


@pytest.mark.spec("7")
def test_a_generic_platform_serves_a_build_and_no_test() -> None:
    policy = msgspec.structs.replace(POLICY, destination="generic/platform=iOS")
    build = xcode_run(actions=("build",), policy=policy)
    choice = choice_of(build, mac_report())
    assert (choice.udid, choice.destination["name"]) == (None, "generic")
    both = msgspec.structs.replace(build.options, actions=("build", "test"))
    refused = select(both, (mac_report(),)).refused["mini"]
    assert "serves build alone" in refused


# --- what is no longer there ------------------------------------------------------------


@pytest.mark.spec("4", "7")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"toolchains": (xcode(build="16C5999z"),)}, "16C5999z"),
        ({"toolchains": ()}, "there is none"),
        ({"os_build": "24C1"}, "24C1"),
        ({"devices": ()}, "no device 'iPhone 16'"),
        ({"runtimes": ()}, f"{IOS_18_2} 22C150 is gone"),
        (
            {"runtimes": (OTHER_BUILD,)},
            "22C999",
        ),
    ],
)
def test_a_mac_that_is_not_what_it_was_is_seen(changes: dict[str, Any], words: str) -> None:
    choice = choice_of(xcode_run(), mac_report())
    now = mac_report(told=mac(**changes)).result
    assert now is not None
    found = drifted(choice, now)
    assert found is not None
    assert (found.kind, found.subkind) == (Kind.WORKER_INCOMPATIBLE, "TOOLCHAIN_CHANGED")
    assert words in found.message


@pytest.mark.spec("4", "7")
def test_a_toolchain_that_is_gone_is_told_as_it_was_planned_and_with_what_is_there() -> None:
    choice = choice_of(xcode_run(), mac_report())
    now = mac_report(told=mac(toolchains=(xcode("17.0", "17A100"),))).result
    assert now is not None
    found = drifted(choice, now)
    assert found is not None
    planned, there = (part.split() for part in found.message.split(": ", 1)[1].split("; there is "))
    assert planned == " ".join(choice.toolchain.values()).split()
    assert there[0] == "17A100"


@pytest.mark.spec("4", "7")
@pytest.mark.parametrize(
    "changes",
    [
        {"devices": (phone(SECOND),)},
        {"hostname": "other", "probed_at": "2030-01-01T00:00:00.000Z"},
        {"toolchains": (xcode("17.0", "17A100"), xcode(active=False))},
    ],
)
def test_another_device_of_the_kind_or_another_active_xcode_is_no_change(changes: dict[str, Any]) -> None:
    now = mac_report(told=mac(**changes)).result
    assert now is not None
    assert drifted(choice_of(xcode_run(), mac_report()), now) is None


# --- what it would be, without a run ----------------------------------------------------


@pytest.mark.spec("7")
def test_a_plan_has_the_key_of_the_run_that_follows() -> None:
    request = xcode_run()
    view = planned_run(request, (mac_report(), report("linux")), embedded=False)
    job, _ = handed_over(mac_report())
    step = view.steps[0]
    assert (step.job_key, step.udid) == (job.job_key, FIRST)
    assert step.argv == ("xcodebuild", *job.job_key_inputs.sanitized_argv)
    assert [each.worker for each in view.selection.workers] == ["mini", "linux"]
    assert (view.selection.chosen, view.failure) == ("mini", None)


@pytest.mark.spec("7")
def test_a_backend_that_nobody_knows_is_refused() -> None:
    told = mac_report().result
    assert told is not None
    with pytest.raises(Failure) as refused:
        fit(msgspec.structs.replace(xcode_run().options, backend="mcp"), told)
    assert refused.value.label == "WORKER_INCOMPATIBLE / NOT_OFFERED"


@pytest.mark.spec("7")
def test_who_lacks_the_tag_does_not_hide_that_all_others_are_out_of_reach() -> None:
    wanted = msgspec.structs.replace(xcode_run().options, tags=("x",))
    reports = (unreachable("asleep", tags=("x",)), report("other"))
    told = nobody(select(wanted, reports), reports)
    assert (told.kind, told.subkind) == (Kind.SSH, "UNREACHABLE")
    assert "asleep: probe failed" in told.message
    none_meant = nobody(select(wanted, reports[1:]), reports[1:])
    assert none_meant.kind == Kind.WORKER_INCOMPATIBLE
