"""What a worker with an Xcode says of itself, and what it makes of a job that names one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.macs import CONSTRAINT, IOS_18_2, PHONE, mac, mac_report, phone, xcode, xcode_run
from support.worker_pipe import Bench, Refused, a_bench, submit

from rch.config.invocation import policy_from_bundle
from rch.config.worker_config import WorkerConfig
from rch.contract.canonical import jcs_sha256
from rch.contract.classifier import Accepted, Rejected, classify
from rch.contract.records import Job, Runtime
from rchd.core.jobs import job_from
from rchd.core.select import select
from worker_agent.capabilities import capabilities, differs
from worker_agent.results.given import destination, toolchain
from worker_agent.submit import _destination_of

AT = "2026-01-01T00:00:00.000Z"
UDID = "11111111-0000-0000-0000-000000000001"
RUNTIME = {"identifier": IOS_18_2, "name": "iOS 18.2", "version": "18.2", "buildversion": "22C150"}
DEVICE = {"udid": UDID, "name": "iPhone 16", "deviceTypeIdentifier": PHONE}
LISTING = {
    "runtimes": [{**RUNTIME, "isAvailable": True}],
    "devices": {IOS_18_2: [{**DEVICE, "isAvailable": True}]},
}


def xcode_job(index: int = 0) -> Job:
    """A job as the host makes it for the Mac of `support.macs`."""
    request = xcode_run()
    (choice,) = select(request.options, (mac_report(),)).choices
    return job_from(request, index, choice, AT)


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def mac_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a machine with one Xcode; `simctl` counts its starts."""
    developer = tmp_path / "Xcode_16.2.app" / "Contents" / "Developer"
    program(developer / "usr/bin/xcodebuild", "printf 'Xcode 16.2\\nBuild version 16C5032a\\n'")
    (developer / "simctl.json").write_text(json.dumps(LISTING))
    simctl = program(tmp_path / "xcrun", f'echo x >>{tmp_path}/asked; cat "$DEVELOPER_DIR/simctl.json"')
    monkeypatch.setattr("worker_agent.toolchains.simulators.SIMCTL", (str(simctl),))
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), "DEVELOPER_DIR": str(developer)}


@pytest.mark.spec("7")
def test_a_machine_with_an_xcode_lists_its_runtimes_and_devices(
    tmp_path: Path, mac_env: dict[str, str]
) -> None:
    told = capabilities(WorkerConfig(), tmp_path / "probe", slots_free=1, slots_total=1, env=mac_env)
    (found,) = [each for each in told.toolchains if each.kind == "xcode"]
    assert (found.version, found.build, found.active) == ("16.2", "16C5032a", True)
    assert [(each.name, each.build) for each in told.runtimes] == [("iOS 18.2", "22C150")]
    assert [(each.name, each.udid) for each in told.devices] == [("iPhone 16", UDID)]
    quick = capabilities(
        WorkerConfig(), tmp_path / "probe", slots_free=1, slots_total=1, env=mac_env, with_simulators=False
    )
    assert (quick.runtimes, quick.devices) == ((), ())
    assert (tmp_path / "asked").read_text().split() == ["x"]


def test_a_machine_without_an_xcode_asks_for_no_simulators(tmp_path: Path, mac_env: dict[str, str]) -> None:
    env = {key: value for key, value in mac_env.items() if key != "DEVELOPER_DIR"}
    told = capabilities(WorkerConfig(), tmp_path / "probe", slots_free=1, slots_total=1, env=env)
    if not [each for each in told.toolchains if each.kind == "xcode"]:
        assert told.runtimes == ()
        assert not (tmp_path / "asked").exists()


@pytest.mark.spec("3.3")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"devices": (phone("another"),)}, None),
        ({"toolchains": (xcode("26.0", "17A324"), xcode(active=False))}, None),
        ({"toolchains": (xcode(build="16C9"),)}, "xcode_build 16C5032a is 16C9 now"),
        ({"toolchains": (xcode("16.3", "16E140"),)}, "developer_dir /Applications/Xcode_16.2.app/Contents"),
        ({"os_version": "15.2"}, "macos_version 15.1 is 15.2 now"),
        ({"os_build": None}, "macos_build 24B83 is  now"),
        ({"devices": (phone("x", name="iPhone 17"),)}, "no device 'iPhone 16'"),
        ({"devices": (phone("x", available=False),)}, "no device 'iPhone 16'"),
        ({"devices": (phone("x", device_type="other"),)}, "no device 'iPhone 16'"),
        (
            {"runtimes": (Runtime(identifier=IOS_18_2, name="iOS 18.2", version="18.2", build="22C9"),)},
            "22C150 is gone; there is 22C9",
        ),
    ],
)
def test_an_xcode_and_a_simulator_must_be_as_they_were(changes: dict[str, Any], words: str | None) -> None:
    found = differs(mac(**changes), xcode_job().job_key_inputs)
    assert (found is None) is (words is None)
    assert (words or "") in (found or "")


