"""`worker_selection.json`: every worker's reason, and what a tie was broken by."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.macs import IOS_18_2, mac, mac_report, xcode_run
from support.playbook import Playbook, accepted, capabilities, report, unreachable

from rch.contract.errors import Failure, Kind, lookup
from rch.contract.records import Capabilities, Capacity, Runtime
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.projections import projections
from rchd.core.restore import restore
from rchd.core.select import nobody, select, unreached

FIRST, SECOND = "11111111-0000-0000-0000-000000000001", "22222222-0000-0000-0000-000000000002"


def selection_of(run: m.Run) -> dict[str, Any]:
    return dict(json.loads(projections(run)[f"{run.run_id}/worker_selection.json"]))


# --- every worker's reason --------------------------------------------------------------

UNUSABLE = Runtime(identifier=IOS_18_2, name="iOS 18.2", version="18.2", build="1", available=False)
NO_RUNTIME = mac(runtimes=(UNUSABLE,))


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
def test_where_no_worker_has_an_xcode_the_way_to_try_it_is_told() -> None:
    for reports in ((mac_report(told=mac(toolchains=())),), (report("c"),)):
        hint = nobody(select(xcode_run().options, reports), reports).hint
        assert hint is not None
        assert "workers.toml" in hint
        assert hint.endswith("--simulate")


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
def test_workers_that_fail_for_one_reason_tell_its_way_out_and_for_several_what_is_always_told() -> None:
    def told(*hints: str | None) -> str | None:
        reports = [
            msgspec.structs.replace(unreachable(f"w{number}"), hint=hint)
            for number, hint in enumerate(hints)
        ]
        return nobody(select(accepted().options, reports), reports).hint

    assert told("wake it") == told("wake it", "wake it") == "wake it"
    assert told("wake it", "mend its key") == told(None) == lookup(Kind.SSH, "UNREACHABLE").remedy


@pytest.mark.spec("7")
def test_where_nobody_of_those_that_are_meant_can_be_reached_a_run_is_told_so_and_how() -> None:
    def told(*reports: ev.ProbeReport, tags: tuple[str, ...] = ()) -> Failure | None:
        return unreached(select(accepted(tags=tags).options, reports))

    asleep, locked = (
        unreachable("a", tags=("x",)),
        report("b", result=None, error="another key", error_subkind="HOST_KEY"),
    )
    found = told(asleep, report("other"), tags=("x",))
    assert found is not None
    assert (found.kind, found.subkind) == (Kind.SSH, "UNREACHABLE")
    assert found.message == "no worker could be reached: a: probe failed: connection refused"
    both = told(asleep, locked)
    assert both is not None
    assert (both.kind, both.subkind) == (Kind.SSH, None)
    assert "a: probe failed: connection refused; b: probe failed: another key" in both.message
    assert told(asleep, report("good")) is None
    assert told(report("other"), tags=("x",)) is None


@pytest.mark.spec("7", "10")
def test_where_all_that_is_wrong_is_a_key_the_way_to_the_right_one_is_told() -> None:
    pinned = tuple(
        msgspec.structs.replace(report(name), pins=("SHA256:mine", "SHA256:next")) for name in "ab"
    )
    found = nobody(select(accepted().options, pinned), pinned)
    assert (found.kind, found.exit_code) == (Kind.ATTESTATION, 93)
    assert "a: does not sign, and SHA256:mine or SHA256:next is pinned for it" in found.message
    assert str(found.hint).endswith("rch-worker key")
    # Where another one lacks something else, a key is not all that is wrong.
    mixed = (pinned[0], report("c", tags=(), result=None, error="gone", error_kind="SSH"))
    assert nobody(select(accepted().options, mixed), mixed).kind is Kind.WORKER_INCOMPATIBLE


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
def test_a_load_that_differs_by_less_than_a_thousandth_of_a_processor_is_a_tie() -> None:
    options = accepted(selection_mode="adaptive").options
    fleet = (with_capacity("a", sized(1, 1000, 5, cpus=2)), with_capacity("b", sized(1, 1001, 9, cpus=2)))
    assert [each.worker for each in select(options, fleet).choices] == ["b", "a"]


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


# --- after a loss


@pytest.mark.spec("4", "7")
def test_a_run_taken_from_its_files_has_the_same_job_and_the_same_record() -> None:
    play = Playbook()
    run = play.accept(xcode_run(selection_mode="adaptive"))
    reports = (mac_report("mini"), mac_report("studio", priority=1), mac_report("bare", mac(toolchains=())))
    play.answer(run, ev.Probed, reports=reports, embedded=False)
    play.grant(run, "studio")
    play.answer(run, ev.SourceKnown, exists=True)
    cut = len(run.run_id) + 1
    files = {path[cut:]: data for path, data in projections(run).items()}
    again = restore(run.run_id, files)
    assert again.notes == []
    assert again.run.steps[0].job == run.steps[0].job
    assert again.run.steps[0].invocation == run.steps[0].invocation
    told, was = selection_of(again.run), selection_of(run)
    for record in (told, was):
        record["candidates"].sort(key=lambda each: each["worker"])
    assert told == was
