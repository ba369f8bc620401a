"""A job's identity: published vectors, what changes it, and what never does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.macs import mac, mac_report, phone, xcode, xcode_run
from support.playbook import accepted, capabilities, report

from rch.contract.canonical import jcs, jcs_sha256
from rch.contract.classifier import Accepted as Allowed
from rch.contract.classifier import classify
from rch.contract.policy import ClassifierPolicy
from rch.contract.records import Accepted, Capacity, Job, JobKeyInputs
from rchd.core import events as ev
from rchd.core.jobs import job_from
from rchd.core.select import select

FILE = Path(__file__).parents[2] / "docs" / "job-key-vectors.json"
VECTORS: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["vectors"]
AT = "2026-01-01T00:00:00.000Z"


def job(request: Accepted, told: ev.ProbeReport, at: str = AT) -> Job:
    """The first step's job on the worker that `told`."""
    (choice,) = select(request.options, (told,)).choices
    return job_from(request, 0, choice, at)


# --- vectors ----------------------------------------------------------------------------


@pytest.mark.spec("7")
@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: each["name"])
def test_a_published_vector_is_what_the_standard_library_alone_computes(vector: dict[str, Any]) -> None:
    text = json.dumps(vector["job_key_inputs"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == vector["canonical"]
    assert hashlib.sha256(text.encode()).hexdigest() == vector["job_key"]


@pytest.mark.spec("7")
@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: each["name"])
def test_a_published_vector_is_what_this_product_computes(vector: dict[str, Any]) -> None:
    inputs = msgspec.convert(vector["job_key_inputs"], JobKeyInputs)
    assert jcs(inputs).decode() == vector["canonical"]
    assert jcs_sha256(inputs) == vector["job_key"]


@pytest.mark.spec("7")
def test_the_vectors_are_of_both_backends_and_no_two_alike() -> None:
    assert len({each["job_key"] for each in VECTORS}) == len(VECTORS) >= 8
    kinds = {next(iter(each["job_key_inputs"]["toolchain"])) for each in VECTORS}
    assert kinds == {"swift_version", "xcode_build"}


@pytest.mark.spec("6", "7")
@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: each["name"])
def test_the_command_line_of_a_vector_is_its_own_canonical_form(vector: dict[str, Any]) -> None:
    argv, where = vector["job_key_inputs"]["sanitized_argv"], None
    if "xcode_build" in vector["job_key_inputs"]["toolchain"]:
        where = argv[argv.index("-destination") + 1]
        container = "App.xcworkspace" if "-workspace" in argv else None
        policy = ClassifierPolicy(
            backend="xcodebuild",
            workspace=container,
            project=None if container else "App.xcodeproj",
            schemes=("App", "Wörk 世界"),
            destination=where,
            allow_narrowing=True,
        )
    else:
        policy = ClassifierPolicy(
            backend="swiftpm", configurations=("debug", "release"), allow_narrowing=True
        )
    verdict = classify(argv, policy, resolved_destination=where)
    assert isinstance(verdict, Allowed), verdict
    assert list(verdict.sanitized_argv) == argv


@pytest.mark.spec("7")
def test_a_vector_is_the_key_of_a_job_as_the_host_makes_it() -> None:
    found = job(_sourced(xcode_run()), mac_report())
    assert found.job_key == _named("xcodebuild, build for a simulator")["job_key"]
    swift = job(_sourced(accepted()), report())
    assert swift.job_key == _named("swiftpm, build on Linux")["job_key"]


def _named(name: str) -> dict[str, Any]:
    return next(each for each in VECTORS if each["name"] == name)


def _sourced(request: Accepted) -> Accepted:
    digest = VECTORS[0]["job_key_inputs"]["source_sha256"]
    source = msgspec.structs.replace(request.source, source_sha256=digest)
    return msgspec.structs.replace(request, source=source)


# --- what never changes it --------------------------------------------------------------


def _homes(request: Accepted) -> Accepted:
    return msgspec.structs.replace(
        request, root="/Users/other/app", project="other", origin="editor", group="save", supersede=True
    )


def _options(**changes: Any) -> Callable[[Accepted], Accepted]:
    def change(request: Accepted) -> Accepted:
        return msgspec.structs.replace(request, options=msgspec.structs.replace(request.options, **changes))

    return change


