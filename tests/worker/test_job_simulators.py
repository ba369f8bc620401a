"""The simulator of a job: made for it or chosen, booted in its time, and given back."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.worker_pipe import follow, submit, supervisor_of, tail_until, until
from support.xcode_bench import Done, XcodeBench, an_xcode_bench

from rch.contract.records import Job
from worker_agent.simulators import sweep_simulators
from worker_agent.toolchains.simulators import read_simulators
from worker_agent.worker import Worker

pytestmark = pytest.mark.timeout(120)
EPHEMERAL = {"destination": {"provisioning": "ephemeral"}}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[XcodeBench]:
    with an_xcode_bench(tmp_path) as bench:
        yield bench


def devices(bench: XcodeBench) -> list[dict[str, Any]]:
    """The rows of the stand-in machine."""
    file = bench.home / "state" / "standin" / "CoreSimulator" / "devices.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text())["devices"] if file.exists() else []
    return rows


def made(bench: XcodeBench) -> list[str]:
    return [row["name"] for row in devices(bench) if row["name"].startswith("rch-ephemeral-")]


def booted(bench: XcodeBench) -> list[str]:
    return [row["name"] for row in devices(bench) if row["state"] == "Booted"]


def notes(bench: XcodeBench) -> list[str]:
    return [path.name for path in (bench.home / "state" / "simulators").glob("*")]


@pytest.mark.spec("7")
def test_a_simulator_is_made_for_the_job_and_gone_before_its_set_is_closed(bench: XcodeBench) -> None:
    done = bench.run("", config=EPHEMERAL)
    assert done.verdict == ("success", "PASSED", 0)
    where = done.json("destination.json")
    told = where["ephemeral"]
    assert told["cleanup_ok"]
    assert told["created_at"] < told["deleted_at"]
    assert where["udid"] == told["udid"]
    assert told["udid"] in done.log
    assert where["provisioning"] == "ephemeral"
    assert (made(bench), booted(bench), notes(bench)) == ([], [], [])


@pytest.mark.spec("7")
def test_one_that_cannot_be_deleted_is_told_of_and_the_result_stands_until_a_sweep_removes_it(
    bench: XcodeBench,
) -> None:
    done = bench.run("no-delete:on=any", config=EPHEMERAL)
    assert done.verdict == ("success", "PASSED", 0)
    assert done.summary.ephemeral_cleanup_failed is True
    told = done.json("destination.json")["ephemeral"]
    assert (told["cleanup_ok"], told["deleted_at"]) == (False, None)
    last = (done.folder / "build.log").read_text().rstrip().splitlines()[-1]
    assert f"rch-ephemeral-{done.job.job_id} could not be deleted" in last
    assert made(bench) == [f"rch-ephemeral-{done.job.job_id}"]
    until(lambda: not Worker(bench.env).jobs.alive(done.job.job_id))
    sweep_simulators(Worker(bench.env))
    assert (made(bench), notes(bench)) == ([], [])


@pytest.mark.fault("W3")
def test_a_simulator_of_a_lost_execution_is_swept_and_never_that_of_a_job_that_lives(
    bench: XcodeBench,
) -> None:
    job = begun(bench, "stall", EPHEMERAL)
    assert made(bench) == [f"rch-ephemeral-{job.job_id}"]
    sweep_simulators(Worker(bench.env))
    assert made(bench) == [f"rch-ephemeral-{job.job_id}"]
    os.kill(supervisor_of(bench, job.job_id), signal.SIGKILL)
    until(lambda: not Worker(bench.env).jobs.alive(job.job_id))
    sweep_simulators(Worker(bench.env))
    assert (made(bench), notes(bench)) == ([], [])


@pytest.mark.fault("W3")
def test_a_job_that_is_only_sealed_after_its_execution_was_lost_leaves_no_simulator(
    bench: XcodeBench,
) -> None:
    job = begun(bench, "stall", EPHEMERAL)
    os.kill(supervisor_of(bench, job.job_id), signal.SIGKILL)
    until(lambda: not Worker(bench.env).jobs.alive(job.job_id))
    bench.ask("cancel", job_id=job.job_id, reason="USER")
    with bench.pipe() as pipe:
        assert follow(pipe, job.job_id)[2] == "CANCELLED"
    assert (made(bench), notes(bench)) == ([], [])


@pytest.mark.spec("9")
def test_a_simulator_that_does_not_boot_is_trouble_of_the_place(bench: XcodeBench) -> None:
    done = bench.run("no-boot:on=any")
    assert done.verdict == ("failed", "INFRASTRUCTURE", 40)
    assert "simulator 'iPhone 16' (18.2) did not boot: Unable to boot" in done.summary.human_summary
    assert "xcodebuild" not in done.log


@pytest.mark.spec("11")
def test_a_boot_has_a_time_of_its_own_and_leaves_the_device_off(tmp_path: Path) -> None:
    with an_xcode_bench(tmp_path, "boot_seconds = 1\n") as bench:
        done = bench.run("slow-boot:seconds=60,on=any")
        assert done.verdict == ("failed", "INFRASTRUCTURE", 40)
        assert "it had 1 s" in done.summary.human_summary
        assert booted(bench) == []


@pytest.mark.spec("11")
def test_a_cancel_shuts_down_the_jobs_own_simulator_and_no_other(bench: XcodeBench) -> None:
    worker = Worker(bench.env)
    with bench.pipe() as pipe:
        bench.capabilities(pipe)
    assert worker.apple is not None
    boot = f'"{worker.apple.xcrun}" simctl boot "iPhone 16 Pro"'
    assert os.system(boot) == 0  # noqa: S605  (a program of the test's own)
    job = begun(bench, "stall", {})
    assert sorted(booted(bench)) == ["iPhone 16", "iPhone 16 Pro"]
    bench.ask("cancel", job_id=job.job_id, reason="USER")
    with bench.pipe() as pipe:
        assert follow(pipe, job.job_id)[2] == "CANCELLED"
    assert booted(bench) == ["iPhone 16 Pro"]


def test_a_simulator_of_a_job_is_offered_to_nobody() -> None:
    rows = [{"udid": "A", "name": "rch-ephemeral-job-1"}, {"udid": "B", "name": "iPhone 16"}]
    told = read_simulators(json.dumps({"devices": {"r": rows}}))
    assert [each.udid for each in told.devices] == ["B"]


def begun(bench: XcodeBench, scenario: str, config: dict[str, Any]) -> Job:
    """Submit a job and wait until its tests run."""
    with bench.pipe() as pipe:
        job = bench.wish(bench.capabilities(pipe), bench.source(pipe, scenario), config=config)
        submit(pipe, job)
        tail_until(pipe, job.job_id, "Testing started")
    return job


@pytest.mark.faults_long
def test_the_second_try_of_a_job_has_another_simulator(bench: XcodeBench) -> None:
    done: Done = bench.run("early-exit:first=1", config={**EPHEMERAL, "run": {"retry_infrastructure": 1}})
    assert (done.verdict, done.summary.attempts) == (("success", "PASSED", 0), 2)
    used = {
        word.split("id=")[1].rstrip("'") for word in done.log.split() if word.startswith("Simulator,id=")
    }
    assert len(used) == 2
    assert done.json("destination.json")["udid"] in used
    assert made(bench) == []