@pytest.mark.spec("3.3")
@pytest.mark.parametrize(
    ("named", "here", "same"),
    [
        ({"platform": "macOS", "name": "host", "os_version": "15.1"}, {}, True),
        ({"platform": "macOS", "name": "Mac Catalyst", "os_version": "15.1"}, {}, True),
        ({"platform": "macOS", "name": "host", "os_version": "15.0"}, {}, False),
        ({"platform": "iOS", "name": "generic", "os_version": "generic"}, {}, True),
        ({"platform": "iOS", "name": "generic", "os_version": "generic"}, {"os_name": "Linux"}, False),
        ({"platform": "Linux", "name": "host", "os_version": "15.1"}, {}, False),
    ],
)
def test_the_mac_itself_and_a_generic_platform_are_destinations_too(
    named: dict[str, str], here: dict[str, Any], *, same: bool
) -> None:
    inputs = msgspec.structs.replace(
        xcode_job().job_key_inputs, destination={**named, "provisioning": "existing"}
    )
    assert (differs(mac(**here), inputs) is None) is same


@pytest.mark.spec("7", "8")
def test_the_set_names_the_xcode_and_the_device_that_the_key_leaves_out() -> None:
    job = xcode_job()
    told = toolchain(job, AT)
    assert (told.xcode_version, told.xcode_build, told.macos_build) == ("16.2", "16C5032a", "24B83")
    assert told.developer_dir == "/Applications/Xcode_16.2.app/Contents/Developer"
    where = destination(job, AT)
    assert (where.udid, where.name, where.os_version) == (UDID, "iPhone 16", "18.2")
    assert (where.sim_runtime_identifier, where.sim_runtime_build) == (IOS_18_2, "22C150")
    assert (where.device_type_identifier, where.original_constraint) == (PHONE, CONSTRAINT)


REPO = f"""schema_version = 1
backend = "xcodebuild"
[project]
workspace = "App.xcworkspace"
schemes = ["App"]
[destination]
value = "{CONSTRAINT}"
"""


@pytest.mark.spec("3.3", "6")
@pytest.mark.parametrize("index", [0, 1])
def test_the_worker_finds_the_concrete_command_line_canonical(index: int) -> None:
    argv = xcode_job(index).job_key_inputs.sanitized_argv
    policy = policy_from_bundle(REPO.encode(), WorkerConfig())
    verdict = classify(argv, policy, resolved_destination=_destination_of(argv))
    assert isinstance(verdict, Accepted)
    assert verdict.sanitized_argv == argv


@pytest.mark.spec("3.3", "6")
@pytest.mark.parametrize(
    "concrete",
    [
        "platform=iOS Simulator,name=iPhone 16,OS=latest,arch=arm64,id=1",
        "platform=iOS Simulator,name=iPhone 17,OS=18.2",
        "platform=macOS,name=iPhone 16,OS=18.2",
        "platform=iOS Simulator,name=iPhone 16,OS=newest",
    ],
)
def test_a_host_cannot_name_a_destination_outside_the_bundles_own(concrete: str) -> None:
    argv = [*xcode_job().job_key_inputs.sanitized_argv]
    argv[argv.index("-destination") + 1] = concrete
    policy = policy_from_bundle(REPO.encode(), WorkerConfig())
    assert isinstance(classify(argv, policy, resolved_destination=_destination_of(argv)), Rejected)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


@pytest.mark.spec("3.3")
def test_a_worker_without_the_backend_refuses_the_job_before_anything_is_kept(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, "exit 0\n")
        inputs = msgspec.structs.replace(job.job_key_inputs, toolchain=xcode_job().job_key_inputs.toolchain)
        asked = msgspec.structs.replace(job, job_key_inputs=inputs, job_key=jcs_sha256(inputs))
        with pytest.raises(Refused, match=r"FEATURE_MISSING.*backend_xcodebuild"):
            submit(pipe, asked)
        with pytest.raises(Refused, match="JOB_NOT_FOUND"):
            pipe.ask("status", job_id=job.job_id)
