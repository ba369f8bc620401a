"""Who serves a run, with what, and every other worker's reason."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.macs import CONSTRAINT, IOS_18_2, PHONE, POLICY, mac, mac_report, phone, xcode, xcode_run
from support.playbook import Playbook, accepted, capabilities, report, unreachable

from rch.contract.errors import Failure, Kind
from rch.contract.records import Accepted, Capabilities, Capacity, Invocation, Job, Runtime
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.fit import fit
from rchd.core.preview import planned_run
from rchd.core.projections import projections
from rchd.core.select import drifted, nobody, select

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


def selection_of(run: m.Run) -> dict[str, Any]:
    return dict(json.loads(projections(run)[f"{run.run_id}/worker_selection.json"]))


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


# --- every worker's reason --------------------------------------------------------------

UNUSABLE = Runtime(identifier=IOS_18_2, name="iOS 18.2", version="18.2", build="1", available=False)
NO_RUNTIME = mac(runtimes=(UNUSABLE,))
OTHER_BUILD = Runtime(identifier=IOS_18_2, name="iOS 18.2", version="18.2", build="22C999")


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("told", "subkind", "words"),
    [
        (mac_report(offers=False), "FEATURE_MISSING", "does not offer the backend xcodebuild"),
        (report("mini"), "FEATURE_MISSING", "does not offer the backend xcodebuild"),
        (mac_report(told=mac(toolchains=())), "NO_TOOLCHAIN", "an Xcode is wanted; mini has none"),
        (mac_report(told=mac(devices=())), "NO_DESTINATION", "no 'iPhone 16'"),
        (mac_report(told=NO_RUNTIME), "NO_DESTINATION", "none of it"),
        (mac_report(told=mac(os_name="Linux", runtimes=())), "NO_DESTINATION", "none of it"),
    ],
)
def test_what_nobody_has_fails_at_once_and_is_named(told: ev.ProbeReport, subkind: str, words: str) -> None:
    play = Playbook()
    run = play.accept(xcode_run())
    play.answer(run, ev.Probed, reports=(told,), embedded=False)
    assert (run.state, run.exit_code) == ("FAILED", 91)
    assert run.trouble is not None
    assert run.trouble.subkind == subkind
    assert words in run.human_summary


@pytest.mark.spec("7")
def test_several_workers_lack_several_things_and_each_is_named() -> None:
    reports = (
        mac_report("a", mac(toolchains=())),
        mac_report("b", mac(devices=())),
        report("c", tags=("x",)),
    )
    found = nobody(select(xcode_run().options, reports), reports)
    assert (found.exit_code, found.subkind, found.hint is not None) == (91, None, True)
    for word in ("a: an Xcode is wanted", "b: destination", "c: rch-worker there does not offer"):
        assert word in found.message


@pytest.mark.spec("7")
def test_every_worker_is_on_record_with_its_reason() -> None:
    ours: dict[str, Any] = {"tags": ("ios",)}
    reports = (
        mac_report("first", priority=1, **ours),
        mac_report("second", priority=2, **ours),
        mac_report("third", priority=3, **ours),
        mac_report("untagged"),
        mac_report("old", offers=False, **ours),
        mac_report("bare", mac(toolchains=()), **ours),
        msgspec.structs.replace(unreachable("gone"), **ours),
    )
    play = Playbook()
    run = play.accept(xcode_run(tags=("ios",)))
    play.answer(run, ev.Probed, reports=reports, embedded=False)
    busy = {"operation": "reserve", "code": "BUSY", "kind": "WORKER_BUSY", "subkind": None}
    play.answer(run, ev.WorkerRefused, **busy, message="reserve: BUSY: 1 of 1 slots taken", retry_after=2.0)
    play.grant(run, "second")
    told = selection_of(run)
    reasons = {each["worker"]: each["reason"] for each in told["candidates"]}
    assert reasons.pop("bare").startswith("an Xcode is wanted; mini has none")
    assert reasons == {
        "first": "could serve; granted no lease: reserve: BUSY: 1 of 1 slots taken",
        "second": "first by priority and name that granted a lease",
        "third": "could serve; an earlier one did",
        "untagged": "lacks the tag 'ios'",
        "old": "rch-worker there does not offer the backend xcodebuild",
        "gone": "probe failed: connection refused",
    }
    assert [each["worker"] for each in told["candidates"] if each["chosen"]] == ["second"]
    assert {key: told[key] for key in ("selected_worker", "selected_worker_host", "candidate_count")} == {
        "selected_worker": "second",
        "selected_worker_host": "second.example",
        "candidate_count": 7,
    }
    assert told["worker_protocol_range"] == {"min": 1, "max": 1}
    assert (told["negotiated_protocol_version"], told["selection_mode"]) == (1, "deterministic")
    assert (told["snapshot_source"], told["snapshot_age_seconds"]) == ("fresh", 0)
    assert [each["worker"] for each in told["probe_failures"]] == ["gone"]
    assert not any("weighed" in each for each in told["candidates"])


@pytest.mark.spec("7")
def test_who_is_set_aside_or_was_not_asked_is_on_record_too() -> None:
    play = Playbook()
    first = play.accept(accepted())
    wrong = msgspec.structs.replace(
        unreachable("mitm"), error="the host key is wrong", error_subkind="HOST_KEY"
    )
    play.answer(first, ev.Probed, reports=(wrong,), embedded=False)
    second = play.accept(accepted("run-00000002"))
    silent = msgspec.structs.replace(unreachable("mitm"), error=None, error_kind=None, error_subkind=None)
    play.answer(second, ev.Probed, reports=(silent, report("good")), embedded=False)
    play.grant(second, "good")
    reasons = {each["worker"]: each["reason"] for each in selection_of(second)["candidates"]}
    assert reasons["mitm"].startswith("set aside until ")
    assert "the host key is wrong" in reasons["mitm"]


# --- ties -------------------------------------------------------------------------------


def sized(slots: int, load: int, disk: int, cpus: int = 8) -> Capabilities:
    return capabilities(
        capacity=Capacity(
            cpus=cpus,
            memory_bytes=1,
            slots_total=4,
            slots_free=slots,
            disk_free_bytes=disk,
            load_milli=load,
        )
    )


def with_capacity(worker: str, told: Capabilities, priority: int = 100) -> ev.ProbeReport:
    base = report(worker, priority=priority)
    assert base.result is not None
    return msgspec.structs.replace(base, result=msgspec.structs.replace(base.result, capabilities=told))


FLEET = (
    with_capacity("a-full", sized(0, 0, 9)),
    with_capacity("b-loaded", sized(2, 8000, 9)),
    with_capacity("c-small-disk", sized(2, 1000, 3)),
    with_capacity("d-best", sized(2, 1000, 9)),
    with_capacity("e-many-cpus", sized(2, 3000, 5, cpus=32)),
    with_capacity("f-first", sized(0, 9000, 1), priority=1),
)


@pytest.mark.spec("7")
def test_adaptive_breaks_ties_of_one_priority_and_no_others() -> None:
    options = accepted(selection_mode="adaptive").options
    found = [each.worker for each in select(options, FLEET).choices]
    assert found == ["f-first", "e-many-cpus", "d-best", "c-small-disk", "b-loaded", "a-full"]
    plain = [each.worker for each in select(accepted().options, FLEET).choices]
    assert plain == ["f-first", "a-full", "b-loaded", "c-small-disk", "d-best", "e-many-cpus"]


@pytest.mark.spec("7")
def test_what_a_tie_was_broken_by_is_on_record() -> None:
    play = Playbook()
    run = play.accept(accepted(selection_mode="adaptive"))
    play.answer(run, ev.Probed, reports=(*FLEET, unreachable("gone")), embedded=False)
    play.grant(run, "f-first")
    told = selection_of(run)
    assert told["selection_mode"] == "adaptive"
    values = {each["worker"]: each.get("weighed") for each in told["candidates"]}
    assert values["b-loaded"] == {"slots_free": 2, "load_milli": 8000, "cpus": 8, "disk_free_bytes": 9}
    assert values["gone"] is None
    assert "free slots, load and free disk" in told["candidates"][0]["reason"]


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


def test_a_backend_that_nobody_knows_is_refused() -> None:
    told = mac_report().result
    assert told is not None
    with pytest.raises(Failure) as refused:
        fit(msgspec.structs.replace(xcode_run().options, backend="mcp"), told)
    assert refused.value.label == "WORKER_INCOMPATIBLE / NOT_OFFERED"