def _config(**changes: Any) -> Callable[[Accepted], Accepted]:
    def change(request: Accepted) -> Accepted:
        return msgspec.structs.replace(request, effective_config={**request.effective_config, **changes})

    return change


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    "change",
    [
        _homes,
        _options(overall_seconds=1, idle_log_seconds=1, max_wait_seconds=1, connect_timeout_seconds=1),
        _options(artifact_profile="minimal", continue_on_failure=True, priority=0, queue=False),
        _options(selection_mode="adaptive", on_busy="wait", probe_ttl_seconds=0),
        _config(cache={"results": False, "derived_data": "off", "spm": "off", "namespace": "x"}),
        _config(timeouts={"overall_seconds": 5}),
        lambda request: msgspec.structs.replace(request, policy_sha256="d" * 64),
    ],
)
@pytest.mark.parametrize("swift", [True, False])
def test_the_key_does_not_know_the_host_its_times_or_its_caches(
    change: Callable[[Accepted], Accepted], *, swift: bool
) -> None:
    request, told = (accepted(), report()) if swift else (xcode_run(), mac_report())
    assert job(change(request), told).job_key == job(request, told).job_key


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    "told",
    [
        mac_report("other-name", priority=1, tags=("fast",)),
        mac_report("elsewhere", host="10.0.0.9", age_seconds=200, fresh=False, skew_seconds=90),
        mac_report(told=mac(hostname="studio", agent_version="9.9", gui_session=True)),
        mac_report(told=mac(devices=(phone("99999999-0000-0000-0000-000000000009"),))),
        mac_report(told=mac(devices=(phone("A"), phone("B"), phone("C", name="iPhone 16 Pro")))),
        mac_report(told=mac(tools={"python": "3.13.0"})),
        mac_report(told=mac(toolchains=(xcode("26.0", "17A324", active=False), xcode()))),
        mac_report(
            told=mac(
                capacity=Capacity(
                    cpus=99, memory_bytes=9, slots_total=9, slots_free=0, disk_free_bytes=9, load_milli=9
                )
            )
        ),
    ],
)
def test_the_key_does_not_know_the_workers_name_place_size_or_devices(told: ev.ProbeReport) -> None:
    assert job(xcode_run(), told).job_key == job(xcode_run(), mac_report()).job_key


@pytest.mark.spec("7")
def test_the_key_does_not_know_when() -> None:
    plain = job(accepted(), report()).job_key
    assert job(accepted(), report(), "2030-01-01T00:00:00.000Z").job_key == plain
    assert job(accepted("run-00000009"), report()).job_key == plain


# --- what changes it --------------------------------------------------------------------


@pytest.mark.spec("7")
@pytest.mark.parametrize("table", ["toolchain", "destination"])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: each["name"])
def test_each_member_of_each_table_changes_the_key(vector: dict[str, Any], table: str) -> None:
    inputs = vector["job_key_inputs"]
    keys = {vector["job_key"]}
    for member, value in inputs[table].items():
        changed = {**inputs, table: {**inputs[table], member: value + "x"}}
        gone = {**inputs, table: {key: each for key, each in inputs[table].items() if key != member}}
        keys |= {jcs_sha256(changed), jcs_sha256(gone)}
    assert len(keys) == 1 + 2 * len(inputs[table])


@pytest.mark.spec("7")
@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: each["name"])
def test_each_word_of_the_command_line_and_its_order_change_the_key(vector: dict[str, Any]) -> None:
    inputs = vector["job_key_inputs"]
    argv = inputs["sanitized_argv"]
    others = [[*argv[:at], word + "x", *argv[at + 1 :]] for at, word in enumerate(argv)]
    others += [[*argv[:at], *argv[at + 1 :]] for at in range(len(argv))]
    others += [argv[::-1], [*argv, "-quiet"], [" ".join(argv)]]
    keys = {jcs_sha256({**inputs, "sanitized_argv": each}) for each in others}
    assert len(keys) == len(others)
    assert vector["job_key"] not in keys


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    "changes",
    [
        {"os_version": "15.2"},
        {"os_build": "24B91"},
        {"arch": "x86_64"},
        {"toolchains": (xcode(build="16C5032b"),)},
        {"toolchains": (xcode("16.2.1"),)},
    ],
)
def test_what_the_worker_builds_with_changes_the_key(changes: dict[str, Any]) -> None:
    changed = job(xcode_run(), mac_report(told=mac(**changes)))
    assert changed.job_key != job(xcode_run(), mac_report()).job_key


@pytest.mark.spec("7")
def test_the_source_and_the_action_change_the_key() -> None:
    plain = job(accepted(), report()).job_key
    assert job(_sourced(accepted()), report()).job_key != plain
    assert job(accepted(actions=("test",)), report()).job_key != plain
    other = capabilities(os_version="debian-13")
    told = report()
    assert told.result is not None
    told = msgspec.structs.replace(told, result=msgspec.structs.replace(told.result, capabilities=other))
    assert job(accepted(), told).job_key != plain
